//! Which repositories have no referrers API: remembered only when it is certain.
//!
//! A registry that has the API must not answer 404 (distribution specification 1.1), but some do for a digest that they do not know: whoever
//! makes one up must not have a whole repository taken for one without. So it takes an answer about a digest whose manifest was had.

use std::time::Duration;

use moka::sync::Cache;

use crate::{
    domain::{digest::Digest, reference::Repository},
    gather::weigh::{held, in_repository},
};

/// How long a lack is remembered.
const LACK: Duration = Duration::from_mins(10);
/// How many bytes of each kind are kept.
const BYTES: u64 = 2 << 20;

/// A repository, and who asks: it may lack the API for some only.
type Asked = (Repository, Option<Digest>);

/// What is known of the lack of referrers APIs.
#[derive(Clone)]
pub struct Lacking {
    repositories: Cache<Asked, ()>,
    /// Digests whose manifest was had.
    had: Cache<(Asked, Digest), ()>,
    /// Digests of which the API said nothing.
    unanswered: Cache<(Asked, Digest), ()>,
    /// The credentials of who asks.
    credentials: Option<Digest>,
}

impl Lacking {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let digests = || {
            Cache::builder()
                .max_capacity(BYTES)
                .weigher(|((repository, _), _): &(Asked, Digest), ()| in_repository(repository, 0))
                .time_to_live(LACK)
                .build()
        };
        let repositories = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|(repository, _): &Asked, ()| in_repository(repository, 0))
            .time_to_live(LACK)
            .build();
        Self { repositories, had: digests(), unanswered: digests(), credentials: None }
    }

    /// The same for who asks with these credentials. All share the room.
    pub fn with(&self, credentials: Digest) -> Self {
        Self { credentials: Some(credentials), ..self.clone() }
    }

    fn asked(&self, repository: &Repository) -> Asked {
        (repository.clone(), self.credentials)
    }

    /// Whether it is certain that this repository has no referrers API.
    pub fn is_certain(&self, repository: &Repository) -> bool {
        self.repositories.contains_key(&self.asked(repository))
    }

    /// The manifest of a digest was had.
    pub fn had(&self, repository: &Repository, digest: &Digest) {
        let key = (self.asked(repository), *digest);
        // Whichever of the two comes second sees the other.
        self.had.insert(key.clone(), ());
        if self.unanswered.contains_key(&key) {
            self.repositories.insert(key.0, ());
        }
    }

    /// The API answered a question about a digest as if it were not there.
    pub fn unanswered(&self, repository: &Repository, digest: &Digest) {
        let key = (self.asked(repository), *digest);
        self.unanswered.insert(key.clone(), ());
        if self.had.contains_key(&key) {
            self.repositories.insert(key.0, ());
        }
    }

    /// The API is there after all.
    pub fn answered(&self, repository: &Repository) {
        self.repositories.invalidate(&self.asked(repository));
    }

    /// How many bytes this takes.
    pub fn bytes(&self) -> u64 {
        held(&self.repositories).saturating_add(held(&self.had)).saturating_add(held(&self.unanswered))
    }
}
