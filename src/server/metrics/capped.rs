//! Labels whose values people choose.

use std::collections::HashSet;

use parking_lot::RwLock;

/// Distinct values of a label that people choose: the first `limit` of them, and `other`.
pub(super) struct Capped {
    limit: usize,
    known: RwLock<HashSet<String>>,
}

impl Capped {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: RwLock::default() }
    }

    pub(super) fn admits(&self, value: &str) -> bool {
        if self.known.read().contains(value) {
            return true;
        }
        let mut known = self.known.write();
        // Between the two locks somebody else may have added it.
        known.contains(value) || (known.len() < self.limit && known.insert(value.to_owned()))
    }
}
