//! Identity tokens as GitHub Actions hands them to a workflow, and the identity that Fulcio makes of their claims.
//!
//! Nobody's key is behind these tokens: clients read a token without verifying it, and this Fulcio believes whoever asks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::sigstore::identity::{Identity, San};

const GITHUB: &str = "https://github.com/";

/// The claims of a workflow that runs in its own repository: those of which [`Identity::github`] for the same is made.
pub fn github_claims(repository: &str, workflow_path: &str, git_ref: &str, trigger: &str) -> Value {
    let identity = Identity::github(repository, workflow_path, git_ref, trigger);
    let value = |number: u8| identity.value(number).unwrap();
    let below_github = |number: u8| value(number).replacen(GITHUB, "", 1);
    json!({
        "iss": value(8),
        "aud": "sigstore",
        "sub": format!("repo:{repository}:ref:{git_ref}"),
        "event_name": value(20),
        "job_workflow_ref": below_github(9),
        "job_workflow_sha": value(10),
        "ref": git_ref,
        "repository": repository,
        "repository_id": value(15),
        "repository_owner": below_github(16),
        "repository_owner_id": value(17),
        "repository_visibility": value(22),
        "run_attempt": "1",
        "run_id": "13531731005",
        "runner_environment": value(11),
        "sha": value(13),
        "workflow": workflow_path,
        "workflow_ref": below_github(18),
        "workflow_sha": value(19),
    })
}

/// A JSON web token of these claims.
pub fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({"alg": "ES256", "typ": "JWT"});
    format!("{}.{}.{}", part(&head), part(claims), URL_SAFE_NO_PAD.encode([0; 64]))
}

/// The claims in a token.
pub(super) fn claims_of(token: &str) -> Option<Value> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// Who the claims speak of, in the extensions that Fulcio gives to GitHub's tokens; `None` where a claim lacks.
pub(super) fn identity_of(claims: &Value) -> Option<Identity> {
    let claim = |name: &str| claims.get(name)?.as_str();
    let github = |name: &str| Some(format!("{GITHUB}{}", claim(name)?));
    let run = format!("{}/actions/runs/{}", github("repository")?, claim("run_id")?);
    let mut identity = Identity::new(San::Uri(github("job_workflow_ref")?), claim("iss")?)
        .extension(9, &github("job_workflow_ref")?)
        .extension(12, &github("repository")?)
        .extension(16, &github("repository_owner")?)
        .extension(18, &github("workflow_ref")?)
        .extension(21, &format!("{run}/attempts/{}", claim("run_attempt")?));
    let verbatim = [
        (2, "event_name"),
        (3, "sha"),
        (4, "workflow"),
        (5, "repository"),
        (6, "ref"),
        (10, "job_workflow_sha"),
        (11, "runner_environment"),
        (13, "sha"),
        (14, "ref"),
        (15, "repository_id"),
        (17, "repository_owner_id"),
        (19, "workflow_sha"),
        (20, "event_name"),
        (22, "repository_visibility"),
    ];
    for (number, name) in verbatim {
        identity = identity.extension(number, claim(name)?);
    }
    Some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_the_workflow_it_was_made_for() {
        let who = ["acme/shop", ".github/workflows/release.yml", "refs/heads/main", "push"];
        let [repository, workflow, git_ref, trigger] = who;
        let mut claims = github_claims(repository, workflow, git_ref, trigger);
        let read = identity_of(&claims_of(&token(&claims)).unwrap()).unwrap();
        let expected = Identity::github(repository, workflow, git_ref, trigger);
        assert_eq!(read.encoded_extensions(), expected.encoded_extensions());
        assert_eq!(read.san, expected.san);
        claims.as_object_mut().unwrap().remove("job_workflow_ref");
        assert!(identity_of(&claims).is_none());
    }
}
