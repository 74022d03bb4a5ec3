//! What opens the door: the registry's challenge is remembered, tokens are kept for their life and asked for once by any number of callers
//! (distribution specification, "Token Authentication").

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::FutureExt;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderValue},
};
use serde_json::Value;

use super::{
    challenge::{Challenge, challenge, scopes},
    credentials::{Credential, DockerConfig},
    transport::{Ask, Transport},
};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::Repository,
    },
    gather::{
        flight::{Flights, Freshness},
        weigh::{capped, held, in_repository},
    },
};

/// The largest answer of a token server.
const MAX_ANSWER: usize = 1 << 20;
/// How long a token lives that does not say.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// How long a token is kept at most.
const LONGEST_LIFE: Duration = Duration::from_hours(24);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(5);
/// How many bytes of challenges are remembered.
const CHALLENGES: u64 = 1 << 20;
/// How long it is remembered what a registry wants.
const KNOWN: Duration = Duration::from_hours(1);
/// How many bytes are remembered of which credential opens what.
const OPENED: u64 = 256 << 10;
/// How long a token is asked for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    ends: Instant,
}

/// Tokens belong to a registry, a repository and a credential, and never cross.
type Key = (String, String, Option<Digest>);

/// Everything that is known about getting in.
#[derive(Clone)]
pub struct Doors {
    transport: Arc<Transport>,
    config: Arc<DockerConfig>,
    challenges: moka::sync::Cache<String, Challenge>,
    /// The scopes of repositories that want another than the usual one.
    scopes: moka::sync::Cache<Repository, Arc<[String]>>,
    tokens: Arc<Flights<Key, Token>>,
    /// The credential that opened a repository, where there are several.
    opened: moka::sync::Cache<(Repository, Option<Digest>), Digest>,
    /// The credentials that `config` was made of.
    credentials: Option<Digest>,
}

impl Doors {
    /// Nothing is known yet.
    pub fn new(transport: Arc<Transport>, config: DockerConfig) -> Self {
        let challenges = moka::sync::Cache::builder()
            .max_capacity(CHALLENGES)
            .weigher(|registry: &String, challenge: &Challenge| {
                capped(registry.len().saturating_add(challenge.bytes()))
            })
            .time_to_live(KNOWN)
            .build();
        let scopes = moka::sync::Cache::builder()
            .max_capacity(CHALLENGES)
            .weigher(|repository: &Repository, scopes: &Arc<[String]>| {
                let all: usize = scopes.iter().map(String::len).sum();
                capped(repository.as_str().len().saturating_add(all))
            })
            .time_to_live(KNOWN)
            .build();
        Self {
            transport,
            config: Arc::new(config),
            challenges,
            scopes,
            tokens: Arc::new(Flights::new(1 << 20, |key: &Key, token: &Token| {
                capped(key.0.len().saturating_add(key.1.len()).saturating_add(token.text.len()))
            })),
            opened: opened(),
            credentials: None,
        }
    }

    /// The same with other credentials. The caches are shared, and keyed by credentials.
    pub fn with(&self, config: Arc<DockerConfig>, credentials: Digest) -> Self {
        Self { config, credentials: Some(credentials), ..self.clone() }
    }

    /// The credentials to try at a repository, one after the other; `None` where there is none.
    pub fn credentials(&self, repository: &Repository) -> Vec<Option<&Credential>> {
        let mut all: Vec<Option<&Credential>> =
            self.config.credentials(repository).into_iter().map(Some).collect();
        match all.len() {
            0 => all.push(None),
            1 => {}
            _ => {
                if let Some(opened) = self.opened.get(&(repository.clone(), self.credentials)) {
                    all.sort_by_key(|credential| {
                        credential.is_none_or(|credential| credential.fingerprint() != opened)
                    });
                }
            }
        }
        all
    }

    /// Whether it is known which of several credentials opens a repository.
    pub fn is_opened(&self, repository: &Repository) -> bool {
        self.opened.contains_key(&(repository.clone(), self.credentials))
    }

    /// This credential opened a repository.
    pub fn opened_with(&self, repository: &Repository, credential: Option<&Credential>) {
        if let Some(credential) = credential {
            self.opened.insert((repository.clone(), self.credentials), credential.fingerprint());
        }
    }

    /// How many bytes are held: of tokens, and of what registries want.
    pub fn bytes(&self) -> [u64; 2] {
        let known = held(&self.challenges).saturating_add(held(&self.scopes));
        [self.tokens.bytes(), known.saturating_add(held(&self.opened))]
    }

    /// What to send to a registry at once, from what it asked for before.
    ///
    /// # Errors
    /// Where a token is needed and cannot be had.
    pub async fn authorization(
        &self,
        repository: &Repository,
        credential: Option<&Credential>,
    ) -> Result<Option<HeaderValue>, FetchError> {
        match (self.challenges.get(repository.registry()), credential) {
            // Made for the registry itself: there is nothing to ask for first.
            (None, Some(Credential::Registry(token))) => bearer(token).map(Some),
            (None, _) => Ok(None),
            (Some(challenge), _) => {
                let opened = self.open(repository, &challenge, credential).await;
                if opened.is_err() {
                    // The registry may have another token server by now: the next request asks it.
                    self.challenges.invalidate(repository.registry());
                }
                opened
            }
        }
    }

    /// Answers a 401: what to send instead of `rejected`; `None` where nothing else can be sent.
    ///
    /// # Errors
    /// Where a token is needed and cannot be had.
    pub async fn answer(
        &self,
        repository: &Repository,
        credential: Option<&Credential>,
        headers: &HeaderMap,
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, FetchError> {
        let Some((challenge, stated)) = challenge(headers) else { return Ok(None) };
        self.challenges.insert(repository.registry().to_owned(), challenge.clone());
        let wanted = scopes(repository, stated.as_deref());
        if wanted == scopes(repository, None) {
            self.scopes.invalidate(repository);
        } else {
            self.scopes.insert(repository.clone(), wanted.into());
        }
        let is_rejected = |token: &Token| bearer(&token.text).ok().as_ref() == rejected;
        self.tokens.forget(&key(repository, credential), is_rejected);
        let authorization = self.open(repository, &challenge, credential).await?;
        // What is configured and was refused stays refused; a token that was made is a new one even where its text is the same.
        let made = challenge != Challenge::Basic && !matches!(credential, Some(Credential::Registry(_)));
        Ok(authorization.filter(|fresh| made || Some(fresh) != rejected))
    }

    /// With what a registry was asked that refuses access, for its message; `sent`: whether it was shown anything.
    pub fn shown(&self, repository: &Repository, sent: bool) -> &'static str {
        match (self.config.credentials(repository).len(), sent) {
            (2.., true) => ", with each of the credentials that are configured for it",
            (1, true) => ", with the credential that is configured for it",
            (1.., false) => {
                ", without the credential that is configured for it: it was not asked for in a way that is understood"
            }
            (0, true) => ", with an anonymous token: no credential is configured for it",
            (0, false) => ", without a credential: none is configured for it",
        }
    }

    async fn open(
        &self,
        repository: &Repository,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Option<HeaderValue>, FetchError> {
        match (challenge, credential) {
            (_, Some(Credential::Registry(token))) => bearer(token).map(Some),
            (Challenge::Basic, Some(Credential::Basic { user, password })) => basic(user, password).map(Some),
            (Challenge::Basic, Some(Credential::Identity(_)) | None) => Ok(None),
            (Challenge::Bearer { realm, service }, credential) => {
                let token = self.token(repository, realm, service.as_deref(), credential).await?;
                bearer(&token.text).map(Some)
            }
        }
    }

    async fn token(
        &self,
        repository: &Repository,
        realm: &str,
        service: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Token, FetchError> {
        let key = key(repository, credential);
        self.tokens.forget(&key, |token| token.ends <= Instant::now());
        let observer = self.transport.observer();
        observer.cache("tokens", self.tokens.peek(&key, Freshness::Any).is_some());
        let request = Request {
            transport: Arc::clone(&self.transport),
            repository: repository.clone(),
            realm: realm.to_owned(),
            service: service.map(ToOwned::to_owned),
            scopes: self.scopes.get(repository).unwrap_or_else(|| scopes(repository, None).into()),
            credential: credential.cloned(),
        };
        let deadline =
            tokio::time::Instant::now().checked_add(PATIENCE).unwrap_or_else(tokio::time::Instant::now);
        let waiting_for = repository.registry();
        let token =
            self.tokens.get(key, Freshness::Any, deadline, waiting_for, || request.fetch().boxed()).await?;
        Ok(token.value)
    }
}

fn key(repository: &Repository, credential: Option<&Credential>) -> Key {
    let credential = credential.map(Credential::fingerprint);
    (repository.registry().to_owned(), repository.path().to_owned(), credential)
}

fn opened() -> moka::sync::Cache<(Repository, Option<Digest>), Digest> {
    moka::sync::Cache::builder()
        .max_capacity(OPENED)
        .weigher(|(repository, _): &(Repository, Option<Digest>), _| in_repository(repository, 0))
        .time_to_live(KNOWN)
        .build()
}

/// A request for a token.
struct Request {
    transport: Arc<Transport>,
    repository: Repository,
    realm: String,
    service: Option<String>,
    scopes: Arc<[String]>,
    credential: Option<Credential>,
}

/// What a token server issued: the token, and for how long where it says so.
fn issued(body: &[u8]) -> Option<(String, Duration)> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| answer.get(name)?.as_str().filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token"))?.to_owned();
    // Some servers write it as a text or with a fraction.
    let seconds = answer.get("expires_in").and_then(|life| match life {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let life = seconds.filter(|seconds| *seconds > 0.0).map(|seconds| {
        Duration::try_from_secs_f64(seconds).map_or(LONGEST_LIFE, |life| life.min(LONGEST_LIFE))
    });
    Some((token, life.unwrap_or(DEFAULT_LIFE)))
}

impl Request {
    async fn fetch(self) -> Result<Token, FetchError> {
        let registry = self.repository.registry();
        let wrong = |why: &str| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: format!(
                "{registry} names a token server for {} that cannot be used: {why}",
                self.repository
            ),
        };
        let mut url = Url::parse(&self.realm).map_err(|error| wrong(&error.to_string()))?;
        let base = self.transport.addresses().base(registry)?;
        self.transport.addresses().check_hop(&base, &url).map_err(|error| wrong(&error.detail))?;
        let joined = self.scopes.join(" ");
        let mut parameters: Vec<(&str, &str)> = match self.credential {
            // A form has one scope, with spaces (RFC 6749); a query one for each.
            Some(Credential::Identity(_)) => vec![("scope", &joined)],
            _ => self.scopes.iter().map(|scope| ("scope", scope.as_str())).collect(),
        };
        parameters.extend(self.service.as_deref().map(|service| ("service", service)));
        let what = format!("a token for {}", self.repository);
        let (method, authorization, form) = match &self.credential {
            Some(Credential::Identity(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "bonafide"),
                    ("refresh_token", token),
                ]);
                (
                    Method::POST,
                    None,
                    Some(
                        url::form_urlencoded::Serializer::new(String::new())
                            .extend_pairs(&parameters)
                            .finish(),
                    ),
                )
            }
            Some(Credential::Basic { user, password }) => (Method::GET, Some(basic(user, password)?), None),
            Some(Credential::Registry(_)) | None => (Method::GET, None, None),
        };
        if method == Method::GET {
            url.query_pairs_mut().extend_pairs(&parameters);
        }
        let begun = Instant::now();
        let ask = Ask { method, url, accept: "application/json", authorization, form, registry, what: &what };
        let answer = self.transport.send(&ask).await?;
        if !answer.status.is_success() {
            let mut failure = answer.failure(&ask);
            answer.drain().await;
            if failure.kind == FetchErrorKind::Denied {
                failure.detail.push_str(match self.credential {
                    Some(_) => ", with the credential that is configured for it",
                    None => ", without a credential: none is configured for it",
                });
            }
            // A token server that does not know the repository does not say that there is none.
            let kind =
                if failure.kind == FetchErrorKind::NotFound { FetchErrorKind::Denied } else { failure.kind };
            return Err(FetchError { kind, ..failure });
        }
        let body = answer
            .body(MAX_ANSWER, None, &ask)
            .await
            .map_err(|error| FetchError { kind: FetchErrorKind::Unavailable, ..error })?;
        let (text, life) = issued(&body).ok_or_else(|| wrong("its answer is no token"))?;
        let ends = begun.checked_add(life.saturating_sub(MARGIN)).unwrap_or(begun);
        Ok(Token { text: text.into(), ends })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, FetchError> {
    sensitive(&format!("Bearer {token}"))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, FetchError> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn sensitive(text: &str) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| FetchError {
        kind: FetchErrorKind::Unavailable,
        detail: "a token or credential has characters that no header can carry".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_a_token_is_read_however_servers_write_it() {
        let read = |body: &str| issued(body.as_bytes()).map(|(token, life)| (token, life.as_millis()));
        let some = |token: &str, life: u128| Some((token.to_owned(), life));
        for (body, expected) in [
            (r#"{"token": "a", "access_token": "b", "expires_in": 300}"#, some("a", 300_000)),
            (r#"{"token": "", "access_token": "b"}"#, some("b", 60_000)),
            (r#"{"token": null, "access_token": "b", "expires_in": null}"#, some("b", 60_000)),
            (r#"{"token": 5, "access_token": "b"}"#, some("b", 60_000)),
            (r#"{"token": "a", "access_token": ""}"#, some("a", 60_000)),
            (r#"{"token": "a", "expires_in": "300"}"#, some("a", 300_000)),
            (r#"{"token": "a", "expires_in": " 90.5 "}"#, some("a", 90_500)),
            (r#"{"token": "a", "expires_in": 299.75}"#, some("a", 299_750)),
            (r#"{"token": "a", "expires_in": "soon"}"#, some("a", 60_000)),
            (r#"{"token": "a", "expires_in": -1}"#, some("a", 60_000)),
            (r#"{"token": "a", "expires_in": 0}"#, some("a", 60_000)),
            (r#"{"token": "a", "expires_in": 1e300}"#, some("a", 86_400_000)),
            (r#"{"token": "a", "expires_in": "NaN"}"#, some("a", 60_000)),
            (r#"{"token": ""}"#, None),
            (r#"{"token": "", "access_token": ""}"#, None),
            ("{}", None),
            ("[]", None),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }
}
