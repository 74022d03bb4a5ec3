//! The registry client: the ports of `gather` over HTTP.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use reqwest::{Method, StatusCode, Url, header::CONTENT_TYPE};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{
    address::{Addresses, Resolver, origin},
    auth::Doors,
    credentials::DockerConfig,
    referrers,
    transport::{Answer, Ask, Failure, Transport},
};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::ports::{Attestations, Images, Manifest, Observer, Referrer, Unobserved},
};

/// The largest manifest (the distribution specification lets registries refuse more).
const MAX_MANIFEST: usize = 4 << 20;
/// How many requests to one registry run at once.
const CONCURRENCY: usize = 32;
/// How long a repository's lack of a referrers API is remembered.
const LACK: Duration = Duration::from_mins(10);
/// What manifests may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ANY: &str = "*/*";

/// How the client is set up.
pub struct ClientConfig {
    /// Registries that are spoken to without TLS, as `host[:port]`; loopback ones are anyway.
    pub insecure_registries: Vec<String>,
    /// Credentials.
    pub credentials: DockerConfig,
    /// Whether link-local addresses may be asked.
    pub allow_link_local: bool,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            credentials: DockerConfig::default(),
            allow_link_local: false,
            observer: Arc::new(Unobserved),
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the registry client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Images and attestations in registries.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    doors: Doors,
    lacking_referrers: moka::sync::Cache<Repository, ()>,
    turns: moka::sync::Cache<String, Arc<Semaphore>>,
}

impl Client {
    /// A client with no connection yet.
    ///
    /// # Errors
    /// Where the system's certificates or TLS cannot be set up.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        // Another part of the process may have installed it before: it is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("bonafide/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(Duration::from_secs(10))
                .pool_idle_timeout(Duration::from_mins(1))
                .dns_resolver(Resolver { allow_link_local: config.allow_link_local })
        };
        let insecure: BTreeSet<String> =
            config.insecure_registries.iter().map(|host| host.to_ascii_lowercase()).collect();
        let addresses = Addresses { insecure, allow_link_local: config.allow_link_local };
        let local = builder().no_proxy().tls_certs_only([]).build()?;
        let transport = Arc::new(Transport::new(builder().build()?, local, addresses, config.observer));
        Ok(Self {
            doors: Doors::new(Arc::clone(&transport), config.credentials),
            transport,
            lacking_referrers: moka::sync::Cache::builder().max_capacity(10_000).time_to_live(LACK).build(),
            turns: moka::sync::Cache::new(1000),
        })
    }

    /// The same client for whoever has these credentials: connections, and what is known of a registry's ways, are shared.
    pub fn with(&self, credentials: Arc<DockerConfig>) -> Self {
        Self { doors: self.doors.with(credentials), ..self.clone() }
    }

    /// The URL below a repository.
    fn url(&self, repository: &Repository, rest: &str) -> Result<Url, FetchError> {
        let base = self.transport.addresses().base(repository.registry())?;
        base.join(&format!("{}/{rest}", repository.path())).map_err(|error| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: format!("{repository} has no URL: {error}"),
        })
    }

    /// Sends a request with what the registry is known to want; answers its challenge once. The challenge of a host that it redirects to
    /// is not its own: that host would name the token server that is shown the registry's credentials.
    async fn send(&self, repository: &Repository, ask: &mut Ask<'_>) -> Result<Answer, Failure> {
        let turns =
            self.turns.get_with_by_ref(repository.registry(), || Arc::new(Semaphore::new(CONCURRENCY)));
        let _turn = turns.acquire().await;
        // What was asked for before and cannot be had now may be out of date: then the registry says anew what it wants.
        ask.authorization = self.doors.authorization(repository).await.unwrap_or_default();
        let answer = self.transport.send(ask).await?;
        if answer.status != StatusCode::UNAUTHORIZED || origin(&answer.url) != origin(&ask.url) {
            return Ok(answer);
        }
        let rejected = ask.authorization.as_ref();
        let opened =
            self.doors.answer(repository, &answer.headers, rejected).await.map_err(Failure::Closed)?;
        if opened.is_none() {
            return Ok(answer);
        }
        answer.drain().await;
        ask.authorization = opened;
        self.transport.send(ask).await
    }

    /// Sends a request and makes a failure of every status but success.
    async fn get(&self, repository: &Repository, ask: &mut Ask<'_>) -> Result<Answer, FetchError> {
        let answer = self.send(repository, ask).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let failure = answer.failure(ask);
        answer.drain().await;
        Err(failure)
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
        let answer = self.get(repository, &mut ask).await?;
        let stated = answer
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(essence)
            .unwrap_or_default();
        let bytes = answer.body(MAX_MANIFEST, &ask).await?;
        let digest = match digest {
            Some(digest) => check(repository, digest, &bytes, &what).map(|()| *digest)?,
            None => Digest::of(&bytes),
        };
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
        let bytes = self.get(repository, &mut ask).await?.body(limit, &ask).await?;
        check(repository, digest, &bytes, &what)?;
        Ok(bytes)
    }

    async fn resolve_tag(&self, reference: &Reference) -> Result<Digest, FetchError> {
        let (repository, tag) = (reference.repository(), reference.tag().unwrap_or_default());
        let what = format!("the tag {tag} of {}", repository.path());
        let url = self.url(repository, &format!("manifests/{tag}"))?;
        let mut ask = Ask { method: Method::HEAD, ..ask(repository, url, MANIFESTS, &what) };
        let answer = self.send(repository, &mut ask).await?;
        let header = answer.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        match (answer.status, header.and_then(|text| text.parse().ok())) {
            (status, Some(digest)) if status.is_success() => Ok(digest),
            // Not every registry answers HEAD, or says the digest: the manifest itself does.
            (status, _) if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => {
                Ok(self.fetch_manifest(repository, tag, None).await?.digest)
            }
            _ => Err(answer.failure(&ask)),
        }
    }

    async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, FetchError> {
        if self.lacking_referrers.get(repository).is_none()
            && let Some(listed) = self.ask_referrers_api(repository, subject).await?
        {
            return Ok(listed);
        }
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        let manifest = self.fetch_tagged(repository, &tag).await?;
        // What is under the tag and no list is no referrer.
        let listed = manifest.and_then(|manifest| referrers::parse(&manifest.bytes)).unwrap_or_default();
        let mut all = Vec::new();
        referrers::add(&mut all, listed, &format!("the referrers of {subject}"))?;
        Ok(all)
    }

    /// The referrers by the API; `None` where the registry has none.
    async fn ask_referrers_api(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, FetchError> {
        let what = format!("the referrers of {subject}");
        let first = self.url(repository, &format!("referrers/{subject}"))?;
        let (mut all, mut url) = (Vec::new(), first.clone());
        for page in 0..referrers::MAX_PAGES {
            let mut ask = ask(repository, url.clone(), INDEX, &what);
            let answer = match self.send(repository, &mut ask).await {
                Ok(answer) => answer,
                // Some registries lead unknown paths to a web page elsewhere.
                Err(Failure::Redirect(_)) if page == 0 => return Ok(None),
                Err(failure) => return Err(failure.into()),
            };
            let lacking = matches!(
                answer.status,
                StatusCode::NOT_FOUND
                    | StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_ACCEPTABLE
            );
            if page == 0 && lacking {
                answer.drain().await;
                self.lacking_referrers.insert(repository.clone(), ());
                return Ok(None);
            }
            if !answer.status.is_success() {
                let failure = answer.failure(&ask);
                answer.drain().await;
                // A page that was promised and is gone leaves the list unknown.
                let kind = if failure.kind == FetchErrorKind::NotFound {
                    FetchErrorKind::Unavailable
                } else {
                    failure.kind
                };
                return Err(FetchError { kind, ..failure });
            }
            let next = referrers::next_page(&answer.url, &first, &answer.headers)?;
            let stated = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence);
            let body = answer.body(MAX_MANIFEST, &ask).await?;
            match referrers::parse(&body) {
                Some(listed) => referrers::add(&mut all, listed, &what)?,
                // A page of another kind is the lack of the API; a list that is broken is not, and says nothing of what there is.
                None if page == 0 && stated.as_deref() != Some(INDEX) => {
                    self.lacking_referrers.insert(repository.clone(), ());
                    return Ok(None);
                }
                None => {
                    return Err(FetchError {
                        kind: FetchErrorKind::Unavailable,
                        detail: format!("{what}: a page is no list"),
                    });
                }
            }
            match next {
                Some(next) => url = next,
                None => return Ok(Some(all)),
            }
        }
        Err(referrers::too_many(&what))
    }

    async fn fetch_tagged(&self, repository: &Repository, tag: &str) -> Result<Option<Manifest>, FetchError> {
        match self.fetch_manifest(repository, tag, None).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind == FetchErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn ask<'a>(repository: &'a Repository, url: Url, accept: &'static str, what: &'a str) -> Ask<'a> {
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

/// Bytes that are not the digest's are a registry or a line that cannot be relied on now, not an answer.
fn check(repository: &Repository, digest: &Digest, bytes: &[u8], what: &str) -> Result<(), FetchError> {
    if digest.is_of(bytes) {
        return Ok(());
    }
    let detail = format!("{} gave other bytes for {what} than its digest says", repository.registry());
    Err(FetchError { kind: FetchErrorKind::Unavailable, detail })
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    serde_json::from_slice::<Typed>(bytes).ok().map(|typed| typed.media_type)
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
}

impl Attestations for Client {
    fn referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>> {
        self.list_referrers(repository, subject).boxed()
    }

    fn tagged<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>> {
        self.fetch_tagged(repository, tag).boxed()
    }
}
