//! What may go wrong on request: which requests ([`On`]) are answered how ([`Fault`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::observe::Request;
use super::route::Target;

type Predicate = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// Which requests a fault is for. All conditions that are set must hold.
#[derive(Clone, Default)]
pub struct On {
    targets: Vec<Target>,
    conditions: Vec<Predicate>,
}

impl On {
    /// Every request, `/token` included.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests for one kind of thing.
    pub fn target(target: Target) -> Self {
        Self { targets: vec![target], conditions: Vec::new() }
    }

    /// Manifests by digest or ordinary tag; not those of `.att`, `.sig` and fallback tags.
    pub fn manifests() -> Self {
        Self::target(Target::Manifest)
    }

    /// Blobs.
    pub fn blobs() -> Self {
        Self::target(Target::Blob)
    }

    /// The referrers API.
    pub fn referrers() -> Self {
        Self::target(Target::Referrers)
    }

    /// cosign's tags `sha256-<hex>.att`.
    pub fn att_tags() -> Self {
        Self::target(Target::AttTag)
    }

    /// The tags `sha256-<hex>` that stand in for the referrers API.
    pub fn fallback_tags() -> Self {
        Self::target(Target::FallbackTag)
    }

    /// The token endpoint.
    pub fn token() -> Self {
        Self::target(Target::Token)
    }

    /// … or requests for this kind of thing as well.
    #[must_use]
    pub fn or(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// … with this method only.
    #[must_use]
    pub fn method(self, method: &'static str) -> Self {
        self.matching(move |request| request.method == method)
    }

    /// … of this repository only.
    #[must_use]
    pub fn repo(self, repo: impl Into<String>) -> Self {
        let repo = repo.into();
        self.matching(move |request| request.repo.as_deref() == Some(&repo))
    }

    /// … for this tag or digest only.
    #[must_use]
    pub fn reference(self, reference: impl Into<String>) -> Self {
        let reference = reference.into();
        self.matching(move |request| request.reference.as_deref() == Some(&reference))
    }

    /// … for which this holds only.
    #[must_use]
    pub fn matching(mut self, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    pub(crate) fn matches(&self, request: &Request) -> bool {
        let target = self.targets.is_empty() || self.targets.contains(&request.target);
        target && self.conditions.iter().all(|condition| condition(request))
    }
}

/// What goes wrong. The first group comes in place of an answer, before any credential is looked at; the second
/// changes the answer that an authorized request would have got. Several changes add up; of several replacements
/// the one that was set first counts.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with an error body as registries write it.
    Status(u16),
    /// This status with a `Retry-After` header (seconds or a date, as given).
    RetryAfter(u16, String),
    /// Never an answer.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// A redirect (307) to the same path and query under this base, such as `http://127.0.0.1:PORT`.
    Redirect(String),
    /// A redirect (307) to exactly this URL.
    RedirectTo(String),
    /// A redirect (307) to the very same URL.
    RedirectLoop,

    /// The answer, this much later.
    Slow(Duration),
    /// Half of the body that `Content-Length` promises, then the connection is closed.
    Truncated,
    /// Half of the body that `Content-Length` promises, and then nothing.
    Stalled,
    /// The body with one bit flipped, everything else as it was.
    WrongBytes,
    /// This body in place of the real one, everything else as it was.
    Body(Bytes),
    /// This content type in place of the real one.
    ContentType(String),
    /// This `Docker-Content-Digest` in place of the real one, or none.
    DigestHeader(Option<String>),
    /// A chunked body that begins like JSON and never ends.
    Endless,
    /// The body byte by byte, with this pause before each.
    Drip(Duration),
    /// A body that is cut-off JSON.
    MalformedJson,
    /// A `Link` header to this URL as the next page.
    NextPage(String),
    /// A `Link` header to a next page, on this page and on every one that follows.
    EndlessPaging,
}

impl Fault {
    /// 429, with `Retry-After` in seconds.
    pub fn throttled(seconds: u64) -> Self {
        Self::RetryAfter(429, seconds.to_string())
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Slow(_) => Kind::Delay,
            Self::Status(_)
            | Self::RetryAfter(..)
            | Self::Hang
            | Self::Close
            | Self::Redirect(_)
            | Self::RedirectTo(_)
            | Self::RedirectLoop => Kind::Replacement,
            Self::Truncated
            | Self::Stalled
            | Self::WrongBytes
            | Self::Body(_)
            | Self::ContentType(_)
            | Self::DigestHeader(_)
            | Self::Endless
            | Self::Drip(_)
            | Self::MalformedJson
            | Self::NextPage(_)
            | Self::EndlessPaging => Kind::Change,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Goes with anything.
    Delay,
    /// Comes in place of an answer.
    Replacement,
    /// Needs an answer that it changes, so an authorized request.
    Change,
}

struct Rule {
    on: On,
    fault: Fault,
    /// How many more requests it is for; `None` for all.
    left: Option<usize>,
}

/// The faults that are set, in the order in which they were.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    pub(crate) fn add(&self, on: On, fault: Fault, times: Option<usize>) {
        self.rules.lock().push(Rule { on, fault, left: times });
    }

    pub(crate) fn clear(&self) {
        self.rules.lock().clear();
    }

    /// The faults for this request: delays, and then the first replacement or else all changes.
    pub(crate) fn take(&self, request: &Request, authorized: bool) -> Vec<Fault> {
        let mut rules = self.rules.lock();
        let mut due: Vec<&mut Rule> =
            rules.iter_mut().filter(|rule| rule.left != Some(0) && rule.on.matches(request)).collect();
        let replacement = due.iter().position(|rule| rule.fault.kind() == Kind::Replacement);
        let mut taken = Vec::new();
        for (index, rule) in due.iter_mut().enumerate() {
            let applies = match rule.fault.kind() {
                Kind::Delay => true,
                Kind::Replacement => replacement == Some(index),
                Kind::Change => replacement.is_none() && authorized,
            };
            if applies {
                rule.left = rule.left.map(|left| left - 1);
                taken.push(rule.fault.clone());
            }
        }
        taken
    }
}
