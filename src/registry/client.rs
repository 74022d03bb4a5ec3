//! The registry client: the ports of `gather` over HTTP.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap},
};
use tokio::sync::Semaphore;

use super::{
    address::{Addresses, Resolver, origin},
    answer::Answer,
    auth::Doors,
    config::ClientConfig,
    credentials::{Credential, DockerConfig},
    lacking::Lacking,
    media_type::{essence, is_object, own_media_type},
    private::PrivateAddresses,
    transport::{Ask, Failure, Transport, pause},
};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::{
        ports::{Attestations, Images, Manifest, Referrer, ReferrerList},
        weigh::{capped, held},
    },
};

/// The largest manifest (the distribution specification lets registries refuse more).
pub(super) const MAX_MANIFEST: usize = 4 << 20;
/// How many requests to one registry run at once.
const CONCURRENCY: usize = 32;
/// How many bytes of the turns at registries are kept.
const TURNS: u64 = 256 << 10;
/// What manifests may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
const ANY: &str = "*/*";

/// Certificate authorities.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Vec<reqwest::Certificate>);

/// Why a file names no certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It is no PEM, or what is in it is no certificate.
    #[error("it is no PEM file of certificates: {0}")]
    Parse(#[from] reqwest::Error),
    /// It has none.
    #[error("there is no certificate in it")]
    Empty,
}

impl Authorities {
    /// Adds the certificates of a PEM file.
    ///
    /// # Errors
    /// A file without, or with one that cannot be read.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), AuthoritiesError> {
        let found = reqwest::Certificate::from_pem_bundle(pem)?;
        if found.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        self.0.extend(found);
        Ok(())
    }

    /// The certificates, for others who ask in the operator's own network.
    pub fn into_certificates(self) -> Vec<reqwest::Certificate> {
        self.0
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the registry client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Images and attestations in registries.
pub struct Client {
    transport: Arc<Transport>,
    doors: Doors,
    pub(super) lacking: Lacking,
    turns: moka::sync::Cache<String, Arc<Semaphore>>,
}

/// An answer that was read.
pub(super) struct Read {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; of a status that is none of success, the failure that it stands for.
    pub body: Result<Bytes, FetchError>,
}

impl Read {
    /// The type that the registry states, in lower case and without parameters.
    pub fn content_type(&self) -> Option<String> {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence)
    }
}

impl Client {
    /// A client with no connection yet.
    ///
    /// # Errors
    /// Where the system's certificates or TLS cannot be set up.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        // Another part of the process may have installed it before: it is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let private = config.local_registries.is_some().then(PrivateAddresses::new);
        let builder = |is_local: bool| {
            let resolver = Resolver {
                allow_link_local: config.allow_link_local || is_local,
                allow_loopback: is_local || config.local_registries.is_none(),
                private: private.clone(),
            };
            reqwest::Client::builder()
                .user_agent(concat!("bonafide/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(Duration::from_secs(10))
                .pool_idle_timeout(Duration::from_mins(1))
                .dns_resolver(resolver)
        };
        let lower = |all: &[String]| -> BTreeSet<String> {
            all.iter().map(|host| host.to_ascii_lowercase()).collect()
        };
        let addresses = Addresses {
            insecure: lower(&config.insecure_registries),
            allow_link_local: config.allow_link_local,
            listed: config.local_registries.as_deref().map(lower),
        };
        let more = config.authorities.0;
        let loopback = builder(true).no_proxy().tls_certs_only(more.clone()).build()?;
        let listed = builder(true).no_proxy().tls_certs_merge(more.clone()).build()?;
        let remote = builder(false).tls_certs_merge(more).build()?;
        let transport = Arc::new(Transport::new(
            [remote, loopback, listed],
            addresses,
            private.clone(),
            config.observer,
            config.request_timeout,
        ));
        Ok(Self {
            doors: Doors::new(Arc::clone(&transport), config.credentials),
            transport,
            lacking: Lacking::new(),
            turns: moka::sync::Cache::builder()
                .max_capacity(TURNS)
                .weigher(|registry: &String, _| capped(registry.len()))
                .build(),
        })
    }

    /// The same client with other credentials, identified by their `fingerprint`. Connections and caches are shared.
    #[must_use]
    pub fn with(&self, credentials: Arc<DockerConfig>, fingerprint: Digest) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            doors: self.doors.with(credentials, fingerprint),
            lacking: self.lacking.with(fingerprint),
            turns: self.turns.clone(),
        }
    }

    /// The URL below a repository.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, FetchError> {
        let refused = |why: &dyn fmt::Display| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: format!("{repository} cannot be asked: {why}"),
        };
        let base = self.transport.addresses().base(repository.registry()).map_err(|error| refused(&error))?;
        base.join(&format!("{}/{rest}", repository.path())).map_err(|error| refused(&error))
    }

    /// Asks and reads the answer, whose body is of at most `limit` bytes; one that breaks off is asked for once more.
    pub(super) async fn exchange(
        &self,
        repository: &Repository,
        ask: &mut Ask<'_>,
        limit: usize,
        digest: Option<&Digest>,
    ) -> Result<Read, Failure> {
        let turns =
            self.turns.get_with_by_ref(repository.registry(), || Arc::new(Semaphore::new(CONCURRENCY)));
        // Kept until the body is read.
        let _turn = turns.acquire().await;
        let mut tried_again = false;
        loop {
            let answer = self.send(repository, ask).await?;
            let (status, headers) = (answer.status, answer.headers.clone());
            // Whoever names a registry that leads to others chooses whom it leads to. What these answer shows in nothing that follows.
            let is_led_to = origin(&answer.url) != origin(&ask.url);
            if is_led_to && !status.is_success() && self.transport.conceals(repository.registry()) {
                answer.drain().await;
                return Err(Failure::NoAnswer(unusable(repository, ask.what)));
            }
            if !status.is_success() {
                let failure = self.failure(repository, &answer, ask);
                answer.drain().await;
                return Ok(Read { status, headers, body: Err(failure) });
            }
            let body = match ask.method {
                Method::HEAD => Ok(Bytes::new()),
                _ => answer.body(limit, digest, ask).await,
            };
            match body {
                Err(error) if error.kind == FetchErrorKind::Unavailable && !tried_again => {
                    tried_again = true;
                    tokio::time::sleep(pause()).await;
                }
                body => return Ok(Read { status, headers, body }),
            }
        }
    }

    /// Sends a request with each credential for the repository until one is not refused. Where it is not known yet which one opens the
    /// repository, "not found" may be a refusal too: some registries say so of what a credential may not see.
    async fn send(&self, repository: &Repository, ask: &mut Ask<'_>) -> Result<Answer, Failure> {
        let credentials = self.doors.credentials(repository);
        let is_known = credentials.len() < 2 || self.doors.is_opened(repository);
        let mut refusal: Option<Result<Answer, Failure>> = None;
        for credential in credentials {
            let result = self.send_with(repository, credential, ask).await;
            let is_not_found = |answer: &Answer| answer.status == StatusCode::NOT_FOUND;
            let is_refused = match &result {
                Ok(answer) if origin(&answer.url) != origin(&ask.url) => false,
                Ok(answer) if is_not_found(answer) => !is_known,
                Ok(answer) => matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
                Err(Failure::Closed(error)) => error.kind == FetchErrorKind::Denied,
                Err(_) => false,
            };
            if !is_refused {
                if !is_known && result.as_ref().is_ok_and(|answer| answer.status.is_success()) {
                    self.doors.opened_with(repository, credential);
                }
                return result;
            }
            // That it is not there is an answer; that it may not be seen is none.
            match (&refusal, &result) {
                (None, _) | (Some(Err(_)), Ok(_)) => refusal = Some(result),
                (Some(Ok(known)), Ok(answer)) if !is_not_found(known) && is_not_found(answer) => {
                    refusal = Some(result);
                }
                _ => {}
            }
        }
        refusal.unwrap_or_else(|| Err(Failure::Closed(unusable(repository, ask.what))))
    }

    /// Sends a request with what the registry is known to want; answers its challenge once. The challenge of a host that it redirects to
    /// is not its own: that host would name the token server that is shown the registry's credentials.
    async fn send_with(
        &self,
        repository: &Repository,
        credential: Option<&Credential>,
        ask: &mut Ask<'_>,
    ) -> Result<Answer, Failure> {
        // What was asked for before and cannot be had now may be out of date: then the registry says anew what it wants.
        ask.authorization = self.doors.authorization(repository, credential).await.unwrap_or_default();
        let answer = self.transport.send(ask).await?;
        if answer.status != StatusCode::UNAUTHORIZED || origin(&answer.url) != origin(&ask.url) {
            return Ok(answer);
        }
        let rejected = ask.authorization.as_ref();
        let opened = self
            .doors
            .answer(repository, credential, &answer.headers, rejected)
            .await
            .map_err(Failure::Closed)?;
        if opened.is_none() {
            return Ok(answer);
        }
        answer.drain().await;
        ask.authorization = opened;
        self.transport.send(ask).await
    }

    /// The failure that an answer stands for; where access is refused, with what it was asked for.
    fn failure(&self, repository: &Repository, answer: &Answer, ask: &Ask<'_>) -> FetchError {
        let mut failure = answer.failure(ask);
        // Another host is shown nothing.
        if failure.kind == FetchErrorKind::Denied && origin(&answer.url) == origin(&ask.url) {
            failure.detail.push_str(self.doors.shown(repository, ask.authorization.is_some()));
        }
        failure
    }

    /// A manifest under a tag or digest; hashed against `digest` where that is what was asked for.
    async fn fetch_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        digest: Option<&Digest>,
    ) -> Result<Manifest, FetchError> {
        let what = format!("the manifest {reference} of {}", repository.path());
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let mut ask = ask(repository, url, MANIFESTS, &what);
        let read = self.exchange(repository, &mut ask, MAX_MANIFEST, digest).await?;
        let (stated, bytes) = (read.content_type().unwrap_or_default(), read.body?);
        // Who answers at a private address without being a registry is told apart from nobody by no message.
        if self.transport.conceals(repository.registry()) && !is_object(&bytes) {
            return Err(unusable(repository, &what));
        }
        if let Some(digest) = digest {
            self.lacking.had(repository, digest);
        }
        let digest = digest.copied().unwrap_or_else(|| Digest::of(&bytes));
        let media_type = own_media_type(&bytes).unwrap_or(stated);
        Ok(Manifest { digest, media_type, bytes })
    }

    async fn fetch_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, FetchError> {
        let what = format!("the blob {digest} of {}", repository.path());
        let mut ask = ask(repository, self.url(repository, &format!("blobs/{digest}"))?, ANY, &what);
        self.exchange(repository, &mut ask, limit, Some(digest)).await?.body
    }

    async fn resolve_tag(&self, reference: &Reference) -> Result<Digest, FetchError> {
        let (repository, tag) = (reference.repository(), reference.tag().unwrap_or_default());
        let what = format!("the tag {tag} of {}", repository.path());
        let url = self.url(repository, &format!("manifests/{tag}"))?;
        let mut ask = Ask { method: Method::HEAD, ..ask(repository, url, MANIFESTS, &what) };
        let read = self.exchange(repository, &mut ask, 0, None).await?;
        let header = read.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        match (read.status, header.and_then(|text| text.parse().ok())) {
            (status, Some(digest)) if status.is_success() => Ok(digest),
            // Not every registry answers HEAD, or says the digest: the manifest itself does.
            (status, _) if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => {
                Ok(self.fetch_manifest(repository, tag, None).await?.digest)
            }
            _ => Err(read.body.err().unwrap_or_else(|| unusable(repository, &what))),
        }
    }

    /// The manifest under a tag; `None` where there is none.
    pub(super) async fn fetch_tagged(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Manifest>, FetchError> {
        match self.fetch_manifest(repository, tag, None).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind == FetchErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn ask<'a>(repository: &'a Repository, url: Url, accept: &'static str, what: &'a str) -> Ask<'a> {
    Ask {
        method: Method::GET,
        url,
        accept,
        authorization: None,
        form: None,
        registry: repository.registry(),
        what,
    }
}

fn unusable(repository: &Repository, what: &str) -> FetchError {
    let detail = format!("{} gave nothing usable for {what}", repository.registry());
    FetchError { kind: FetchErrorKind::Unavailable, detail }
}

impl Images for Client {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, FetchError>> {
        self.resolve_tag(reference).boxed()
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, FetchError>> {
        async move { self.fetch_manifest(repository, &digest.to_string(), Some(digest)).await }.boxed()
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        limit: usize,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        self.fetch_blob(repository, digest, limit).boxed()
    }

    fn tell(&self, repository: &Repository, error: FetchError) -> FetchError {
        self.transport.tell(repository.registry(), error)
    }

    fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        let [tokens, challenges] = self.doors.bytes();
        let [reading, private] = self.transport.bytes();
        let registries = challenges.saturating_add(self.lacking.bytes()).saturating_add(held(&self.turns));
        let registries = registries.saturating_add(private);
        vec![("tokens", tokens), ("registries", registries), ("bodies", reading)]
    }
}

impl Attestations for Client {
    fn referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>> {
        async move { self.find_referrers(repository, subject).await.complete() }.boxed()
    }

    fn list_referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, ReferrerList> {
        self.find_referrers(repository, subject).boxed()
    }

    fn tagged<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>> {
        self.fetch_tagged(repository, tag).boxed()
    }
}
