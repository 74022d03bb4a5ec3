//! Discovery: every attestation of a digest, in every layout, verified. Finding one kind never hides another.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use tokio::sync::Semaphore;

use super::{
    budget::{Budget, LISTED, Unread},
    keys::KeyedAttestations,
    lanes::{Room, Stop},
    ports::{Attestations, Manifest, RawAttestation, RawContent, Referrer, ReferrerList, TrustRoots},
    weigh,
};
use crate::{
    domain::json_limits::has_too_many_values,
    domain::{
        digest::Digest,
        evidence::{Attestation, FetchError, FetchErrorKind, Finding, Layout, SubjectEvidence},
        reference::Repository,
    },
};

/// How many referrers of one digest are inspected.
const MAX_REFERRERS: usize = 256;
/// How many requests for one digest run at once.
const CONCURRENCY: usize = 8;
/// How long verification may take for one digest; real attestations take a millisecond each.
const VERIFICATION: Duration = Duration::from_secs(3);
/// How long one digest's verification goes on before it is another one's turn.
const SLICE: Duration = Duration::from_millis(20);
/// How much memory may be held by what was read of one digest's attestations.
const HELD: usize = 10 << 20;
/// What is larger is verified again rather than kept: a few of these would leave no room for others.
const KEPT: usize = 4 << 20;

/// What discovery works with.
#[derive(Clone)]
pub struct Discovery {
    /// Where attestations are.
    pub source: Arc<dyn Attestations>,
    /// What verifies them.
    pub trust: Arc<dyn TrustRoots>,
    /// Verifications by content: the same bytes under the same roots give the same answer.
    pub verified: moka::sync::Cache<(Digest, u64), Arc<Attestation>>,
    /// How many verifications run at once: no more than there are processors.
    pub verifying: Arc<Semaphore>,
}

/// Evidence and how many bytes were read for it.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The evidence.
    pub evidence: Arc<SubjectEvidence>,
    /// The bytes that were read, manifests included.
    pub read: usize,
    /// The attestations among them that are signed with keys.
    pub keyed: Arc<KeyedAttestations>,
}

impl Gathered {
    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        let keyed = self.keyed.values().map(|raw| raw.size()).fold(0, usize::saturating_add);
        weigh::evidence(&self.evidence).saturating_add(keyed)
    }
}

/// A manifest that holds attestations, as far as it is needed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holder {
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    #[serde(default, deserialize_with = "null_is_default")]
    size: usize,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, Option<String>>,
}

impl Descriptor {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)?.as_deref()
    }

    /// All annotations; Go reads `null` as an empty text.
    fn into_annotations(self) -> BTreeMap<String, String> {
        self.annotations.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }
}

/// `null` is the same as nothing, as Go reads it.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Either what was found or why it could not be asked.
pub(super) type Found = Result<RawAttestation, Miss>;

/// What became of an attestation; with what it was, where it is signed with a key and will be held against some.
type Checked = (Arc<Attestation>, Option<RawAttestation>);

/// Why there is nothing to verify.
pub(super) enum Miss {
    /// It could not be asked for: while there is such a one, "there is none" cannot be said.
    Gap(FetchError),
    /// It is listed and cannot be used.
    Unusable(Layout, Digest, String),
}

impl Discovery {
    /// All evidence about `subject`: the referrers and the `.att` tag are asked for at once, then what they name.
    ///
    /// # Errors
    /// A room that is too small, or an internal error; what a registry failed with is a gap in the evidence.
    pub async fn subject(
        &self,
        repository: &Repository,
        subject: Digest,
        room: Room,
    ) -> Result<Gathered, Stop> {
        let budget = Budget::new(room);
        let (referrers, att) = tokio::join!(
            self.referrers(repository, &subject, &budget),
            self.att_tag(repository, &subject, &budget)
        );
        if budget.wants_more() {
            return Err(Stop::TooSmall);
        }
        self.gathered(referrers.into_iter().chain(att), &budget).await
    }

    /// Verifies what was found.
    pub(super) async fn gathered(
        &self,
        all: impl IntoIterator<Item = Found>,
        budget: &Budget,
    ) -> Result<Gathered, Stop> {
        let mut gaps = Vec::new();
        let mut attestations: Vec<Arc<Attestation>> = Vec::new();
        let mut raws = Vec::new();
        for found in all {
            match found {
                Ok(raw) => raws.push(raw),
                Err(Miss::Gap(error)) => gaps.push(error),
                Err(Miss::Unusable(layout, found_at, why)) => {
                    attestations.push(Arc::new(Attestation {
                        layout,
                        found_at,
                        finding: Finding::Malformed(why),
                    }));
                }
            }
        }
        let (verified, unfinished) = self.verify_all(raws).await?;
        let mut keyed = KeyedAttestations::new();
        for (attestation, raw) in verified {
            if let (Finding::Keyed(found), Some(raw)) = (&attestation.finding, raw) {
                keyed.insert(found.fingerprint, Arc::new(raw));
            }
            attestations.push(attestation);
        }
        gaps.extend(unfinished);
        let evidence = Arc::new(SubjectEvidence { attestations, gaps });
        Ok(Gathered { evidence, read: budget.used(), keyed: Arc::new(keyed) })
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest, budget: &Budget) -> Vec<Found> {
        let listed = self.source.list_referrers(repository, subject).await;
        self.listed(repository, Layout::Referrer, subject, listed, budget).await
    }

    /// What the listed referrers of `subject` hold.
    pub(super) async fn listed(
        &self,
        repository: &Repository,
        layout: Layout,
        subject: &Digest,
        listed: ReferrerList,
        budget: &Budget,
    ) -> Vec<Found> {
        let ReferrerList { referrers, unlisted } = listed;
        let beyond = referrers.len().saturating_sub(MAX_REFERRERS);
        let asked = referrers.into_iter().take(MAX_REFERRERS);
        let asked = asked.map(|referrer| self.referrer(repository, layout, referrer, budget));
        let inspected: Vec<Vec<Found>> = stream::iter(asked).buffered(CONCURRENCY).collect().await;
        let mut found: Vec<Found> = inspected.into_iter().flatten().collect();
        found.extend(
            unlisted
                .into_iter()
                .map(|error| Err(miss(layout, *subject, self.source.tell(repository, error)))),
        );
        if beyond > 0 {
            found.push(Err(not_reached(format!(
                "{beyond} of the referrers of {subject} in {repository} are beyond the first {MAX_REFERRERS}"
            ))));
        }
        found
    }

    /// The bundles of one referrer. What the list says of it is a hint, and often wrong: its manifest tells.
    async fn referrer(
        &self,
        repository: &Repository,
        layout: Layout,
        referrer: Referrer,
        budget: &Budget,
    ) -> Vec<Found> {
        if budget.wants_more() {
            // All of it begins anew.
            return Vec::new();
        }
        let manifest = match self.source.manifest(repository, &referrer.digest).await {
            Ok(manifest) => manifest,
            Err(error) => {
                return vec![Err(miss(layout, referrer.digest, self.source.tell(repository, error)))];
            }
        };
        if let Err(unread) = budget.take(manifest.bytes.len()) {
            return vec![Err(unread_miss(layout, referrer.digest, unread))];
        }
        let Some(holder) = parse(&manifest) else {
            return vec![Err(Miss::Unusable(
                layout,
                referrer.digest,
                "the referrer's manifest cannot be parsed".into(),
            ))];
        };
        drop(manifest);
        let types = [
            holder.artifact_type.as_deref(),
            holder.config.as_ref().map(|config| config.media_type.as_str()),
        ];
        let is_bundle = |kind: &str| kind.contains("sigstore.bundle");
        let whole = types.into_iter().flatten().any(is_bundle);
        let bundles = holder.layers.into_iter().filter(|layer| whole || is_bundle(&layer.media_type));
        let mut found = Vec::new();
        for layer in bundles.take(LISTED) {
            found.push(self.blob(repository, layout, &layer, budget).await.map(|bytes| RawAttestation {
                layout,
                found_at: layer.digest,
                content: RawContent::Bundle(bytes),
            }));
        }
        found
    }

    async fn att_tag(&self, repository: &Repository, subject: &Digest, budget: &Budget) -> Vec<Found> {
        let tag = format!("{}-{}.att", subject.algorithm(), subject.hex());
        let manifest = match self.source.tagged(repository, &tag).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Vec::new(),
            Err(error) => {
                return vec![Err(miss(Layout::AttTag, *subject, self.source.tell(repository, error)))];
            }
        };
        if let Err(unread) = budget.take(manifest.bytes.len()) {
            return vec![Err(unread_miss(Layout::AttTag, manifest.digest, unread))];
        }
        let Some(holder) = parse(&manifest) else {
            let why = format!("the manifest of the tag {tag} cannot be parsed");
            return vec![Err(Miss::Unusable(Layout::AttTag, manifest.digest, why))];
        };
        // cosign adds a layer behind those that are there.
        let layers = holder.layers.into_iter().rev().take(LISTED).map(|layer| async move {
            let envelope = self.blob(repository, Layout::AttTag, &layer, budget).await?;
            let found_at = layer.digest;
            let content = RawContent::CosignLayer { envelope, annotations: layer.into_annotations() };
            Ok(RawAttestation { layout: Layout::AttTag, found_at, content })
        });
        stream::iter(layers).buffered(CONCURRENCY).collect().await
    }

    /// A blob of the size that its descriptor states, as long as the budget lasts.
    pub(super) async fn blob(
        &self,
        repository: &Repository,
        layout: Layout,
        descriptor: &Descriptor,
        budget: &Budget,
    ) -> Result<Bytes, Miss> {
        let Descriptor { digest, size, .. } = *descriptor;
        budget.take_attestation(layout, size).map_err(|unread| unread_miss(layout, digest, unread))?;
        self.source
            .blob(repository, &digest, size)
            .await
            .map_err(|error| miss(layout, digest, self.source.tell(repository, error)))
    }

    /// Verification is expensive and synchronous: it has threads of its own, and no digest keeps them for long. What was not verified
    /// in time is a gap.
    async fn verify_all(
        &self,
        raws: Vec<RawAttestation>,
    ) -> Result<(Vec<Checked>, Option<FetchError>), FetchError> {
        let (mut left, mut all, mut spent) = (raws.into_iter(), Vec::new(), Duration::ZERO);
        let (mut held, mut beyond) = (0_usize, 0_usize);
        while left.len() > 0 {
            if spent > VERIFICATION {
                let detail = format!(
                    "{} attestations could not be verified in time: the {} before them took more than {} seconds",
                    left.len(),
                    all.len(),
                    VERIFICATION.as_secs()
                );
                return Ok((all, Some(FetchError { kind: FetchErrorKind::Deadline, detail })));
            }
            let turn = Arc::clone(&self.verifying).acquire_owned().await;
            let (trust, known) = (Arc::clone(&self.trust), self.verified.clone());
            let work = move || {
                // Kept for as long as the thread is busy, whether or not somebody still waits for it.
                let _turn = turn;
                let (begun, mut done) = (Instant::now(), Vec::new());
                while begun.elapsed() < SLICE
                    && let Some(raw) = left.next()
                {
                    let found = verify(trust.as_ref(), &known, &raw);
                    // What a key may have signed is kept as it was found, beside what was read of it.
                    let beside = if matches!(found.finding, Finding::Keyed(_)) { raw.size() } else { 0 };
                    let Some(found) = within(&mut held, found, beside) else {
                        beyond = beyond.saturating_add(1);
                        continue;
                    };
                    let kept = matches!(found.finding, Finding::Keyed(_)).then_some(raw);
                    done.push((found, kept));
                }
                (left, done, (held, beyond), begun.elapsed())
            };
            let (rest, done, now, took) =
                tokio::task::spawn_blocking(work).await.map_err(|_| FetchError {
                    kind: FetchErrorKind::Unavailable,
                    detail: "an internal error ended the verification of an attestation".to_owned(),
                })?;
            (left, (held, beyond)) = (rest, now);
            all.extend(done);
            spent = spent.saturating_add(took);
        }
        let unheld = (beyond > 0).then(|| {
            let held = HELD >> 20;
            FetchError::not_inspected(format!(
                "the statements of {beyond} do not fit into the {held} MiB that are held"
            ))
        });
        Ok((all, unheld))
    }
}

/// What is kept of an attestation, with so much beside it; `None` where those before it leave no room for it.
fn within(held: &mut usize, attestation: Arc<Attestation>, beside: usize) -> Option<Arc<Attestation>> {
    let size = weigh::attestation(&attestation).saturating_add(beside);
    if size > HELD {
        let why = format!("its statement is larger than {} MiB when it is read", HELD >> 20);
        return Some(Arc::new(Attestation {
            finding: Finding::Malformed(why),
            ..attestation.as_ref().clone()
        }));
    }
    *held = held.checked_add(size).filter(|sum| *sum <= HELD)?;
    Some(attestation)
}

fn verify(
    trust: &dyn TrustRoots,
    known: &moka::sync::Cache<(Digest, u64), Arc<Attestation>>,
    raw: &RawAttestation,
) -> Arc<Attestation> {
    let key = (raw.fingerprint(), trust.generation());
    if let Some(found) = known.get(&key) {
        // The same bytes may be found in several places.
        if (found.layout, found.found_at) == (raw.layout, raw.found_at) {
            return found;
        }
        let finding = found.finding.clone();
        return Arc::new(Attestation { layout: raw.layout, found_at: raw.found_at, finding });
    }
    let attestation = Arc::new(trust.verify(raw, Timestamp::now()));
    // A refusal may depend on the clock, "logged in the future" for one: it is looked at again.
    let is_signed = matches!(attestation.finding, Finding::Verified(_) | Finding::Keyed(_));
    if is_signed && weigh::attestation(&attestation) <= KEPT {
        known.insert(key, Arc::clone(&attestation));
    }
    attestation
}

/// A definite answer about one attestation speaks against it alone; everything else leaves a gap.
fn miss(layout: Layout, digest: Digest, error: FetchError) -> Miss {
    if error.kind.is_transient() { Miss::Gap(error) } else { Miss::Unusable(layout, digest, error.detail) }
}

/// What is too large is unusable by itself; what was not reached is not known.
fn unread_miss(layout: Layout, digest: Digest, unread: Unread) -> Miss {
    match unread {
        Unread::TooLarge(why) => Miss::Unusable(layout, digest, why),
        Unread::NotReached(why) => not_reached(why),
    }
}

fn not_reached(why: String) -> Miss {
    Miss::Gap(FetchError::not_inspected(why))
}

pub(super) fn parse(manifest: &Manifest) -> Option<Holder> {
    if has_too_many_values(&manifest.bytes) {
        return None;
    }
    serde_json::from_str(std::str::from_utf8(&manifest.bytes).ok()?).ok()
}
