//! One line of log per review.
//!
//! Names, references and messages were chosen by somebody else: they are fields of type string, which the formats escape, and bounded.

use std::{any::Any, borrow::Cow, fmt::Write as _, time::Duration};

use crate::{
    domain::{
        message,
        policy::PolicyId,
        verdict::{Outcome, Reason},
    },
    gather::{
        ports::{Findings, PolicyFinding},
        review::{Review, ReviewedImage},
    },
};

/// The most of a list in a line.
const LIST_LIMIT: usize = 4096;

/// What a line is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Which webhook was asked.
    pub webhook: &'static str,
    /// The object's kind.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The review's uid.
    pub uid: &'a str,
    /// Whether nothing will come of it.
    pub dry_run: bool,
}

/// A review was answered.
pub fn reviewed(about: &About<'_>, review: &Review, took: Duration) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let verdict = match review.outcome {
        Outcome::Allow => "allowed",
        Outcome::Deny => "denied",
        Outcome::Unverifiable => "unverifiable",
    };
    let denial = (review.outcome != Outcome::Allow).then(|| denial(review));
    tracing::info!(
        verdict,
        reasons = reasons(review),
        policies = policies(review),
        denial = denial.as_deref(),
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        images = images(review).as_ref(),
        dry_run = about.dry_run,
        plan_us = micros(review.phases.plan),
        gather_us = micros(review.phases.gather),
        evaluate_us = micros(review.phases.evaluate),
        total_us = micros(took),
        "review"
    );
}

/// A review was answered without judging anything.
pub fn skipped(about: &About<'_>, why: &'static str) {
    tracing::info!(
        verdict = "skipped",
        reasons = why,
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        "review"
    );
}

/// Tells the owners of policies what their policies denied, what they found and denied nothing for, and what could not be found out.
pub fn found(about: &About<'_>, review: &Review, findings: &dyn Findings) {
    // What is bound is a pod.
    let kind = if about.kind == "Binding" { "Pod" } else { about.kind };
    for ReviewedImage { image, verdict } in &review.images {
        let softened = verdict.warnings.iter().chain(&verdict.audit).filter(|problem| {
            !problem.avoided && !matches!(problem.reason, Reason::PlatformMissing | Reason::UnpinnedTag)
        });
        for problem in verdict.problems.iter().chain(softened) {
            let Some(policy) = &problem.policy else { continue };
            let note = || {
                let text = message::warning(Some(image), verdict, problem);
                format!("{kind} {}/{}: {text}", about.namespace, about.name)
            };
            let (namespace, name) = (about.namespace, about.name);
            findings.found(&PolicyFinding { policy, reason: problem.reason, kind, namespace, name }, &note);
        }
    }
}

/// A policy was compiled.
pub fn policy(about: &About<'_>, errors: usize, warnings: usize) {
    tracing::info!(
        verdict = if errors == 0 { "allowed" } else { "denied" },
        reasons = if errors == 0 { "" } else { Reason::InvalidPolicy.as_str() },
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        dry_run = about.dry_run,
        errors,
        warnings,
        "review"
    );
}

/// What must be known for a review could not be found out.
pub fn failed(about: &About<'_>, why: &str) {
    tracing::warn!(
        verdict = "unverifiable",
        reasons = "Unknown",
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        error = why,
        "review"
    );
}

/// A review was of an object that is not of its kind.
pub fn malformed(about: &About<'_>, why: &str) {
    tracing::warn!(
        verdict = "denied",
        reasons = "Malformed",
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        error = why,
        "review"
    );
}

/// A review was denied before anyone judged it.
pub fn unread(about: &About<'_>, reason: &'static str, why: &str) {
    tracing::warn!(
        verdict = "denied",
        reasons = reason,
        webhook = about.webhook,
        namespace = about.namespace,
        uid = about.uid,
        error = why,
        "review"
    );
}

/// A review ended in a panic.
pub fn panicked(about: &About<'_>, panic: &(dyn Any + Send)) {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    tracing::error!(
        verdict = "failed",
        reasons = "Panic",
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        panic = text,
        "review"
    );
}

/// A judge did not come back.
pub fn overdue(about: &About<'_>, took: Duration) {
    tracing::error!(
        verdict = "unverifiable",
        reasons = Reason::DeadlineExceeded.as_str(),
        webhook = about.webhook,
        kind = about.kind,
        namespace = about.namespace,
        name = about.name,
        uid = about.uid,
        total_us = micros(took),
        "review"
    );
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The words of what was found, each once, in order.
fn reasons(review: &Review) -> String {
    let mut words: Vec<&'static str> = Vec::new();
    for image in &review.images {
        for problem in image.verdict.problems.iter().chain(&image.verdict.warnings) {
            if !words.contains(&problem.reason.as_str()) {
                words.push(problem.reason.as_str());
            }
        }
    }
    words.join(",")
}

/// The policies that decided: those whose problems were found, else those that are satisfied; each once, in order.
fn policies(review: &Review) -> String {
    let problems = |image: &'_ ReviewedImage| -> Vec<PolicyId> {
        let verdict = &image.verdict;
        let problems = verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit);
        let proofs = verdict.proofs.iter().map(|proof| proof.policy.clone());
        problems.filter_map(|problem| problem.policy.clone()).chain(proofs).collect()
    };
    let mut list = String::new();
    let mut known: Vec<PolicyId> = Vec::new();
    for policy in review.images.iter().flat_map(problems) {
        if known.contains(&policy) {
            continue;
        }
        if list.len() > LIST_LIMIT {
            list.push_str(" …");
            break;
        }
        if !list.is_empty() {
            list.push(' ');
        }
        // Writing to a string does not fail.
        let _ = write!(list, "{policy}");
        known.push(policy);
    }
    list
}

/// What the person who applies is told of the images that are not admitted.
fn denial(review: &Review) -> String {
    let mut text = String::new();
    for ReviewedImage { image, verdict } in &review.images {
        if verdict.outcome == Outcome::Allow {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&message::denial(Some(image), verdict));
        if text.len() > LIST_LIMIT {
            text.truncate(text.floor_char_boundary(LIST_LIMIT));
            text.push_str(" …");
            break;
        }
    }
    text
}

/// The images and what each stood for.
fn images(review: &Review) -> Cow<'_, str> {
    if let [ReviewedImage { verdict, .. }] = review.images.as_slice()
        && verdict.reference.contains('@')
        && verdict.reference.len() <= LIST_LIMIT
    {
        return Cow::Borrowed(&verdict.reference);
    }
    let mut list = String::new();
    for image in &review.images {
        let verdict = &image.verdict;
        if list.len().saturating_add(verdict.reference.len()) > LIST_LIMIT {
            list.push_str(" …");
            break;
        }
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(&verdict.reference);
        if let Some(digest) = verdict.digest.as_ref().filter(|_| !verdict.reference.contains('@')) {
            // Writing to a string does not fail.
            let _ = write!(list, "→{digest}");
        }
    }
    list.into()
}
