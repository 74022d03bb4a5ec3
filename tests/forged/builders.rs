//! Build systems from the bytes of their certificates to the verdict: each with all that its certificates have, and beside it
//! twins that differ in one extension, or have none of it.

use bonafide::domain::verdict::{Outcome, Reason};
use bonafide_kit::sigstore::{Build, EntryKind, Identity, San, statement_v1};
use serde_json::{Value, json};

use crate::form::{By, Form, Kept, World, denied, image, judge};
use bonafide_kit::sigstore::BundleVersion;

const SIGNER: Reason = Reason::WrongSigner;
const SOURCE: Reason = Reason::WrongSource;

/// Somebody else, the reason, and words of what is found.
type Twin = (Identity, Reason, &'static str);

/// Who signs, whom the policy names, and who else is not.
fn check(identity: &Identity, signer: &Value, twins: Vec<Twin>) {
    let form =
        Form { by: By::Certificate, kept: Kept::Bundle(BundleVersion::V03), entry: Some(EntryKind::Dsse001) };
    let world = World::of(form);
    let mut policy = world.policy();
    let mut named = signer.clone();
    named["name"] = json!("ci");
    policy["spec"]["signers"] = json!([named]);
    let subject = image().hex();
    let mut statement =
        statement_v1(&[("x", &subject)], &Build::github("o/r", "w.yml", "refs/heads/main", "push"));
    // What the certificate says of the source is enough.
    statement["predicate"]["buildDefinition"]["externalParameters"] = json!({});
    let judge = |identity: &Identity| {
        let raw = form.of(&world.signing_by(identity).sign(statement.to_string()));
        judge(&world.roots, &policy, &raw)
    };
    let verdict = judge(identity);
    assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
    for (twin, reason, words) in twins {
        denied(&judge(&twin), reason, words, &(identity.subject(), words));
    }
}

#[test]
fn github_with_environment_and_commit() {
    let of = |workflow: &str| {
        Identity::github("acme/app", ".github/workflows/b.yml", "refs/heads/main", "push")
            .signed_by(&format!("acme/builder/.github/workflows/{workflow}"))
            .extension(23, "production")
    };
    let good = of("b.yml@refs/tags/v2");
    let commit = good.value(10).unwrap();
    let signer = json!({"github": {
        "repository": "acme/app", "workflow": "acme/builder/.github/workflows/b.yml", "workflowRefs": [commit],
        "refs": ["refs/heads/main"], "environments": ["production"], "repositoryId": good.value(15), "ownerId": good.value(17),
    }});
    check(
        &good,
        &signer,
        vec![
            (good.clone().extension(10, &"0".repeat(40)), SIGNER, "at the commit 000"),
            (good.clone().without_extension(10), SIGNER, "b.yml@refs/tags/v2"),
            (of("x.yml@refs/tags/v2").extension(10, &commit), SIGNER, "x.yml"),
            (good.clone().extension(23, "staging"), SOURCE, "deployment environment is staging"),
            (good.clone().without_extension(23), SOURCE, "no deployment environment"),
            (good.clone().extension(15, "1"), SOURCE, "repository id is 1"),
            (good.clone().without_extension(17), SOURCE, "no source owner id"),
        ],
    );
}

#[test]
fn gitlab() {
    let of = |project: &str, git_ref: &str, source: &str| {
        Identity::gitlab(project, ".gitlab-ci.yml", git_ref, source)
    };
    let good = of("acme/shop/api", "refs/tags/v1", "push");
    let signer = json!({"gitlab": {
        "project": "acme/shop/api", "config": ".gitlab-ci.yml", "configRefs": [good.value(10)], "refs": ["refs/tags/*"],
        "refType": "tag", "runner": "gitlab-hosted", "projectId": good.value(15), "namespaceId": good.value(17),
    }});
    let other_file = San::Uri("https://gitlab.com/acme/shop/api//x.yml@refs/tags/v1".to_owned());
    check(
        &good,
        &signer,
        vec![
            (of("evil/api", "refs/tags/v1", "push"), SIGNER, "signed by https://gitlab.com/evil/api//"),
            (
                good.clone().issuer("https://gitlab.evil.example"),
                SIGNER,
                "issuer https://gitlab.evil.example",
            ),
            (good.clone().san(other_file), SIGNER, "//x.yml"),
            (good.clone().extension(10, &"0".repeat(40)), SIGNER, "at the commit 000"),
            (good.clone().extension(12, "https://gitlab.com/evil/api"), SOURCE, "gitlab.com/evil/api"),
            (good.clone().without_extension(12), SOURCE, "no source repository"),
            (good.clone().extension(14, "refs/heads/v1"), SOURCE, "ref is refs/heads/v1"),
            (good.clone().extension(20, "merge_request_event"), SOURCE, "trigger is merge_request_event"),
            (good.clone().extension(11, "self-hosted"), SOURCE, "runner is self-hosted"),
            (good.clone().extension(15, "1"), SOURCE, "repository id is 1"),
            (good.clone().extension(17, "1"), SOURCE, "owner id is 1"),
        ],
    );
}

#[test]
fn buildkite() {
    let of = |pipeline: &str, git_ref: &str| Identity::buildkite("acme", pipeline, git_ref, "webhook");
    let good = of("app", "refs/heads/main");
    let signer = json!({"buildkite": {
        "organization": "acme", "pipeline": "app", "refs": ["refs/heads/*"], "triggers": ["webhook"], "runner": "self-hosted",
    }});
    let other_job = of("lib", "refs/heads/main").value(24).unwrap();
    check(
        &good,
        &signer,
        vec![
            (of("lib", "refs/heads/main"), SIGNER, "signed by https://buildkite.com/acme/lib"),
            (of("app", "refs/pull/1/head"), SOURCE, "ref is refs/pull/1/head"),
            (of("app", "refs/heads/rival:main"), SOURCE, "ref is refs/heads/rival:main"),
            (good.clone().extension(24, &other_job), SOURCE, "no source ref"),
            (good.clone().without_extension(24), SOURCE, "no source ref"),
            (good.clone().extension(13, &"0".repeat(40)), SOURCE, "no source ref"),
            (good.clone().extension(20, "api"), SOURCE, "trigger is api"),
            (good.clone().extension(11, "buildkite-hosted"), SOURCE, "runner is buildkite-hosted"),
        ],
    );
}

#[test]
fn google_cloud_build() {
    const GOOGLE: &str = "https://accounts.google.com";
    let account = "builder@acme-builds.iam.gserviceaccount.com";
    let good = Identity::email(account, GOOGLE).extension(24, "117004217104223312345");
    for (signer, twin) in [
        (json!({"serviceAccount": account}), "other@acme-builds.iam.gserviceaccount.com"),
        (json!({"project": "acme-builds"}), "builder@acme-builds.evil.iam.gserviceaccount.com"),
    ] {
        let twins = vec![
            (Identity::email(twin, GOOGLE), SIGNER, twin),
            (Identity::email(account, "https://issuer.example"), SIGNER, "issuer https://issuer.example"),
            (Identity::email("dev@acme.example", GOOGLE), SIGNER, "dev@acme.example"),
        ];
        check(&good, &json!({"googleCloudBuild": signer}), twins);
    }
}
