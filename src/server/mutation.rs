//! `POST /mutate`, for pods: tags are pinned to the digest that was verified in this review, and where a policy says so the pod is
//! kept to the architectures that are covered. It denies nothing: what is wrong is left as it is, and `/validate` says why.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use super::{
    admission::{Admission, Asked, Judging},
    answer::Answer,
    patch::{self, Affinity},
    wire::Incoming,
};
use crate::{
    domain::{message, plan::Stage, verdict::Outcome, workload::Workload},
    gather::{ports::Snapshot, review::Review},
};

/// What logs call this.
pub const MUTATE: &str = "mutate";

impl Admission {
    pub(super) async fn mutate(
        &self,
        incoming: &Incoming<'_>,
        workload: &Workload,
        snapshot: Arc<Snapshot>,
        body: &Bytes,
        asked: Asked,
    ) -> Answer {
        // Templates stay as they were written: whoever compares them with a repository sees no difference.
        if incoming.kind != "Pod" {
            return Answer::allowed();
        }
        let about = incoming.about(MUTATE);
        let judging = Judging { about, snapshot, workload, stage: Stage::Draft, asked };
        let told = |review: &Review| {
            let kept_to = patch::kept_to(review);
            let affinity = kept_to.as_ref().map(|_| affinity(body)).unwrap_or_default();
            let patch = patch::patch(review, &affinity, &workload.placement);
            // What is kept to some platforms is not shown the others' problems by `/validate` any more.
            let constrained = review.images.iter().filter(|image| image.verdict.constrained.is_some());
            let warnings = constrained.filter(|_| review.outcome == Outcome::Allow).flat_map(|image| {
                let warning = |problem| message::warning(Some(&image.image), &image.verdict, problem);
                image.verdict.warnings.iter().filter(|problem| problem.avoided).map(warning)
            });
            Answer { warnings: warnings.collect(), patch, ..Answer::default() }
        };
        let answer = self.judged(&judging, &told).await;
        // A refusal would hide what `/validate` has to say.
        Answer { refusal: None, ..answer }
    }
}

/// The affinity of the pod of a review that was read before.
fn affinity(body: &[u8]) -> Affinity {
    #[derive(serde::Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        request: Request<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let pod = serde_json::from_slice::<Whole<'_>>(body)
        .and_then(|review| serde_json::from_str::<Value>(review.request.object.get()));
    pod.map(|pod| Affinity::of(&pod)).unwrap_or_default()
}
