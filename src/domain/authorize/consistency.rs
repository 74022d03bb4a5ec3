//! Whether provenance contradicts the certificate that signed it: both may name the source, and then they must name the same.
//!
//! What is compared, and what is not because the two speak of different things: `docs/decisions/0010`.

use super::Mismatch;
use crate::domain::{
    identity::{Certificate, SignerIdentity},
    provenance::Provenance,
    verdict::Reason,
};

/// What the build types of `BuildKit` begin with. Its `configSource` is the context of the build, which may be at another ref and commit of
/// the repository than the run that signed.
const BUILDKIT: [&str; 2] = ["https://mobyproject.org/buildkit@", "https://github.com/moby/buildkit/"];

/// Whether the provenance and the certificate of its signer name the same source, as far as both name one.
///
/// # Errors
/// `WrongSource` with both values.
pub fn check_consistency(
    signer: &SignerIdentity,
    certificate: &Certificate,
    provenance: &Provenance,
) -> Result<(), Mismatch> {
    let both = |claimed: &Option<String>, proved: &Option<String>| claimed.clone().zip(proved.clone());
    if let Some((claimed, proved)) = both(&provenance.source, &proved_source(signer, certificate))
        && let Some((of_claim, of_proof)) = location(&claimed).zip(location(&proved))
        && of_claim != of_proof
    {
        return contradiction("source", &claimed, &proved);
    }
    if BUILDKIT.iter().any(|kind| provenance.build_type.starts_with(kind)) {
        return Ok(());
    }
    if let Some((claimed, proved)) = both(&provenance.commit, &certificate.source_digest)
        && let Some((of_claim, of_proof)) = commit(&claimed).zip(commit(&proved))
        && of_claim.len() == of_proof.len()
        && !of_claim.eq_ignore_ascii_case(of_proof)
    {
        return contradiction("commit", &claimed, &proved);
    }
    match both(&provenance.source_ref, &certificate.source_ref) {
        Some((claimed, proved)) if !is_same_ref(&claimed, &proved) => {
            contradiction("source ref", &claimed, &proved)
        }
        _ => Ok(()),
    }
}

/// The certificate's source. Fulcio's templates write gitlab.com for a GitLab of any other host too.
fn proved_source(signer: &SignerIdentity, certificate: &Certificate) -> Option<String> {
    let proved = certificate.source_repository.clone()?;
    match (signer, proved.strip_prefix("https://gitlab.com/")) {
        (SignerIdentity::Gitlab(gitlab), Some(project)) => Some(format!("{}/{project}", gitlab.issuer)),
        _ => Some(proved),
    }
}

fn contradiction(what: &str, claimed: &str, proved: &str) -> Result<(), Mismatch> {
    let found = format!(
        "the provenance contradicts the certificate of its signer: it claims the {what} {claimed}, and the certificate says {proved}"
    );
    Err(Mismatch::new(Reason::WrongSource, found))
}

/// Host and path of a repository, in the spellings of URLs, of git's own `user@host:path`, and of `host/path`; nothing, where it is none of
/// these.
fn location(uri: &str) -> Option<String> {
    let rest = match (uri.split_once("://"), uri.split_once('@')) {
        (Some((_, rest)), _) => rest.to_owned(),
        (None, Some((_, rest))) => rest.replacen(':', "/", 1),
        (None, None) => uri.split_once('/').filter(|(host, _)| host.contains('.')).map(|_| uri.to_owned())?,
    };
    let rest = rest.rsplit_once('@').map_or(rest.as_str(), |(_, rest)| rest);
    let path = rest.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    // Neither GitHub nor GitLab tells names apart by their case.
    path.contains('/').then(|| path.to_ascii_lowercase())
}

/// A full commit; build systems write other things too, such as `HEAD`.
fn commit(text: &str) -> Option<&str> {
    let hash = text.split_once(':').map_or(text, |(_, hash)| hash);
    (matches!(hash.len(), 40 | 64) && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

/// `main` is `refs/heads/main`, where nothing says otherwise.
fn is_same_ref(claimed: &str, proved: &str) -> bool {
    let shortened = |prefix| proved.strip_prefix(prefix) == Some(claimed);
    claimed == proved || ["refs/heads/", "refs/tags/", "refs/"].into_iter().any(shortened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{GithubIdentity, GitlabIdentity, ServiceAccounts, SubjectMatcher};

    const COMMIT: &str = "4d329c75e7ec1725f7c9ce917a8799d408d06be3";

    fn certificate() -> Certificate {
        Certificate {
            source_repository: Some("https://github.com/acme/app".to_owned()),
            source_ref: Some("refs/heads/main".to_owned()),
            source_digest: Some(COMMIT.to_owned()),
            ..Certificate::default()
        }
    }

    fn by_subject() -> SignerIdentity {
        SignerIdentity::Certificate {
            issuer: String::new(),
            subject: SubjectMatcher::Exact(String::new()),
            triggers: Vec::new(),
        }
    }

    fn by_repository() -> SignerIdentity {
        SignerIdentity::Github(Box::new(GithubIdentity {
            issuer: "https://token.actions.githubusercontent.com".to_owned(),
            repository: crate::domain::glob::Glob::new("acme/app").unwrap().into(),
            repository_id: None,
            owner_id: None,
            workflow: None,
            subject: None,
            workflow_refs: Vec::new(),
            refs: Vec::new(),
            triggers: Vec::new(),
            runner: None,
            environments: Vec::new(),
        }))
    }

    fn claims(source: &str, git_ref: &str, commit: &str) -> Provenance {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Provenance {
            source: some(source),
            source_ref: some(git_ref),
            commit: some(commit),
            ..Provenance::default()
        }
    }

    #[test]
    fn what_is_the_same_in_another_spelling_and_what_one_is_silent_about_is_no_contradiction() {
        let upper = COMMIT.to_ascii_uppercase();
        for (source, git_ref, commit) in [
            ("https://github.com/acme/app", "refs/heads/main", COMMIT),
            ("https://github.com/Acme/App.git", "main", &upper),
            ("ssh://git@github.com/acme/app", "heads/main", ""),
            ("git@github.com:acme/app.git", "", COMMIT),
            // A name of another kind is none of a repository.
            ("pkg:docker/alpine", "", ""),
            ("", "", ""),
            // Short commits, and other hashes of the same, cannot be compared.
            ("https://github.com/acme/app", "", "4d329c7"),
            ("https://github.com/acme/app", "", &"ab".repeat(32)),
        ] {
            for signer in [by_subject(), by_repository()] {
                let claimed = claims(source, git_ref, commit);
                assert_eq!(check_consistency(&signer, &certificate(), &claimed), Ok(()), "{claimed:?}");
            }
        }
        let silent = Certificate::default();
        let claimed = claims("https://github.com/evil/app", "refs/heads/x", &"0".repeat(40));
        let account = SignerIdentity::GoogleCloudBuild(ServiceAccounts::OfProject("p".to_owned()));
        assert_eq!(check_consistency(&account, &silent, &claimed), Ok(()));
        let head = Certificate { source_digest: Some("HEAD".to_owned()), ..silent };
        assert_eq!(check_consistency(&by_subject(), &head, &claimed), Ok(()));
    }

    #[test]
    fn each_contradiction_is_told_with_both_values() {
        let (zero, long) = ("0".repeat(40), format!("sha1:{}", "0".repeat(40)));
        let source = "https://github.com/acme/app";
        let mut told = Vec::new();
        for claimed in [
            claims("https://github.com/evil/app", "refs/heads/main", COMMIT),
            claims("https://github.example/acme/app", "refs/heads/main", COMMIT),
            claims("git@github.com:evil/app.git", "", ""),
            claims(source, "refs/heads/main", &zero),
            claims(source, "refs/heads/main", &long),
            claims(source, "refs/heads/dev", COMMIT),
            claims(source, "refs/tags/main", COMMIT),
            claims(source, "ain", COMMIT),
        ] {
            for signer in [by_subject(), by_repository()] {
                let mismatch = check_consistency(&signer, &certificate(), &claimed).unwrap_err();
                told.push(format!("{} – {}", mismatch.reason, mismatch.found));
            }
        }
        told.dedup();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_gitlab_of_ones_own_is_called_by_its_own_name() {
        let signer = SignerIdentity::Gitlab(Box::new(GitlabIdentity {
            issuer: "https://gitlab.acme.example".to_owned(),
            project: crate::domain::glob::Glob::new("acme/app").unwrap().into(),
            project_id: None,
            namespace_id: None,
            config: None,
            config_refs: Vec::new(),
            refs: Vec::new(),
            ref_type: None,
            triggers: Vec::new(),
            runner: None,
            environments: Vec::new(),
        }));
        let claimed = claims("https://gitlab.acme.example/acme/app", "", "");
        for (source, agrees) in [
            ("https://gitlab.com/acme/app", true),
            ("https://gitlab.acme.example/acme/app", true),
            ("https://gitlab.com/acme/lib", false),
        ] {
            let certificate =
                Certificate { source_repository: Some(source.to_owned()), ..Certificate::default() };
            assert_eq!(check_consistency(&signer, &certificate, &claimed).is_ok(), agrees, "{source}");
        }
    }

    #[test]
    fn a13_the_context_of_a_build_is_of_the_repository_of_the_run() {
        for kind in [
            "https://mobyproject.org/buildkit@v1",
            "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
        ] {
            let of = |claimed: Provenance| Provenance { build_type: kind.to_owned(), ..claimed };
            // Its ref and commit may be others; its repository may not.
            let same = of(claims("https://github.com/acme/app", "v1.2", &"0".repeat(40)));
            for signer in [by_repository(), by_subject()] {
                assert_eq!(check_consistency(&signer, &certificate(), &same), Ok(()));
                for spelling in [
                    "https://github.com/acme/lib",
                    "git+https://github.com/acme/lib.git",
                    "git@github.com:acme/lib.git",
                    "ssh://git@github.com/acme/lib",
                    "github.com/acme/lib",
                ] {
                    let other = of(claims(spelling, "v1.2", &"0".repeat(40)));
                    let found = check_consistency(&signer, &certificate(), &other).unwrap_err();
                    assert_eq!(found.reason, Reason::WrongSource, "{spelling}");
                }
            }
        }
    }
}
