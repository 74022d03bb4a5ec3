//! Credentials from a docker config file. Helpers that it names are programs, and are never run.

use std::{cmp::Reverse, collections::BTreeMap, fmt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::domain::{digest::Digest, reference::Repository};

/// How many credentials are tried for one repository.
const MAX_TRIED: usize = 16;
/// Names under which Docker Hub's credentials are kept.
const HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A docker config file, as far as credentials go.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    entries: Vec<Entry>,
    helpers: Vec<String>,
}

/// What a registry is asked with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token to be exchanged at the token server.
    Identity(String),
    /// A token for the registry itself.
    Registry(String),
}

#[derive(Debug, Clone)]
struct Entry {
    /// The key as it is written, without the scheme.
    key: String,
    host: String,
    path: String,
    credential: Credential,
}

/// Why a docker config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] std::io::Error),
    /// It is no docker config. What stands there instead is not told: it may be a password.
    #[error("is no docker config: line {0}, column {1}")]
    Parse(usize, usize),
    /// An entry is malformed.
    #[error("auths[{0:?}].auth is not base64 of user:password")]
    Auth(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(credential)")
    }
}

impl Credential {
    /// What tells one credential from another, without being it.
    pub fn fingerprint(&self) -> Digest {
        match self {
            Self::Basic { user, password } => Digest::of(format!("basic\0{user}\0{password}").as_bytes()),
            Self::Identity(token) => Digest::of(format!("identity\0{token}").as_bytes()),
            Self::Registry(token) => Digest::of(format!("registry\0{token}").as_bytes()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// Reads a docker config file.
    ///
    /// # Errors
    /// A file that cannot be read or is none.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        Self::from_json(&std::fs::read_to_string(path)?)
    }

    /// Reads the text of a docker config file.
    ///
    /// # Errors
    /// A text that is none.
    pub fn from_json(json: &str) -> Result<Self, CredentialsError> {
        let file: File = serde_json::from_str(json)
            .map_err(|error| CredentialsError::Parse(error.line(), error.column()))?;
        let mut entries = Vec::new();
        for (key, auth) in file.auths {
            if let Some(credential) = credential(&key, auth)? {
                let (host, path) = split_key(&key);
                let key = without_scheme(&key).to_owned();
                entries.push(Entry { key, host, path, credential });
            }
        }
        let helpers = file.cred_helpers.into_values().chain(file.creds_store).collect();
        Ok(Self { entries, helpers })
    }

    /// Credential helpers that the file names and that are not run: their registries are asked without credentials.
    pub fn ignored_helpers(&self) -> &[String] {
        &self.helpers
    }

    /// What several files hold together.
    pub fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        Self { entries: all.flat_map(|config| config.entries.iter().cloned()).collect(), helpers: Vec::new() }
    }

    /// The credentials for a repository, the first to be tried first: those whose path goes farthest, then those whose host is named rather
    /// than matched, as the kubelet has it over all pull secrets of a pod. It compares paths as texts, so that a path may end within a
    /// name; such a credential is tried after those that end with one.
    pub fn credentials(&self, repository: &Repository) -> Vec<&Credential> {
        let registry = repository.registry();
        let host = registry.strip_suffix(":443").unwrap_or(registry);
        let path = repository.path();
        let mut fitting: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| path.starts_with(&entry.path) && host_fits(&entry.host, host))
            .collect();
        let rank = |entry: &Entry| {
            let is_matched = entry.host.contains(['*', '?', '[']);
            (!path_fits(&entry.path, path), Reverse(entry.path.len()), is_matched)
        };
        fitting.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| b.key.cmp(&a.key)));
        let mut credentials: Vec<&Credential> = Vec::new();
        for entry in fitting {
            if !credentials.contains(&&entry.credential) {
                credentials.push(&entry.credential);
            }
        }
        credentials.truncate(MAX_TRIED);
        credentials
    }
}

fn credential(key: &str, auth: Auth) -> Result<Option<Credential>, CredentialsError> {
    if let Some(token) = auth.registrytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Credential::Registry(token)));
    }
    if let Some(token) = auth.identitytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Credential::Identity(token)));
    }
    if let (Some(user), Some(password)) = (auth.username, auth.password) {
        return Ok(Some(Credential::Basic { user, password }));
    }
    let Some(encoded) = auth.encoded.filter(|encoded| !encoded.is_empty()) else { return Ok(None) };
    let wrong = || CredentialsError::Auth(key.to_owned());
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(decoded).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Some(Credential::Basic {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

fn without_scheme(key: &str) -> &str {
    key.trim_start_matches("https://").trim_start_matches("http://")
}

/// Keys are hosts, URLs as Docker writes them, or have a path behind the host.
fn split_key(key: &str) -> (String, String) {
    let bare = without_scheme(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let path = if ["v1", "v2"].contains(&path) { "" } else { path };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let host = if HUB.contains(&host) { HUB[0] } else { host };
    (host.to_owned(), path.to_owned())
}

/// Each label is a pattern of its own, and the port is as it is written: the rules of the kubelet.
fn host_fits(pattern: &str, host: &str) -> bool {
    if !pattern.contains(['*', '?', '[']) || pattern.starts_with('[') {
        return pattern == host;
    }
    let port = |text: &str| text.rsplit_once(':').map(|(_, port)| port.to_owned());
    let name = |text: &'_ str| text.rsplit_once(':').map_or(text.to_owned(), |(name, _)| name.to_owned());
    let (wanted, given) = (name(pattern), name(host));
    port(pattern) == port(host)
        && wanted.split('.').count() == given.split('.').count()
        && wanted
            .split('.')
            .zip(given.split('.'))
            .all(|(pattern, label)| label_fits(pattern.as_bytes(), label.as_bytes()))
}

/// `*` and `?` in a label. A label with other patterns of the kubelet's (`[a-z]`, `\\`) fits nothing here.
fn label_fits(pattern: &[u8], label: &[u8]) -> bool {
    match (pattern.split_first(), label.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            label_fits(rest, label)
                || label.split_first().is_some_and(|(_, label)| label_fits(pattern, label))
        }
        (Some((b'?', rest)), Some((_, label))) => label_fits(rest, label),
        (Some((byte, rest)), Some((other, label))) => byte == other && label_fits(rest, label),
        _ => false,
    }
}

fn path_fits(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(config: &str, repository: &str) -> Option<String> {
        let config = DockerConfig::from_json(config).unwrap();
        config.credentials(&repository.parse().unwrap()).first().map(|credential| match credential {
            Credential::Basic { user, password } => format!("{user}:{password}"),
            Credential::Identity(token) => format!("identity {token}"),
            Credential::Registry(token) => format!("registry {token}"),
        })
    }

    #[test]
    fn the_nearest_entry_serves_and_no_other_registrys() {
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "ghcr.io": {"username": "all", "password": "p:w"},
            "ghcr.io/team": {"username": "team", "password": "x"},
            "*.azurecr.io": {"identitytoken": "t"},
            "token.example": {"registrytoken": "r", "identitytoken": "", "auth": "aHViOnB3"},
            "registry:443": {"registrytoken": "s"},
            "empty.example": {}
        }, "credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}}"#;
        assert_eq!(user(config, "nginx").as_deref(), Some("hub:pw"));
        assert_eq!(user(config, "ghcr.io/other/a").as_deref(), Some("all:p:w"));
        assert_eq!(user(config, "ghcr.io/team/a").as_deref(), Some("team:x"));
        assert_eq!(user(config, "ghcr.io/teammate/a").as_deref(), Some("all:p:w"));
        assert_eq!(user(config, "x.azurecr.io/a").as_deref(), Some("identity t"));
        assert_eq!(user(config, "token.example/a").as_deref(), Some("registry r"));
        assert_eq!(user(config, "registry:443/a").as_deref(), Some("registry s"));
        assert_eq!(user(config, "registry:5000/a"), None);
        for none in ["azurecr.io/a", "x.y.azurecr.io/a", "gcr.io/a", "empty.example/a", "ghcr.io:5000/team/a"]
        {
            assert_eq!(user(config, none), None, "{none}");
        }
        assert_eq!(DockerConfig::from_json(config).unwrap().ignored_helpers(), ["gcloud", "desktop"]);
    }

    #[test]
    fn c3_all_that_fit_are_tried_in_the_order_of_the_kubelet() {
        let users = |keys: &[&str], repository: &str| -> Vec<String> {
            let config = |(at, key): (usize, &&str)| {
                let json =
                    format!(r#"{{"auths": {{"{key}": {{"username": "{at} {key}", "password": "p"}}}}}}"#);
                DockerConfig::from_json(&json).unwrap()
            };
            let configs: Vec<DockerConfig> = keys.iter().enumerate().map(config).collect();
            let merged = DockerConfig::merged(configs.iter());
            let credentials = merged.credentials(&repository.parse().unwrap());
            credentials
                .into_iter()
                .map(|credential| match credential {
                    Credential::Basic { user, .. } => user.clone(),
                    _ => String::new(),
                })
                .collect()
        };
        for (keys, repository, expected) in [
            (
                &["ghcr.io", "ghcr.io/team", "ghcr.io"][..],
                "ghcr.io/team/app",
                &["1 ghcr.io/team", "0 ghcr.io", "2 ghcr.io"][..],
            ),
            (
                &["ghcr.io/team/app", "https://ghcr.io/team"],
                "ghcr.io/team/app",
                &["0 ghcr.io/team/app", "1 https://ghcr.io/team"],
            ),
            (&["ghcr.io/te", "ghcr.io", "ghcr.io/x"], "ghcr.io/team/app", &["1 ghcr.io", "0 ghcr.io/te"]),
            (
                &["*.azurecr.io", "x.azurecr.io", "y.azurecr.io"],
                "x.azurecr.io/a",
                &["1 x.azurecr.io", "0 *.azurecr.io"],
            ),
            (
                &["r*.example", "re?.example", "*.example:5000", "*"],
                "reg.example/a",
                &["1 re?.example", "0 r*.example"],
            ),
            (&["*.example:5000", "*.example"], "reg.example:5000/a", &["0 *.example:5000"]),
            (
                &["docker.io", "https://index.docker.io/v1/"],
                "nginx",
                &["1 https://index.docker.io/v1/", "0 docker.io"],
            ),
            (&["quay.io"], "ghcr.io/a/b", &[]),
        ] {
            assert_eq!(users(keys, repository), expected, "{keys:?} {repository}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("ghcr.io{}", "/".repeat(n % 2))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(users(&many, "ghcr.io/a/b").len(), MAX_TRIED);
    }

    #[test]
    fn a_broken_entry_is_named_and_a_secret_is_never_shown() {
        let error = DockerConfig::from_json(r#"{"auths": {"a.example": {"auth": "!"}}}"#).unwrap_err();
        assert!(error.to_string().contains("a.example"));
        for config in [
            r#"{"auths": {"a.example": "secret"}}"#,
            r#"{"auths": {"a.example": {"password": {"secret": 1}}}}"#,
            r#"{"auths": {"a.example": {"username": "u", "password": ["secret"]}}}"#,
            r#"{"auths": {"a.example": {"auth": "secret!"}}}"#,
            "secret",
        ] {
            let error = DockerConfig::from_json(config).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let credential = Credential::Basic { user: "u".into(), password: "secret".into() };
        assert!(!format!("{credential:?}").contains("secret"));
    }
}
