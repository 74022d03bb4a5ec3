//! Where a build says that its source is: a URI with a ref or a commit about it, in the spellings of SPDX and `BuildKit`.

/// A source repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The repository, as `https://github.com/owner/repo`.
    pub(super) uri: String,
    /// The ref.
    pub(super) reference: Option<String>,
    /// The commit, where one stands in place of a ref.
    pub(super) commit: Option<String>,
}

impl Source {
    /// Takes apart `git+https://host/owner/repo.git@refs/heads/main` and `https://host/owner/repo.git#commit`.
    /// A user name or password in it is left out: it would be shown.
    pub(super) fn parse(uri: &str) -> Self {
        let uri = uri.strip_prefix("git+").unwrap_or(uri);
        let (uri, fragment) = uri.split_once('#').map_or((uri, None), |(uri, rest)| (uri, Some(rest)));
        let (scheme, rest) = uri.split_once("://").map_or(("", uri), |(scheme, rest)| (scheme, rest));
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (path, at) = match path.split_once("@refs/") {
            Some((path, rest)) => (path, Some(format!("refs/{rest}"))),
            None => path.rsplit_once('@').map_or((path, None), |(path, at)| (path, Some(at.to_owned()))),
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path).trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let uri = if scheme.is_empty() {
            format!("{authority}{path}")
        } else {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        };
        // BuildKit's fragment is `ref:subdirectory`.
        let fragment = fragment.map(|text| text.split_once(':').map_or(text, |(text, _)| text).to_owned());
        let (commit, reference) = match at.or(fragment).filter(|text| !text.is_empty()) {
            Some(text) if is_commit(&text) => (Some(text), None),
            other => (None, other),
        };
        Self { uri, reference, commit }
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_repository_in_every_spelling() {
        let commit = "d37a7f740ee7404914456f24dcd90e865a0509e8";
        let cases = [
            ("https://github.com/o/r", None, None),
            ("git+https://github.com/o/r", None, None),
            ("https://github.com/o/r.git", None, None),
            ("https://github.com/o/r/", None, None),
            ("git+https://github.com/o/r@refs/heads/main", Some("refs/heads/main"), None),
            ("git+https://github.com/o/r@refs/heads/a@b", Some("refs/heads/a@b"), None),
            ("git+https://github.com/o/r.git@v1", Some("v1"), None),
            (&format!("https://github.com/o/r.git#{commit}"), None, Some(commit)),
            (&format!("https://github.com/o/r.git#{commit}:sub/dir"), None, Some(commit)),
            ("https://github.com/o/r.git#refs/tags/v1", Some("refs/tags/v1"), None),
            ("https://user:secret@github.com/o/r.git?x=1", None, None),
        ];
        for (text, reference, commit) in cases {
            let expected = Source {
                uri: "https://github.com/o/r".to_owned(),
                reference: reference.map(str::to_owned),
                commit: commit.map(str::to_owned),
            };
            assert_eq!(Source::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_stays() {
        assert_eq!(Source::parse("pkg:docker/alpine").uri, "pkg:docker/alpine");
        assert_eq!(Source::parse("").uri, "");
    }
}
