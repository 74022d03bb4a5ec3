//! Which repositories have no referrers API: remembered only when it is certain.
//!
//! A registry that has the API must not answer 404 (distribution specification 1.1), but some do for a digest that they do not know: whoever
//! makes one up must not have a whole repository taken for one without. So it takes an answer about a digest whose manifest was had.

use std::time::Duration;

use moka::sync::Cache;

use crate::{
    domain::{digest::Digest, reference::Repository},
    gather::weigh::{capped, held},
};

/// How long a lack is remembered.
const LACK: Duration = Duration::from_mins(10);
/// How many bytes of each kind are kept.
const BYTES: u64 = 2 << 20;

/// What is known of the lack of referrers APIs.
pub struct Lacking {
    repositories: Cache<Repository, ()>,
    /// Digests whose manifest was had.
    had: Cache<(Repository, Digest), ()>,
    /// Digests of which the API said nothing.
    unanswered: Cache<(Repository, Digest), ()>,
}

impl Lacking {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let digests = || {
            Cache::builder()
                .max_capacity(BYTES)
                .weigher(|(repository, _): &(Repository, Digest), ()| capped(repository.as_str().len()))
                .time_to_live(LACK)
                .build()
        };
        let repositories = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|repository: &Repository, ()| capped(repository.as_str().len()))
            .time_to_live(LACK)
            .build();
        Self { repositories, had: digests(), unanswered: digests() }
    }

    /// Whether it is certain that this repository has no referrers API.
    pub fn is_certain(&self, repository: &Repository) -> bool {
        self.repositories.contains_key(repository)
    }

    /// The manifest of a digest was had.
    pub fn had(&self, repository: &Repository, digest: &Digest) {
        let key = (repository.clone(), *digest);
        // Whichever of the two comes second sees the other.
        self.had.insert(key.clone(), ());
        if self.unanswered.contains_key(&key) {
            self.repositories.insert(key.0, ());
        }
    }

    /// The API answered a question about a digest as if it were not there.
    pub fn unanswered(&self, repository: &Repository, digest: &Digest) {
        let key = (repository.clone(), *digest);
        self.unanswered.insert(key.clone(), ());
        if self.had.contains_key(&key) {
            self.repositories.insert(key.0, ());
        }
    }

    /// The API is there after all.
    pub fn answered(&self, repository: &Repository) {
        self.repositories.invalidate(repository);
    }

    /// How many bytes this takes.
    pub fn bytes(&self) -> u64 {
        held(&self.repositories).saturating_add(held(&self.had)).saturating_add(held(&self.unanswered))
    }
}
