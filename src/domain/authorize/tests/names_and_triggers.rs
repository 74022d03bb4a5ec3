//! What of a GitHub identity is compared how: case, identifiers, the end of the file's name, and triggers.

use super::*;

/// A GitHub signer of which no more than this is asked.
fn bare_github(repository: &str) -> GithubIdentity {
    GithubIdentity {
        repository: Glob::new(repository).unwrap().into(),
        repository_id: None,
        owner_id: None,
        workflow: None,
        workflow_refs: Vec::new(),
        refs: Vec::new(),
        triggers: Vec::new(),
        runner: None,
        environments: Vec::new(),
        ..github()
    }
}

fn own_workflow(repository: &str, file: &str) -> Certificate {
    Certificate {
        subject: format!("https://github.com/{repository}/.github/workflows/{file}"),
        source_repository: Some(format!("https://github.com/{repository}")),
        ..github_certificate()
    }
}

fn judged(github: GithubIdentity, certificate: &Certificate) -> Option<Reason> {
    let identity = SignerIdentity::Github(Box::new(github));
    judge(&identity, certificate.clone()).err().map(|mismatch| mismatch.reason)
}

#[test]
fn c4_owners_and_repositories_are_the_same_in_any_case_and_nothing_else_is() {
    let certificate = own_workflow("Acme/App", "build.yml@refs/tags/v1");
    for (policy, refused) in [
        ("acme/app", None),
        ("ACME/a*", None),
        ("acme/ap?", None),
        ("acme/ap", Some(Reason::WrongSigner)),
        ("acm/app", Some(Reason::WrongSigner)),
    ] {
        assert_eq!(judged(bare_github(policy), &certificate), refused, "{policy}");
    }
    let with = |change: fn(&mut GithubIdentity)| {
        let mut github = bare_github("acme/app");
        change(&mut github);
        judged(github, &certificate)
    };
    let workflow = |path: &str| Some(SigningWorkflow { repository: None, path: path.to_owned() });
    assert_eq!(with(|g| g.refs = refs(&["refs/tags/v1"])), None);
    assert_eq!(with(|g| g.refs = refs(&["refs/tags/V1"])), Some(Reason::WrongSource));
    let mut own = bare_github("acme/app");
    own.workflow = workflow(".github/workflows/build.yml");
    assert_eq!(judged(own.clone(), &certificate), None);
    own.workflow = workflow(".github/workflows/Build.yml");
    assert_eq!(judged(own, &certificate), Some(Reason::WrongSigner));
    // The subject and the source are each of a spelling of their own.
    let mut mixed = certificate.clone();
    mixed.source_repository = some("https://github.com/acme/APP");
    assert_eq!(judged(bare_github("acme/app"), &mixed), None);
    let mut foreign = bare_github("acme/app");
    foreign.workflow = Some(SigningWorkflow {
        repository: some("acme/builder"),
        path: ".github/workflows/build.yml".to_owned(),
    });
    mixed.subject = "https://github.com/ACME/Builder/.github/workflows/build.yml@refs/tags/v1".to_owned();
    assert_eq!(judged(foreign, &mixed), None);
    let gitlab = SignerIdentity::Gitlab(Box::new(gitlab()));
    let mut pipeline = gitlab_certificate();
    pipeline.subject = pipeline.subject.replace("group/sub/app-a", "Group/sub/APP-a");
    assert_eq!(judge(&gitlab, pipeline.clone()), Ok(()));
    pipeline.subject = pipeline.subject.replace(".gitlab-ci", ".Gitlab-ci");
    assert!(judge(&gitlab, pipeline).is_err());
}

#[test]
fn c4_a_renamed_repository_is_known_by_its_id_where_the_policy_names_one_repository() {
    let renamed = own_workflow("acme/new", "build.yml@refs/tags/v1");
    let of = |name: &str, id: Option<&str>, owner: Option<&str>| {
        let mut github = bare_github(name);
        github.repository_id = id.map(ToOwned::to_owned);
        github.owner_id = owner.map(ToOwned::to_owned);
        judged(github, &renamed)
    };
    assert_eq!(of("acme/app", Some("12"), None), None);
    assert_eq!(of("acme/app", Some("12"), Some("34")), None);
    assert_eq!(of("acme/app", Some("12"), Some("35")), Some(Reason::WrongSource));
    assert_eq!(of("acme/app", Some("13"), None), Some(Reason::WrongSigner));
    assert_eq!(of("acme/app", None, Some("34")), Some(Reason::WrongSigner));
    assert_eq!(of("acme/a*", Some("12"), None), Some(Reason::WrongSigner));
    assert_eq!(of("acme/new", Some("13"), None), Some(Reason::WrongSource));
    // The workflow that signed is the renamed repository's own, and no other's.
    let mut other = renamed;
    other.subject = other.subject.replace("acme/new", "evil/new");
    let mut github = bare_github("acme/app");
    github.repository_id = some("12");
    assert_eq!(judged(github, &other), Some(Reason::WrongSigner));
}

#[test]
fn c4_a_claimed_repository_is_compared_as_the_certificates_is() {
    let rules = ProvenanceRules {
        source_repository: some("https://github.com/acme/app"),
        ..ProvenanceRules::default()
    };
    let statement = verified(Certificate::default()).statement;
    for (claimed, fits) in [
        ("https://github.com/Acme/APP", true),
        ("https://github.com/acme/app", true),
        ("https://github.com/acme/ap", false),
        ("https://gitlab.com/acme/app", false),
    ] {
        let provenance = Provenance { source: some(claimed), ..Provenance::default() };
        let checked = check_provenance(&rules, &statement, &provenance, None, None, Timestamp::MIN);
        assert_eq!(checked.is_ok(), fits, "{claimed}");
    }
}

#[test]
fn a15_the_file_ends_at_the_first_at_sign_that_a_ref_follows() {
    let commit = "ae48f2b0".repeat(5);
    let build = ".github/workflows/build.yml";
    let mut github = bare_github("acme/app");
    github.workflow = Some(SigningWorkflow { repository: None, path: build.to_owned() });
    for (file, refused) in [
        ("build.yml@refs/tags/foo@1.0.0", None),
        ("build.yml@refs/heads/a@b", None),
        ("build.yml@refs/heads/x.yml@refs/heads/main", None),
        (&format!("build.yml@{commit}"), None),
        ("build.yml@x.yml@refs/heads/main", Some(Reason::WrongSigner)),
        ("build.yml@x.yaml@refs/heads/main", Some(Reason::WrongSigner)),
        (&format!("build.yml@{commit}.yml@refs/heads/main"), Some(Reason::WrongSigner)),
        (&format!("build.yml@x.yml@{commit}"), Some(Reason::WrongSigner)),
        ("build.yml@main", Some(Reason::WrongSigner)),
        ("build.yml", Some(Reason::WrongSigner)),
    ] {
        let certificate = own_workflow("acme/app", file);
        assert_eq!(judged(github.clone(), &certificate), refused, "{file}");
    }
    // Where any workflow may sign, a ref with an @ is a ref as any other.
    github.workflow = None;
    github.refs = refs(&["refs/tags/**"]);
    let mut certificate = own_workflow("acme/app", "build.yml@refs/tags/foo@1.0.0");
    certificate.source_ref = some("refs/tags/foo@1.0.0");
    assert_eq!(judged(github.clone(), &certificate), None);
    github.workflow = Some(SigningWorkflow { repository: None, path: build.to_owned() });
    github.workflow_refs = refs(&["refs/tags/foo@*"]);
    assert_eq!(judged(github.clone(), &certificate), None);
    github.workflow_refs = refs(&["refs/tags/1.0.0"]);
    assert_eq!(judged(github, &certificate), Some(Reason::WrongSigner));
}

#[test]
fn a14_without_triggers_a_closed_list_counts() {
    let regex = SubjectMatcher::Regex(AnchoredRegex::new(".*").unwrap());
    let exact = SubjectMatcher::Exact(github_certificate().subject);
    let certificate =
        |issuer: &str, subject: &SubjectMatcher, triggers: &[&str]| SignerIdentity::Certificate {
            issuer: issuer.to_owned(),
            subject: subject.clone(),
            triggers: triggers.iter().map(ToString::to_string).collect(),
        };
    let enterprise = github_certificate().issuer;
    let everybody = "https://token.actions.githubusercontent.com".to_owned();
    let tenant = "https://token.actions.acme.ghe.com".to_owned();
    let mut any_workflow = bare_github("acme/app");
    any_workflow.workflow = github().workflow;
    let signers = [
        (SignerIdentity::Github(Box::new(any_workflow)), enterprise.clone()),
        (certificate(&enterprise, &exact, &[]), enterprise),
        (certificate(&everybody, &regex, &[]), everybody.clone()),
        (certificate(&tenant, &regex, &[]), tenant),
    ];
    for (signer, issuer) in &signers {
        let on = |trigger: Option<&str>| {
            let trigger = trigger.map(ToOwned::to_owned);
            judge(signer, Certificate { issuer: issuer.clone(), trigger, ..github_certificate() })
        };
        for trigger in DEFAULT_TRIGGERS {
            assert_eq!(on(Some(trigger)), Ok(()), "{trigger}");
        }
        for trigger in ["pull_request", "pull_request_target", "workflow_run", "issue_comment", "Push", ""] {
            assert_eq!(on(Some(trigger)).unwrap_err().reason, Reason::WrongSource, "{trigger}");
        }
        assert_eq!(on(None).unwrap_err().reason, Reason::WrongSource);
    }
    let target = Certificate { trigger: some("pull_request_target"), ..github_certificate() };
    let mut told =
        signers.first().map(|(signer, _)| judge(signer, target.clone()).unwrap_err().found).unwrap();
    let target = Certificate { issuer: everybody.clone(), ..target };
    told = format!(
        "{told}\n{}",
        judge(&certificate(&everybody, &regex, &[]), target.clone()).unwrap_err().found
    );
    let odd = Certificate { trigger: some("x]\ny"), ..target.clone() };
    told = format!("{told}\n{}", judge(&certificate(&everybody, &regex, &[]), odd).unwrap_err().found);
    insta::assert_snapshot!(told);
    // What is named counts, alone.
    let named = certificate(&everybody, &regex, &["pull_request_target"]);
    assert_eq!(judge(&named, target.clone()), Ok(()));
    assert!(judge(&named, Certificate { trigger: some("push"), ..target.clone() }).is_err());
    assert!(judge(&named, Certificate { trigger: None, ..target.clone() }).is_err());
    // A GitHub Enterprise Server has the same events.
    let server = "https://github.acme.example/_services/token".to_owned();
    let on_server =
        |trigger: &str| Certificate { issuer: server.clone(), trigger: some(trigger), ..target.clone() };
    assert!(judge(&certificate(&server, &regex, &[]), on_server("pull_request_target")).is_err());
    assert_eq!(judge(&certificate(&server, &regex, &[]), on_server("push")), Ok(()));
    assert_eq!(
        judge(&certificate(&server, &regex, &["pull_request_target"]), on_server("pull_request_target")),
        Ok(())
    );
    // Of other issuers nobody knows what their triggers mean.
    let other = "https://issuer.example".to_owned();
    let other_certificate = Certificate { issuer: other.clone(), ..target };
    assert_eq!(judge(&certificate(&other, &regex, &[]), other_certificate.clone()), Ok(()));
    assert!(judge(&certificate(&other, &regex, &["push"]), other_certificate).is_err());
}
