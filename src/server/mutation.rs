//! `POST /mutate`, for pods: tags are pinned to the digest that was verified in this review, and where a policy says so the pod is
//! kept to the architectures that are covered. It denies nothing: what is wrong is left as it is, and `/validate` says why.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    admission::{Asked, Judging},
    answer::Answer,
    patch::{self, Affinity},
    wire::Incoming,
};
use crate::{
    domain::json_limits::has_too_many_values,
    domain::{message, placement, plan::Stage, verdict::Outcome, workload::Workload},
    gather::{ports::Snapshot, review::Review},
};

/// What logs call this.
pub const MUTATE: &str = "mutate";

/// The most bytes of an affinity that is changed. One that is longer stays as it is, and `/validate` denies what it does not keep out.
const AFFINITY: usize = 256 * 1024;

/// What is judged of a pod before it is pinned.
pub(super) fn judging<'a>(
    incoming: &'a Incoming<'_>,
    workload: &'a Workload,
    snapshot: Arc<Snapshot>,
    asked: Asked,
) -> Judging<'a> {
    // The affinity of a pod that is there cannot be changed, and a node that is named takes its pods whatever their affinity says.
    let is_tied = incoming.is_update || placement::is_tied(&workload.placement);
    let stage = if is_tied { Stage::Tied } else { Stage::Draft };
    Judging { about: incoming.about(MUTATE), snapshot, workload, stage, asked }
}

/// The answer to a review of a draft. `affinity` is the pod's, where it is needed.
pub(super) fn patched(
    incoming: &Incoming<'_>,
    review: &Review,
    workload: &Workload,
    affinity: &dyn Fn() -> Option<Affinity>,
) -> Answer {
    let affinity = patch::kept_to(review).and_then(|_| affinity());
    let patch = patch::patch(review, affinity.as_ref(), &workload.placement, incoming.is_update);
    // What is kept to some platforms is not shown the others' problems by `/validate` any more.
    let constrained = review.images.iter().filter(|image| image.verdict.constrained.is_some());
    let warnings = constrained.filter(|_| review.outcome == Outcome::Allow).flat_map(|image| {
        let warning = |problem| message::warning(Some(&image.image), &image.verdict, problem);
        image.verdict.warnings.iter().filter(|problem| problem.avoided).map(warning)
    });
    Answer { warnings: warnings.collect(), patch, ..Answer::default() }
}

/// The affinity of the pod of a review; `None` where it cannot be changed.
pub(super) fn affinity(body: &[u8]) -> Option<Affinity> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        request: Request<'a>,
    }
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        object: Pod<'a>,
    }
    #[derive(Deserialize)]
    struct Pod<'a> {
        #[serde(borrow)]
        spec: Spec<'a>,
    }
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        affinity: Option<&'a RawValue>,
    }
    let review: Whole<'_> = serde_json::from_slice(body).ok()?;
    let text = review.request.object.spec.affinity.map_or("null", RawValue::get);
    let is_usual = text.len() <= AFFINITY && !has_too_many_values(text.as_bytes());
    is_usual.then(|| serde_json::from_str(text).ok()).flatten().map(Affinity::new)
}
