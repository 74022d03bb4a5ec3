//! Image references, parsed once into the form that policies match.
//!
//! The rules are those of the distribution project's `reference` package, which container runtimes
//! follow. Names that lead to the same content are made the same text, so that no other spelling of a
//! repository escapes the policy that names it.

use std::{fmt, str::FromStr, sync::Arc};

use super::digest::{Digest, DigestError};

/// Docker Hub under its own name.
const HUB: &str = "docker.io";
/// Other names under which the same content is served.
const HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// The longest repository name, registry included (distribution's `RepositoryNameTotalLengthMax`).
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// A repository with its registry, normalised: `docker.io/library/nginx`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    full: Arc<str>,
    registry_len: usize,
}

/// A reference to an image: what stands in a container's `image` field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reference {
    repository: Repository,
    tag: Option<Arc<str>>,
    digest: Option<Digest>,
    written: Arc<str>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the image reference is empty")]
    Empty,
    /// The registry's name is malformed.
    #[error("{0:?} is not a registry host")]
    Registry(String),
    /// A path component is malformed.
    #[error(
        "{0:?} is not a repository path: lower-case letters, digits and separators . _ __ - between them"
    )]
    Path(String),
    /// The name is too long.
    #[error("the repository name is longer than {MAX_NAME} characters")]
    TooLong,
    /// The tag is malformed.
    #[error("{0:?} is not a tag: letters, digits, _ . -, at most {MAX_TAG}, not starting with . or -")]
    Tag(String),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Runtimes look for an image that is already on the node, and ask no registry.
    #[error(
        "{0:?} can be the ID of an image that is already on the node; a repository of that name is written \
         with its registry and path, such as docker.io/library/{0}"
    )]
    ImageId(String),
}

impl Repository {
    /// The registry's host, with its port where that is not the default.
    pub fn registry(&self) -> &str {
        self.full.get(..self.registry_len).unwrap_or_default()
    }

    /// The repository's path within the registry.
    pub fn path(&self) -> &str {
        self.full.get(self.registry_len.saturating_add(1)..).unwrap_or_default()
    }

    /// Registry and path as one text: what a policy's globs are matched against.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    fn parse(name: &str) -> Result<Self, ReferenceError> {
        let (host, path) = split_host(name);
        let host = normalise_host(host)?;
        let implied = host == HUB && !path.contains('/');
        let path = if implied { format!("library/{path}") } else { path.to_owned() };
        if let Some(bad) = path.split('/').find(|component| !is_path_component(component)) {
            let shown = if bad.is_empty() { path.as_str() } else { bad };
            return Err(ReferenceError::Path(shown.to_owned()));
        }
        let full = format!("{host}/{path}");
        if full.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self { registry_len: host.len(), full: full.into() })
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        Self::parse(text)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl Reference {
    /// Where the image is.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag that was asked for: what was written, or `latest` where neither tag nor digest was.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// The digest, where the reference is pinned. It wins over the tag.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference without its digest, where it has a tag.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// The text as it was written, for messages.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The same reference with this digest: what is pinned, verified and reported.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let tag_at = name.rfind(':').filter(|at| !name.get(*at..).is_some_and(|rest| rest.contains('/')));
        let (name, tag) = match tag_at.and_then(|at| name.split_at_checked(at)) {
            Some((name, tag)) => (name, Some(tag.trim_start_matches(':'))),
            None => (name, None),
        };
        if name.is_empty() {
            return Err(ReferenceError::Path(name.to_owned()));
        }
        if is_image_id(name) {
            return Err(ReferenceError::ImageId(name.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let repository = Repository::parse(name)?;
        Ok(Self { repository, tag: tag.map(Into::into), digest, written: text.into() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether a runtime may take what has this name for the ID of an image: `sha256:e3b0c442…`, also shortened, or the hexadecimal digits
/// alone. distribution's `reference` package refuses only the latter; containerd and CRI-O look among the node's images first.
fn is_image_id(name: &str) -> bool {
    const ALGORITHMS: [&str; 3] = ["sha256", "sha384", "sha512"];
    const DIGITS: [usize; 3] = [64, 96, 128];
    ALGORITHMS.iter().any(|algorithm| name.eq_ignore_ascii_case(algorithm))
        || (DIGITS.contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The first component is a registry where it can be no path component of Docker Hub's.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, path))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (host, path)
        }
        _ => (HUB, name),
    }
}

/// One spelling for one registry: lower case (DNS), no default port unless it is what makes it a host, Docker Hub's aliases folded.
fn normalise_host(host: &str) -> Result<String, ReferenceError> {
    let wrong = || ReferenceError::Registry(host.to_owned());
    let (name, port) = split_port(host).ok_or_else(wrong)?;
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = match bracketed {
        Some(address) => {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
            format!("[{address}]")
        }
        None if name.split('.').all(is_host_label) => name.to_ascii_lowercase(),
        None => return Err(wrong()),
    };
    let port = match port {
        None => None,
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => return Err(wrong()),
        Some(port) => Some(port.parse::<u16>().map_err(|_| wrong())?),
    };
    // Without its port, `registry:443/app` would be read as an image of Docker Hub; and without its capitals, `Registry/app`.
    let is_host_by_itself = name.contains(['.', ':']) || name == "localhost";
    let port = if is_host_by_itself { port.filter(|port| *port != 443) } else { port.or(Some(443)) };
    Ok(match port {
        Some(port) => format!("{name}:{port}"),
        None if HUB_ALIASES.contains(&name.as_str()) => HUB.to_owned(),
        None => name,
    })
}

fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    if host.starts_with('[') {
        let (address, rest) = host.split_at_checked(host.find(']')?.checked_add(1)?)?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    Some(host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))))
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(a, z)| plain(*a) && plain(*z));
    ends && bytes
        .split(|b| plain(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn shown(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| format!("error: {error}"), |r| r.to_string())
    }

    #[test]
    fn other_spellings_are_one_name() {
        for (text, normal) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("registry-1.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("docker.io:443/nginx", "docker.io/library/nginx:latest"),
            ("GHCR.io/org/app", "ghcr.io/org/app:latest"),
            ("ghcr.io:443/org/app:v1", "ghcr.io/org/app:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest"),
            ("127.0.0.1:05000/app", "127.0.0.1:5000/app:latest"),
            ("[0:0::1]:5000/app", "[::1]:5000/app:latest"),
            ("[::1]:443/app", "[::1]/app:latest"),
            ("localhost:443/app", "localhost/app:latest"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("registry:443/app", "registry:443/app:latest"),
            ("Registry/app", "registry:443/app:latest"),
            ("registry/app", "docker.io/registry/app:latest"),
        ] {
            assert_eq!(shown(text), normal);
        }
    }

    #[test]
    fn a_digest_wins_and_keeps_the_tag_for_messages() {
        let both: Reference = format!("ghcr.io/o/a:v1@{D}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().is_some()), (Some("v1"), true));
        let bare: Reference = format!("ghcr.io/o/a@{D}").parse().unwrap();
        assert_eq!(bare.tag(), None);
        assert_eq!("nginx".parse::<Reference>().unwrap().tag(), Some("latest"));
    }

    #[test]
    fn a4_an_image_id_is_no_reference() {
        let hex = D.trim_start_matches("sha256:");
        let [id, other] = [hex.to_owned(), format!("{hex}{hex}")];
        for text in [
            D.to_owned(),
            "sha256:e3b0c442".to_owned(),
            "sha256".to_owned(),
            "sha256:latest".to_owned(),
            format!("sha256@{D}"),
            format!("sha256:e3b0c442@{D}"),
            format!("SHA256:{hex}"),
            "sha512:e3b0".to_owned(),
            format!("sha512:{other}"),
            format!("sha384:{hex}"),
            format!(" {D}"),
            format!("{D}\n"),
            id.clone(),
            id.to_ascii_uppercase(),
            format!("{id}:v1"),
            format!("{id}@{D}"),
            other,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} is {}", shown(&text));
        }
        assert_eq!(
            shown("sha256:e3b0c442"),
            "error: \"sha256\" can be the ID of an image that is already on the node; a repository of that name is written \
             with its registry and path, such as docker.io/library/sha256"
        );
        // Written out they are repositories, and a name that only resembles one is.
        for (text, normal) in [
            ("docker.io/library/sha256:e3b0", "docker.io/library/sha256:e3b0"),
            ("docker.io/sha256:e3b0", "docker.io/library/sha256:e3b0"),
            ("library/sha256:e3b0", "docker.io/library/sha256:e3b0"),
            ("ghcr.io/sha512", "ghcr.io/sha512:latest"),
            ("sha2560:e3b0", "docker.io/library/sha2560:e3b0"),
            ("nginx:sha256", "docker.io/library/nginx:sha256"),
            (&hex[1..], &format!("docker.io/library/{}:latest", &hex[1..])),
            (&format!("acme/{hex}"), &format!("docker.io/acme/{hex}:latest")),
        ] {
            assert_eq!(shown(text), normal);
        }
    }

    #[test]
    fn refuses_what_no_runtime_would_pull() {
        for text in [
            "",
            ":v1",
            "/x",
            "x/",
            "a//b",
            "Nginx",
            "nginx:",
            "nginx:-x",
            "nginx:a b",
            "nginx@",
            "nginx@sha256:00",
            "ghcr.io./o/a",
            "-ghcr.io/o/a",
            "ghcr.io:x/o/a",
            "ghcr.io:/o/a",
            "ghcr.io:99999/o/a",
            "a/.b",
            "a/b_",
            "a/b___c",
            "a/b..c",
            "https://ghcr.io/o/a",
            " nginx",
            "nginx ",
            "nginx\n",
            "a/b%2fc",
            "x@y@z",
            "[::1/a",
            "ghcr.io/o/ä",
            "../x",
            "a/../b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} is {}", shown(text));
        }
        assert!("a".repeat(256).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
