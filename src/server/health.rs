//! `/livez`, `/readyz` and `/metrics`, over plain HTTP: they tell nothing secret, and probes cannot be asked to trust a certificate.
//!
//! Readiness says whether this process can answer reviews: its policies were read, its certificate can be used, its trust root is
//! loaded, and it is not on its way out. It says nothing about registries: one that is down is no reason to take the webhook away.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{metrics::Metrics, tls::Certificate};
use crate::gather::ports::Unlisted;

/// What of a cluster is not listed yet.
type List = Box<dyn Fn() -> Vec<Unlisted> + Send + Sync>;

/// What readiness depends on.
#[derive(Default)]
pub struct Readiness {
    policies: AtomicBool,
    unlisted: std::sync::OnceLock<List>,
    trust_root: AtomicBool,
    draining: AtomicBool,
    certificate: std::sync::OnceLock<Arc<Certificate>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("missing", &self.missing()).finish()
    }
}

impl Readiness {
    /// The policies were read once.
    pub fn policies_loaded(&self) {
        self.policies.store(true, Ordering::Release);
    }

    /// What must be listed before the policies, and all that tells whom they are for, are known. Once empty it stays so.
    pub fn waits_for(&self, unlisted: impl Fn() -> Vec<Unlisted> + Send + Sync + 'static) {
        let _ = self.unlisted.set(Box::new(unlisted));
        self.policies_loaded();
    }

    /// The trust root was read.
    pub fn trust_root_loaded(&self) {
        self.trust_root.store(true, Ordering::Release);
    }

    /// What is served with.
    pub fn certificate_loaded(&self, certificate: Arc<Certificate>) {
        let _ = self.certificate.set(certificate);
    }

    /// The process is on its way out.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What is missing; empty where reviews can be answered.
    pub fn missing(&self) -> Vec<Cow<'static, str>> {
        let usable = self.certificate.get().is_some_and(|certificate| certificate.is_current());
        [
            (self.is_draining(), "shutting down"),
            (!self.policies.load(Ordering::Acquire), "policies are not loaded yet"),
            (!self.trust_root.load(Ordering::Acquire), "the trust root is not loaded yet"),
            (!usable, "there is no certificate that is valid now"),
        ]
        .into_iter()
        .filter_map(|(missing, why)| missing.then_some(Cow::Borrowed(why)))
        .chain(
            self.unlisted
                .get()
                .into_iter()
                .flat_map(|unlisted| unlisted())
                .map(|resource| resource.to_string().into()),
        )
        .collect()
    }
}

#[derive(Clone)]
struct Health {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

/// The routes of the health listener.
pub fn router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Health { readiness, metrics })
}

async fn readyz(State(health): State<Health>) -> Response {
    let missing = health.readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n"))).into_response()
}

async fn scrape(State(health): State<Health>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.encode()).into_response()
}
