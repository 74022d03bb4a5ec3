//! An in-process OCI registry with faults: plain HTTP on a loopback port of its own, the endpoints of the
//! distribution specification 1.1 that a puller uses, everything that was asked of it on record, and
//! any of its answers spoiled on request. It is a test's tool: it judges nothing that is pushed to it.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use bonafide_kit::image::Image;
//! use bonafide_kit::registry::{Fault, On, Registry};
//!
//! let registry = Registry::start().await;
//! let image = Image::index(&["linux/amd64", "linux/arm64/v8"]).push(&registry, "team/app", "v1");
//! registry.fault_times(On::blobs(), Fault::throttled(1), 2);
//! // … the code under test pulls registry.reference("team/app", &image.digest) …
//! assert_eq!(registry.count(), 0);
//! # });
//! ```

mod auth;
mod content;
mod fault;
mod layout;
mod observe;
mod referrers;
mod reply;
mod route;
mod server;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use auth::{TokenAuth, TokenField};
pub use content::{DOCKER_LIST, DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST, digest_of};
pub use fault::{Fault, On};
pub use layout::{Layout, Loaded};
pub use observe::{Request, max_concurrency, sequential_rounds};
pub use route::Target;

use content::Content;

/// How the registry behaves where the specification leaves it a choice.
#[derive(Clone)]
struct Settings {
    latency: Duration,
    referrers_api: bool,
    filters_referrers: bool,
    page_size: Option<usize>,
    absolute_links: bool,
}

/// All that connections share.
struct State {
    host: String,
    content: Arc<Mutex<Content>>,
    settings: Mutex<Settings>,
    uploads: uploads::Uploads,
    auth: auth::Auth,
    faults: fault::Faults,
    recorder: Arc<observe::Recorder>,
}

/// A registry on a loopback port. It stops when it is dropped.
pub struct Registry {
    state: Arc<State>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

impl Registry {
    /// Starts an empty registry on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_with(Arc::default()).await
    }

    /// Starts a second registry over the same content, with requests, faults and credentials of its own: the
    /// storage host that a registry redirects to, or another name of the same registry.
    pub async fn start_mirror(&self) -> Self {
        Self::start_with(Arc::clone(&self.state.content)).await
    }

    async fn start_with(content: Arc<Mutex<Content>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
        let host = listener.local_addr().expect("the address of a bound socket").to_string();
        let settings = Settings {
            latency: Duration::ZERO,
            referrers_api: true,
            filters_referrers: true,
            page_size: None,
            absolute_links: false,
        };
        let state = Arc::new(State {
            host,
            content,
            settings: Mutex::new(settings),
            uploads: uploads::Uploads::default(),
            auth: auth::Auth::default(),
            faults: fault::Faults::default(),
            recorder: Arc::default(),
        });
        let task = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Self { state, task: Mutex::new(Some(task)) }
    }

    /// Goes down: closes the port and every connection. Content, faults and the record stay.
    pub async fn stop(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            task.await.ok();
        }
    }

    /// Comes back after [`Registry::stop`], on the same port.
    pub async fn resume(&self) {
        self.stop().await;
        let listener = TcpListener::bind(&self.state.host).await.expect("the port that was ours");
        *self.task.lock() = Some(tokio::spawn(server::serve(listener, Arc::clone(&self.state))));
    }

    /// `127.0.0.1:PORT`, as it stands in image references.
    pub fn host(&self) -> &str {
        &self.state.host
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.state.host)
    }

    /// The reference of a repository at a tag or digest of this registry.
    pub fn reference(&self, repo: &str, tag_or_digest: &str) -> String {
        let separator = if tag_or_digest.contains(':') { '@' } else { ':' };
        format!("{}/{repo}{separator}{tag_or_digest}", self.state.host)
    }
}

/// Content.
impl Registry {
    /// Stores a manifest, tags it where a tag is given, and returns its digest.
    pub fn push_manifest(
        &self,
        repo: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        let mut content = self.state.content.lock();
        let repo = content.repo_mut(repo);
        let digest = repo.put_manifest(Manifest { media_type: media_type.to_owned(), bytes: bytes.into() });
        if let Some(tag) = tag {
            repo.tag(tag, &digest);
        }
        digest
    }

    /// Stores a blob and returns its digest.
    pub fn push_blob(&self, repo: &str, bytes: impl Into<Bytes>) -> String {
        self.state.content.lock().repo_mut(repo).put_blob(bytes.into())
    }

    /// Sets a tag, or moves it.
    pub fn tag(&self, repo: &str, tag: &str, digest: &str) {
        self.state.content.lock().repo_mut(repo).tag(tag, digest);
    }

    /// Deletes a tag, or the manifest or blob of a digest with the tags that point at it.
    pub fn delete(&self, repo: &str, reference: &str) {
        self.state.content.lock().repo_mut(repo).delete(reference);
    }

    /// A stored manifest, by tag or digest.
    pub fn manifest(&self, repo: &str, reference: &str) -> Option<Manifest> {
        self.state.content.lock().repo(repo)?.manifest(reference).cloned()
    }

    /// A stored blob.
    pub fn blob(&self, repo: &str, digest: &str) -> Option<Bytes> {
        self.state.content.lock().repo(repo)?.blob(digest).cloned()
    }

    /// The digest a tag points at.
    pub fn resolve(&self, repo: &str, tag: &str) -> Option<String> {
        self.state.content.lock().repo(repo)?.resolve(tag)
    }
}

/// Behaviour.
impl Registry {
    /// Lets every request wait this long before it is answered.
    pub fn set_latency(&self, latency: Duration) {
        self.state.settings.lock().latency = latency;
    }

    /// Whether there is a referrers API (default) or 404 in its place.
    pub fn set_referrers_api(&self, served: bool) {
        self.state.settings.lock().referrers_api = served;
    }

    /// Whether `?artifactType=` filters referrers (default), or is ignored as many registries do.
    pub fn set_referrers_filter(&self, filters: bool) {
        self.state.settings.lock().filters_referrers = filters;
    }

    /// How many referrers a page holds; `None` (default) for all in one.
    pub fn set_page_size(&self, size: Option<usize>) {
        self.state.settings.lock().page_size = size;
    }

    /// Whether the `Link` of a page is a whole URL, rather than a path (default).
    pub fn set_absolute_links(&self, absolute: bool) {
        self.state.settings.lock().absolute_links = absolute;
    }

    /// Asks for no credentials (default).
    pub fn require_nothing(&self) {
        self.state.auth.open();
    }

    /// Asks for Basic credentials. Called again, these open the registry as well.
    pub fn require_basic(&self, user: &str, password: &str) {
        self.state.auth.require_basic("", user, password);
    }

    /// Asks for Basic credentials, which open one repository or folder of them only.
    pub fn require_basic_for(&self, scope: &str, user: &str, password: &str) {
        self.state.auth.require_basic(scope, user, password);
    }

    /// Asks for a token.
    pub fn require_token(&self, auth: TokenAuth) {
        self.state.auth.require_token(auth);
    }

    /// Makes every token that was handed out invalid, as if it had expired.
    pub fn revoke_tokens(&self) {
        self.state.auth.revoke_tokens();
    }

    /// Spoils every answer to these requests from now on.
    pub fn fault(&self, on: On, fault: Fault) {
        self.state.faults.add(on, fault, None);
    }

    /// Spoils the answers to the next `times` of these requests.
    pub fn fault_times(&self, on: On, fault: Fault, times: usize) {
        self.state.faults.add(on, fault, Some(times));
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }
}

/// Observation.
impl Registry {
    /// Everything that was asked since the start or [`Registry::clear_requests`], in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state.recorder.snapshot()
    }

    /// Forgets what was asked so far.
    pub fn clear_requests(&self) {
        self.state.recorder.clear();
    }

    /// How many requests there were, those for tokens included.
    pub fn count(&self) -> usize {
        self.requests().len()
    }

    /// How many requests of one kind there were.
    pub fn count_of(&self, target: Target) -> usize {
        self.requests().iter().filter(|request| request.target == target).count()
    }

    /// How many tokens were asked for.
    pub fn token_count(&self) -> usize {
        self.count_of(Target::Token)
    }

    /// The largest number of requests that were under way at one moment.
    pub fn max_concurrency(&self) -> usize {
        max_concurrency(&self.requests())
    }

    /// The longest chain of requests in which each began after the one before had ended. To tell "at once" from "one
    /// after the other" set a latency of some milliseconds: without one, requests are over before the next arrives.
    pub fn sequential_rounds(&self) -> usize {
        sequential_rounds(&self.requests())
    }
}
