//! What is known of an image, of its own repository and of others, and how old it is.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Evidence, KeyedAttestations, Place};
use crate::domain::{
    digest::Digest,
    evidence::{FetchError, ImageFacts, SubjectEvidence},
};

/// Facts, and when the oldest of the evidence was had.
pub struct Known {
    /// The facts.
    pub facts: ImageFacts,
    /// When the oldest evidence among them was had.
    pub oldest: Instant,
    /// The attestations among them that are signed with keys.
    pub(super) keyed: KeyedAttestations,
}

impl Known {
    /// What was found at home, or in another place.
    pub(super) fn of(&self, place: Option<&Place<'_>>) -> Option<&Evidence> {
        match place {
            None => Some(&self.facts.evidence),
            Some(place) => self.facts.elsewhere.get(place.repository),
        }
    }

    /// Adds what was found at home, or in another place.
    pub(super) fn add(
        &mut self,
        place: Option<&Place<'_>>,
        digest: Digest,
        evidence: Arc<SubjectEvidence>,
        at: Instant,
        keyed: &KeyedAttestations,
    ) {
        self.oldest = self.oldest.min(at);
        self.keyed.extend(keyed.iter().map(|(fingerprint, raw)| (*fingerprint, Arc::clone(raw))));
        let of = match place {
            None => &mut self.facts.evidence,
            Some(place) => self.facts.elsewhere.entry(place.repository.clone()).or_default(),
        };
        of.insert(digest, evidence);
    }

    /// Leaves open what is attached to these digests, where nothing is known of them: because of this error.
    pub fn leave_open(&mut self, digests: &[Digest], error: &FetchError) {
        let open = Arc::new(SubjectEvidence::unknown(error.clone()));
        for digest in digests {
            self.facts.evidence.entry(*digest).or_insert_with(|| Arc::clone(&open));
        }
    }
}
