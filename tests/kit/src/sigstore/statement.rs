//! In-toto statements with SLSA provenance, as GitHub's `attest-build-provenance` (v1) and
//! `slsa-github-generator` (v0.2) write them. The result is JSON: a test edits what it wants to be
//! otherwise before it is signed.

use serde_json::{Value, json};

use super::identity::{Identity, commit_of};

/// SLSA provenance v0.2.
pub const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";
/// SLSA provenance v1.
pub const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
/// A signature of an image in the form of a statement, without a predicate of interest.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// What provenance claims of a build.
#[derive(Clone, Debug)]
pub struct Build {
    /// `builder.id`.
    pub builder_id: String,
    /// `buildType`; empty for the one that belongs to the predicate's version.
    pub build_type: String,
    /// `owner/name` at GitHub.
    pub repository: String,
    /// The source's ref.
    pub git_ref: String,
    /// The source's commit.
    pub commit: String,
    /// The workflow's path in the repository.
    pub workflow_path: String,
    /// What started the workflow.
    pub trigger: String,
    /// `invocationId`.
    pub invocation_id: String,
    /// `startedOn`, where given.
    pub started_on: Option<String>,
    /// `finishedOn`, where given.
    pub finished_on: Option<String>,
}

impl Build {
    /// A workflow of GitHub Actions; the commit is the one of [`Identity::github`] for the same.
    pub fn github(repository: &str, workflow_path: &str, git_ref: &str, trigger: &str) -> Self {
        let url = format!("https://github.com/{repository}");
        Self {
            builder_id: format!("{url}/{workflow_path}@{git_ref}"),
            build_type: String::new(),
            repository: repository.to_owned(),
            git_ref: git_ref.to_owned(),
            commit: commit_of(repository, git_ref),
            workflow_path: workflow_path.to_owned(),
            trigger: trigger.to_owned(),
            invocation_id: format!("{url}/actions/runs/13531731005/attempts/1"),
            started_on: None,
            finished_on: None,
        }
    }

    /// The build that this identity's certificate speaks of, its signer being the builder.
    pub fn of(identity: &Identity) -> Self {
        let value = |number| identity.value(number).unwrap_or_default();
        let mut build = Self::github(&value(5), &value(4), &value(6), &value(2));
        identity.subject().clone_into(&mut build.builder_id);
        build.commit = value(3);
        build
    }

    /// When the build began and ended, as RFC 3339.
    #[must_use]
    pub fn ran(mut self, started_on: &str, finished_on: &str) -> Self {
        self.started_on = Some(started_on.to_owned());
        self.finished_on = Some(finished_on.to_owned());
        self
    }

    fn source(&self) -> String {
        format!("git+https://github.com/{}@{}", self.repository, self.git_ref)
    }

    fn build_type_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.build_type.is_empty() { default } else { &self.build_type }
    }
}

/// A statement v0.1 with SLSA provenance v0.2, as slsa-github-generator's container builder writes it.
/// Subjects are names with the hexadecimal SHA-256 of each.
pub fn statement_v02(subjects: &[(&str, &str)], build: &Build) -> Value {
    let digest = json!({ "sha1": build.commit });
    let mut metadata = json!({
        "buildInvocationID": build.invocation_id,
        "completeness": { "parameters": true, "environment": false, "materials": false },
        "reproducible": false,
    });
    set_times(&mut metadata, "buildStartedOn", "buildFinishedOn", build);
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": SLSA_V02,
        "subject": subjects_json(subjects),
        "predicate": {
            "builder": { "id": build.builder_id },
            "buildType":
                build.build_type_or("https://github.com/slsa-framework/slsa-github-generator/container@v1"),
            "invocation": {
                "configSource": {
                    "uri": build.source(),
                    "digest": digest,
                    "entryPoint": build.workflow_path,
                },
                "parameters": {},
                "environment": {
                    "github_event_name": build.trigger,
                    "github_ref": build.git_ref,
                    "github_repository_owner": build.repository.split('/').next(),
                    "github_sha1": build.commit,
                },
            },
            "metadata": metadata,
            "materials": [{ "uri": build.source(), "digest": digest }],
        },
    })
}

/// A statement v1 with SLSA provenance v1, as GitHub's attest-build-provenance writes it.
pub fn statement_v1(subjects: &[(&str, &str)], build: &Build) -> Value {
    let mut metadata = json!({ "invocationId": build.invocation_id });
    set_times(&mut metadata, "startedOn", "finishedOn", build);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects_json(subjects),
        "predicateType": SLSA_V1,
        "predicate": {
            "buildDefinition": {
                "buildType": build.build_type_or("https://actions.github.io/buildtypes/workflow/v1"),
                "externalParameters": {
                    "workflow": {
                        "ref": build.git_ref,
                        "repository": format!("https://github.com/{}", build.repository),
                        "path": build.workflow_path,
                    },
                },
                "internalParameters": {
                    "github": {
                        "event_name": build.trigger,
                        "runner_environment": "github-hosted",
                    },
                },
                "resolvedDependencies": [
                    { "uri": build.source(), "digest": { "gitCommit": build.commit } },
                ],
            },
            "runDetails": { "builder": { "id": build.builder_id }, "metadata": metadata },
        },
    })
}

/// A statement that only signs its subjects, as cosign 3 writes signatures.
pub fn statement_cosign_sign(subjects: &[(&str, &str)]) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects_json(subjects),
        "predicateType": COSIGN_SIGN,
        "predicate": {},
    })
}

fn subjects_json(subjects: &[(&str, &str)]) -> Vec<Value> {
    subjects.iter().map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } })).collect()
}

fn set_times(metadata: &mut Value, started: &str, finished: &str, build: &Build) {
    if let Some(time) = &build.started_on {
        metadata[started] = json!(time);
    }
    if let Some(time) = &build.finished_on {
        metadata[finished] = json!(time);
    }
}
