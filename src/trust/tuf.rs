//! Trust roots that are fetched from TUF repositories, with all that TUF guards against: signatures of too few, older versions than
//! were seen, metadata that has ended, files that are not those that were signed.
//!
//! Nothing here is on the way of a review. What was seen is kept in memory, and where a folder is given also there, so that a restart neither
//! forgets the last good root nor lets a mirror go back behind it.

use std::{
    collections::HashMap,
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::StatusCode;
use sigstore_tuf::{
    Error, FileStore, MemoryStore, MetadataStore, Repository, StoreRepository, Updater,
    transport::FetchFuture,
};
use url::Url;

use super::keeper::{Followed, Keeper};
use crate::{
    api::compile::TufSource,
    domain::{digest::Digest, identity::TrustRootName},
};

/// How long one refresh may take; it asks some five times.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest file that is read.
const LIMIT: u64 = 4 << 20;
/// How long until a root that was fetched is fetched again, and one that was not.
const EVERY: Duration = Duration::from_hours(6);
const AGAIN: Duration = Duration::from_mins(5);
/// When the files of a folder were found to be current.
const CURRENT: &str = "current_at";

/// Why a root was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The repository, or what it gave.
    #[error("{}", told(.0))]
    Tuf(#[from] Error),
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
    /// What was fetched is no text.
    #[error("its target {0} is not UTF-8")]
    Text(String),
}

/// The error and what led to it.
fn told(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    super::refusal::quoted(&words)
}

/// Fetches trust roots.
pub struct Fetcher {
    http: reqwest::Client,
    /// Where to keep what was seen, beside memory.
    folder: Option<PathBuf>,
    stores: Mutex<HashMap<Followed, Arc<dyn MetadataStore>>>,
}

impl Fetcher {
    /// One that has seen nothing, but for what is in the folder. Mirrors may have certificates of these authorities, beside those that the
    /// system trusts: a mirror proves by its metadata what it serves, and by its certificate nothing but who is asked.
    ///
    /// # Errors
    /// Where the system's certificate authorities cannot be had.
    pub fn new(
        folder: Option<PathBuf>,
        authorities: Vec<reqwest::Certificate>,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("bonafide/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(10))
            .tls_certs_merge(authorities)
            .build()?;
        Ok(Self { http, folder, stores: Mutex::default() })
    }

    /// Fetches a root, if it is another than before or not; `now` is what ends are held against.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, root: &Followed, now: Timestamp) -> Result<String, FetchError> {
        let (_, source) = root;
        let mirror = Mirror { http: self.http.clone(), base: source.mirror.clone() };
        let store = self.store(root);
        let fetched = refresh(mirror, source, Arc::clone(&store), now);
        let json = tokio::time::timeout(PATIENCE, fetched).await.map_err(|_| FetchError::Late)??;
        // Not to know when is to have nothing later, which is what there would be without the folder.
        let _ = store.store(CURRENT, now.to_string().as_bytes());
        Ok(json)
    }

    /// The root as it was last fetched into the folder, and when that was: verified again, by the time that it was then.
    pub async fn kept(&self, root: &Followed, now: Timestamp) -> Option<(String, Timestamp)> {
        let store = self.store(root);
        let text = String::from_utf8(store.load(CURRENT).ok()??).ok()?;
        let at = text.parse::<Timestamp>().ok()?.min(now);
        let json = refresh(StoreRepository::new(Arc::clone(&store)), &root.1, store, at).await;
        json.ok().map(|json| (json, at))
    }

    /// Forgets what is kept in memory of roots that are not among these.
    fn forget(&self, all: &[Followed]) {
        self.stores.lock().retain(|root, _| all.contains(root));
    }

    fn store(&self, root: &Followed) -> Arc<dyn MetadataStore> {
        let mut stores = self.stores.lock();
        let store = stores.entry(root.clone()).or_insert_with(|| match &self.folder {
            Some(folder) => Arc::new(FileStore::new(folder.join(folder_of(root)))),
            None => Arc::new(MemoryStore::new()),
        });
        Arc::clone(store)
    }
}

/// Another source of the same name has another folder.
fn folder_of((name, source): &Followed) -> PathBuf {
    let all = format!("{}\0{}\0{}", source.mirror, source.target, source.root);
    let digest = hex::encode(Digest::of(all.as_bytes()).bytes().get(..8).unwrap_or_default());
    Path::new(&format!("{name}-{digest}")).to_path_buf()
}

async fn refresh(
    repository: impl Repository + 'static,
    source: &TufSource,
    store: Arc<dyn MetadataStore>,
    now: Timestamp,
) -> Result<String, FetchError> {
    let mut updater = Updater::new(repository, source.root.as_bytes())?.with_store(store);
    updater.refresh(now).await?;
    let bytes = updater.get_target(&source.target, now).await?;
    String::from_utf8(bytes).map_err(|_| FetchError::Text(source.target.clone()))
}

/// Whether a text is the root of a repository, signed by as many of its keys as it asks for.
///
/// # Errors
/// Why it is not.
pub(super) fn check_root(json: &str) -> Result<(), String> {
    sigstore_tuf::TrustedMetadataSet::from_root(json.as_bytes()).map(drop).map_err(|error| told(&error))
}

/// The repositories of the built-in roots.
pub fn built_in() -> Vec<Followed> {
    let of = |name, mirror: &str, root: &str| {
        let source = TufSource {
            mirror: Url::parse(mirror).ok()?,
            root: root.to_owned(),
            target: "trusted_root.json".to_owned(),
        };
        Some((name, source))
    };
    let sigstore = of(
        TrustRootName::default(),
        "https://tuf-repo-cdn.sigstore.dev/",
        include_str!("tuf/sigstore.root.json"),
    );
    let github =
        of(TrustRootName::github(), "https://tuf-repo.github.com/", include_str!("tuf/github.root.json"));
    sigstore.into_iter().chain(github).collect()
}

/// Keeps the keeper's roots current, for ever.
pub async fn run(keeper: Arc<Keeper>, fetcher: Arc<Fetcher>) {
    let mut due: HashMap<Followed, tokio::time::Instant> = HashMap::new();
    loop {
        let all = keeper.followed();
        due.retain(|root, _| all.contains(root));
        fetcher.forget(&all);
        for root in all {
            if due.get(&root).is_some_and(|due| *due > tokio::time::Instant::now()) {
                continue;
            }
            if !due.contains_key(&root)
                && let Some((json, at)) = fetcher.kept(&root, Timestamp::now()).await
            {
                put(&keeper, &root, &json, at);
            }
            let wait = if bring(&keeper, &fetcher, &root, Timestamp::now()).await { EVERY } else { AGAIN };
            due.insert(root, tokio::time::Instant::now() + wait);
        }
        let next = due.values().min().copied().unwrap_or_else(|| tokio::time::Instant::now() + EVERY);
        tokio::select! {
            () = keeper.followed_changed() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Fetches a root and puts it in force; where that fails, the last good one stays. Whether it was fetched.
pub async fn bring(keeper: &Keeper, fetcher: &Fetcher, root: &Followed, now: Timestamp) -> bool {
    match fetcher.fetch(root, now).await {
        Ok(json) => put(keeper, root, &json, now),
        Err(error) => {
            let (name, mirror) = (root.0.to_string(), root.1.mirror.to_string());
            let error = error.to_string();
            tracing::warn!(
                trust_root = name,
                mirror,
                error,
                "a trust root was not fetched; the last good one stays"
            );
            keeper.not_fetched(root, error);
            false
        }
    }
}

fn put(keeper: &Keeper, root: &Followed, json: &str, at: Timestamp) -> bool {
    match keeper.fetched(root, json, at) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(
                trust_root = root.0.to_string(),
                error,
                "what was fetched is of no use; the last good trust root stays"
            );
            keeper.not_fetched(root, error);
            false
        }
    }
}

/// A repository at a URL.
struct Mirror {
    http: reqwest::Client,
    base: Url,
}

impl Mirror {
    async fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error: reqwest::Error| {
            Error::transport_with_source(format!("{path} cannot be had"), error.without_url())
        };
        let url =
            self.base.join(path).map_err(|error| Error::transport_with_source("no such path", error))?;
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(Error::transport(format!("{path} cannot be had: {status}"))),
        }
        let most = most.min(LIMIT);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
                return Err(Error::transport(format!("{path} is longer than {most} bytes")));
            }
        }
        Ok(Some(bytes))
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length).await })
    }
}
