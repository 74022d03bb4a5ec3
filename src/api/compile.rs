//! The one way from a policy object to what is decided with: for `serve`, the command line and, later, the cluster alike.
//!
//! Every error is found at once and names its field and value. What is only wider than it looks is a warning. A policy with an error
//! is not lost: it becomes an invalid one, which fails closed for the images it names.

mod attestations;
mod fields;
mod head;
mod images;
mod key;
mod keys;
mod pattern;
mod root;
mod selector;
mod shape;
mod signer;
mod unknown_roots;

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::v1alpha1::{self as wire, ClusterPolicySpec};
use crate::domain::{
    condition::Condition,
    policy::{
        ImageSelector, InvalidPolicy, LabelSelector, Mode, Policy, PolicyEntry, PolicyId, ProvenanceRules,
        SubjectRule, TagRule, UncoveredRule,
    },
    provenance::{SLSA_V0_2, SLSA_V1},
    summary::SummaryRules,
};
use fields::Fields;
pub use fields::Note;
pub use head::{DEFAULT_NAMESPACE, GROUP, is_ours, is_policy, is_root, is_trust_root};
pub use key::{MAX_PEM, public_key};
pub use keys::{
    GivenKeys, HOME, KeyHolder, KeyKeeper, KeyObject, Keys, NoKeys, Unfound, entries, is_key_object,
};
pub use root::{AuthoritySource, CompiledRoot, RootSource, TufSource, compile_root, mirror};
pub use selector::is_label_key;
use shape::Misshapen;
pub use unknown_roots::unknown_roots;

/// What a policy object became.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The policy, valid or failing closed.
    pub entry: PolicyEntry,
    /// What is wrong with it; empty where it is valid.
    pub errors: Vec<Note>,
    /// What is wider than it looks.
    pub warnings: Vec<Note>,
    /// The entries of objects that it references, there or not.
    pub key_objects: BTreeSet<KeyObject>,
    /// Those of the errors that lie with these objects: the policy itself is as it should be.
    pub unmet: Vec<Note>,
    /// How many bytes it takes for as long as it is in force, at most.
    pub bytes: usize,
}

/// What a policy references, while it is compiled.
struct References<'a> {
    keys: &'a dyn Keys,
    /// Where its objects are.
    namespace: &'a str,
    objects: BTreeSet<KeyObject>,
    unmet: Vec<Note>,
}

impl References<'_> {
    /// There is no key to a reference.
    fn unmet(&mut self, fields: &mut Fields, field: &str, message: String) {
        self.unmet.push(fields::note(field, None, message.clone()));
        fields.error(field, None, message);
    }
}

impl Compiled {
    /// Makes it invalid where nobody constrains pods: a rule that needs the mutating webhook is not silently another one.
    pub fn refuse_constraining(&mut self) {
        if matches!(&self.entry, PolicyEntry::Valid(policy) if policy.uncovered == UncoveredRule::Constrain) {
            self.refuse(Note {
                field: "spec.uncoveredPlatforms".to_owned(),
                value: Some("Constrain".to_owned()),
                message: "needs the mutating webhook, which is switched off in this cluster (pinning)"
                    .to_owned(),
            });
        }
    }

    /// Makes it invalid because there is no room for it: nothing that is large stays of it.
    pub fn refuse_for_room(&mut self, why: String) {
        self.refuse(Note { field: "spec".to_owned(), value: None, message: why });
        if let PolicyEntry::Invalid(policy) = &mut self.entry {
            let policy = Arc::make_mut(policy);
            policy.errors.drain(..policy.errors.len().saturating_sub(1));
            let is_small = |images: &ImageSelector| {
                let globs = images.include.iter().chain(&images.exclude);
                globs.map(|glob| glob.as_str().len()).fold(0, usize::saturating_add) <= SMALL_SELECTOR
            };
            policy.images = policy.images.take().filter(is_small);
            let requirements = policy.namespaces.as_ref().map_or(0, |selector| selector.0.len());
            policy.namespaces = policy.namespaces.take().filter(|_| requirements <= 4);
        }
    }

    /// Makes it invalid for a reason that the object alone does not show.
    pub fn refuse(&mut self, error: Note) {
        let mut invalid = match &self.entry {
            PolicyEntry::Valid(policy) => InvalidPolicy {
                id: policy.id.clone(),
                namespaces: Some(policy.namespaces.clone()),
                images: Some(policy.images.clone()),
                mode: policy.mode,
                errors: Vec::new(),
            },
            PolicyEntry::Invalid(policy) => policy.as_ref().clone(),
        };
        invalid.errors.push(error.to_string());
        self.errors.push(error);
        self.entry = PolicyEntry::Invalid(Arc::new(invalid));
    }
}

/// Compiles a `ProvenancePolicy` or `ClusterProvenancePolicy` object, whatever it holds. What it references is among `keys`.
pub fn compile(object: &Value, keys: &dyn Keys) -> Compiled {
    let mut fields = Fields::default();
    let (id, namespaced) = head::head(&mut fields, object);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let namespace = id.namespace.clone().unwrap_or_else(|| keys.home().to_owned());
    let mut references =
        References { keys, namespace: &namespace, objects: BTreeSet::new(), unmet: Vec::new() };
    let policy = read_spec(&mut fields, spec).map(|(wire, misshapen)| {
        let mut rest = Fields::default();
        let policy = policy(&mut rest, &id, namespaced, &wire, &mut references);
        fields.append(rest, |note| !misshapen.explains(&note.field));
        for note in misshapen.untold {
            fields.error_unless_told(note);
        }
        policy
    });
    let (key_objects, unmet) = (references.objects, references.unmet);
    let bytes = fields.pattern_bytes().saturating_add(text_bytes(spec).saturating_mul(BYTES_OF_TEXT));
    let (errors, warnings) = fields.into_notes();
    let entry = match policy {
        Some(policy) if errors.is_empty() => PolicyEntry::Valid(Arc::new(policy)),
        _ => PolicyEntry::Invalid(Arc::new(InvalidPolicy {
            id,
            namespaces: readable_namespaces(spec),
            images: images::readable(spec),
            mode: readable_mode(spec),
            errors: errors.iter().map(ToString::to_string).collect(),
        })),
    };
    Compiled { entry, errors, warnings, key_objects, unmet, bytes }
}

/// How long the names of a policy's images may be that are kept although there is no room for the policy.
const SMALL_SELECTOR: usize = 1 << 10;
/// What a byte of a policy's text takes once it is compiled, at most.
const BYTES_OF_TEXT: usize = 4;

/// How long the text of a value is, about.
fn text_bytes(value: &Value) -> usize {
    const MARKS: usize = 4;
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => MARKS,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).fold(0, usize::saturating_add),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len().saturating_add(text_bytes(value)))
            .fold(0, usize::saturating_add),
    };
    inner.saturating_add(MARKS)
}

/// Compiles a policy object as the API server has it: an item of a list need not say of which kind it is. Without `pinning` no pod
/// is constrained.
pub fn compile_object(kind: &str, object: &mut Value, pinning: bool, keys: &dyn Keys) -> Compiled {
    if let Value::Object(fields) = object {
        fields.insert("apiVersion".to_owned(), wire::API_VERSION.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    let mut compiled = compile(object, keys);
    if !pinning {
        compiled.refuse_constraining();
    }
    compiled
}

/// The spec as far as its shape is right, and where it is not: what is wrong with the rest is told in the same breath.
fn read_spec(fields: &mut Fields, spec: &Value) -> Option<(ClusterPolicySpec, Misshapen)> {
    if spec.is_null() {
        fields.error("spec", None, "is missing");
        return None;
    }
    let (sound, misshapen) = shape::sound(fields, spec, &shape::POLICY);
    match serde_path_to_error::deserialize(&sound) {
        Ok(wire) => Some((wire, misshapen)),
        Err(error) => {
            // The shape is held against the types' own schema, so this is a difference between the two, and still an error.
            fields.error(&format!("spec.{}", error.path()), None, error.inner().to_string());
            None
        }
    }
}

/// A policy that says plainly that it denies nothing denies nothing while it is invalid. Anything else may have been meant to deny.
fn readable_mode(spec: &Value) -> Mode {
    match spec.get("mode").and_then(Value::as_str) {
        Some("Audit") => Mode::Audit,
        Some("Warn") => Mode::Warn,
        _ => Mode::Enforce,
    }
}

fn readable_namespaces(spec: &Value) -> Option<LabelSelector> {
    // A list would be read as one too, field by field.
    let selector = spec.get("namespaceSelector").filter(|selector| selector.is_object())?;
    let selector = wire::LabelSelector::deserialize(selector).ok()?;
    let mut fields = Fields::default();
    let compiled = selector::labels(&mut fields, &selector);
    fields.into_notes().0.is_empty().then_some(compiled)
}

fn policy(
    fields: &mut Fields,
    id: &PolicyId,
    namespaced: bool,
    spec: &ClusterPolicySpec,
    references: &mut References<'_>,
) -> Policy {
    let ClusterPolicySpec { policy: spec, namespace_selector } = spec;
    if namespaced && namespace_selector.is_some() {
        fields.error(
            "spec.namespaceSelector",
            None,
            "belongs to a ClusterProvenancePolicy; this one is for its own namespace",
        );
    }
    let images = images::images(fields, &spec.images);
    let source = spec.provenance.source.as_ref();
    let claims = signer::Claims { name_source: source.is_some_and(|source| source.repository.is_some()) };
    let of_summaries = spec.vsa.as_ref().is_some_and(|vsa| !vsa.signers.is_empty());
    if spec.signers.is_empty() && !of_summaries {
        fields.error("spec.signers", None, "is empty: nobody could sign; name at least one signer");
    }
    let signers = signer::signers(fields, "spec.signers", &spec.signers, claims, references);
    let provenance = provenance(fields, &spec.provenance);
    signer::check_levels(fields, &signers, provenance.min_level);
    Policy {
        id: id.clone(),
        namespaces: namespace_selector
            .as_ref()
            .map(|selector| selector::labels(fields, selector))
            .unwrap_or_default(),
        mode: match spec.mode {
            wire::Mode::Enforce => Mode::Enforce,
            wire::Mode::Warn => Mode::Warn,
            wire::Mode::Audit => Mode::Audit,
        },
        images,
        subject: match spec.subject {
            wire::Subject::Any => SubjectRule::Any,
            wire::Subject::Platform => SubjectRule::Platform,
        },
        uncovered: match spec.uncovered_platforms {
            wire::UncoveredPlatforms::Deny => UncoveredRule::Deny,
            wire::UncoveredPlatforms::Constrain => UncoveredRule::Constrain,
        },
        tags: match spec.tags {
            wire::Tags::Allow => TagRule::Allow,
            wire::Tags::Warn => TagRule::Warn,
            wire::Tags::Deny => TagRule::Deny,
        },
        signers,
        provenance,
        attestation_repositories: attestations::repositories(fields, &spec.attestations),
        summaries: spec.vsa.as_ref().map(|vsa| summaries(fields, vsa, references)),
        in_place_of_provenance: None,
    }
}

fn summaries(fields: &mut Fields, vsa: &wire::Vsa, references: &mut References<'_>) -> SummaryRules {
    const SIGNERS: &str = "spec.vsa.signers";
    if vsa.signers.is_empty() {
        let message = "is missing: no verification summary suffices until it names who may sign summaries";
        fields.warn(SIGNERS, None, message);
    }
    // A summary is of the image, whatever it was built from.
    let claims = signer::Claims { name_source: true };
    if vsa.verifier_ids.is_empty() {
        fields.error("spec.vsa.verifierIds", None, "is empty: any signer could be any verifier");
    }
    SummaryRules {
        signers: signer::signers(fields, SIGNERS, &vsa.signers, claims, references),
        verifier_ids: vsa.verifier_ids.clone(),
        min_level: signer::level(fields, "spec.vsa.minLevel", vsa.min_level).unwrap_or_default(),
        policy_uris: vsa.policy_uris.clone(),
    }
}

fn provenance(fields: &mut Fields, rules: &wire::Provenance) -> ProvenanceRules {
    let source = rules.source.clone().unwrap_or_default();
    if let Some(repository) = &source.repository
        && !repository.contains("://")
    {
        fields.error(
            "spec.provenance.source.repository",
            Some(repository),
            "is not a URI, such as https://github.com/owner/repo",
        );
    }
    let max_age = rules.max_age.as_ref().and_then(|text| match humantime::parse_duration(text) {
        Ok(age) if !age.is_zero() => Some(age),
        _ => {
            fields.error("spec.provenance.maxAge", Some(text), "is not a duration, such as 2160h");
            None
        }
    });
    ProvenanceRules {
        types: rules
            .types
            .iter()
            .map(|kind| match kind {
                wire::PredicateType::SlsaV0_2 => SLSA_V0_2.to_owned(),
                wire::PredicateType::SlsaV1 => SLSA_V1.to_owned(),
            })
            .collect(),
        builder_ids: fields.globs("spec.provenance.builderIds", &rules.builder_ids),
        build_types: fields.globs("spec.provenance.buildTypes", &rules.build_types),
        source_repository: source.repository.map(|uri| uri.trim_end_matches('/').to_owned()),
        source_refs: fields.globs("spec.provenance.source.refs", &source.refs),
        min_level: signer::level(fields, "spec.provenance.minLevel", rules.min_level).unwrap_or_default(),
        max_age,
        conditions: conditions(fields, &rules.conditions),
    }
}

fn conditions(fields: &mut Fields, conditions: &[wire::Condition]) -> Vec<Condition> {
    let mut compiled = Vec::with_capacity(conditions.len());
    for (at, condition) in conditions.iter().enumerate() {
        let field = format!("spec.provenance.conditions[{at}].expression");
        match Condition::new(&condition.expression, condition.message.clone()) {
            Ok(condition) if !fields.takes_pattern(&field, condition.bytes()) => break,
            Ok(condition) => {
                if let Some(pattern) = condition.unanchored() {
                    let message = format!(
                        "matches {pattern:?} anywhere in the text; write ^…$ around it for the whole text"
                    );
                    fields.warn(&field, None, message);
                }
                compiled.push(condition);
            }
            Err(error) => fields.error(&field, None, error.to_string()),
        }
    }
    compiled
}

#[cfg(test)]
mod tests;
