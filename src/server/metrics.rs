//! What is counted and timed, and the Prometheus text of it.
//!
//! Every metric is described once, in [`CATALOGUE`], and registered from there; `docs/metrics.md` is held against it by a test.
//! Labels whose values people choose (registries, kinds) are capped, so that nobody can fill the memory of whoever scrapes.

mod capped;
mod catalogue;
mod register;
mod surroundings;
mod webhook;

pub use self::catalogue::{CATALOGUE, Described};

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use self::{
    capped::Capped,
    catalogue::{
        BUILD, CACHE_BYTES, CACHE_LOOKUPS, CERTIFICATE_EXPIRY, CERTIFICATE_RELOADS, CONNECTIONS, DRY_RUNS,
        EVENTS_DROPPED, IN_FLIGHT, LAST_REVIEW, LEADER, LOG_DROPPED, PANICS, PHASES, POLICIES,
        POLICY_RELOADS, POOL_BYTES, PROBLEMS, REFUSED, REGISTRY_REQUESTS, REGISTRY_SECONDS, REVIEWS,
        TRUST_ROOT_AGE, TURNED_AWAY, UNKNOWN_CALLERS, UNKNOWN_KINDS, WATCH_STALENESS, WEBHOOK_ENTRIES,
        WEBHOOK_UNREACHED,
    },
    register::register,
};
use crate::{
    domain::verdict::{Outcome, Reason},
    gather::{ports::Observer, review::Review},
};

/// How many distinct registries have a label of their own.
pub const REGISTRY_LIMIT: usize = 100;
/// How many distinct unknown kinds have a label of their own.
pub const KIND_LIMIT: usize = 50;
/// The label of what is above a limit.
pub const OTHER: &str = "other";

/// Buckets for what happens within the process and what a review may last: 1 µs to 10 s.
const REVIEW_BUCKETS: [f64; 22] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Buckets for a round trip: 0.5 ms to 10 s.
const REQUEST_BUCKETS: [f64; 14] =
    [5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),* })*) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $type),* })*
    };
}

labels! {
    Verdict { verdict: &'static str, reason: &'static str }
    Effect { reason: &'static str, effect: &'static str }
    Phase { phase: &'static str }
    Code { code: u16 }
    Wrong { what: &'static str }
    Kind { group: String, kind: String }
    Request { registry: String, outcome: &'static str }
    RegistryName { registry: String }
    Lookup { cache: &'static str, result: &'static str }
    CacheName { cache: &'static str }
    PoolName { pool: &'static str }
    Listener { listener: &'static str }
    State { state: &'static str }
    Done { result: &'static str }
    Resource { resource: &'static str }
    Root { trust_root: String }
    Entry { entry: &'static str, state: &'static str }
    Build { version: String }
}

const ADMITTED: Verdict = Verdict { verdict: "allowed", reason: "none" };
const RECALLED: Lookup = Lookup { cache: "verdicts", result: "hit" };

/// The phases of a review, resolved once: they are observed in every review.
struct PhaseTimes {
    plan: Histogram,
    gather: Histogram,
    evaluate: Histogram,
    total: Histogram,
}

/// Run before each scrape, to set what is a level rather than an event.
type Probe = Box<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    reviews: Family<Verdict, Counter>,
    /// Of what nearly every review is, resolved once.
    admitted: Counter,
    dry_runs: Family<Verdict, Counter>,
    last_review: Gauge,
    problems: Family<Effect, Counter>,
    phases: PhaseTimes,
    in_flight: Gauge,
    refused: Family<Code, Counter>,
    unknown_callers: Family<Wrong, Counter>,
    unknown_kinds: Family<Kind, Counter>,
    kinds: Capped,
    panics: Counter,
    registry_requests: Family<Request, Counter>,
    registry_seconds: Family<RegistryName, Histogram, Buckets>,
    registries: Capped,
    cache_lookups: Family<Lookup, Counter>,
    /// What nearly every review looks up, resolved once.
    recalled: Counter,
    cache_bytes: Family<CacheName, Gauge<u64, AtomicU64>>,
    pool_bytes: Family<PoolName, Gauge<u64, AtomicU64>>,
    connections: Family<Listener, Gauge>,
    turned_away: Family<Listener, Counter>,
    policies: Family<State, Gauge>,
    policy_reloads: Family<Done, Counter>,
    watch_staleness: Family<Resource, Gauge<f64, AtomicU64>>,
    trust_root_age: Family<Root, Gauge<f64, AtomicU64>>,
    certificate_expiry: Gauge,
    certificate_reloads: Family<Done, Counter>,
    webhook_entries: Family<Entry, Gauge>,
    webhook_unreached: Gauge<f64, AtomicU64>,
    leader: Gauge,
    log_dropped: Counter,
    events_dropped: Counter,
    probes: RwLock<Vec<Probe>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What is counted from the start, so that the first time is seen as an increase.
fn from_zero(all: &[&'static str]) -> Family<Wrong, Counter> {
    let family = Family::<Wrong, Counter>::default();
    for what in all {
        drop(family.get_or_create(&Wrong { what }));
    }
    family
}

impl Metrics {
    /// Metrics that have counted nothing yet. `version` is the build's.
    pub fn new(version: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let r = &mut registry;
        let phases = register(r, PHASES, Family::new_with_constructor(Buckets(&REVIEW_BUCKETS)));
        let phase = |phase| phases.get_or_create_owned(&Phase { phase });
        let reviews: Family<Verdict, Counter> = register(r, REVIEWS, Family::default());
        let cache_lookups: Family<Lookup, Counter> = register(r, CACHE_LOOKUPS, Family::default());
        let metrics = Self {
            admitted: reviews.get_or_create_owned(&ADMITTED),
            reviews,
            dry_runs: register(r, DRY_RUNS, Family::default()),
            last_review: register(r, LAST_REVIEW, Gauge::default()),
            problems: register(r, PROBLEMS, Family::default()),
            phases: PhaseTimes {
                plan: phase("plan"),
                gather: phase("gather"),
                evaluate: phase("evaluate"),
                total: phase("total"),
            },
            in_flight: register(r, IN_FLIGHT, Gauge::default()),
            refused: register(r, REFUSED, Family::default()),
            unknown_callers: register(r, UNKNOWN_CALLERS, from_zero(&super::callers::REASONS)),
            unknown_kinds: register(r, UNKNOWN_KINDS, Family::default()),
            kinds: Capped::new(KIND_LIMIT),
            panics: register(r, PANICS, Counter::default()),
            registry_requests: register(r, REGISTRY_REQUESTS, Family::default()),
            registry_seconds: register(
                r,
                REGISTRY_SECONDS,
                Family::new_with_constructor(Buckets(&REQUEST_BUCKETS)),
            ),
            registries: Capped::new(REGISTRY_LIMIT),
            recalled: cache_lookups.get_or_create_owned(&RECALLED),
            cache_lookups,
            cache_bytes: register(r, CACHE_BYTES, Family::default()),
            pool_bytes: register(r, POOL_BYTES, Family::default()),
            connections: register(r, CONNECTIONS, Family::default()),
            turned_away: register(r, TURNED_AWAY, Family::default()),
            policies: register(r, POLICIES, Family::default()),
            policy_reloads: register(r, POLICY_RELOADS, Family::default()),
            watch_staleness: register(r, WATCH_STALENESS, Family::default()),
            trust_root_age: register(r, TRUST_ROOT_AGE, Family::default()),
            certificate_expiry: register(r, CERTIFICATE_EXPIRY, Gauge::default()),
            certificate_reloads: register(r, CERTIFICATE_RELOADS, Family::default()),
            webhook_entries: register(r, WEBHOOK_ENTRIES, Family::default()),
            webhook_unreached: register(r, WEBHOOK_UNREACHED, Gauge::default()),
            leader: register(r, LEADER, Gauge::default()),
            events_dropped: register(r, EVENTS_DROPPED, Counter::default()),
            log_dropped: register(r, LOG_DROPPED, Counter::default()),
            probes: RwLock::default(),
            registry: Registry::default(),
        };
        registry.register(
            BUILD.name.trim_end_matches("_info"),
            BUILD.help,
            Info::new(Build { version: version.to_owned() }),
        );
        Arc::new(Self { registry, ..metrics })
    }

    /// The text a scrape gets.
    pub fn encode(&self) -> String {
        for probe in self.probes.read().iter() {
            probe(self);
        }
        let mut text = String::with_capacity(16 * 1024);
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a string does not fail; if it did, no metrics are better than half of them.
            Err(fmt::Error) => String::new(),
        }
    }

    /// Has `probe` run before each scrape.
    pub fn before_scrape(&self, probe: impl Fn(&Self) + Send + Sync + 'static) {
        self.probes.write().push(Box::new(probe));
    }

    fn saw_review(&self) {
        self.last_review.set(Timestamp::now().as_second());
    }

    /// A review was answered by judging its images.
    pub fn reviewed(&self, review: &Review, took: Duration) {
        let Verdict { verdict, reason } = verdict_of(review);
        self.answered(verdict, reason);
        for image in &review.images {
            let verdict = &image.verdict;
            let found = [(&verdict.problems, "deny"), (&verdict.warnings, "warn"), (&verdict.audit, "audit")];
            for (problems, effect) in found {
                for problem in problems {
                    self.problems.get_or_create(&Effect { reason: problem.reason.as_str(), effect }).inc();
                }
            }
        }
        let seconds = |time: Duration| time.as_secs_f64();
        self.phases.plan.observe(seconds(review.phases.plan));
        // What a review had no need of took no time, which says nothing of how long it takes.
        if !review.phases.gather.is_zero() {
            self.phases.gather.observe(seconds(review.phases.gather));
            self.phases.evaluate.observe(seconds(review.phases.evaluate));
        }
        self.phases.total.observe(seconds(took));
    }

    /// A review was answered without judging anything: `why` is a word of a fixed set.
    pub fn skipped(&self, why: &'static str) {
        self.answered("skipped", why);
    }

    /// A review was of an object that is not of its kind, and denied.
    pub fn malformed(&self) {
        self.answered("denied", "Malformed");
    }

    /// A review was denied before anyone judged it: `why` is a word of a fixed set.
    pub fn denied_unread(&self, is_transient: bool, why: &'static str) {
        self.answered(if is_transient { "unverifiable" } else { "denied" }, why);
    }

    /// What a pool of bytes holds.
    pub fn set_pool_bytes(&self, pool: &'static str, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.pool_bytes.get_or_create(&PoolName { pool }).set(bytes);
    }

    /// How many connections and requests a listener has, and how many it turned away so far.
    pub fn set_connections(&self, listener: &'static str, load: usize, turned_away: u64) {
        let listener = Listener { listener };
        self.connections.get_or_create(&listener).set(i64::try_from(load).unwrap_or(i64::MAX));
        let counter = self.turned_away.get_or_create(&listener);
        counter.inner().store(turned_away, std::sync::atomic::Ordering::Relaxed);
    }

    /// A review ended in a panic.
    pub fn panicked(&self) {
        self.panics.inc();
        self.answered("failed", "Panic");
    }

    /// A review was answered without its judge, who did not come back in time.
    pub fn overdue(&self) {
        self.answered("unverifiable", Reason::DeadlineExceeded.as_str());
    }

    /// A binding could not be judged: nobody could say what the pod runs.
    pub fn unknown_pod(&self) {
        self.answered("unverifiable", "UnknownPod");
    }

    /// A binding could not be judged: nobody could say what the node is.
    pub fn unknown_node(&self) {
        self.answered("unverifiable", "UnknownNode");
    }

    /// A review was denied because the cluster was not listed yet.
    pub fn unlisted(&self) {
        self.answered("unverifiable", "Unlisted");
    }

    fn answered(&self, verdict: &'static str, reason: &'static str) {
        self.saw_review();
        let labels = Verdict { verdict, reason };
        if labels == ADMITTED {
            self.admitted.inc();
        } else {
            self.reviews.get_or_create(&labels).inc();
        }
    }

    /// A review begins; it ends when the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A review was denied because its caller is not known. `what` is `address`, `certificate` or `token`.
    pub fn unknown_caller(&self, what: &'static str) {
        self.unknown_callers.get_or_create(&Wrong { what }).inc();
    }

    /// A request was refused that is no review.
    pub fn refused(&self, code: u16) {
        self.refused.get_or_create(&Code { code }).inc();
    }

    /// A review of a kind that no image can be read from.
    pub fn unknown_kind(&self, group: &str, kind: &str) {
        let label = if self.kinds.admits(&format!("{group}/{kind}")) {
            Kind { group: group.to_owned(), kind: kind.to_owned() }
        } else {
            Kind { group: OTHER.to_owned(), kind: OTHER.to_owned() }
        };
        self.unknown_kinds.get_or_create(&label).inc();
    }

    /// What a cache holds.
    pub fn set_cache_bytes(&self, cache: &'static str, bytes: u64) {
        self.cache_bytes.get_or_create(&CacheName { cache }).set(bytes);
    }

    /// How many log lines have been dropped so far.
    pub fn set_log_dropped(&self, lines: u64) {
        self.log_dropped.inner().store(lines, std::sync::atomic::Ordering::Relaxed);
    }
}

fn verdict_of(review: &Review) -> Verdict {
    let verdict = match review.outcome {
        Outcome::Allow => "allowed",
        Outcome::Deny => "denied",
        Outcome::Unverifiable => "unverifiable",
    };
    Verdict { verdict, reason: first_reason(review).map_or("none", Reason::as_str) }
}

/// The first reason of the first image that decided the outcome.
fn first_reason(review: &Review) -> Option<Reason> {
    let decisive = review.images.iter().find(|image| image.verdict.outcome == review.outcome)?;
    decisive.verdict.problems.first().map(|problem| problem.reason)
}

/// How reading something again went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The new content is in force.
    Applied,
    /// The new content is of no use and the old one stays.
    Failed,
}

impl Reload {
    const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Failed => "failed",
        }
    }
}

/// A review that is being answered.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Observer for Metrics {
    fn registry_request(&self, registry: &str, outcome: &'static str, took: Duration) {
        let registry = if self.registries.admits(registry) { registry } else { OTHER }.to_owned();
        let seconds = self.registry_seconds.get_or_create_owned(&RegistryName { registry: registry.clone() });
        seconds.observe(took.as_secs_f64());
        self.registry_requests.get_or_create(&Request { registry, outcome }).inc();
    }

    fn cache(&self, cache: &'static str, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        let labels = Lookup { cache, result };
        if labels == RECALLED {
            self.recalled.inc();
        } else {
            self.cache_lookups.get_or_create(&labels).inc();
        }
    }
}
