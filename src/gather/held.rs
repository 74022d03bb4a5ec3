//! What reviews hold at once: of one namespace, and of all. What several reviews share counts once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::domain::evidence::SubjectEvidence;

/// The evidence that reviews hold, by where it is in memory.
#[derive(Default)]
pub struct HeldEvidence {
    held: Mutex<HashMap<usize, Entry>>,
    bytes: AtomicUsize,
}

struct Entry {
    /// While this exists, nothing else is put in the same place.
    _place: Weak<SubjectEvidence>,
    bytes: usize,
    holders: usize,
}

impl HeldEvidence {
    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, evidence: &Arc<SubjectEvidence>, bytes: usize) {
        let mut held = self.held.lock();
        let entry = held.entry(place(evidence)).or_insert_with(|| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            Entry { _place: Arc::downgrade(evidence), bytes, holders: 0 }
        });
        entry.holders = entry.holders.saturating_add(1);
    }

    fn remove(&self, place: usize) {
        let mut held = self.held.lock();
        let Some(entry) = held.get_mut(&place) else { return };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 {
            self.bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
            held.remove(&place);
        }
    }
}

fn place(evidence: &Arc<SubjectEvidence>) -> usize {
    Arc::as_ptr(evidence).addr()
}

/// What one review holds. Dropped, it holds nothing.
pub struct ReviewHeld {
    accounts: [Arc<HeldEvidence>; 2],
    evidence: Mutex<Vec<usize>>,
    verdicts: [Arc<AtomicUsize>; 2],
    own_verdicts: AtomicUsize,
}

impl ReviewHeld {
    /// Nothing is held yet; what will be is counted in these.
    pub fn new(evidence: [Arc<HeldEvidence>; 2], verdicts: [Arc<AtomicUsize>; 2]) -> Self {
        Self { accounts: evidence, evidence: Mutex::default(), verdicts, own_verdicts: AtomicUsize::new(0) }
    }

    /// Counts evidence until the review ends.
    pub fn add_evidence(&self, evidence: &Arc<SubjectEvidence>, bytes: usize) {
        let place = place(evidence);
        let mut own = self.evidence.lock();
        if !own.contains(&place) {
            own.push(place);
            self.accounts.iter().for_each(|account| account.add(evidence, bytes));
        }
    }

    /// How many bytes of verdicts this review, its namespace and all namespaces hold.
    pub fn verdict_bytes(&self) -> [usize; 3] {
        let [namespace, all] = &self.verdicts;
        [&self.own_verdicts, namespace, all].map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts a verdict until the review ends.
    pub fn add_verdict(&self, bytes: usize) {
        self.own_verdicts.fetch_add(bytes, Ordering::Relaxed);
        for count in &self.verdicts {
            count.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for ReviewHeld {
    fn drop(&mut self) {
        for place in self.evidence.get_mut().drain(..) {
            self.accounts.iter().for_each(|account| account.remove(place));
        }
        let own = *self.own_verdicts.get_mut();
        for count in &self.verdicts {
            count.fetch_sub(own, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reviews_share_counts_once_and_until_the_last_of_them_ends() {
        let (namespace, all) = (Arc::<HeldEvidence>::default(), Arc::<HeldEvidence>::default());
        let verdicts = [Arc::<AtomicUsize>::default(), Arc::default()];
        let review = || {
            ReviewHeld::new([Arc::clone(&namespace), Arc::clone(&all)], verdicts.each_ref().map(Arc::clone))
        };
        let [one, other] = [Arc::<SubjectEvidence>::default(), Arc::default()];
        let (first, second) = (review(), review());
        for held in [&first, &first, &second] {
            held.add_evidence(&one, 100);
        }
        second.add_evidence(&other, 10);
        second.add_verdict(5);
        assert_eq!((namespace.bytes(), all.bytes()), (110, 110));
        assert_eq!((first.verdict_bytes(), second.verdict_bytes()), ([0, 5, 5], [5, 5, 5]));
        drop(first);
        assert_eq!(all.bytes(), 110);
        drop(second);
        assert_eq!((namespace.bytes(), all.bytes()), (0, 0));
        assert!(verdicts.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
