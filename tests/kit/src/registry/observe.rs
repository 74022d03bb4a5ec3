//! What was asked of the registry, by whom and when. Tests assert on this: how many requests, with
//! which credential, how many at once, and how many one after the other.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::route::{Route, Target};

/// One request as the registry saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// What kind of thing was asked for.
    pub target: Target,
    /// The repository it was asked of; `None` for `/v2/` and `/token`.
    pub repo: Option<String>,
    /// The tag or digest asked for.
    pub reference: Option<String>,
    /// The `Host` header.
    pub host: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Accept` headers, joined by a comma.
    pub accept: Option<String>,
    /// The `Accept-Encoding` header.
    pub accept_encoding: Option<String>,
    /// When it arrived.
    pub at: Instant,
    /// When the answer (its last byte that is known of) was handed to the network; `None` while it is under way.
    pub ended: Option<Instant>,
    /// The status of the answer; `None` while there is none, and where the connection was closed without one.
    pub status: Option<u16>,
    /// How many bytes of body were handed to the network.
    pub sent: u64,
}

impl Request {
    pub(crate) fn of(head: &hyper::http::request::Parts, route: &Route) -> Self {
        let header = |name: &str| {
            let values: Vec<_> = head.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        Self {
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            target: route.target,
            repo: route.repo.clone(),
            reference: route.reference.clone(),
            host: header("host").unwrap_or_default(),
            authorization: header("authorization"),
            accept: header("accept"),
            accept_encoding: header("accept-encoding"),
            at: Instant::now(),
            ended: None,
            status: None,
            sent: 0,
        }
    }

    /// The values of one key of the query, decoded.
    pub fn query_values(&self, key: &str) -> Vec<String> {
        super::route::form_values(self.query.as_deref().unwrap_or_default(), key)
    }
}

/// The log of requests. An entry is found again by its number even after the log was cleared.
#[derive(Default)]
pub(crate) struct Recorder {
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Request>,
    /// How many entries were cleared away, so the number of the first one that is left.
    cleared: usize,
}

impl Recorder {
    pub(crate) fn begin(self: &Arc<Self>, request: Request) -> Entry {
        let mut log = self.log.lock();
        log.entries.push(request);
        Entry { id: log.cleared + log.entries.len() - 1, recorder: Arc::clone(self) }
    }

    fn update(&self, id: usize, change: impl FnOnce(&mut Request)) {
        let mut log = self.log.lock();
        let index = id.checked_sub(log.cleared);
        if let Some(request) = index.and_then(|index| log.entries.get_mut(index)) {
            change(request);
        }
    }

    pub(crate) fn snapshot(&self) -> Vec<Request> {
        self.log.lock().entries.clone()
    }

    pub(crate) fn clear(&self) {
        let mut log = self.log.lock();
        log.cleared += log.entries.len();
        log.entries.clear();
    }
}

/// The entry of a request that is under way. When it is dropped the request is over, however that came about.
pub(crate) struct Entry {
    id: usize,
    recorder: Arc<Recorder>,
}

impl Entry {
    pub(crate) fn status(&self, status: u16) {
        self.recorder.update(self.id, |request| request.status = Some(status));
    }

    /// So much of the body is about to be handed to the network. The request counts as ended before the last
    /// bytes leave, so that one which waits for them never seems to overlap with it.
    pub(crate) fn sent(&self, bytes: usize, last: bool) {
        self.recorder.update(self.id, |request| {
            request.sent += bytes as u64;
            if last {
                request.ended = Some(Instant::now());
            }
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.recorder.update(self.id, |request| {
            request.ended.get_or_insert_with(Instant::now);
        });
    }
}

/// The longest chain of requests in which each began after the one before had ended.
pub fn sequential_rounds(requests: &[Request]) -> usize {
    // Taking the request that ends first, again and again, is the longest chain of disjoint intervals.
    let mut intervals: Vec<_> = requests.iter().map(|r| (r.ended, r.at)).collect();
    intervals.sort_by_key(|(ended, _)| (ended.is_none(), *ended));
    let (mut rounds, mut free_at) = (0, None::<Instant>);
    for (ended, at) in intervals {
        if rounds == 0 || free_at.is_some_and(|free| at >= free) {
            rounds += 1;
            free_at = ended;
        }
    }
    rounds
}

/// The largest number of requests that were under way at one moment.
pub fn max_concurrency(requests: &[Request]) -> usize {
    let open = |at: Instant| {
        requests.iter().filter(|r| r.at <= at && r.ended.is_none_or(|ended| ended > at)).count()
    };
    requests.iter().map(|r| open(r.at)).max().unwrap_or_default()
}
