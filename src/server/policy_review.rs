//! `POST /validate-policy`: a policy or trust root that is made or changed is compiled as `bonafide policy check` compiles it, and what that finds is
//! told to whoever applies it. No registry and no API server is asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use tokio::sync::Semaphore;

use super::{
    admission::Admission,
    answer::{Answer, Invalid, Refusal},
    report::{self, About},
    wire,
};
use crate::{
    api::compile::{
        Compiled, GROUP, Keys, NoKeys, Note, compile_object, is_policy, is_trust_root, unknown_roots,
    },
    cluster::reach::exempt::ExemptReach,
    domain::{json_limits::has_too_many_values, policy::PolicyEntry},
    gather::ports::{Snapshot, WebhookEntries},
    trust::compile_trust_root,
};

/// What logs call this.
pub const VALIDATE_POLICY: &str = "validate-policy";
/// The most bytes of a policy or a trust root.
const OBJECT: usize = 2 * 1024 * 1024;
/// How many policies are compiled at once for whoever applies them.
static COMPILING: Semaphore = Semaphore::const_new(2);
/// The most errors that are told at once.
const ERRORS: usize = 50;

/// A policy that is looked at.
#[derive(Debug)]
pub struct PolicyReview {
    /// The review's, to be echoed.
    pub uid: String,
    kind: String,
    namespace: String,
    name: String,
    dry_run: bool,
}

impl PolicyReview {
    /// What the log says of it.
    pub fn about(&self) -> About<'_> {
        About {
            webhook: VALIDATE_POLICY,
            kind: &self.kind,
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
            dry_run: self.dry_run,
        }
    }
}

/// What is done with the object of a [`PolicyReview`].
#[derive(Debug)]
pub enum Subject {
    /// It is compiled.
    Compile(Value),
    /// It is not, for a reason that is a word of a fixed set.
    Skip(&'static str),
}

/// Reads a review of a policy.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read(body: &[u8]) -> Result<(PolicyReview, Subject), String> {
    let request = wire::request::<&RawValue>(body)?;
    let (group, kind) = (request.kind.group.as_ref(), request.kind.kind.as_ref());
    if !is_policy(group, kind) && !is_trust_root(group, kind) {
        return Err(format!(
            "/{VALIDATE_POLICY} answers reviews of ProvenancePolicy, ClusterProvenancePolicy and TrustRoot of bonafide.dev, not of {kind} of {group:?}"
        ));
    }
    let subject = match request.operation.as_ref() {
        operation @ ("CREATE" | "UPDATE") => {
            let object = request.object.ok_or("the request has no object")?;
            let before = request.old_object.filter(|_| operation == "UPDATE");
            to_compile(object, before, &request.namespace)?
        }
        "DELETE" => Subject::Skip("Deleted"),
        _ => Subject::Skip("Operation"),
    };
    let review = PolicyReview {
        uid: request.uid.into_owned(),
        kind: kind.to_owned(),
        namespace: request.namespace.into_owned(),
        name: request.name.into_owned(),
        dry_run: request.dry_run.unwrap_or(false),
    };
    Ok((review, subject))
}

fn to_compile(object: &RawValue, before: Option<&RawValue>, namespace: &str) -> Result<Subject, String> {
    // An object without bounds can still be labelled, and be let go.
    if let Some(before) = before
        && let Some(skip) = is_left_alone(object, before)
    {
        return Ok(skip);
    }
    let parse = |raw: &RawValue| -> Result<Value, String> {
        if raw.get().len() > OBJECT || has_too_many_values(raw.get().as_bytes()) {
            return Err(format!(
                "the object is longer than {OBJECT} bytes, or has more values than are read"
            ));
        }
        serde_json::from_str(raw.get()).map_err(|error| format!("the object cannot be read: {error}"))
    };
    let mut object = parse(object)?;
    let before = before.and_then(|before| parse(before).ok()).unwrap_or_default();
    if before.get("spec").is_some() && before.get("spec") == object.get("spec") {
        return Ok(Subject::Skip("Unchanged"));
    }
    // What the request says counts: the object need not name its namespace.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && !namespace.is_empty()
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok(Subject::Compile(object))
}

/// Why an update needs no look, as far as the texts tell.
fn is_left_alone(object: &RawValue, before: &RawValue) -> Option<Subject> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(default)]
        metadata: Metadata,
        #[serde(borrow)]
        spec: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        deletion_timestamp: Option<IgnoredAny>,
    }
    let object: Object<'_> = serde_json::from_str(object.get()).ok()?;
    if object.metadata.deletion_timestamp.is_some() {
        return Some(Subject::Skip("Deleted"));
    }
    let before: Object<'_> = serde_json::from_str(before.get()).ok()?;
    let is_same = object.spec?.get() == before.spec?.get();
    is_same.then_some(Subject::Skip("Unchanged"))
}

impl Admission {
    pub(super) async fn validate_policy(
        &self,
        review: &PolicyReview,
        subject: Subject,
        snapshot: &Snapshot,
    ) -> Answer {
        let about = review.about();
        let mut object = match subject {
            Subject::Compile(object) => object,
            Subject::Skip(why) => {
                report::skipped(&about, why);
                return Answer::allowed();
            }
        };
        let pinning = snapshot.pinning;
        let kind = review.kind.clone();
        let keys: Arc<dyn Keys> = match &self.cluster {
            Some(cluster) => Arc::clone(&cluster.keys),
            None => Arc::new(NoKeys),
        };
        let roots = self.cluster.as_ref().map(|cluster| cluster.roots.known());
        // Many patterns take their time and their memory; reviews of workloads do not wait for it.
        let permit = COMPILING.acquire().await;
        let compiling = tokio::task::spawn_blocking(move || {
            if is_trust_root(GROUP, &kind) {
                let mut compiled = compile_trust_root(&object);
                compiled.warn_of_ends(Timestamp::now());
                return (compiled.errors, compiled.warnings, None);
            }
            let Compiled { mut errors, mut warnings, unmet, entry, .. } =
                compile_object(&kind, &mut object, pinning, keys.as_ref());
            if let (Some(roots), PolicyEntry::Valid(policy)) = (roots, &entry) {
                warnings.extend(unknown_roots(policy, |root| {
                    roots.lack(root).map(|lack| format!("cannot be used: {lack}"))
                }));
            }
            // Objects may come after the policy that references them. Until then it denies what it covers.
            errors.retain(|error| !unmet.contains(error));
            warnings.extend(unmet);
            (errors, warnings, Some(entry))
        });
        let compiled = compiling.await;
        drop(permit);
        let Ok((errors, warnings, entry)) = compiled else {
            self.metrics.panicked();
            let message = "it could not be compiled because of a fault in bonafide; it is in bonafide's log";
            return Answer::refused(Refusal::internal(message.to_owned()));
        };
        report::policy(&about, errors.len(), warnings.len());
        if errors.is_empty() {
            let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            if let (Some(entry), Some(cluster)) = (&entry, &self.cluster) {
                let entries = cluster.entries.as_ref();
                warnings.extend(select(entries, entry, review.dry_run).await);
            }
            return Answer { warnings, ..Answer::default() };
        }
        Answer::refused(invalid(&review.kind, &review.name, errors))
    }
}

/// Has the API server send what the policy is about, before there is the policy. What is to be told about that.
async fn select(entries: &dyn WebhookEntries, policy: &PolicyEntry, dry_run: bool) -> Vec<String> {
    let exempt = ExemptReach::of(policy, entries.exempt()).map(|exempt| exempt.to_string());
    let widened = if dry_run { Ok(()) } else { entries.widen(policy).await };
    let failed = widened.err().map(|error| {
        tracing::warn!(policy = policy.id().to_string(), error, "the webhooks cannot be widened for a policy");
        "the policy is in force once its status says so: the webhook configurations do not select yet what it is about".to_owned()
    });
    exempt.into_iter().chain(failed).collect()
}

/// What the API server itself says of an object that its schema refuses, so that kubectl shows it as it shows that.
fn invalid(kind: &str, name: &str, mut errors: Vec<Note>) -> Refusal {
    let left = errors.len().saturating_sub(ERRORS);
    errors.truncate(ERRORS);
    let mut lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if left > 0 {
        lines.push(format!("… and {left} more errors"));
    }
    let invalid = Invalid { kind: kind.to_owned(), name: name.to_owned(), causes: errors };
    Refusal::invalid(lines.join("\n"), invalid)
}
