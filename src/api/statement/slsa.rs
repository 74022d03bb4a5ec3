//! SLSA provenance v0.2 and v1 on the wire, in the dialects that builders write, into one view.
//!
//! Which field names the source depends on the builder. The shapes that are known are tried one after the other and
//! never mixed; where none fits, the source is unknown, and a policy that asks for one is not met. A dependency that
//! a build happened to fetch from git is not taken for its source.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    lenient::{Time, find_in_list, part, said, text},
    source::Source,
};
use crate::domain::{predicate::Predicate, provenance::Provenance};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PredicateV0_2<'a> {
    builder: Builder,
    build_type: String,
    #[serde(borrow, default)]
    invocation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    materials: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PredicateV1<'a> {
    #[serde(borrow)]
    build_definition: BuildDefinition<'a>,
    #[serde(borrow)]
    run_details: RunDetails<'a>,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Invocation<'a> {
    #[serde(borrow, default)]
    config_source: Option<&'a RawValue>,
}

/// Both spellings of the invocation's id are in use, and some builders write both.
#[derive(Deserialize, Default)]
struct MetadataV0_2 {
    #[serde(default, rename = "buildInvocationId", deserialize_with = "text")]
    invocation_id: Option<String>,
    #[serde(default, rename = "buildInvocationID", deserialize_with = "text")]
    other_invocation_id: Option<String>,
    #[serde(default, rename = "buildStartedOn")]
    started_on: Time,
    #[serde(default, rename = "buildFinishedOn")]
    finished_on: Time,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: String,
    #[serde(borrow, default)]
    external_parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    internal_parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resolved_dependencies: Option<&'a RawValue>,
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
struct RunDetails<'a> {
    builder: Builder,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct MetadataV1 {
    #[serde(default, rename = "invocationId", deserialize_with = "text")]
    invocation_id: Option<String>,
    #[serde(default, rename = "invocationID", deserialize_with = "text")]
    other_invocation_id: Option<String>,
    #[serde(default, rename = "startedOn")]
    started_on: Time,
    #[serde(default, rename = "finishedOn")]
    finished_on: Time,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(default, deserialize_with = "text")]
    uri: Option<String>,
    #[serde(borrow, default)]
    digest: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "text")]
    entry_point: Option<String>,
    #[serde(default, deserialize_with = "text")]
    path: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct CommitDigest {
    #[serde(default, deserialize_with = "text")]
    git_commit: Option<String>,
    #[serde(default, deserialize_with = "text")]
    sha1: Option<String>,
}

/// `workflow` and `buildConfigSource`.
#[derive(Deserialize, Default)]
struct Configured {
    #[serde(default, deserialize_with = "text")]
    repository: Option<String>,
    #[serde(default, rename = "ref", deserialize_with = "text")]
    reference: Option<String>,
    #[serde(default, deserialize_with = "text")]
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
pub(super) fn v0_2(predicate: &str) -> Result<Provenance, serde_json::Error> {
    let wire: PredicateV0_2<'_> = serde_json::from_str(predicate)?;
    let invocation: Invocation<'_> = part(wire.invocation)?;
    let origin = Origin::of_resource(part(invocation.config_source)?)?;
    let metadata: MetadataV0_2 = part(wire.metadata)?;
    Ok(Provenance {
        builder_id: wire.builder.id,
        build_type: wire.build_type,
        invocation_id: the_same(metadata.invocation_id, metadata.other_invocation_id),
        started_on: metadata.started_on.at(),
        finished_on: metadata.finished_on.at(),
        unreadable_time: unreadable(metadata.started_on, metadata.finished_on),
        ..origin.into_provenance(wire.materials, predicate)
    })
}

/// Reads a predicate of the type [`crate::domain::provenance::SLSA_V1`].
pub(super) fn v1(predicate: &str) -> Result<Provenance, serde_json::Error> {
    let wire: PredicateV1<'_> = serde_json::from_str(predicate)?;
    let definition = wire.build_definition;
    let dependencies = definition.resolved_dependencies;
    let named = Origin::of_parameters(&part(definition.external_parameters)?)?;
    let internal = part(definition.internal_parameters)?;
    let of_delegator = || Origin::of_delegator(&definition.build_type, dependencies, &internal);
    let origin = named.map_or_else(of_delegator, |named| Ok(Some(named)))?.unwrap_or_default();
    let metadata: MetadataV1 = part(wire.run_details.metadata)?;
    Ok(Provenance {
        builder_id: wire.run_details.builder.id,
        build_type: definition.build_type,
        invocation_id: the_same(metadata.invocation_id, metadata.other_invocation_id),
        started_on: metadata.started_on.at(),
        finished_on: metadata.finished_on.at(),
        unreadable_time: unreadable(metadata.started_on, metadata.finished_on),
        ..origin.into_provenance(dependencies, predicate)
    })
}

impl Origin {
    fn of_resource(resource: Resource<'_>) -> Result<Self, serde_json::Error> {
        let commit = resource.commit()?;
        let source = resource.uri.map(|uri| Source::parse(&uri));
        Ok(Self { source, commit, workflow: resource.entry_point.or(resource.path) })
    }

    fn of_configured(configured: Configured) -> Self {
        let source = configured.repository.map(|repository| {
            let named = Source::parse(&repository);
            Source { reference: configured.reference.or(named.reference), ..named }
        });
        Self { source, commit: None, workflow: configured.path }
    }

    /// The first dialect of which there is a trace; a field of another type than the dialect's names nothing.
    fn of_parameters(parameters: &ExternalParameters<'_>) -> Result<Option<Self>, serde_json::Error> {
        if let Some(workflow) = parameters.workflow.filter(|workflow| workflow.get().starts_with('{')) {
            return Ok(Some(Self::of_configured(part(Some(workflow))?)));
        }
        if let Some(source) = parameters.source {
            let mut origin = match said::<String>(source) {
                Some(uri) => Self { source: Some(Source::parse(&uri)), ..Self::default() },
                None => Self::of_resource(part(Some(source))?)?,
            };
            origin.workflow = origin.workflow.or_else(|| parameters.config_path.and_then(said));
            return Ok(Some(origin));
        }
        if let Some(source) = parameters.config_source {
            return Self::of_resource(part(Some(source))?).map(Some);
        }
        match parameters.build_config_source {
            Some(configured) => Ok(Some(Self::of_configured(part(Some(configured))?))),
            None => Ok(None),
        }
    }

    /// slsa-github-generator's delegated builders write the source as the first dependency and as nothing else.
    fn of_delegator(
        build_type: &str,
        dependencies: Option<&RawValue>,
        internal: &InternalParameters<'_>,
    ) -> Result<Option<Self>, serde_json::Error> {
        if !build_type.starts_with("https://github.com/slsa-framework/slsa-github-generator/") {
            return Ok(None);
        }
        let first = find_in_list(dependencies, |item| {
            let first = part(Some(item)).and_then(|first: Resource<'_>| Ok((first.commit()?, first.uri)));
            Some(first)
        });
        let (commit, Some(uri)) = first.transpose()?.unwrap_or_default() else { return Ok(None) };
        let source = Source::parse(&uri);
        let repository = source.uri.strip_prefix("https://github.com/").unwrap_or_default();
        let workflow = internal.github_workflow_ref.and_then(said::<String>).and_then(|workflow| {
            let path = workflow.strip_prefix(repository)?.strip_prefix('/')?;
            Some(path.split_once('@').map_or(path, |(path, _)| path).to_owned())
        });
        Ok(Some(Self { commit, source: Some(source), workflow }))
    }

    /// `dependencies` lend the commit where the source itself has none.
    fn into_provenance(self, dependencies: Option<&RawValue>, predicate: &str) -> Provenance {
        let Some(source) = self.source else {
            return Provenance {
                workflow: self.workflow,
                predicate: Predicate::of_text(predicate),
                ..Provenance::default()
            };
        };
        let of_dependency = || {
            find_in_list(dependencies, |item| {
                let dependency: Resource<'_> = part(Some(item)).ok()?;
                let other = Source::parse(dependency.uri.as_deref()?);
                let same_ref = source.reference.is_none()
                    || other.reference.is_none()
                    || source.reference == other.reference;
                let is_source = other.uri == source.uri && same_ref;
                is_source.then(|| dependency.commit().ok().flatten().or(other.commit)).flatten()
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

impl Resource<'_> {
    fn commit(&self) -> Result<Option<String>, serde_json::Error> {
        let CommitDigest { git_commit, sha1 } = part(self.digest)?;
        Ok(git_commit.or(sha1))
    }
}

/// What both spellings of a field say. Where they differ, neither counts.
fn the_same(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
}

/// What is stated in place of a time, where no time is stated beside it.
fn unreadable(started: Time, finished: Time) -> Option<String> {
    match (finished, started) {
        (Time::At(_), _) | (_, Time::At(_)) | (Time::Absent, Time::Absent) => None,
        (Time::Unreadable(text), _) | (Time::Absent, Time::Unreadable(text)) => Some(text),
    }
}
