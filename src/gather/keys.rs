//! Attestations that are signed with keys, held against the keys of the policies that are asked.
//!
//! Facts are learnt without knowing any policy, and stay when policies change. So an attestation that carries no
//! certificate is kept as it was found, and each pair of key and attestation is checked once, when a policy wants it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant as Begun},
};

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{
    discover::Discovery,
    ports::RawAttestation,
    weigh::{self, capped},
};
use crate::domain::{
    digest::Digest,
    evidence::{FetchError, FetchErrorKind},
    key::{KeyCheck, KeyId, PublicKey},
};

/// How many bytes of checks are kept.
const CHECKS_BYTES: u64 = 8 << 20;
/// What a key of the cache takes, and its entry.
const ENTRY: usize = 256;
/// How long one review's checks go on before it is another one's turn.
const SLICE: Duration = Duration::from_millis(20);

/// Attestations that are signed with keys, by fingerprint.
pub type KeyedAttestations = HashMap<Digest, Arc<RawAttestation>>;

/// The last number is the trust roots' generation.
type Pair = (KeyId, Digest, u64);

/// The checks that were made.
pub struct KeyChecks {
    made: moka::sync::Cache<Pair, Arc<KeyCheck>>,
}

impl Default for KeyChecks {
    fn default() -> Self {
        let weigh = |_: &Pair, check: &Arc<KeyCheck>| capped(weigh::key_check(check).saturating_add(ENTRY));
        Self { made: moka::sync::Cache::builder().max_capacity(CHECKS_BYTES).weigher(weigh).build() }
    }
}

impl KeyChecks {
    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        weigh::held(&self.made)
    }

    /// Each of the attestations held against each of the keys. What was not checked before is checked now, on a thread
    /// that it keeps for a moment at a time.
    ///
    /// # Errors
    /// `Deadline`, where there was no time left for all of them.
    pub async fn all(
        &self,
        discovery: &Discovery,
        keys: &[&PublicKey],
        attestations: &KeyedAttestations,
        deadline: Instant,
    ) -> Result<HashMap<(KeyId, Digest), Arc<KeyCheck>>, FetchError> {
        let generation = discovery.trust.generation();
        let mut checks = HashMap::new();
        let mut missing: Vec<(PublicKey, Digest, Arc<RawAttestation>)> = Vec::new();
        for key in keys {
            for (fingerprint, raw) in attestations {
                match self.made.get(&(key.id(), *fingerprint, generation)) {
                    Some(check) => {
                        checks.insert((key.id(), *fingerprint), check);
                    }
                    None => missing.push(((*key).clone(), *fingerprint, Arc::clone(raw))),
                }
            }
        }
        let mut left = missing.into_iter();
        while left.len() > 0 {
            let turn = Arc::clone(&discovery.verifying).acquire_owned();
            let turn = timeout_at(deadline, turn).await.map_err(|_| late(left.len()))?;
            let (trust, made) = (Arc::clone(&discovery.trust), self.made.clone());
            let remaining = left.len();
            let work = move || {
                let _turn = turn;
                let (begun, mut done) = (Begun::now(), Vec::new());
                while begun.elapsed() < SLICE
                    && let Some((key, fingerprint, raw)) = left.next()
                {
                    let check = Arc::new(trust.check_key(&raw, &key, Timestamp::now()));
                    if !check.may_change {
                        made.insert((key.id(), fingerprint, generation), Arc::clone(&check));
                    }
                    done.push(((key.id(), fingerprint), check));
                }
                (left, done)
            };
            let slice = timeout_at(deadline, tokio::task::spawn_blocking(work)).await;
            let (rest, done) = slice.map_err(|_| late(remaining))?.map_err(|_| FetchError {
                kind: FetchErrorKind::Unavailable,
                detail: "an internal error ended the check of a signature".to_owned(),
            })?;
            left = rest;
            checks.extend(done);
        }
        Ok(checks)
    }
}

fn late(left: usize) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Deadline,
        detail: format!(
            "could not find out in time: {left} signatures are still to be held against the policy's keys"
        ),
    }
}
