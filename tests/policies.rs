//! The ready-made policies: each compiles without a warning, accepts the certificates of the builds it is for, and refuses their
//! neighbours, which differ in one thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bonafide::{
    api::manifest,
    domain::{
        authorize::{check_provenance, check_signer},
        evidence::{CertificateReading, Verified},
        identity::{Certificate, TrustRootName},
        policy::{Policy, PolicyEntry},
        provenance::{Provenance, SLSA_V0_2, SLSA_V1, Statement},
        verdict::Reason,
    },
    trust::compile_trust_root,
};
use jiff::Timestamp;

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const GENERATOR: &str =
    "slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v2.1.0";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies")
}

fn load(name: &str) -> Arc<Policy> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let documents = manifest::policies(&text).unwrap();
    assert_eq!(documents.len(), 1, "{name} is one policy");
    let compiled = &documents[0].compiled;
    assert!(compiled.errors.is_empty() && compiled.warnings.is_empty(), "{name}: {compiled:?}");
    match &compiled.entry {
        PolicyEntry::Valid(policy) => Arc::clone(policy),
        PolicyEntry::Invalid(policy) => panic!("{name}: {policy:?}"),
    }
}

/// A build: what its certificate proves and its statement claims.
#[derive(Clone)]
struct Build {
    source: &'static str,
    /// `owner/repo/path@ref`
    signer: String,
    git_ref: &'static str,
    trigger: &'static str,
    runner: &'static str,
    issuer: &'static str,
    predicate: &'static str,
    kind: &'static str,
}

impl Build {
    /// A build by a workflow of the source's own.
    fn own(source: &'static str, path: &str, git_ref: &'static str, trigger: &'static str) -> Self {
        Self {
            source,
            signer: format!("{source}/{path}@{git_ref}"),
            git_ref,
            trigger,
            runner: "github-hosted",
            issuer: ISSUER,
            predicate: SLSA_V1,
            kind: "https://actions.github.io/buildtypes/workflow/v1",
        }
    }

    /// A build by another repository's workflow.
    fn by(signer: &str, source: &'static str, git_ref: &'static str, trigger: &'static str) -> Self {
        Self { signer: signer.to_owned(), ..Self::own(source, "", git_ref, trigger) }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    fn verified(&self) -> Verified {
        Verified {
            readings: vec![CertificateReading {
                trust_root: TrustRootName::default(),
                certificate: Certificate {
                    subject: format!("https://github.com/{}", self.signer),
                    issuer: self.issuer.to_owned(),
                    runner: Some(self.runner.to_owned()),
                    source_repository: Some(format!("https://github.com/{}", self.source)),
                    source_ref: Some(self.git_ref.to_owned()),
                    trigger: Some(self.trigger.to_owned()),
                    ..Certificate::default()
                },
            }],
            statement: Statement {
                subjects: Vec::new(),
                predicate_type: self.predicate.to_owned(),
                provenance: Some(Provenance { build_type: self.kind.to_owned(), ..Provenance::default() }),
                summary: None,
                other: None,
            },
        }
    }

    /// The signer of the policy that accepts it for an image of this tag, or why none does.
    fn judged(&self, policy: &Policy, tag: &str) -> Result<String, Vec<Reason>> {
        let verified = self.verified();
        let mut reasons = Vec::new();
        for signer in &policy.signers {
            let provenance = verified.statement.provenance.as_ref().unwrap();
            let fits = check_signer(signer, &verified, Some(tag)).and_then(|()| {
                check_provenance(
                    &policy.provenance,
                    &verified.statement,
                    provenance,
                    Some(verified.readings[0].certificate.not_before),
                    None,
                    Timestamp::UNIX_EPOCH,
                )
            });
            match fits {
                Ok(()) => return Ok(signer.name.clone()),
                Err(mismatch) => reasons.push(mismatch.reason),
            }
        }
        Err(reasons)
    }
}

#[track_caller]
fn refused(policy: &Policy, tag: &str, reason: Reason, good: &Build, change: impl FnOnce(&mut Build)) {
    assert!(good.judged(policy, tag).is_ok(), "the twin is admitted");
    let reasons = good.with(change).judged(policy, tag).expect_err("it is refused");
    assert!(reasons.contains(&reason), "{reasons:?} has no {reason}");
}

#[test]
fn every_file_is_tested_here() {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["README.md", "kustomization.yaml"].contains(&name.as_str()))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "bonafide.yaml",
            "docker-github-builder.yaml",
            "github-attest-build-provenance.yaml",
            "ib-schema-registry.yaml",
            "slsa-github-generator-container.yaml",
        ]
    );
}

/// Those of a namespace are named, but not applied: the namespace may not be there.
#[test]
fn the_kustomization_applies_all_that_are_for_the_whole_cluster() {
    let text = fs::read_to_string(folder().join("kustomization.yaml")).unwrap();
    let named = |prefix: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        lines
            .filter(|line| Path::new(line).extension().is_some_and(|extension| extension == "yaml"))
            .map(str::to_owned)
            .collect()
    };
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if ["README.md", "kustomization.yaml"].contains(&name.as_str()) {
            continue;
        }
        let of_the_cluster = load(&name).id.namespace.is_none();
        assert_eq!(named("  - ").contains(&name), of_the_cluster, "{name}");
        assert_eq!(named("  # - ").contains(&name), !of_the_cluster, "{name}");
    }
}

/// The folder can be served as it is: no image is asked of two of them.
#[test]
fn no_two_are_about_the_same_image() {
    let images = [
        ("bonafide.yaml", "ghcr.io/bonafide-dev/bonafide"),
        ("docker-github-builder.yaml", "docker.io/example-org/app"),
        ("github-attest-build-provenance.yaml", "ghcr.io/example-org/app"),
        ("ib-schema-registry.yaml", "ghcr.io/infobloxopen/ib-schema-registry"),
        ("slsa-github-generator-container.yaml", "quay.io/example-org/app"),
    ];
    for (name, _) in images {
        let policy = load(name);
        for (own, image) in images {
            assert_eq!(policy.images.selects(&image.parse().unwrap()), own == name, "{name} on {image}");
        }
    }
    let own = load("ib-schema-registry.yaml");
    for other in ["ghcr.io/infobloxopen/ib-schema-registry-x", "ghcr.io/infobloxopen/ib-schema-registry/x"] {
        assert!(!own.images.selects(&other.parse().unwrap()), "{other}");
    }
}

/// What the release workflow makes, for the image of each architecture.
#[test]
fn bonafide_itself() {
    let policy = load("bonafide.yaml");
    let good =
        Build::own("bonafide-dev/bonafide", ".github/workflows/release.yaml", "refs/tags/v1.2.0", "push");
    assert_eq!(good.judged(&policy, "v1.2.0").as_deref(), Ok("release"));
    assert!(good.judged(&policy, "v1.2.1").is_err(), "another release's image");

    let no = |reason, change: fn(&mut Build)| refused(&policy, "v1.2.0", reason, &good, change);
    no(Reason::WrongSource, |b| b.source = "mallory/bonafide");
    no(Reason::WrongSource, |b| b.git_ref = "refs/heads/v1.2.0");
    no(Reason::WrongSource, |b| b.trigger = "workflow_dispatch");
    no(Reason::WrongSource, |b| b.runner = "self-hosted");
    no(Reason::WrongSigner, |b| b.signer = b.signer.replace("release.yaml", "ci.yaml"));
    no(Reason::NoProvenance, |b| b.predicate = SLSA_V0_2);
    no(Reason::WrongBuilder, |b| b.kind = "https://mobyproject.org/buildkit@v1");
}

#[test]
fn attest_build_provenance() {
    let policy = load("github-attest-build-provenance.yaml");
    let path = ".github/workflows/ci.yaml";
    let good = Build::own("example-org/app", path, "refs/heads/main", "push");
    assert_eq!(good.judged(&policy, "latest").as_deref(), Ok("organisation"));
    let release = Build::own("example-org/other", path, "refs/tags/v1.0.0", "release");
    assert!(release.judged(&policy, "v1.0.0").is_ok());
    assert!(
        good.with(|b| {
            b.kind = "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1";
        })
        .judged(&policy, "x")
        .is_ok()
    );

    let no = |reason, change: fn(&mut Build)| refused(&policy, "latest", reason, &good, change);
    no(Reason::WrongSource, |b| b.source = "mallory/app");
    no(Reason::WrongSource, |b| b.git_ref = "refs/pull/1/merge");
    no(Reason::WrongSource, |b| b.git_ref = "refs/heads/main-x");
    no(Reason::WrongSource, |b| b.trigger = "pull_request_target");
    no(Reason::WrongSource, |b| b.runner = "self-hosted");
    no(Reason::WrongSigner, |b| b.issuer = "https://token.actions.githubusercontent.com/mallory");
    no(Reason::WrongSigner, |b| {
        b.signer = "mallory/app/.github/workflows/ci.yaml@refs/heads/main".to_owned();
    });
    no(Reason::WrongSigner, |b| {
        b.signer = "example-org/other/.github/workflows/ci.yaml@refs/heads/main".to_owned();
    });
    no(Reason::NoProvenance, |b| b.predicate = SLSA_V0_2);
    no(Reason::WrongBuilder, |b| b.kind = "https://mobyproject.org/buildkit@v1");
}

#[test]
fn slsa_github_generator() {
    let policy = load("slsa-github-generator-container.yaml");
    let good = Build {
        predicate: SLSA_V0_2,
        kind: "https://github.com/slsa-framework/slsa-github-generator/container@v1",
        ..Build::by(GENERATOR, "example-org/app", "refs/tags/v1.2.0", "push")
    };
    assert_eq!(good.judged(&policy, "v1.2.0").as_deref(), Ok("generator"));

    let no = |reason, change: fn(&mut Build)| refused(&policy, "v1.2.0", reason, &good, change);
    no(Reason::WrongSigner, |b| b.signer = GENERATOR.replace("refs/tags/v2.1.0", "refs/heads/main"));
    no(Reason::WrongSigner, |b| b.signer = GENERATOR.replace("generator_container", "generator_generic"));
    no(Reason::WrongSigner, |b| b.signer = GENERATOR.replace("slsa-framework/", "mallory/"));
    no(Reason::WrongSource, |b| b.source = "mallory/app");
    no(Reason::WrongSource, |b| b.git_ref = "refs/pull/1/merge");
    no(Reason::WrongSource, |b| b.trigger = "pull_request");
}

#[test]
fn docker_github_builder() {
    let policy = load("docker-github-builder.yaml");
    for (name, path) in [("build", "build.yml"), ("bake", "bake.yml")] {
        let signer = format!("docker/github-builder/.github/workflows/{path}@refs/tags/v1");
        let good = Build::by(&signer, "example-org/app", "refs/heads/main", "push");
        assert_eq!(good.judged(&policy, "latest").as_deref(), Ok(name));

        let no = |reason, change: fn(&mut Build)| refused(&policy, "latest", reason, &good, change);
        no(Reason::WrongSigner, |b| b.signer = b.signer.replace("refs/tags/v1", "refs/heads/main"));
        no(Reason::WrongSigner, |b| {
            b.signer = b.signer.replace("github-builder", "github-builder-experimental");
        });
        no(Reason::WrongSigner, |b| b.signer = b.signer.replace(".yml", "-x.yml"));
        no(Reason::WrongSource, |b| b.source = "example-organisation/app");
        no(Reason::WrongSource, |b| b.git_ref = "refs/pull/7/merge");
        no(Reason::WrongSource, |b| b.runner = "self-hosted");
    }
}

#[test]
fn the_schema_registry() {
    const SOURCE: &str = "infobloxopen/ib-schema-registry";
    const PATH: &str = ".github/workflows/build-image.yml";
    let policy = load("ib-schema-registry.yaml");
    assert_eq!(policy.id.to_string(), "payments/schema-registry");
    let main = Build::own(SOURCE, PATH, "refs/heads/main", "push");
    let release = Build::own(SOURCE, PATH, "refs/tags/v1.2.0", "push");

    // The guide's table of triggers, row by row.
    for tag in ["main", "latest", "sha-abc123def456"] {
        assert_eq!(main.judged(&policy, tag).as_deref(), Ok("main"), "{tag}");
    }
    assert_eq!(main.with(|b| b.trigger = "workflow_dispatch").judged(&policy, "main").as_deref(), Ok("main"));
    assert_eq!(release.judged(&policy, "v1.2.0").as_deref(), Ok("release"));
    let pull = Build::own(SOURCE, PATH, "refs/pull/42/merge", "pull_request");
    assert_eq!(pull.judged(&policy, "pr-42"), Err(vec![Reason::WrongSource, Reason::WrongSource]));
    assert!(pull.with(|b| b.trigger = "push").judged(&policy, "pr-42").is_err());

    // An image of one release under the tag of another, or under a tag that is no release.
    for tag in ["v1.2.1", "v1.2", "v1", "latest", "v1.2.0-x"] {
        assert!(release.judged(&policy, tag).is_err(), "{tag}");
    }
    let no = |reason, change: fn(&mut Build)| refused(&policy, "main", reason, &main, change);
    no(Reason::WrongSource, |b| b.git_ref = "refs/heads/main-x");
    no(Reason::WrongSource, |b| b.git_ref = "refs/tags/main-x");
    no(Reason::WrongSource, |b| b.trigger = "pull_request_target");
    no(Reason::WrongSource, |b| b.source = "infobloxopen/ib-schema-registry-fork");
    no(Reason::WrongSigner, |b| b.signer = b.signer.replace("build-image", "test"));
    no(Reason::WrongSigner, |b| b.signer = b.signer.replace("infobloxopen", "mallory"));
    no(Reason::WrongSigner, |b| b.issuer = "https://accounts.google.com");
}

/// The policies shown in the documentation of the API.
#[test]
fn the_documented_ones_compile_without_a_warning() {
    let page = fs::read_to_string(folder().join("../docs/policies.md")).unwrap();
    let shown: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(shown.len() >= 4, "{shown:?}");
    for text in shown {
        // What is shown of a policy in part stands in one that is whole.
        let part = || text.lines().map(|line| ["  ", line, "\n"].concat()).collect::<String>();
        let head =
            "apiVersion: bonafide.dev/v1alpha1\nkind: ProvenancePolicy\nmetadata: {name: p, namespace: n}\n";
        let whole = if text.starts_with("apiVersion") {
            text.to_owned()
        } else {
            format!("{head}spec:\n  images: {{include: [\"ghcr.io/example-org/*\"]}}\n{}", part())
        };
        let file = manifest::read(&whole).unwrap();
        assert_eq!(file.policies.len() + file.roots.len(), 1, "{whole}");
        for compiled in file.policies.iter().map(|document| &document.compiled) {
            assert!(compiled.errors.is_empty() && compiled.warnings.is_empty(), "{compiled:?}");
        }
        for compiled in file.roots.iter().map(|root| compile_trust_root(&root.object)) {
            assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
        }
    }
}
