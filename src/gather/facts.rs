//! The facts about an image, asked for in as few rounds as the layouts allow and kept as long as they are true.

mod beside;
mod known;

use std::{collections::HashMap, num::NonZero, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    discover::{Discovery, Gathered},
    flight::Freshness,
    image,
    in_index::{Holder, leading_to},
    keys::{KeyChecks, KeyedAttestations},
    lanes::{Errand, Lanes, Room},
    paced::Paced,
    ports::{Attestations, Observer, TrustRoots},
    weigh,
};
use crate::domain::{
    digest::Digest,
    evidence::{Attestation, FetchError, FetchErrorKind, ImageFacts, Root, SubjectEvidence},
    key::PublicKey,
    reference::{Reference, Repository},
    verdict::ImageVerdict,
    vouch::signatures,
};
use beside::Around;
pub use beside::Place;
pub use known::Known;

/// How long a tag is taken to stand for the same digest.
const TAG_AGE: Duration = Duration::from_secs(2);
/// How many bytes of facts are kept.
const FACTS_BYTES: u64 = 40 << 20;
/// How many bytes of the structure of images are kept.
const ROOTS_BYTES: u64 = 8 << 20;
/// How many bytes of what is known of manifests that indexes list.
const LISTED_BYTES: u64 = 2 << 20;
/// How many bytes of attestation manifests of indexes are kept.
const HOLDERS_BYTES: u64 = 16 << 20;
/// How many bytes of verifications are kept.
const VERIFIED_BYTES: u64 = 24 << 20;
/// How many bytes of tags are kept.
const TAGS_BYTES: u64 = 2 << 20;
/// How many manifests of one index are asked about.
const MAX_MANIFESTS: usize = 128;
/// How many other repositories are looked in for one image, over all its policies.
const MAX_PLACES: usize = 16;
/// How many manifests of one index are asked about at once.
const CONCURRENCY: usize = 16;

/// By the digest that it is about.
type Evidence = HashMap<Digest, Arc<SubjectEvidence>>;
/// In whose name it was asked.
type Credential = Option<Digest>;
/// The number is the trust roots' generation.
type EvidenceKey = (Repository, Digest, u64, Credential);
/// Where it is looked for; whether its layers are read although nothing is attached to it; where these are read, if not there.
type HolderKey = (EvidenceKey, bool, Option<(Repository, Credential)>);

/// What is known about images, and how to find out more.
pub struct Facts {
    discovery: Discovery,
    observer: Arc<dyn Observer>,
    lanes: Arc<Lanes>,
    tags: Paced<(Repository, String, Credential), Digest>,
    roots: Paced<(Repository, Digest, Credential), Arc<Root>>,
    /// Of manifests that indexes list: whether they are indexes themselves.
    listed: Paced<(Repository, Digest, Credential), bool>,
    evidence: Paced<EvidenceKey, Gathered>,
    in_index: Paced<HolderKey, Holder>,
    keys: KeyChecks,
}

/// What becomes of a listed manifest that the registry does not have.
#[derive(Clone, Copy)]
enum Missing {
    /// Nothing is known of it yet, and nothing covers it.
    Passes,
    /// An attestation covers it, and what comes under its digest need not be a manifest.
    Fails,
}

/// The evidence of one digest.
struct Found {
    evidence: Arc<SubjectEvidence>,
    at: Instant,
    keyed: Arc<KeyedAttestations>,
}

impl Facts {
    /// Nothing is known yet.
    pub fn new(
        source: Arc<dyn Attestations>,
        trust: Arc<dyn TrustRoots>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(VERIFIED_BYTES)
            .weigher(|_, attestation: &Arc<Attestation>| weigh::capped(weigh::attestation(attestation)))
            .build();
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let verifying = Arc::new(Semaphore::new(processors));
        let lanes = Arc::<Lanes>::default();
        Self {
            discovery: Discovery { source, trust, verified, verifying },
            observer,
            tags: Paced::new(TAGS_BYTES, |(repository, tag, _), _| {
                weigh::in_repository(repository, tag.len())
            }),
            roots: Paced::new(ROOTS_BYTES, |(repository, ..), root| {
                weigh::in_repository(repository, root.map_or(0, |root| weigh::root(root)))
            }),
            listed: Paced::new(LISTED_BYTES, |(repository, ..), _| weigh::in_repository(repository, 0)),
            evidence: Paced::new(FACTS_BYTES, |(repository, ..): &EvidenceKey, gathered| {
                weigh::in_repository(repository, gathered.map_or(0, Gathered::bytes))
            })
            // What is beyond a limit is there the next time too.
            .keeping(|gathered| {
                gathered.evidence.gaps.iter().all(|gap| gap.kind == FetchErrorKind::Incomplete)
            }),
            in_index: Paced::new(HOLDERS_BYTES, |((repository, ..), ..): &HolderKey, holder| {
                weigh::in_repository(repository, holder.map_or(0, Holder::bytes))
            })
            .keeping(Holder::is_whole),
            lanes,
            keys: KeyChecks::default(),
        }
    }

    /// What a review in `namespace` is allowed until `deadline`.
    pub fn errand(&self, namespace: Option<&str>, deadline: Instant) -> Errand {
        self.lanes.errand(namespace, deadline)
    }

    /// The generation of the trust roots that verify now.
    pub fn trust_generation(&self) -> u64 {
        self.discovery.trust.generation()
    }

    /// How many bytes each cache holds.
    pub fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.discovery.source.cache_bytes();
        let [evidence, verdicts] = self.lanes.held_bytes().map(|bytes| bytes.try_into().unwrap_or(u64::MAX));
        all.extend([
            ("reviewed_evidence", evidence),
            ("reviewed_verdicts", verdicts),
            ("facts", self.evidence.bytes().saturating_add(self.in_index.bytes())),
            ("images", self.roots.bytes().saturating_add(self.listed.bytes())),
            ("tags", self.tags.bytes()),
            ("verifications", weigh::held(&self.discovery.verified).saturating_add(self.keys.bytes())),
        ]);
        all
    }

    /// The digest a reference stands for: its own, or what its tag stands for now.
    ///
    /// # Errors
    /// What the registry failed with.
    pub async fn digest(&self, reference: &Reference, errand: &Errand) -> Result<Digest, FetchError> {
        let tag = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => return Ok(*digest),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let key = (reference.repository().clone(), tag, errand.credential());
        let freshness = Freshness::Within(TAG_AGE);
        self.observer.cache("tags", self.tags.peek(&key, freshness).is_some());
        let ask = |_room: Room| {
            let source = Arc::clone(errand.source(&self.discovery.source));
            let reference = reference.clone();
            async move {
                let resolved = source.resolve(&reference).await;
                resolved.map_err(|error| source.tell(reference.repository(), error).into())
            }
            .boxed()
        };
        let repository = reference.repository();
        let found = self.tags.get(key, freshness, errand, repository.registry(), ask).await;
        Ok(found.map_err(|error| self.told(repository, errand, error))?.value)
    }

    /// What `digest` is and the evidence that names or is attached to it, at home and elsewhere, at once.
    ///
    /// # Errors
    /// Where not even the image could be read. What could not be asked about attestations is a gap in the evidence.
    pub async fn of_root(
        &self,
        home: &Place<'_>,
        elsewhere: &[Place<'_>],
        digest: Digest,
        freshness: Freshness,
    ) -> Result<Known, FetchError> {
        let Place { repository, errand } = home;
        let ask = |room: Room| {
            let source = Arc::clone(errand.source(&self.discovery.source));
            let repository = (*repository).clone();
            async move { image::root(source.as_ref(), &repository, digest, room).await.map(Arc::new) }.boxed()
        };
        let key = ((*repository).clone(), digest, errand.credential());
        let root = self.roots.get(key, Freshness::Any, errand, repository.registry(), ask);
        let beyond = elsewhere.get(MAX_PLACES..).unwrap_or_default();
        let others = elsewhere.iter().take(MAX_PLACES).map(|place| async move {
            (place, self.evidence(place.repository, digest, freshness, &place.errand).await)
        });
        let (root, found, others) = tokio::join!(
            root,
            self.evidence(repository, digest, freshness, errand),
            futures::future::join_all(others)
        );
        let facts = ImageFacts {
            digest,
            root: root.map_err(|error| self.told(repository, errand, error))?.value,
            evidence: HashMap::from([(digest, found.evidence)]),
            elsewhere: HashMap::new(),
            key_checks: HashMap::new(),
            trust_roots: self.discovery.trust.known(),
        };
        let mut known = Known { facts, oldest: found.at, keyed: found.keyed.as_ref().clone() };
        for (place, Found { evidence, at, keyed }) in others {
            known.add(Some(place), digest, evidence, at, &keyed);
        }
        for place in beyond {
            let why = format!(
                "the policies name more than {MAX_PLACES} repositories, and {} is not asked",
                place.repository
            );
            known.add(
                Some(place),
                digest,
                Arc::new(SubjectEvidence::unknown(FetchError::not_inspected(why))),
                Instant::now(),
                &HashMap::new(),
            );
        }
        Ok(known)
    }

    /// Holds what is signed with keys against these.
    ///
    /// # Errors
    /// Where there was not enough time.
    pub async fn check_keys(
        &self,
        known: &mut Known,
        keys: &[&PublicKey],
        errand: &Errand,
    ) -> Result<(), FetchError> {
        if !keys.is_empty() && !known.keyed.is_empty() {
            let checks = self.keys.all(&self.discovery, keys, &known.keyed, errand.deadline).await?;
            known.facts.key_checks.extend(checks);
        }
        Ok(())
    }

    /// Adds the evidence of these manifests of the image's index, with what BuildKit put into the index beside them, at home and
    /// elsewhere, at once. Of those that are too many it is said that they were not asked about.
    ///
    /// # Errors
    /// Where one of them is an index, or the registry does not say what it is.
    pub async fn add_manifests(
        &self,
        known: &mut Known,
        home: &Place<'_>,
        elsewhere: &[Place<'_>],
        digests: Vec<Digest>,
        freshness: Freshness,
    ) -> Result<(), FetchError> {
        let mut digests: Vec<Digest> =
            digests.into_iter().filter(|digest| !known.facts.evidence.contains_key(digest)).collect();
        let beyond = digests.split_off(digests.len().min(MAX_MANIFESTS));
        let why = format!("more than {MAX_MANIFESTS} manifests of the index are not covered as a whole");
        known.leave_open(&beyond, &FetchError::not_inspected(why));
        let root = Arc::clone(&known.facts.root);
        let index = known.facts.digest;
        let nested = leading_to(&root, &digests);
        let places = std::iter::once((home, None))
            .chain(elsewhere.iter().take(MAX_PLACES).map(|place| (place, Some(home))));
        let asked = places.map(|(place, home)| {
            let attached = known.of(home.map(|_| place)).and_then(|found| found.get(&index));
            let is_signed = attached.is_some_and(|evidence| signatures(&index, evidence).next().is_some());
            let around = Around { place, home, root: &root, digest: index, is_signed };
            self.around(around, &nested, &digests, freshness)
        });
        let asked: Vec<_> = asked.collect();
        let (found, are_manifests) = tokio::join!(
            futures::future::join_all(asked),
            self.check_listed(home, &digests, Missing::Passes)
        );
        are_manifests?;
        for (around, nested, found) in found {
            let place = around.home.map(|_| around.place);
            for (digest, Found { evidence, at, keyed }) in nested {
                known.add(place, digest, evidence, at, &keyed);
            }
            for beside in found {
                let none = HashMap::new();
                let joined = beside.join(&around, known.of(place).unwrap_or(&none));
                known.add(place, joined.digest, joined.evidence, joined.at, &joined.keyed);
            }
        }
        Ok(())
    }

    /// Checks that what an index lists as manifests are manifests, as far as attestations about them cover them. An attestation of a
    /// listed manifest may be attached to the index around it, and then nothing was looked up by the manifest's own digest.
    ///
    /// # Errors
    /// Where one of them is an index, or the registry does not say what it is. One that the registry does not have may come later, as
    /// whatever it is.
    pub async fn check_covered(
        &self,
        known: &Known,
        home: &Place<'_>,
        verdict: &ImageVerdict,
    ) -> Result<(), FetchError> {
        if matches!(*known.facts.root, Root::Manifest(_)) {
            return Ok(());
        }
        let is_named = |digest: &Digest| verdict.proofs.iter().any(|proof| proof.subject == *digest);
        let listed = verdict.platforms.iter().map(|platform| platform.digest);
        let mut covered: Vec<Digest> = listed.filter(is_named).collect();
        covered.sort_unstable();
        covered.dedup();
        self.check_listed(home, &covered, Missing::Fails).await
    }

    /// Whether what an index lists as manifests are manifests.
    async fn check_listed(
        &self,
        home: &Place<'_>,
        digests: &[Digest],
        missing: Missing,
    ) -> Result<(), FetchError> {
        let Place { repository, errand } = home;
        let checks = digests.iter().map(|digest| async {
            let digest = *digest;
            let ask = |room: Room| {
                let source = Arc::clone(errand.source(&self.discovery.source));
                let repository = (*repository).clone();
                async move { image::is_index(source.as_ref(), &repository, digest, room).await }.boxed()
            };
            let key = ((*repository).clone(), digest, errand.credential());
            match self.listed.get(key, Freshness::Any, errand, repository.registry(), ask).await {
                Ok(dated) if dated.value => Err(FetchError {
                    kind: FetchErrorKind::Malformed,
                    detail: format!("the index lists {digest} as an image manifest, and it is an index"),
                }),
                Err(error) if error.kind == FetchErrorKind::NotFound => match missing {
                    Missing::Passes => Ok(()),
                    Missing::Fails => Err(self.told(repository, errand, error)),
                },
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            }
        });
        let results: Vec<_> = stream::iter(checks.collect::<Vec<_>>()).buffered(CONCURRENCY).collect().await;
        // A definite answer is told before what could not be found out.
        results
            .into_iter()
            .filter_map(Result::err)
            .min_by_key(|error| error.kind.is_transient())
            .map_or(Ok(()), Err)
    }

    /// What may be told of a failure, one of waiting too. What cannot be read was there.
    pub(super) fn told(&self, repository: &Repository, errand: &Errand, error: FetchError) -> FetchError {
        if error.kind == FetchErrorKind::Malformed {
            return error;
        }
        errand.source(&self.discovery.source).tell(repository, error)
    }

    /// Discovery with the errand's credentials. What the same bytes say is the same for everybody who has them.
    fn discovery(&self, errand: &Errand) -> Discovery {
        Discovery { source: Arc::clone(errand.source(&self.discovery.source)), ..self.discovery.clone() }
    }

    async fn evidence(
        &self,
        repository: &Repository,
        digest: Digest,
        freshness: Freshness,
        errand: &Errand,
    ) -> Found {
        let key = (repository.clone(), digest, self.trust_generation(), errand.credential());
        let ask = |room: Room| {
            let (discovery, repository) = (self.discovery(errand), repository.clone());
            let errand = errand.clone();
            async move {
                let gathered = discovery.subject(&repository, digest, room).await?;
                errand.add(gathered.read, gathered.bytes());
                Ok(gathered)
            }
            .boxed()
        };
        self.observer.cache("facts", self.evidence.peek(&key, freshness).is_some());
        match self.evidence.get(key, freshness, errand, repository.registry(), ask).await {
            Ok(dated) => {
                errand.hold_evidence(&dated.value.evidence, dated.value.bytes());
                Found { evidence: dated.value.evidence, at: dated.at, keyed: dated.value.keyed }
            }
            Err(gap) => Found {
                evidence: Arc::new(SubjectEvidence::unknown(self.told(repository, errand, gap))),
                at: Instant::now(),
                keyed: Arc::default(),
            },
        }
    }
}
