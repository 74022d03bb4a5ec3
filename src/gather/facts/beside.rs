//! The evidence of one manifest of an index, with what `BuildKit` put into the index beside it.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use super::{CONCURRENCY, Facts, Found};
use crate::{
    domain::{
        digest::Digest,
        evidence::{Attestation, FetchError, Finding, Layout, Root, SubjectEvidence},
        reference::Repository,
        vouch::{attributed, signatures},
    },
    gather::{
        flight::Freshness,
        in_index::{Holder, Listed, MAX_HOLDERS, listed_for},
        keys::KeyedAttestations,
        lanes::{Errand, Room},
    },
};

/// What was found out about a manifest and the attestation manifests beside it.
pub(super) struct Beside {
    digest: Digest,
    found: Found,
    holders: Vec<(Listed, Result<Holder, FetchError>)>,
    too_many: bool,
    at: Instant,
}

/// The evidence about a manifest, when the oldest of it was had, and what of it is signed with keys.
pub(super) struct Joined {
    pub(super) digest: Digest,
    pub(super) evidence: Arc<SubjectEvidence>,
    pub(super) at: Instant,
    pub(super) keyed: KeyedAttestations,
}

/// A repository in which attestations are looked for, and in whose name.
pub struct Place<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// In whose name.
    pub errand: Errand,
}

/// Whose image it is, for all manifests of its index, and where is looked.
pub(super) struct Around<'a> {
    pub(super) place: &'a Place<'a>,
    /// Where the image is, where that is somewhere else.
    pub(super) home: Option<&'a Place<'a>>,
    pub(super) root: &'a Root,
    /// The digest of the index.
    pub(super) digest: Digest,
    /// Whether what is attached to the index vouches for what is in it.
    pub(super) is_signed: bool,
}

/// What was found around an image in one place: about nested indexes, and about manifests.
type FoundAround<'a> = (Around<'a>, Vec<(Digest, Found)>, Vec<Beside>);

impl Facts {
    /// Asks in one place about nested indexes and manifests, at once.
    pub(super) async fn around<'a>(
        &self,
        around: Around<'a>,
        nested: &[Digest],
        manifests: &[Digest],
        freshness: Freshness,
    ) -> FoundAround<'a> {
        let Place { repository, errand } = around.place;
        let nested = nested
            .iter()
            .map(|digest| async { (*digest, self.evidence(repository, *digest, freshness, errand).await) });
        let asked = manifests.iter().map(|digest| self.beside(&around, *digest, freshness));
        let (nested, asked): (Vec<_>, Vec<_>) = (nested.collect(), asked.collect());
        let (nested, found) = tokio::join!(
            stream::iter(nested).buffered(CONCURRENCY).collect(),
            stream::iter(asked).buffered(CONCURRENCY).collect()
        );
        (around, nested, found)
    }

    /// Asks about a manifest and what is beside it, at once.
    pub(super) async fn beside(&self, around: &Around<'_>, digest: Digest, freshness: Freshness) -> Beside {
        let Place { repository, errand } = around.place;
        let (listed, too_many) = listed_for(around.root, digest);
        let holders = listed.into_iter().map(|listed| async move {
            // Of a nested index it is not known yet whether it is signed.
            let is_signed = around.is_signed || !listed.via.is_empty();
            let holder = self.holder(around, listed.digest, is_signed, freshness).await;
            (listed, holder)
        });
        let (found, holders) = tokio::join!(
            self.evidence(repository, digest, freshness, errand),
            futures::future::join_all(holders)
        );
        let at = holders.iter().filter_map(|(_, holder)| holder.as_ref().ok()).map(|(_, at)| *at).min();
        let at = at.map_or(found.at, |at| at.min(found.at));
        let holders =
            holders.into_iter().map(|(listed, holder)| (listed, holder.map(|(holder, _)| holder))).collect();
        Beside { digest, found, holders, too_many, at }
    }

    async fn holder(
        &self,
        around: &Around<'_>,
        digest: Digest,
        is_signed: bool,
        freshness: Freshness,
    ) -> Result<(Holder, Instant), FetchError> {
        let Place { repository, errand } = around.place;
        let home = around.home.unwrap_or(around.place);
        let ask = |room: Room| {
            let (discovery, owner) = (self.discovery(errand), self.discovery(&home.errand));
            let (repository, home) = ((*repository).clone(), home.repository.clone());
            let errand = errand.clone();
            async move {
                let holder =
                    discovery.in_index(&repository, (&owner, &home), digest, is_signed, room).await?;
                errand.add(holder.signatures.read, holder.bytes());
                Ok(holder)
            }
            .boxed()
        };
        // What was read in the image's name is told to whoever may read it there.
        let home = around.home.map(|home| (home.repository.clone(), home.errand.credential()));
        let attached = ((*repository).clone(), digest, self.trust_generation(), errand.credential());
        let key = (attached, is_signed, home);
        let dated = self.in_index.get(key, freshness, errand, repository.registry(), ask).await;
        let dated = dated.map_err(|error| self.told(repository, errand, error))?;
        Ok((dated.value, dated.at))
    }
}

impl Beside {
    /// Who said what is said beside the manifest. `known` is the evidence about the indexes.
    pub(super) fn join(self, around: &Around<'_>, known: &HashMap<Digest, Arc<SubjectEvidence>>) -> Joined {
        let Self { digest, found, holders, too_many, at } = self;
        let mut keyed = found.keyed.as_ref().clone();
        if holders.is_empty() {
            return Joined { digest, evidence: found.evidence, at, keyed };
        }
        let mut all = SubjectEvidence::clone(&found.evidence);
        for (listed, holder) in holders {
            let indexes = || listed.via.iter().chain([&around.digest]);
            let vouching =
                || indexes().filter_map(|index| known.get(index).map(|evidence| (index, evidence)));
            let of_indexes = || vouching().flat_map(|(index, evidence)| signatures(index, evidence));
            let holder = match holder {
                Ok(holder) => holder,
                // It may be signed itself.
                Err(gap) => {
                    all.gaps.push(gap);
                    continue;
                }
            };
            let own = &holder.signatures;
            let by: Vec<&Attestation> =
                signatures(&listed.digest, &own.evidence).chain(of_indexes()).collect();
            let (attributed, open) = attributed(listed.digest, &holder.said, digest, &by);
            all.gaps.extend(open);
            all.gaps.extend(own.evidence.gaps.iter().cloned());
            // What an index is not known to be signed by may be what would vouch.
            all.gaps.extend(vouching().flat_map(|(_, evidence)| evidence.gaps.iter().cloned()));
            if !by.is_empty() {
                all.gaps.extend(holder.unread);
            }
            let is_told = attributed.is_empty() && around.home.is_none();
            if let (true, Some(predicate_type)) = (is_told, holder.predicate_type) {
                all.attestations.push(Arc::new(Attestation {
                    layout: Layout::InIndex,
                    found_at: listed.digest,
                    finding: Finding::Unsigned { predicate_type },
                }));
            }
            // A signature that does not vouch says why.
            let vouches = |attestation: &Attestation| by.iter().any(|one| std::ptr::eq(*one, attestation));
            let others = own.evidence.attestations.iter().filter(|attestation| !vouches(attestation));
            all.attestations.extend(others.cloned());
            all.attestations.extend(attributed.into_iter().map(Arc::new));
            keyed.extend(own.keyed.iter().map(|(fingerprint, raw)| (*fingerprint, Arc::clone(raw))));
        }
        if too_many {
            let why = format!("the index lists more than {MAX_HOLDERS} attestation manifests for it");
            all.gaps.push(FetchError::not_inspected(why));
        }
        Joined { digest, evidence: Arc::new(all), at, keyed }
    }
}
