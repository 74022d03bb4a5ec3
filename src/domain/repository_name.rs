//! Names of owners and repositories on GitHub and GitLab. Neither tells two names apart by the case of their letters: `Acme/App` is
//! `acme/app`. Refs, paths and tags are compared with their case.

use std::fmt;

use super::{glob::Glob, identity::is_github_issuer};

/// Whether two names of owners or repositories are the same. Every comparison of such names comes here.
pub fn is_same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// A glob over names of repositories, `owner/repo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryGlob(Glob);

impl RepositoryGlob {
    /// Whether the whole of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches_ignoring_case(name)
    }

    /// Whether it names one repository alone.
    pub fn is_literal(&self) -> bool {
        self.0.is_literal()
    }
}

impl From<Glob> for RepositoryGlob {
    fn from(glob: Glob) -> Self {
        Self(glob)
    }
}

impl fmt::Display for RepositoryGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whether two URIs are of the same repository. `issuer` is who vouches for the signer: a GitLab of one's own is its issuer.
/// Of other hosts nobody knows whether they tell names apart by their case.
pub fn is_same_repository(a: &str, b: &str, issuer: Option<&str>) -> bool {
    a == b
        || host_of_names(a, issuer).is_some_and(|host| host_of_names(b, issuer) == Some(host))
            && is_same_name(a, b)
}

/// Whether a subject alternative name is `expected`: the names of owner and repository in any case, path and ref with theirs.
pub fn is_same_subject(expected: &str, subject: &str, issuer: &str) -> bool {
    if expected == subject {
        return true;
    }
    let parts = |text| name_in_subject(text, issuer);
    match parts(expected).zip(parts(subject)) {
        Some((expected, found)) => {
            expected.host == found.host
                && is_same_name(expected.name, found.name)
                && expected.file == found.file
        }
        None => false,
    }
}

/// A subject of GitHub's or GitLab's, taken apart.
struct SubjectParts<'a> {
    host: &'a str,
    name: &'a str,
    file: &'a str,
}

fn name_in_subject<'a>(subject: &'a str, issuer: &str) -> Option<SubjectParts<'a>> {
    let (host, rest) = split_host(subject)?;
    if is_github_issuer(issuer) {
        let mut parts = rest.splitn(3, '/');
        let (owner, name, file) = (parts.next()?, parts.next()?, parts.next()?);
        let name = rest.get(..owner.len().checked_add(name.len())?.checked_add(1)?)?;
        return Some(SubjectParts { host, name, file });
    }
    (host == issuer).then_some(())?;
    let (name, file) = rest.split_once("//")?;
    Some(SubjectParts { host, name, file })
}

/// The host of a repository's URI, where names on it are known to be the same in any case.
fn host_of_names<'a>(uri: &'a str, issuer: Option<&str>) -> Option<&'a str> {
    let (host, _) = split_host(uri)?;
    let name = host.strip_prefix("https://")?;
    let is_known =
        matches!(name, "github.com" | "gitlab.com") || name.ends_with(".ghe.com") || issuer == Some(host);
    is_known.then_some(host)
}

/// `https://github.com` and what stands behind the slash.
fn split_host(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("https://")?;
    let (host, rest) = rest.split_once('/')?;
    Some((uri.get(.."https://".len().checked_add(host.len())?)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = "https://token.actions.githubusercontent.com";

    #[test]
    fn c4_names_are_the_same_in_any_case_and_paths_and_refs_are_not() {
        let subject = "https://github.com/acme/app/.github/workflows/x.yml@refs/heads/main";
        for (other, issuer, is_same) in [
            ("https://github.com/Acme/APP/.github/workflows/x.yml@refs/heads/main", GITHUB, true),
            (
                "https://github.com/Acme/APP/.github/workflows/x.yml@refs/heads/main",
                "https://other.example",
                false,
            ),
            ("https://github.com/acme/app/.github/workflows/X.yml@refs/heads/main", GITHUB, false),
            ("https://github.com/acme/app/.github/workflows/x.yml@refs/heads/Main", GITHUB, false),
            ("https://github.com/acme/app-/.github/workflows/x.yml@refs/heads/main", GITHUB, false),
            ("https://github.com/acm/eapp/.github/workflows/x.yml@refs/heads/main", GITHUB, false),
            ("https://Github.com/acme/app/.github/workflows/x.yml@refs/heads/main", GITHUB, false),
        ] {
            assert_eq!(is_same_subject(subject, other, issuer), is_same, "{other}");
        }
        let gitlab = "https://gitlab.acme.example/Group/app//ci.yml@refs/heads/main";
        let own = "https://gitlab.acme.example";
        assert!(is_same_subject(&gitlab.to_ascii_lowercase(), gitlab, own));
        assert!(!is_same_subject(&gitlab.replace("ci.yml", "CI.yml"), gitlab, own));
        assert!(!is_same_subject(&gitlab.to_ascii_lowercase(), gitlab, "https://gitlab.com"));
    }

    #[test]
    fn c4_uris_of_other_hosts_are_compared_as_they_are() {
        let same = |a, b| is_same_repository(a, b, Some("https://gitlab.acme.example"));
        assert!(same("https://github.com/acme/app", "https://github.com/Acme/App"));
        assert!(same("https://gitlab.acme.example/a/b", "https://gitlab.acme.example/A/b"));
        assert!(!same("https://github.com/acme/app", "https://gitlab.com/acme/app"));
        assert!(!same("https://git.example/a/b", "https://git.example/A/b"));
        assert!(same("https://git.example/a/b", "https://git.example/a/b"));
    }
}
