//! The review of a workload: at once where every verdict is at hand, else without its body.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    admission::{Admission, Asked, Endpoint, Judging, VALIDATE},
    answer::{Answer, Refusal},
    body::{BodyError, ReadBody},
    mutation,
    patch::Affinity,
    refused::Refused,
    report,
    wire::{self, Incoming, Subject},
};
use crate::{
    domain::{placement, plan::Stage, workload::Workload},
    gather::{ports::Snapshot, review::Review},
};

/// From how many bytes on a review is parsed off the threads that answer.
const LARGE: usize = 1024 * 1024;

impl Admission {
    /// The answer to the review of a workload.
    pub(super) async fn review(
        &self,
        endpoint: Endpoint,
        body: ReadBody,
        asked: Asked,
    ) -> Result<Bytes, Refused> {
        if body.bytes.len() > LARGE {
            return Box::pin(self.review_large(endpoint, body, asked)).await;
        }
        let incoming = wire::read(&body.bytes).map_err(Refused::unreadable)?;
        let affinity = || mutation::affinity(&body.bytes);
        let snapshot = match self.at_once(endpoint, &incoming, asked, &affinity) {
            Ok(answer) => return Ok(wire::write(&incoming.uid, &answer)),
            Err(snapshot) => snapshot,
        };
        let affinity = (endpoint == Endpoint::Mutate).then(affinity).flatten();
        let incoming = incoming.into_owned();
        // From here on the review may wait for registries: it keeps no more than it needs.
        drop(body);
        Ok(Box::pin(self.find_out(endpoint, &incoming, snapshot, affinity.as_ref(), asked)).await)
    }

    /// The same for one whose parsing would hold up others.
    async fn review_large(&self, endpoint: Endpoint, body: ReadBody, asked: Asked) -> Result<Bytes, Refused> {
        let permit = timeout_at(asked.deadline, Arc::clone(&self.parsing).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(BodyError::Busy.into()) };
        let is_mutation = endpoint == Endpoint::Mutate;
        let parsed = tokio::task::spawn_blocking(move || {
            let incoming = wire::read(&body.bytes).map(Incoming::into_owned);
            let affinity = is_mutation.then(|| mutation::affinity(&body.bytes)).flatten();
            drop((body, permit));
            (incoming, affinity)
        });
        let (incoming, affinity) = parsed.await.map_err(|error| {
            tracing::error!(error = error.to_string(), "a review could not be parsed");
            self.metrics.panicked();
            Refused::fault()
        })?;
        let incoming = incoming.map_err(Refused::unreadable)?;
        match self.at_once(endpoint, &incoming, asked, &|| affinity.clone()) {
            Ok(answer) => Ok(wire::write(&incoming.uid, &answer)),
            Err(snapshot) => Ok(self.find_out(endpoint, &incoming, snapshot, affinity.as_ref(), asked).await),
        }
    }

    /// The answer where nobody must be asked; else the snapshot that the review is judged by.
    fn at_once(
        &self,
        endpoint: Endpoint,
        incoming: &Incoming<'_>,
        asked: Asked,
        affinity: &(dyn Fn() -> Option<Affinity> + Send + Sync),
    ) -> Result<Answer, Arc<Snapshot>> {
        let about = incoming.about(endpoint.as_str());
        let snapshot = match self.listed(&about) {
            Ok(snapshot) => snapshot,
            Err(refusal) => return Ok(Answer::refused(refusal)),
        };
        let is_answered = endpoint == Endpoint::Mutate && incoming.kind != "Pod";
        if let Subject::Judge(workload) = &incoming.subject
            && !is_answered
            && !placement::unknown_nodes(&workload.placement, &snapshot.nodes).is_empty()
        {
            return Err(snapshot);
        }
        Ok(match &incoming.subject {
            // Templates stay as they were written: whoever compares them with a repository sees no difference.
            Subject::Judge(_) if is_answered => Answer::allowed(),
            Subject::Judge(workload) if endpoint == Endpoint::Mutate => {
                let judging = mutation::judging(incoming, workload, Arc::clone(&snapshot), asked);
                let answer = |review: &Review| mutation::patched(incoming, review, workload, affinity);
                self.known(&judging, &answer).map(without_refusal).ok_or(snapshot)?
            }
            Subject::Judge(workload) => {
                let judging = judging(incoming, workload, Arc::clone(&snapshot), asked);
                self.known(&judging, &|review| Answer::about(review, &workload.kind)).ok_or(snapshot)?
            }
            Subject::Skip(why) => self.skipped(&about, why),
            Subject::Unknown { group, kind } => {
                self.metrics.unknown_kind(group, kind);
                self.skipped(&about, "UnknownKind")
            }
            Subject::Malformed(why) => {
                self.metrics.malformed();
                report::malformed(&about, why);
                Answer::refused(Refusal::bad_request(why.clone()))
            }
        })
    }

    /// The answer to a review of which something must be found out.
    async fn find_out(
        &self,
        endpoint: Endpoint,
        incoming: &Incoming<'static>,
        snapshot: Arc<Snapshot>,
        affinity: Option<&Affinity>,
        asked: Asked,
    ) -> Bytes {
        let Subject::Judge(workload) = &incoming.subject else {
            // What is not judged was answered at once.
            return wire::write(&incoming.uid, &Answer::refused(Refused::fault().denial()));
        };
        let snapshot = self.surroundings(snapshot, &workload.placement, asked).await;
        let answer = if endpoint == Endpoint::Mutate {
            let judging = mutation::judging(incoming, workload, snapshot, asked);
            let affinity = || affinity.cloned();
            let told = |review: &Review| mutation::patched(incoming, review, workload, &affinity);
            without_refusal(self.judge(&judging, &told).await)
        } else {
            let judging = judging(incoming, workload, snapshot, asked);
            self.judge(&judging, &|review| Answer::about(review, &workload.kind)).await
        };
        wire::write(&incoming.uid, &answer)
    }
}

/// What is judged of a workload as it will run.
fn judging<'a>(
    incoming: &'a Incoming<'_>,
    workload: &'a Workload,
    snapshot: Arc<Snapshot>,
    asked: Asked,
) -> Judging<'a> {
    // The pods of a template go through the mutating webhook, where there is one.
    let is_template = incoming.kind != "Pod";
    let stage = match (is_template && snapshot.pinning, placement::is_tied(&workload.placement)) {
        (false, _) => Stage::Final,
        (true, false) => Stage::Draft,
        (true, true) => Stage::Tied,
    };
    Judging { about: incoming.about(VALIDATE), snapshot, workload, stage, asked }
}

/// `/mutate` denies no image: a refusal would hide what `/validate` has to say.
fn without_refusal(answer: Answer) -> Answer {
    Answer { refusal: None, ..answer }
}
