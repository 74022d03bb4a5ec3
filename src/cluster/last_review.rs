//! When a replica last answered a review. Each tells the others by an annotation of the Lease, by the hour: the API server may send every
//! review to one replica, and the leader writes the statuses.

use jiff::{Timestamp, Unit};
use k8s_openapi::api::coordination::v1::Lease;
use parking_lot::Mutex;

/// The annotation: the hour in which a review was answered (RFC 3339).
const ANNOTATION: &str = "bonafide.dev/last-review";

/// When this process last answered a review, and when the others did.
pub struct LastReview {
    own: Box<dyn Fn() -> Option<Timestamp> + Send + Sync>,
    others: Mutex<Option<Timestamp>>,
}

impl LastReview {
    /// `own` says when this process last answered a review.
    pub fn new(own: impl Fn() -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        Self { own: Box::new(own), others: Mutex::default() }
    }

    /// The latest that is known, of all replicas.
    pub(super) fn latest(&self) -> Option<Timestamp> {
        (self.own)().max(*self.others.lock())
    }

    /// Reads what the Lease says. A time that is yet to come is not true.
    pub(super) fn read(&self, lease: &Lease, now: Timestamp) {
        let told = annotated(lease).filter(|told| *told <= now);
        let mut others = self.others.lock();
        *others = (*others).max(told);
    }

    /// Has the Lease say when this process last answered a review. Whether it did not say so yet.
    pub(super) fn write(&self, lease: &mut Lease, now: Timestamp) -> bool {
        let hour = (self.own)().and_then(|at| at.round(hours()).ok()).filter(|hour| *hour <= now);
        let is_told = annotated(lease).filter(|told| *told <= now) >= hour;
        if let (false, Some(hour)) = (is_told, hour) {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(ANNOTATION.to_owned(), hour.to_string());
        }
        !is_told
    }
}

fn hours() -> jiff::TimestampRound {
    jiff::TimestampRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc)
}

fn annotated(lease: &Lease) -> Option<Timestamp> {
    lease.metadata.annotations.as_ref()?.get(ANNOTATION)?.parse().ok()
}
