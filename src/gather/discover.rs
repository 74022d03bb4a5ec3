//! Discovery: every attestation of a digest, in every layout, verified. Finding one kind never hides another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;

use super::ports::{Attestations, Manifest, RawAttestation, RawContent, Referrer, TrustRoots};
use crate::domain::{
    digest::Digest,
    evidence::{Attestation, FetchError, FetchErrorKind, Finding, Layout, SubjectEvidence},
    reference::Repository,
};

/// The largest attestation.
const MAX_ATTESTATION: usize = 16 << 20;
/// How many attestations of one digest are looked at.
const MAX_ATTESTATIONS: usize = 256;
/// One more than are looked at, so that what is left out is told.
const LISTED: usize = MAX_ATTESTATIONS + 1;
/// How many bytes of attestations of one digest are read.
const MAX_TOTAL: usize = 32 << 20;
/// How many requests for one digest run at once.
const CONCURRENCY: usize = 8;

/// What discovery works with.
#[derive(Clone)]
pub struct Discovery {
    /// Where attestations are.
    pub source: Arc<dyn Attestations>,
    /// What verifies them.
    pub trust: Arc<dyn TrustRoots>,
    /// Verifications by content: the same bytes under the same roots give the same answer.
    pub verified: moka::sync::Cache<(Digest, u64), Arc<Attestation>>,
}

/// Evidence and how many bytes were read for it.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The evidence.
    pub evidence: Arc<SubjectEvidence>,
    /// The bytes of the attestations.
    pub bytes: usize,
}

/// A manifest that holds attestations, as far as it is needed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Holder {
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Either what was found or why it could not be asked.
type Found = Result<RawAttestation, Miss>;

/// Why there is nothing to verify.
enum Miss {
    /// It could not be asked for: while there is such a one, "there is none" cannot be said.
    Gap(FetchError),
    /// It is listed and cannot be used.
    Unusable(Layout, Digest, String),
}

impl Discovery {
    /// All evidence about `subject`: the referrers and the `.att` tag are asked for at once, then what they name.
    ///
    /// # Errors
    /// An internal error; what a registry failed with is a gap in the evidence.
    pub async fn subject(self, repository: Repository, subject: Digest) -> Result<Gathered, FetchError> {
        let budget = Budget::new();
        let (referrers, att) = tokio::join!(
            self.referrers(&repository, &subject, &budget),
            self.att_tag(&repository, &subject, &budget)
        );
        let mut gaps = Vec::new();
        let mut attestations: Vec<Arc<Attestation>> = Vec::new();
        let mut raws = Vec::new();
        for found in referrers.into_iter().chain(att) {
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
        let bytes = raws.iter().map(raw_size).fold(0, usize::saturating_add);
        attestations.extend(self.verify_all(raws).await?);
        Ok(Gathered { evidence: Arc::new(SubjectEvidence { attestations, gaps }), bytes })
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest, budget: &Budget) -> Vec<Found> {
        let listed = match self.source.referrers(repository, subject).await {
            Ok(listed) => listed,
            Err(error) => return vec![Err(miss(Layout::Referrer, *subject, error))],
        };
        let asked = listed.into_iter().map(|referrer| self.referrer(repository, referrer, budget));
        stream::iter(asked).buffered(CONCURRENCY).collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    /// The bundles of one referrer. What the list says of it is a hint, and often wrong: its manifest tells.
    async fn referrer(&self, repository: &Repository, referrer: Referrer, budget: &Budget) -> Vec<Found> {
        let manifest = match self.source.manifest(repository, &referrer.digest).await {
            Ok(manifest) => manifest,
            Err(error) => return vec![Err(miss(Layout::Referrer, referrer.digest, error))],
        };
        let Some(holder) = parse(&manifest) else {
            return vec![Err(Miss::Unusable(
                Layout::Referrer,
                referrer.digest,
                "the referrer's manifest cannot be parsed".into(),
            ))];
        };
        let types = [
            holder.artifact_type.as_deref(),
            holder.config.as_ref().map(|config| config.media_type.as_str()),
        ];
        let is_bundle = |kind: &str| kind.contains("sigstore.bundle");
        let whole = types.into_iter().flatten().any(is_bundle);
        let bundles = holder.layers.into_iter().filter(|layer| whole || is_bundle(&layer.media_type));
        let mut found = Vec::new();
        for layer in bundles.take(LISTED) {
            found.push(self.blob(repository, Layout::Referrer, &layer, budget).await.map(|bytes| {
                RawAttestation {
                    layout: Layout::Referrer,
                    found_at: layer.digest,
                    content: RawContent::Bundle(bytes),
                }
            }));
        }
        found
    }

    async fn att_tag(&self, repository: &Repository, subject: &Digest, budget: &Budget) -> Vec<Found> {
        let tag = format!("{}-{}.att", subject.algorithm(), subject.hex());
        let manifest = match self.source.tagged(repository, &tag).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![Err(miss(Layout::AttTag, *subject, error))],
        };
        let Some(holder) = parse(&manifest) else {
            let why = format!("the manifest of the tag {tag} cannot be parsed");
            return vec![Err(Miss::Unusable(Layout::AttTag, manifest.digest, why))];
        };
        let layers = holder.layers.into_iter().take(LISTED).map(|layer| async move {
            let envelope = self.blob(repository, Layout::AttTag, &layer, budget).await?;
            let content =
                RawContent::CosignLayer { envelope, annotations: layer.annotations.unwrap_or_default() };
            Ok(RawAttestation { layout: Layout::AttTag, found_at: layer.digest, content })
        });
        stream::iter(layers).buffered(CONCURRENCY).collect().await
    }

    /// A blob of the size that its descriptor states, as long as the budget lasts.
    async fn blob(
        &self,
        repository: &Repository,
        layout: Layout,
        descriptor: &Descriptor,
        budget: &Budget,
    ) -> Result<Bytes, Miss> {
        let Descriptor { digest, size, .. } = *descriptor;
        budget.take(size).map_err(|why| Miss::Unusable(layout, digest, why))?;
        self.source.blob(repository, &digest, size).await.map_err(|error| miss(layout, digest, error))
    }

    /// What a BuildKit attestation manifest in an index says. Nobody signed it.
    ///
    /// # Errors
    /// What the registry failed with.
    pub async fn in_index(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Option<Attestation>, FetchError> {
        let manifest = self.source.manifest(repository, &digest).await?;
        let predicate = parse(&manifest).and_then(|holder| {
            let types = holder
                .layers
                .into_iter()
                .filter_map(|layer| layer.annotations?.remove("in-toto.io/predicate-type"));
            types.into_iter().find(|kind| kind.starts_with("https://slsa.dev/provenance/"))
        });
        Ok(predicate.map(|predicate_type| Attestation {
            layout: Layout::InIndex,
            found_at: digest,
            finding: Finding::Unsigned { predicate_type },
        }))
    }

    /// Verification is expensive and synchronous: it has threads of its own.
    async fn verify_all(&self, raws: Vec<RawAttestation>) -> Result<Vec<Arc<Attestation>>, FetchError> {
        if raws.is_empty() {
            return Ok(Vec::new());
        }
        let (trust, known) = (Arc::clone(&self.trust), self.verified.clone());
        let work = move || {
            let (now, generation) = (Timestamp::now(), trust.generation());
            let verify = |raw: &RawAttestation| {
                let key = (fingerprint(raw), generation);
                known.get(&key).unwrap_or_else(|| {
                    let attestation = Arc::new(trust.verify(raw, now));
                    // A refusal may depend on the clock, "logged in the future" for one: it is looked at again.
                    if matches!(attestation.finding, Finding::Verified(_)) {
                        known.insert(key, Arc::clone(&attestation));
                    }
                    attestation
                })
            };
            raws.iter().map(verify).collect()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: "an internal error ended the verification of an attestation".to_owned(),
        })
    }
}

/// A definite answer about one attestation speaks against it alone; everything else leaves a gap.
fn miss(layout: Layout, digest: Digest, error: FetchError) -> Miss {
    if error.kind.is_transient() { Miss::Gap(error) } else { Miss::Unusable(layout, digest, error.detail) }
}

/// What may still be read for one digest.
struct Budget {
    bytes: AtomicUsize,
    attestations: AtomicUsize,
}

impl Budget {
    const fn new() -> Self {
        Self { bytes: AtomicUsize::new(MAX_TOTAL), attestations: AtomicUsize::new(MAX_ATTESTATIONS) }
    }

    /// Takes one attestation of `size` bytes, or says why it is not looked at.
    fn take(&self, size: usize) -> Result<(), String> {
        let take = |left: &AtomicUsize, amount: usize| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok()
        };
        if size > MAX_ATTESTATION || !take(&self.bytes, size) {
            return Err(format!(
                "it is too large: {size} bytes; {MAX_ATTESTATION} for one and {MAX_TOTAL} for all are read"
            ));
        }
        if !take(&self.attestations, 1) {
            return Err(format!(
                "more than {MAX_ATTESTATIONS} attestations are attached, and the others are not looked at"
            ));
        }
        Ok(())
    }
}

fn parse(manifest: &Manifest) -> Option<Holder> {
    serde_json::from_slice(&manifest.bytes).ok()
}

fn raw_size(raw: &RawAttestation) -> usize {
    match &raw.content {
        RawContent::Bundle(bytes) => bytes.len(),
        RawContent::CosignLayer { envelope, annotations } => {
            annotations.values().map(String::len).fold(envelope.len(), usize::saturating_add)
        }
    }
}

/// A digest over all that verification looks at.
fn fingerprint(raw: &RawAttestation) -> Digest {
    let mut content = Vec::with_capacity(raw_size(raw));
    let mut add = |part: &[u8]| {
        content.extend_from_slice(&part.len().to_be_bytes());
        content.extend_from_slice(part);
    };
    match &raw.content {
        RawContent::Bundle(bytes) => add(bytes),
        RawContent::CosignLayer { envelope, annotations } => {
            add(b"att");
            add(envelope);
            for (key, value) in annotations {
                add(key.as_bytes());
                add(value.as_bytes());
            }
        }
    }
    Digest::of(&content)
}
