//! How many bytes the reviews take whose verdict is not at hand. A registry that hangs keeps them for as long as the API server waits, so
//! a review keeps what is judged and not its body.

use std::sync::Arc;

use super::pool::{Pool, Sizes};
use crate::domain::workload::{NodeTerm, Workload};

/// What all reviews in flight take together, one namespace's, and those of everyone who proved nothing.
const SIZES: Sizes =
    Sizes { total: 32 * 1024 * 1024, namespace: 8 * 1024 * 1024, unauthenticated: 1024 * 1024 };
/// What a review takes beside its workload.
const REVIEW: usize = 32 * 1024;
/// What an allocation or an entry takes beside its text.
const OVERHEAD: usize = 64;

/// The pool of reviews in flight.
pub fn pool() -> Arc<Pool> {
    Pool::new(SIZES)
}

/// How many bytes the review of a workload takes, roughly and rather too many. What is larger than a namespace's share counts as much as
/// that: it is judged alone.
pub fn size(workload: &Workload) -> usize {
    let text = |text: &String| text.len().saturating_add(OVERHEAD);
    let option = |option: &Option<String>| option.as_ref().map_or(0, text);
    let placement = &workload.placement;
    let images = workload.images.iter().map(|image| {
        [text(&image.name), text(&image.field), text(&image.image)]
            .into_iter()
            .fold(OVERHEAD, usize::saturating_add)
    });
    let selector = placement.node_selector.iter().map(|(key, value)| text(key).saturating_add(text(value)));
    let terms = placement.affinity.iter().flatten().map(|NodeTerm { labels, fields }| {
        let requirements = labels.iter().chain(fields).map(|requirement| {
            let values = requirement.values.iter().map(text).fold(0, usize::saturating_add);
            text(&requirement.key).saturating_add(values)
        });
        requirements.fold(OVERHEAD, usize::saturating_add)
    });
    let others = [
        text(&workload.kind),
        text(&workload.namespace),
        text(&workload.name),
        option(&placement.node_name),
        option(&placement.os),
        option(&placement.runtime_class),
        option(&workload.pull.service_account),
    ];
    let secrets = workload.pull.secrets.iter().map(text);
    let all = images.chain(selector).chain(terms).chain(others).chain(secrets);
    all.fold(REVIEW, usize::saturating_add).min(SIZES.namespace)
}
