//! `POST /bind`: the scheduler binds a pod to a node, and what the pod runs must be covered for that node's platform. So a node of an
//! architecture that was not there when the pod was admitted changes nothing of what is promised.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout_at;

use super::{
    admission::{Admission, Asked, Judging},
    answer::{Answer, Refusal},
    report::{self, About},
    wire,
};
use crate::{
    domain::{
        placement,
        plan::Stage,
        verdict::Outcome,
        workload::{Placement, Workload},
    },
    gather::{ports::Snapshot, review::Review},
};

/// What logs call this.
pub const BIND: &str = "bind";

/// A pod that is to be bound to a node.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The review's, to be echoed.
    pub uid: Cow<'a, str>,
    namespace: Cow<'a, str>,
    pod: Cow<'a, str>,
    pod_uid: Cow<'a, str>,
    node: Cow<'a, str>,
    dry_run: bool,
}

#[derive(Deserialize)]
struct ObjectIn<'a> {
    #[serde(borrow, default)]
    metadata: MetadataIn<'a>,
    #[serde(borrow)]
    target: TargetIn<'a>,
}

#[derive(Default, Deserialize)]
struct MetadataIn<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TargetIn<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Reads a review of a binding.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read(body: &[u8]) -> Result<Binding<'_>, String> {
    let request = wire::request::<&RawValue>(body)?;
    let (group, kind) = (request.kind.group.as_ref(), request.kind.kind.as_ref());
    if (group, kind) != ("", "Binding") {
        return Err(format!("/bind answers reviews of Binding, not of {kind}"));
    }
    let object = request.object.ok_or("the request has no object")?;
    let object: ObjectIn<'_> = serde_json::from_str(object.get())
        .map_err(|error| format!("the object cannot be read as a Binding: {error}"))?;
    if !matches!(object.target.kind.as_ref(), "" | "Node") {
        return Err(format!("the target of the binding is a {}, not a Node", object.target.kind));
    }
    let pod = if request.name.is_empty() { object.metadata.name } else { request.name };
    Ok(Binding {
        uid: request.uid,
        namespace: request.namespace,
        pod,
        pod_uid: object.metadata.uid,
        node: object.target.name,
        dry_run: request.dry_run.unwrap_or(false),
    })
}

impl Binding<'_> {
    /// The same without the bytes that it was read from.
    pub fn into_owned(self) -> Binding<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Binding {
            uid: owned(self.uid),
            namespace: owned(self.namespace),
            pod: owned(self.pod),
            pod_uid: owned(self.pod_uid),
            node: owned(self.node),
            dry_run: self.dry_run,
        }
    }

    /// What the log says of it.
    pub fn about(&self) -> About<'_> {
        About {
            webhook: BIND,
            kind: "Binding",
            namespace: &self.namespace,
            name: &self.pod,
            uid: &self.uid,
            dry_run: self.dry_run,
        }
    }
}

impl Admission {
    pub(super) async fn bind(&self, binding: &Binding<'_>, snapshot: Arc<Snapshot>, asked: Asked) -> Answer {
        let about = binding.about();
        let pod = match self.pod(binding, asked).await {
            Ok(Some(pod)) => pod,
            Ok(None) => return self.skipped(&about, "NoPod"),
            Err(why) => {
                let message = format!(
                    "what pod {}/{} runs could not be found out: {why}",
                    binding.namespace, binding.pod
                );
                self.metrics.unknown_pod();
                report::failed(&about, &message);
                return Answer::refused(Refusal::unavailable(message));
            }
        };
        // The look-up may have taken a while, and the node may have come meanwhile.
        let snapshot = self.inventory.snapshot().unwrap_or(snapshot);
        let placement = Placement { node_name: Some(binding.node.to_string()), ..Placement::default() };
        let snapshot = self.surroundings(snapshot, &placement, asked).await;
        let is_known = placement::unknown_nodes(&placement, &snapshot.nodes).is_empty();
        let workload =
            Workload { namespace: binding.namespace.to_string(), placement, ..Workload::clone(&pod) };
        let judging = Judging { about, snapshot, workload: &workload, stage: Stage::Final, asked };
        let told = |review: &Review| {
            let mut answer = Answer::from(review);
            // It is judged where it is known what the node is. What no policy names may go anywhere.
            let is_named = || review.images.iter().any(|image| image.verdict.matched);
            if !is_known && (review.outcome != Outcome::Allow || is_named()) {
                let message = format!(
                    "node {} is not known yet, or does not say its architecture: the pod can be bound to it once it does",
                    binding.node
                );
                answer.refusal = Some(Refusal::unavailable(message));
            }
            answer
        };
        self.judged(&judging, &told).await
    }

    async fn pod(&self, binding: &Binding<'_>, asked: Asked) -> Result<Option<Arc<Workload>>, String> {
        let cluster = self.cluster.as_ref().ok_or("there is no cluster to ask")?;
        match timeout_at(
            asked.deadline,
            cluster.pods.find(&binding.namespace, &binding.pod, &binding.pod_uid),
        )
        .await
        {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }
}
