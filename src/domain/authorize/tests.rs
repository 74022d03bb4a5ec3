//! Each kind of signer with a certificate that fits, and with twins that differ in one thing.

mod names_and_triggers;

use super::*;
use crate::domain::{
    evidence::CertificateReading,
    glob::{AnchoredRegex, Glob},
    identity::{
        AroundTag, DEFAULT_TRIGGERS, GithubIdentity, GitlabIdentity, PipelineConfig, RefPattern, RefType,
        SigningWorkflow, SubjectMatcher, TrustRootName,
    },
    level::BuildLevel,
    message,
    policy::{ImageSelector, LabelSelector, Mode, Policy, PolicyId, SubjectRule, TagRule, UncoveredRule},
    provenance::SLSA_V1,
};

#[allow(clippy::unnecessary_wraps)] // as the certificate has it
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn refs(patterns: &[&str]) -> Vec<RefPattern> {
    patterns.iter().map(|pattern| RefPattern::Fixed(Glob::new(pattern).unwrap())).collect()
}

fn verified(certificate: Certificate) -> Verified {
    let statement = Statement {
        subjects: Vec::new(),
        predicate_type: SLSA_V1.to_owned(),
        provenance: None,
        summary: None,
        other: None,
    };
    let reading = CertificateReading { trust_root: TrustRootName::default(), certificate };
    Verified { readings: vec![reading], statement }
}

fn signer(identity: &SignerIdentity) -> Signer {
    Signer {
        name: "ci".to_owned(),
        identity: identity.clone(),
        trust_root: TrustRootName::default(),
        builder_ids: Vec::new(),
        level: BuildLevel::default(),
    }
}

fn judge(identity: &SignerIdentity, certificate: Certificate) -> Result<(), Mismatch> {
    let signer = signer(identity);
    check_signer(&signer, &verified(certificate), Some("v1"))
}

fn expected(identity: &SignerIdentity) -> String {
    let signer = signer(identity);
    let policy = Policy {
        id: PolicyId { namespace: None, name: "p".to_owned() },
        namespaces: LabelSelector::default(),
        mode: Mode::Enforce,
        images: ImageSelector { include: Vec::new(), exclude: Vec::new() },
        subject: SubjectRule::Any,
        uncovered: UncoveredRule::Deny,
        tags: TagRule::Allow,
        signers: vec![signer],
        provenance: ProvenanceRules::default(),
        attestation_repositories: Vec::new(),
        summaries: None,
        in_place_of_provenance: None,
    };
    message::expected(&policy, &"ghcr.io/acme/app:v1".parse().unwrap(), Reason::WrongSigner)
}

/// A change of one thing in a certificate.
type Twin = (&'static str, fn(&mut Certificate), Reason);

/// The identity takes the certificate as it is, and with none of the changes; what is said of each.
fn told(identity: &SignerIdentity, certificate: &Certificate, twins: &[Twin]) -> String {
    assert_eq!(judge(identity, certificate.clone()), Ok(()));
    let mut lines = vec![format!("expected: {}", expected(identity))];
    for (what, change, reason) in twins {
        let mut twin = certificate.clone();
        change(&mut twin);
        let mismatch = judge(identity, twin).expect_err(what);
        assert_eq!(mismatch.reason, *reason, "{what}: {}", mismatch.found);
        lines.push(format!("{what}: {} – {}", mismatch.reason, mismatch.found));
    }
    lines.join("\n")
}

fn github() -> GithubIdentity {
    GithubIdentity {
        issuer: "https://token.actions.githubusercontent.com/acme-corp".to_owned(),
        repository: Glob::new("acme/app").unwrap().into(),
        repository_id: some("12"),
        owner_id: some("34"),
        workflow: Some(SigningWorkflow {
            repository: some("acme/builder"),
            path: ".github/workflows/build.yml".to_owned(),
        }),
        subject: None,
        workflow_refs: refs(&["refs/tags/v*", "ae48f2b0ae48f2b0ae48f2b0ae48f2b0ae48f2b0"]),
        refs: vec![RefPattern::Tagged(AroundTag { prefix: "refs/tags/".to_owned(), suffix: String::new() })],
        triggers: vec!["push".to_owned()],
        runner: some("github-hosted"),
        environments: vec!["production".to_owned(), "canary".to_owned()],
    }
}

fn github_certificate() -> Certificate {
    Certificate {
        subject: "https://github.com/acme/builder/.github/workflows/build.yml@refs/tags/v2".to_owned(),
        issuer: "https://token.actions.githubusercontent.com/acme-corp".to_owned(),
        runner: some("github-hosted"),
        source_repository: some("https://github.com/acme/app"),
        source_repository_id: some("12"),
        source_owner_id: some("34"),
        source_ref: some("refs/tags/v1"),
        trigger: some("push"),
        environment: some("production"),
        ..Certificate::default()
    }
}

#[test]
fn a_github_workflow() {
    let identity = SignerIdentity::Github(Box::new(github()));
    let twins: &[Twin] = &[
        ("issuer", |c| c.issuer = c.issuer.replace("/acme-corp", ""), Reason::WrongSigner),
        ("enterprise", |c| c.issuer = c.issuer.replace("acme-corp", "evil"), Reason::WrongSigner),
        ("host", |c| c.subject = c.subject.replace("github.com", "github.example"), Reason::WrongSigner),
        ("builder", |c| c.subject = c.subject.replace("acme/builder", "evil/builder"), Reason::WrongSigner),
        ("workflow", |c| c.subject = c.subject.replace("build.yml", "other.yml"), Reason::WrongSigner),
        ("workflow ref", |c| c.subject = c.subject.replace("tags/v2", "heads/v2"), Reason::WrongSigner),
        ("commit", |c| c.subject = c.subject.replace("refs/tags/v2", &"0".repeat(40)), Reason::WrongSigner),
        (
            "repository and its id",
            |c| {
                c.source_repository = some("https://github.com/evil/app");
                c.source_repository_id = some("13");
            },
            Reason::WrongSource,
        ),
        ("no repository", |c| c.source_repository = None, Reason::WrongSource),
        ("repository id", |c| c.source_repository_id = some("13"), Reason::WrongSource),
        ("no repository id", |c| c.source_repository_id = None, Reason::WrongSource),
        ("owner id", |c| c.source_owner_id = some("35"), Reason::WrongSource),
        ("ref", |c| c.source_ref = some("refs/tags/v2"), Reason::WrongSource),
        ("trigger", |c| c.trigger = some("schedule"), Reason::WrongSource),
        ("runner", |c| c.runner = some("self-hosted"), Reason::WrongSource),
        ("environment", |c| c.environment = some("staging"), Reason::WrongSource),
        ("no environment", |c| c.environment = None, Reason::WrongSource),
    ];
    insta::assert_snapshot!(told(&identity, &github_certificate(), twins));

    let with = |change: fn(&mut Certificate)| {
        let mut certificate = github_certificate();
        change(&mut certificate);
        judge(&identity, certificate)
    };
    assert_eq!(with(|c| c.environment = some("canary")), Ok(()));
    let commit = "ae48f2b0".repeat(5);
    let mut at_commit = github_certificate();
    at_commit.subject = at_commit.subject.replace("refs/tags/v2", &commit);
    assert_eq!(judge(&identity, at_commit), Ok(()));
    // Called at a branch that was at this commit then.
    let mut at_branch = github_certificate();
    at_branch.subject = at_branch.subject.replace("refs/tags/v2", "refs/heads/main");
    at_branch.build_signer_digest = Some(commit);
    assert_eq!(judge(&identity, at_branch.clone()), Ok(()));
    // What is no commit is no ref either.
    for other in ["0".repeat(40), "refs/tags/v2".to_owned()] {
        at_branch.build_signer_digest = Some(other);
        assert_eq!(judge(&identity, at_branch.clone()).unwrap_err().reason, Reason::WrongSigner);
    }
}

#[test]
fn an_enterprise_with_a_host_of_its_own() {
    let mut github = github();
    github.issuer = "https://token.actions.acme.ghe.com".to_owned();
    let mut certificate = github_certificate();
    certificate.issuer.clone_from(&github.issuer);
    let identity = SignerIdentity::Github(Box::new(github));
    assert!(judge(&identity, certificate.clone()).is_err());
    certificate.subject = certificate.subject.replace("github.com", "acme.ghe.com");
    assert!(judge(&identity, certificate.clone()).is_err());
    certificate.source_repository = some("https://acme.ghe.com/acme/app");
    assert_eq!(judge(&identity, certificate), Ok(()));
}

fn gitlab() -> GitlabIdentity {
    GitlabIdentity {
        issuer: "https://gitlab.com".to_owned(),
        project: Glob::new("group/sub/app-*").unwrap().into(),
        project_id: some("12"),
        namespace_id: some("34"),
        config: Some(PipelineConfig { project: None, path: ".gitlab-ci.yml".to_owned() }),
        config_refs: refs(&["refs/tags/*"]),
        refs: refs(&["refs/*/v1"]),
        ref_type: Some(RefType::Tag),
        triggers: Vec::new(),
        runner: some("gitlab-hosted"),
        environments: vec!["production".to_owned()],
    }
}

fn gitlab_certificate() -> Certificate {
    Certificate {
        subject: "https://gitlab.com/group/sub/app-a//.gitlab-ci.yml@refs/tags/v1".to_owned(),
        issuer: "https://gitlab.com".to_owned(),
        runner: some("gitlab-hosted"),
        source_repository: some("https://gitlab.com/group/sub/app-a"),
        source_repository_id: some("12"),
        source_owner_id: some("34"),
        source_ref: some("refs/tags/v1"),
        trigger: some("push"),
        environment: some("production"),
        ..Certificate::default()
    }
}

#[test]
fn a_gitlab_pipeline() {
    let identity = SignerIdentity::Gitlab(Box::new(gitlab()));
    let twins: &[Twin] = &[
        ("issuer", |c| c.issuer = "https://gitlab.example".to_owned(), Reason::WrongSigner),
        ("host", |c| c.subject = c.subject.replace("gitlab.com", "gitlab.com.evil"), Reason::WrongSigner),
        ("project", |c| c.subject = c.subject.replace("group/sub", "group"), Reason::WrongSigner),
        ("sibling", |c| c.subject = c.subject.replace("app-a", "app-b"), Reason::WrongSigner),
        ("config", |c| c.subject = c.subject.replace(".gitlab-ci.yml", "x.yml"), Reason::WrongSigner),
        ("longer config", |c| c.subject = c.subject.replace("app-a//", "app-a//x/"), Reason::WrongSigner),
        ("config ref", |c| c.subject = c.subject.replace("tags", "heads"), Reason::WrongSigner),
        ("no config", |c| c.subject = c.subject.replace("//.gitlab-ci.yml", ""), Reason::WrongSigner),
        ("source", |c| c.source_repository = some("https://gitlab.com/evil/app-a"), Reason::WrongSource),
        ("source host", |c| c.source_repository = some("https://x.com/group/sub/app-a"), Reason::WrongSource),
        ("no source", |c| c.source_repository = None, Reason::WrongSource),
        ("project id", |c| c.source_repository_id = some("13"), Reason::WrongSource),
        ("namespace id", |c| c.source_owner_id = None, Reason::WrongSource),
        ("ref", |c| c.source_ref = some("refs/tags/v2"), Reason::WrongSource),
        ("ref type", |c| c.source_ref = some("refs/heads/v1"), Reason::WrongSource),
        ("merge request", |c| c.trigger = some("merge_request_event"), Reason::WrongSource),
        ("no trigger", |c| c.trigger = None, Reason::WrongSource),
        ("runner", |c| c.runner = some("self-hosted"), Reason::WrongSource),
        ("environment", |c| c.environment = some("staging"), Reason::WrongSource),
    ];
    insta::assert_snapshot!(told(&identity, &gitlab_certificate(), twins));
}

#[test]
fn a_gitlab_instance_of_ones_own_and_a_pipeline_of_another_project() {
    let mut own = gitlab();
    own.issuer = "https://gitlab.acme.example".to_owned();
    own.triggers = vec!["merge_request_event".to_owned()];
    own.config = Some(PipelineConfig { project: some("group/ci"), path: "build.yml".to_owned() });
    let identity = SignerIdentity::Gitlab(Box::new(own.clone()));
    let certificate = Certificate {
        subject: "https://gitlab.acme.example/group/ci//build.yml@refs/tags/v1".to_owned(),
        issuer: own.issuer.clone(),
        source_repository: some("https://gitlab.acme.example/group/sub/app-a"),
        trigger: some("merge_request_event"),
        ..gitlab_certificate()
    };
    let twins: &[Twin] = &[
        ("trigger", |c| c.trigger = some("push"), Reason::WrongSource),
        ("own file", |c| c.subject = c.subject.replace("group/ci", "group/sub/app-a"), Reason::WrongSigner),
        (
            "source",
            |c| c.source_repository = some("https://gitlab.acme.example/evil/app-a"),
            Reason::WrongSource,
        ),
    ];
    insta::assert_snapshot!(told(&identity, &certificate, twins));
    // Fulcio's public instance writes gitlab.com for every GitLab there is.
    let renamed =
        Certificate { source_repository: some("https://gitlab.com/group/sub/app-a"), ..certificate };
    assert_eq!(judge(&identity, renamed), Ok(()));
}

#[test]
fn a_gitlab_project_without_more() {
    let identity = SignerIdentity::Gitlab(Box::new(GitlabIdentity {
        project_id: None,
        namespace_id: None,
        config: None,
        config_refs: Vec::new(),
        refs: Vec::new(),
        ref_type: None,
        runner: None,
        environments: Vec::new(),
        ..gitlab()
    }));
    let twins: &[Twin] = &[
        ("project", |c| c.subject = c.subject.replace("app-a", "app-b"), Reason::WrongSigner),
        ("two files", |c| c.subject.push_str("/x.yml@refs/heads/x"), Reason::WrongSigner),
        ("no file", |c| c.subject = c.subject.replace(".gitlab-ci.yml", ""), Reason::WrongSigner),
        (
            "neither branch nor tag",
            |c| c.source_ref = some("refs/merge-requests/1/head"),
            Reason::WrongSource,
        ),
    ];
    insta::assert_snapshot!(told(&identity, &gitlab_certificate(), twins));
}

#[test]
fn a_buildkite_pipeline() {
    let identity = SignerIdentity::Buildkite(Box::new(BuildkiteIdentity {
        organization: "acme".to_owned(),
        pipeline: Glob::new("app-*").unwrap(),
        refs: refs(&["refs/heads/main", "refs/heads/r*"]),
        triggers: vec!["webhook".to_owned()],
        runner: some("buildkite-hosted"),
    }));
    let certificate = Certificate {
        subject: "https://buildkite.com/acme/app-a".to_owned(),
        issuer: "https://agent.buildkite.com".to_owned(),
        runner: some("buildkite-hosted"),
        trigger: some("webhook"),
        source_digest: some("9f31820"),
        token_subject: some("organization:acme:pipeline:app-a:ref:refs/heads/main:commit:9f31820:step:build"),
        ..Certificate::default()
    };
    let twins: &[Twin] = &[
        ("issuer", |c| c.issuer = "https://agent.buildkite.example".to_owned(), Reason::WrongSigner),
        ("organization", |c| c.subject = c.subject.replace("acme", "evil"), Reason::WrongSigner),
        ("pipeline", |c| c.subject = c.subject.replace("app-a", "lib"), Reason::WrongSigner),
        ("longer", |c| c.subject.push_str("/x"), Reason::WrongSigner),
        (
            "ref",
            |c| c.token_subject = c.token_subject.as_ref().map(|s| s.replace("heads/main", "heads/dev")),
            Reason::WrongSource,
        ),
        (
            "fork",
            |c| c.token_subject = c.token_subject.as_ref().map(|s| s.replace("main", "rival:main")),
            Reason::WrongSource,
        ),
        ("other commit", |c| c.source_digest = some("0000000"), Reason::WrongSource),
        (
            "other pipeline",
            |c| c.token_subject = c.token_subject.as_ref().map(|s| s.replace("app-a", "app-b")),
            Reason::WrongSource,
        ),
        ("another subject", |c| c.token_subject = some("0184990a-477b-4fa8"), Reason::WrongSource),
        ("no subject", |c| c.token_subject = None, Reason::WrongSource),
        ("trigger", |c| c.trigger = some("ui"), Reason::WrongSource),
        ("runner", |c| c.runner = some("self-hosted"), Reason::WrongSource),
    ];
    insta::assert_snapshot!(told(&identity, &certificate, twins));
}

#[test]
fn a_service_account_of_google_cloud() {
    let certificate = Certificate {
        subject: "builder@acme-builds.iam.gserviceaccount.com".to_owned(),
        issuer: "https://accounts.google.com".to_owned(),
        ..Certificate::default()
    };
    let one = ServiceAccounts::One(certificate.subject.clone());
    let twins: &[Twin] = &[
        ("issuer", |c| c.issuer = "https://oauth2.sigstore.dev/auth".to_owned(), Reason::WrongSigner),
        ("project", |c| c.subject = c.subject.replace("acme-builds", "evil"), Reason::WrongSigner),
        ("longer project", |c| c.subject = c.subject.replace("@acme", "@x.acme"), Reason::WrongSigner),
        ("another domain", |c| c.subject.push_str(".evil.example"), Reason::WrongSigner),
        ("person", |c| c.subject = "builder@acme.example".to_owned(), Reason::WrongSigner),
    ];
    let other: &[Twin] =
        &[("account", |c| c.subject = c.subject.replace("builder", "x"), Reason::WrongSigner)];
    let of_project = SignerIdentity::GoogleCloudBuild(ServiceAccounts::OfProject("acme-builds".to_owned()));
    let one = told(&SignerIdentity::GoogleCloudBuild(one), &certificate, &[other, twins].concat());
    let nobody: &[Twin] = &[
        (
            "no account",
            |c| c.subject = "@acme-builds.iam.gserviceaccount.com".to_owned(),
            Reason::WrongSigner,
        ),
        ("two domains", |c| c.subject = c.subject.replace('@', "@x@"), Reason::WrongSigner),
    ];
    let project = told(&of_project, &certificate, &[twins, nobody].concat());
    insta::assert_snapshot!(format!("{one}\n\n{project}"));
    let sibling = Certificate { subject: certificate.subject.replace("builder", "x"), ..certificate };
    assert_eq!(judge(&of_project, sibling), Ok(()));
}

#[test]
fn a_builder_is_of_the_signer_that_names_it_and_of_its_level() {
    let identity = SignerIdentity::GoogleCloudBuild(ServiceAccounts::OfProject("p".to_owned()));
    let of = |ids: &[&str], level: BuildLevel| Signer {
        builder_ids: ids.iter().map(|id| Glob::new(id).unwrap()).collect(),
        level,
        ..signer(&identity)
    };
    let least = |min_level| ProvenanceRules { min_level, ..ProvenanceRules::default() };
    let claimed = Provenance { builder_id: "https://builder.example/v2".to_owned(), ..Provenance::default() };
    let check = |signer: Signer, min_level| check_builder(&signer, &least(min_level), &claimed);
    let (one, two, three) = (BuildLevel::One, BuildLevel::Two, BuildLevel::Three);
    assert_eq!(check(of(&[], one), one), Ok(()));
    assert_eq!(check(of(&["https://other.example/*", "https://builder.example/v*"], two), two), Ok(()));
    assert_eq!(check(of(&[], three), two), Ok(()));
    let told = [
        check(of(&["https://builder.example/v1"], three), one),
        check(of(&["https://builder.example/v*"], one), two),
    ];
    let told = told.map(|mismatch| {
        let mismatch = mismatch.unwrap_err();
        format!("{} – {}", mismatch.reason, mismatch.found)
    });
    insta::assert_snapshot!(told.join("\n"));
}
