//! From a review to what the API server is told: the status that the person who applies sees, and the annotations that stay in the audit log.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde_json::value::{RawValue, to_raw_value};

use super::patch::Operation;
use crate::{
    api::compile::Note,
    domain::{
        message,
        verdict::{ImageVerdict, Outcome, Problem, Reason, SignedBy},
        workload::{ImageRole, WorkloadImage},
    },
    gather::review::{Review, ReviewedImage},
};

/// The most of a message that is sent: what is longer nobody reads, and it goes through events and logs.
const MESSAGE_LIMIT: usize = 16 * 1024;
/// The most of one audit annotation.
const ANNOTATION_LIMIT: usize = 1024;
/// The most annotations of one answer.
const ANNOTATIONS: usize = 64;
/// The most characters of an annotation's key, as Kubernetes has it.
const KEY_LIMIT: usize = 63;

/// What is answered, before it is put on the wire.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Why not; `None` where it is admitted.
    pub refusal: Option<Refusal>,
    /// Warnings in full; the wire has limits.
    pub warnings: Vec<String>,
    /// For the audit log: strings, as JSON.
    pub audit: BTreeMap<String, Arc<RawValue>>,
    /// What is to be changed of the object.
    pub patch: Vec<Operation>,
}

/// Why something is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status that the client of the API server gets.
    pub code: u16,
    /// Kubernetes' word for it.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// What is wrong, field by field, where the object itself is.
    pub invalid: Option<Invalid>,
}

/// An object that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is wrong with its fields.
    pub causes: Vec<Note>,
}

impl Refusal {
    /// A definite no.
    pub fn forbidden(message: String) -> Self {
        Self { code: 403, reason: "Forbidden", message, invalid: None }
    }

    /// Could not be verified.
    ///
    /// It has no `retryAfterSeconds`: client-go sleeps for that long inside the call, so one registry could stop the workers of the
    /// controller manager and of the scheduler. The message says when a registry wants the next request.
    pub fn unavailable(message: String) -> Self {
        Self { code: 503, reason: "ServiceUnavailable", message, invalid: None }
    }

    /// An object that is not of its kind.
    pub fn bad_request(message: String) -> Self {
        Self { code: 400, reason: "BadRequest", message, invalid: None }
    }

    /// An object whose fields are wrong; what of them is repeated for programs, and for kubectl, which shows it field by field.
    pub fn invalid(message: String, invalid: Invalid) -> Self {
        Self { code: 422, reason: "Invalid", message, invalid: Some(invalid) }
    }

    /// Our own fault.
    pub fn internal(message: String) -> Self {
        Self { code: 500, reason: "InternalError", message, invalid: None }
    }
}

impl Answer {
    /// Admitted, with nothing to say.
    pub fn allowed() -> Self {
        Self::default()
    }

    /// Not admitted.
    pub fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::default() }
    }
}

impl Answer {
    /// The answer about an object of a kind.
    pub fn about(review: &Review, kind: &str) -> Self {
        let answer = Self::from(review);
        if kind != "DaemonSet" {
            return answer;
        }
        let warnings = review.images.iter().flat_map(|ReviewedImage { image, verdict }| {
            // Once for each image: the advice is the same.
            let mut avoided = verdict.warnings.iter().filter(|problem| problem.avoided);
            let avoided = avoided.next().map(|problem| message::daemon_set_warning(image, verdict, problem));
            let others = verdict.warnings.iter().filter(|problem| !problem.avoided);
            let others = others.filter(|problem| is_worth_it(review, problem));
            avoided.into_iter().chain(others.map(|problem| message::warning(Some(image), verdict, problem)))
        });
        Self { warnings: warnings.collect(), ..answer }
    }
}

/// Whether a warning is shown. Who is denied has something else to read first than tags: a pinned image would be denied as well.
fn is_worth_it(review: &Review, problem: &Problem) -> bool {
    review.outcome == Outcome::Allow || problem.reason != Reason::UnpinnedTag
}

impl From<&Review> for Answer {
    fn from(review: &Review) -> Self {
        let refusal = match review.outcome {
            Outcome::Allow => None,
            Outcome::Deny => Some(Refusal::forbidden(denials(review))),
            Outcome::Unverifiable => Some(Refusal::unavailable(denials(review))),
        };
        let warnings = review.images.iter().flat_map(|image| {
            let verdict = &image.verdict;
            let warning = |problem| message::warning(Some(&image.image), verdict, problem);
            verdict.warnings.iter().filter(|problem| is_worth_it(review, problem)).map(warning)
        });
        Self { refusal, warnings: warnings.collect(), audit: audit(review), patch: Vec::new() }
    }
}

/// The messages of all images that are not admitted, whole lines of them.
fn denials(review: &Review) -> String {
    let mut text = String::new();
    let refused = || review.images.iter().filter(|image| image.verdict.outcome != Outcome::Allow);
    for (at, image) in refused().enumerate() {
        let next = message::denial(Some(&image.image), &image.verdict);
        if !text.is_empty() && text.len().saturating_add(next.len()) > MESSAGE_LIMIT {
            let left = refused().count().saturating_sub(at);
            push(&mut text, format_args!("\n… and {left} more images"));
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        push_lines(&mut text, &next);
    }
    text
}

/// One image's message can be too long by itself: an index may have many platforms.
fn push_lines(text: &mut String, message: &str) {
    let mut lines = message.lines();
    for line in lines.by_ref() {
        if text.len().saturating_add(line.len()) > MESSAGE_LIMIT {
            let left = lines.count().saturating_add(1);
            push(text, format_args!("  … and {left} more lines"));
            return;
        }
        text.push_str(line);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
}

fn audit(review: &Review) -> BTreeMap<String, Arc<RawValue>> {
    let mut annotations = BTreeMap::new();
    for ReviewedImage { image, verdict } in &review.images {
        if annotations.len() >= ANNOTATIONS {
            break;
        }
        if let Some(value) = verdict.told.get_or_init(|| written(&verified(verdict)?)) {
            insert(&mut annotations, key("verified", image), Arc::clone(value));
        }
        if !verdict.audit.is_empty()
            && let Some(value) = written(&found(&verdict.audit))
        {
            insert(&mut annotations, key("audit", image), value);
        }
    }
    annotations
}

/// A string as JSON, which it always has.
fn written(value: &str) -> Option<Arc<RawValue>> {
    to_raw_value(value).ok().map(Arc::from)
}

/// Names that were cut or cleaned may be the same; none hides another.
fn insert(annotations: &mut BTreeMap<String, Arc<RawValue>>, mut key: String, value: Arc<RawValue>) {
    if annotations.contains_key(&key) {
        key.truncate(KEY_LIMIT.saturating_sub(3));
        push(&mut key, format_args!("-{}", annotations.len()));
    }
    annotations.insert(key, value);
}

/// The digest that was verified and who signed for it.
fn verified(verdict: &ImageVerdict) -> Option<String> {
    let digest =
        verdict.digest.filter(|_| verdict.outcome == Outcome::Allow && !verdict.proofs.is_empty())?;
    let mut value = digest.to_string();
    for proof in &verdict.proofs {
        let who = match &proof.signed_by {
            SignedBy::Certificate(certificate) => format!("subject={}", certificate.subject),
            SignedBy::Key { id, .. } => format!("key={id}"),
        };
        let next = format!(" policy={} signer={} {who}", proof.policy, proof.signer);
        if value.len().saturating_add(next.len()) > ANNOTATION_LIMIT || value.contains(&next) {
            continue;
        }
        value.push_str(&next);
    }
    Some(value)
}

fn found(problems: &[Problem]) -> String {
    let mut value = String::new();
    for problem in problems {
        let policy = problem.policy.as_ref().map(|policy| format!(" {policy}")).unwrap_or_default();
        let next = format!("{}{policy}: {}", problem.reason, problem.found);
        if value.len().saturating_add(next.len()) > ANNOTATION_LIMIT {
            break;
        }
        if !value.is_empty() {
            value.push_str("; ");
        }
        value.push_str(&next);
    }
    value
}

/// A key that Kubernetes takes: the name is not validated yet when a webhook sees it.
fn key(prefix: &str, image: &WorkloadImage) -> String {
    let what = match image.role {
        ImageRole::Volume => ".volume",
        ImageRole::Container | ImageRole::InitContainer | ImageRole::EphemeralContainer => "",
    };
    let mut key = format!("{prefix}{what}.");
    key.extend(image.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }));
    key.truncate(KEY_LIMIT);
    // It must end in a letter or digit.
    key.truncate(key.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
    key
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(arguments);
}
