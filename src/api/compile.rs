//! The one way from a policy object to what is decided with: for `serve`, the command line and, later, the cluster alike.
//!
//! Every error is found at once and names its field and value. What is only wider than it looks is a warning. A policy with an error
//! is not lost: it becomes an invalid one, which fails closed for the images it names.

mod fields;
mod signer;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::v1alpha1::{self as wire, API_VERSION, PolicySpec};
use crate::domain::{
    glob::Glob,
    policy::{
        ImageSelector, InvalidPolicy, LabelRequirement, LabelSelector, LabelTest, Mode, Policy, PolicyEntry,
        PolicyId, ProvenanceRules, SubjectRule, TagRule,
    },
    provenance::{SLSA_V0_2, SLSA_V1},
};
use fields::Fields;
pub use fields::Note;

/// The namespace of a `ProvenancePolicy` that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a policy object became.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The policy, valid or failing closed.
    pub entry: PolicyEntry,
    /// What is wrong with it; empty where it is valid.
    pub errors: Vec<Note>,
    /// What is wider than it looks.
    pub warnings: Vec<Note>,
}

/// Whether an object is of this group, and so must compile.
pub fn is_ours(object: &Value) -> bool {
    object
        .get("apiVersion")
        .and_then(Value::as_str)
        .is_some_and(|version| version.starts_with("bonafide.dev/"))
}

/// Compiles a `ProvenancePolicy` or `ClusterProvenancePolicy` object, whatever it holds.
pub fn compile(object: &Value) -> Compiled {
    let mut fields = Fields::default();
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or_default();
    let name = text("/metadata/name").unwrap_or_default();
    let namespaced = kind == "ProvenancePolicy";
    let id = PolicyId {
        namespace: namespaced.then(|| text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned()),
        name: name.to_owned(),
    };
    check_head(&mut fields, object, kind, name);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let policy = match read_spec(spec) {
        Ok(wire) => Some(policy(&mut fields, &id, namespaced, &wire)),
        Err((field, message)) => {
            fields.error(&field, None, message);
            None
        }
    };
    let (errors, warnings) = fields.into_notes();
    let entry = match policy {
        Some(policy) if errors.is_empty() => PolicyEntry::Valid(Arc::new(policy)),
        _ => PolicyEntry::Invalid(Arc::new(InvalidPolicy {
            id,
            namespaces: readable_namespaces(spec),
            images: readable_images(spec),
            errors: errors.iter().map(ToString::to_string).collect(),
        })),
    };
    Compiled { entry, errors, warnings }
}

fn check_head(fields: &mut Fields, object: &Value, kind: &str, name: &str) {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != API_VERSION {
        fields.error("apiVersion", Some(version), format!("is not {API_VERSION}"));
    }
    match kind {
        "ProvenancePolicy" | "ClusterProvenancePolicy" => {}
        "TrustRoot" => fields.error(
            "kind",
            Some(kind),
            "is not supported yet; --trust-root FILE replaces the trust root",
        ),
        _ => fields.error("kind", Some(kind), "is neither ProvenancePolicy nor ClusterProvenancePolicy"),
    }
    if name.is_empty() {
        fields.error("metadata.name", None, "is missing");
    }
    if kind == "ClusterProvenancePolicy" && object.pointer("/metadata/namespace").is_some() {
        fields.error(
            "metadata.namespace",
            None,
            "a ClusterProvenancePolicy has none; spec.namespaceSelector narrows it",
        );
    }
}

/// The shape of the spec; an error names the field.
fn read_spec(spec: &Value) -> Result<PolicySpec, (String, String)> {
    if spec.is_null() {
        return Err(("spec".to_owned(), "is missing".to_owned()));
    }
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
        (field, error.into_inner().to_string())
    })
}

/// The images of a policy that is wrong elsewhere; `None` where not even they can be read: then it is about every image.
fn readable_images(spec: &Value) -> Option<ImageSelector> {
    let images = wire::Images::deserialize(spec.get("images")?).ok()?;
    let globs = |patterns: &[String]| {
        patterns.iter().map(|pattern| Glob::new(pattern).ok()).collect::<Option<Vec<_>>>()
    };
    // An exclusion that cannot be read takes nothing out.
    let selector = ImageSelector {
        include: globs(&images.include)?,
        exclude: globs(&images.exclude).unwrap_or_default(),
    };
    (!selector.include.is_empty()).then_some(selector)
}

fn readable_namespaces(spec: &Value) -> Option<LabelSelector> {
    let selector = wire::LabelSelector::deserialize(spec.get("namespaceSelector")?).ok()?;
    let mut fields = Fields::default();
    let compiled = label_selector(&mut fields, &selector);
    fields.into_notes().0.is_empty().then_some(compiled)
}

fn policy(fields: &mut Fields, id: &PolicyId, namespaced: bool, spec: &PolicySpec) -> Policy {
    if namespaced && spec.namespace_selector.is_some() {
        fields.error(
            "spec.namespaceSelector",
            None,
            "belongs to a ClusterProvenancePolicy; this one is for its own namespace",
        );
    }
    if spec.uncovered_platforms == wire::UncoveredPlatforms::Constrain {
        let message = "needs the mutating webhook in a cluster, which is not supported yet";
        fields.error("spec.uncoveredPlatforms", Some("Constrain"), message);
    }
    let images = images(fields, &spec.images);
    let signers = signer::signers(fields, &spec.signers);
    Policy {
        id: id.clone(),
        namespaces: spec
            .namespace_selector
            .as_ref()
            .map(|selector| label_selector(fields, selector))
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
        tags: match spec.tags {
            wire::Tags::Allow => TagRule::Allow,
            wire::Tags::Warn => TagRule::Warn,
            wire::Tags::Deny => TagRule::Deny,
        },
        signers,
        provenance: provenance(fields, &spec.provenance),
    }
}

fn images(fields: &mut Fields, images: &wire::Images) -> ImageSelector {
    if images.include.is_empty() {
        fields.error(
            "spec.images.include",
            None,
            "is empty: the policy is about no image; write ghcr.io/owner/** or **",
        );
    }
    let include = fields.globs("spec.images.include", &images.include);
    for (at, pattern) in images.include.iter().enumerate() {
        let field = format!("spec.images.include[{at}]");
        check_image_glob(fields, &field, pattern);
    }
    for (at, pattern) in images.exclude.iter().enumerate() {
        check_image_glob(fields, &format!("spec.images.exclude[{at}]"), pattern);
    }
    ImageSelector { include, exclude: fields.globs("spec.images.exclude", &images.exclude) }
}

/// Images are matched in their normalised form; what can never match is an error, what matches more than it looks is a warning.
fn check_image_glob(fields: &mut Fields, field: &str, pattern: &str) {
    let (registry, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    if pattern.contains('@') || path.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        fields.error(field, Some(pattern), "a policy is about repositories: write it without tag and digest");
    } else if pattern.contains("://") {
        fields.error(field, Some(pattern), "is matched against registry/path: write it without the scheme");
    } else if pattern != "**" && path.is_empty() && !registry.contains("**") {
        let hint = "write docker.io/library/NAME, or ghcr.io/owner/**";
        fields.error(
            field,
            Some(pattern),
            format!("has no registry and path, so it matches nothing; {hint}"),
        );
    } else if registry.bytes().any(|b| b.is_ascii_uppercase()) {
        fields.error(field, Some(pattern), "matches nothing: registries are matched in lower case");
    } else if !registry.contains(['.', ':', '*', '?']) && registry != "localhost" {
        let message = format!("matches nothing: Docker Hub's images are matched as docker.io/{pattern}");
        fields.error(field, Some(pattern), message);
    } else if let Some(stem) = pattern.strip_suffix("**").or_else(|| pattern.strip_suffix('*'))
        && !stem.is_empty()
        && !stem.ends_with(['/', '*'])
    {
        fields.warn(
            field,
            Some(pattern),
            format!("also matches names that go on: {stem}-other; write {stem}/** for what is below it"),
        );
    }
}

fn label_selector(fields: &mut Fields, selector: &wire::LabelSelector) -> LabelSelector {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| LabelRequirement { key: key.clone(), test: LabelTest::In(vec![value.clone()]) });
    let mut requirements: Vec<LabelRequirement> = labels.collect();
    for (at, expression) in selector.match_expressions.iter().enumerate() {
        let field = format!("spec.namespaceSelector.matchExpressions[{at}].values");
        let wants_values =
            matches!(expression.operator, wire::LabelOperator::In | wire::LabelOperator::NotIn);
        if wants_values == expression.values.is_empty() {
            let message = if wants_values {
                "In and NotIn need values"
            } else {
                "Exists and DoesNotExist take no values"
            };
            fields.error(&field, None, message);
        }
        let test = match expression.operator {
            wire::LabelOperator::In => LabelTest::In(expression.values.clone()),
            wire::LabelOperator::NotIn => LabelTest::NotIn(expression.values.clone()),
            wire::LabelOperator::Exists => LabelTest::Exists,
            wire::LabelOperator::DoesNotExist => LabelTest::DoesNotExist,
        };
        requirements.push(LabelRequirement { key: expression.key.clone(), test });
    }
    LabelSelector(requirements)
}

fn provenance(fields: &mut Fields, rules: &wire::Provenance) -> ProvenanceRules {
    for (at, kind) in rules.types.iter().enumerate() {
        if ![SLSA_V0_2, SLSA_V1].contains(&kind.as_str()) {
            let field = format!("spec.provenance.types[{at}]");
            fields.error(
                &field,
                Some(kind),
                format!("is not a supported predicate type: {SLSA_V0_2} and {SLSA_V1} are"),
            );
        }
    }
    if !rules.conditions.is_empty() {
        fields.error("spec.provenance.conditions", None, "conditions are not supported yet");
    }
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
        types: rules.types.clone(),
        builder_ids: fields.globs("spec.provenance.builderIds", &rules.builder_ids),
        build_types: fields.globs("spec.provenance.buildTypes", &rules.build_types),
        source_repository: source.repository.map(|uri| uri.trim_end_matches('/').to_owned()),
        source_refs: fields.globs("spec.provenance.source.refs", &source.refs),
        max_age,
    }
}

#[cfg(test)]
mod tests;
