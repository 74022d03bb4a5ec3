//! SLSA provenance v0.2 and v1 on the wire, in the dialects that builders write, into one view.
//!
//! Which field names the source depends on the builder. The shapes that are known are tried one after the other and
//! never mixed; where none fits, the source is unknown, and a policy that asks for one is not met. A dependency that
//! a build happened to fetch from git is not taken for its source.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::source::Source;
use crate::domain::{predicate::Predicate, provenance::Provenance};

/// What a predicate lacks of its type.
#[derive(Debug, thiserror::Error)]
pub enum PredicateError {
    /// A field is missing or of another type.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
    /// A time is no time.
    #[error("{0} is not a time")]
    Time(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PredicateV0_2 {
    builder: Builder,
    build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    metadata: Option<MetadataV0_2>,
    #[serde(default)]
    materials: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PredicateV1<'a> {
    #[serde(borrow)]
    build_definition: BuildDefinition<'a>,
    run_details: RunDetails,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    #[serde(default)]
    config_source: Option<Resource>,
}

#[derive(Deserialize, Default)]
struct MetadataV0_2 {
    #[serde(default, rename = "buildInvocationId", alias = "buildInvocationID")]
    invocation_id: Option<String>,
    #[serde(default, rename = "buildStartedOn")]
    started_on: Option<String>,
    #[serde(default, rename = "buildFinishedOn")]
    finished_on: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: String,
    #[serde(borrow, default)]
    external_parameters: Option<ExternalParameters<'a>>,
    #[serde(borrow, default)]
    internal_parameters: Option<InternalParameters<'a>>,
    #[serde(default)]
    resolved_dependencies: Option<Vec<Resource>>,
}

/// The parameters that name a source, one field per dialect: each as it is written there, for a field may hold anything.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ExternalParameters<'a> {
    /// GitHub's `actions/attest-build-provenance`.
    #[serde(borrow, default)]
    workflow: Option<&'a RawValue>,
    /// slsa-github-generator's container-based builder, GitLab.
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    /// The same builder: the file that says how to build.
    #[serde(borrow, default)]
    config_path: Option<&'a RawValue>,
    /// `BuildKit`.
    #[serde(borrow, default)]
    config_source: Option<&'a RawValue>,
    /// Google Cloud Build.
    #[serde(borrow, default)]
    build_config_source: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InternalParameters<'a> {
    /// slsa-github-generator: `owner/repo/PATH@REF`.
    #[serde(borrow, default, rename = "GITHUB_WORKFLOW_REF")]
    github_workflow_ref: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunDetails {
    builder: Builder,
    #[serde(default)]
    metadata: Option<MetadataV1>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct MetadataV1 {
    #[serde(default, alias = "invocationID")]
    invocation_id: Option<String>,
    #[serde(default)]
    started_on: Option<String>,
    #[serde(default)]
    finished_on: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    digest: Option<BTreeMap<String, String>>,
    #[serde(default, alias = "path")]
    entry_point: Option<String>,
}

/// `workflow` and `buildConfigSource`.
#[derive(Deserialize, Default)]
struct Configured {
    #[serde(default)]
    repository: Option<String>,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    #[serde(default)]
    path: Option<String>,
}

/// The source and what was run of it.
#[derive(Default)]
struct Origin {
    source: Option<Source>,
    commit: Option<String>,
    workflow: Option<String>,
}

/// Reads a predicate of the type [`crate::domain::provenance::SLSA_V0_2`].
pub(super) fn v0_2(predicate: &str) -> Result<Provenance, PredicateError> {
    let wire: PredicateV0_2 = serde_json::from_str(predicate)?;
    let origin = wire.invocation.and_then(|invocation| invocation.config_source).map(Origin::of_resource);
    let metadata = wire.metadata.unwrap_or_default();
    Ok(Provenance {
        builder_id: wire.builder.id,
        build_type: wire.build_type,
        invocation_id: present(metadata.invocation_id),
        started_on: time("buildStartedOn", metadata.started_on)?,
        finished_on: time("buildFinishedOn", metadata.finished_on)?,
        ..origin.unwrap_or_default().into_provenance(&wire.materials.unwrap_or_default(), predicate)
    })
}

/// Reads a predicate of the type [`crate::domain::provenance::SLSA_V1`].
pub(super) fn v1(predicate: &str) -> Result<Provenance, PredicateError> {
    let wire: PredicateV1<'_> = serde_json::from_str(predicate)?;
    let definition = wire.build_definition;
    let dependencies = definition.resolved_dependencies.unwrap_or_default();
    let internal = definition.internal_parameters.unwrap_or_default();
    let origin = Origin::of_parameters(&definition.external_parameters.unwrap_or_default())
        .or_else(|| Origin::of_delegator(&definition.build_type, &dependencies, &internal))
        .unwrap_or_default();
    let metadata = wire.run_details.metadata.unwrap_or_default();
    Ok(Provenance {
        builder_id: wire.run_details.builder.id,
        build_type: definition.build_type,
        invocation_id: present(metadata.invocation_id),
        started_on: time("startedOn", metadata.started_on)?,
        finished_on: time("finishedOn", metadata.finished_on)?,
        ..origin.into_provenance(&dependencies, predicate)
    })
}

impl Origin {
    fn of_resource(resource: Resource) -> Self {
        let commit = resource.commit();
        let source = present(resource.uri).map(|uri| Source::parse(&uri));
        Self { source, commit, workflow: present(resource.entry_point) }
    }

    fn of_configured(configured: Configured) -> Self {
        let source = present(configured.repository).map(|repository| {
            let named = Source::parse(&repository);
            Source { reference: present(configured.reference).or(named.reference), ..named }
        });
        Self { source, commit: None, workflow: present(configured.path) }
    }

    /// The first dialect of which there is a trace; a field of another type than the dialect's names nothing.
    fn of_parameters(parameters: &ExternalParameters<'_>) -> Option<Self> {
        if let Some(workflow) = parameters.workflow.filter(|workflow| workflow.get().starts_with('{')) {
            return Some(Self::of_configured(said(workflow).unwrap_or_default()));
        }
        if let Some(source) = parameters.source {
            let mut origin = match said::<String>(source) {
                Some(uri) => Self { source: Some(Source::parse(&uri)), ..Self::default() },
                None => Self::of_resource(said(source).unwrap_or_default()),
            };
            origin.workflow = origin.workflow.or_else(|| parameters.config_path.and_then(said));
            return Some(origin);
        }
        if let Some(source) = parameters.config_source {
            return Some(Self::of_resource(said(source).unwrap_or_default()));
        }
        let configured = parameters.build_config_source?;
        Some(Self::of_configured(said(configured).unwrap_or_default()))
    }

    /// slsa-github-generator's delegated builders write the source as the first dependency and as nothing else.
    fn of_delegator(
        build_type: &str,
        dependencies: &[Resource],
        internal: &InternalParameters<'_>,
    ) -> Option<Self> {
        if !build_type.starts_with("https://github.com/slsa-framework/slsa-github-generator/") {
            return None;
        }
        let first = dependencies.first()?;
        let source = Source::parse(first.uri.as_deref()?);
        let repository = source.uri.strip_prefix("https://github.com/").unwrap_or_default();
        let workflow = internal.github_workflow_ref.and_then(said::<String>).and_then(|workflow| {
            let path = workflow.strip_prefix(repository)?.strip_prefix('/')?;
            Some(path.split_once('@').map_or(path, |(path, _)| path).to_owned())
        });
        Some(Self { commit: first.commit(), source: Some(source), workflow })
    }

    /// `dependencies` lend the commit where the source itself has none.
    fn into_provenance(self, dependencies: &[Resource], predicate: &str) -> Provenance {
        let Some(source) = self.source else {
            return Provenance {
                workflow: self.workflow,
                predicate: Predicate::of_text(predicate),
                ..Provenance::default()
            };
        };
        let of_dependency = || {
            dependencies.iter().find_map(|dependency| {
                let other = Source::parse(dependency.uri.as_deref()?);
                let same_ref = source.reference.is_none()
                    || other.reference.is_none()
                    || source.reference == other.reference;
                if other.uri == source.uri && same_ref { dependency.commit().or(other.commit) } else { None }
            })
        };
        Provenance {
            commit: self.commit.or_else(|| source.commit.clone()).or_else(of_dependency),
            source_ref: source.reference,
            source: Some(source.uri),
            workflow: self.workflow,
            predicate: Predicate::of_text(predicate),
            ..Provenance::default()
        }
    }
}

impl Resource {
    fn commit(&self) -> Option<String> {
        let digest = self.digest.as_ref()?;
        digest.get("gitCommit").or_else(|| digest.get("sha1")).cloned()
    }
}

/// What it says, where it is of that type.
fn said<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn time(field: &'static str, text: Option<String>) -> Result<Option<Timestamp>, PredicateError> {
    present(text).map(|text| text.parse().map_err(|_| PredicateError::Time(field))).transpose()
}
