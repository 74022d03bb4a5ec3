//! The verdicts of earlier reviews: a yes until something changes that it depends on, a no for seconds, what could not be found out never.

use std::{sync::Arc, time::Duration};

use ahash::RandomState;
use jiff::Timestamp;
use moka::Equivalent;
use tokio::time::Instant;

use super::{
    trim,
    weigh::{self, capped},
};
use crate::domain::{
    digest::Digest,
    plan::Stage,
    verdict::{ImageVerdict, Problem, Reason},
    workload::Platforms,
};

/// How old evidence may be to say no: attestations arrive seconds after the push.
pub(super) const DENIAL_AGE: Duration = Duration::from_secs(5);
/// How many bytes of verdicts are kept for the namespaces of one part, at most: what one namespace can take from others.
const PART_BYTES: u64 = 3 << 20;
/// How many parts there are.
const PARTS: usize = 16;
/// The longest reference of which the verdict is kept: no valid one is longer.
const LONGEST: usize = 1024;

/// All that a verdict depends on, but for what the registry says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked<T, P> {
    /// `None`: every policy, whatever namespace it is for.
    pub(super) namespace: Option<T>,
    pub(super) image: T,
    /// What the tag stood for; `None` where the image's text alone decides.
    pub(super) resolved: Option<Digest>,
    pub(super) platforms: P,
    pub(super) stage: Stage,
    pub(super) policies: u64,
    pub(super) trust: u64,
}

/// As it is asked for, with nothing copied.
pub(super) type Question<'a> = Asked<&'a str, &'a Arc<Platforms>>;

/// As it is kept; hashed like its question, as strings and what is shared are.
type VerdictKey = Asked<String, Arc<Platforms>>;

impl Equivalent<VerdictKey> for Question<'_> {
    fn equivalent(&self, key: &VerdictKey) -> bool {
        let VerdictKey { namespace, image, resolved, platforms, stage, policies, trust } = key;
        let namespace = namespace.as_deref();
        let (resolved, stage, policies, trust) = (*resolved, *stage, *policies, *trust);
        *self == Question { namespace, image, resolved, platforms, stage, policies, trust }
    }
}

impl From<Question<'_>> for VerdictKey {
    fn from(question: Question<'_>) -> Self {
        let Question { namespace, image, resolved, platforms, stage, policies, trust } = question;
        let (namespace, image) = (namespace.map(ToOwned::to_owned), image.to_owned());
        Self { namespace, image, resolved, platforms: Arc::clone(platforms), stage, policies, trust }
    }
}

impl VerdictKey {
    fn bytes(&self) -> usize {
        let namespace = self.namespace.as_ref().map_or(0, String::len);
        [size_of::<Self>(), namespace, self.image.len(), weigh::platforms(&self.platforms)].iter().sum()
    }
}

#[derive(Clone)]
struct Kept {
    verdict: Arc<ImageVerdict>,
    at: Instant,
}

impl Kept {
    fn holds(&self) -> bool {
        let in_time = self.verdict.valid_until.is_none_or(|end| Timestamp::now() < end);
        in_time && (is_settled(&self.verdict) || self.at.elapsed() <= DENIAL_AGE)
    }
}

/// The verdicts that are kept. A namespace is in one part, by chance: one that fills its part takes nothing from those in others.
pub(super) struct Verdicts {
    parts: [moka::sync::Cache<VerdictKey, Kept, RandomState>; PARTS],
    hasher: RandomState,
}

impl Default for Verdicts {
    fn default() -> Self {
        let part = |_| {
            let weigher = |key: &VerdictKey, kept: &Kept| {
                capped(key.bytes().saturating_add(weigh::verdict(&kept.verdict)))
            };
            let cache = moka::sync::Cache::builder().max_capacity(PART_BYTES).weigher(weigher);
            cache.build_with_hasher(RandomState::new())
        };
        Self { parts: std::array::from_fn(part), hasher: RandomState::new() }
    }
}

impl Verdicts {
    fn part(&self, namespace: Option<&str>) -> Option<&moka::sync::Cache<VerdictKey, Kept, RandomState>> {
        let hash = usize::try_from(self.hasher.hash_one(namespace) & 0xffff).unwrap_or_default();
        self.parts.get(hash % PARTS)
    }

    /// The verdict that is kept, where it still holds.
    pub(super) fn get(&self, question: Question<'_>) -> Option<Arc<ImageVerdict>> {
        Some(self.part(question.namespace)?.get(&question).filter(Kept::holds)?.verdict)
    }

    /// Keeps a verdict unless it says that something could not be found out. One that says very much is trimmed.
    pub(super) fn keep(&self, question: Question<'_>, verdict: ImageVerdict) -> Arc<ImageVerdict> {
        let verdict = Arc::new(trim::trimmed(verdict, trim::LARGEST));
        let keepable = question.image.len() <= LONGEST
            && !findings(&verdict).any(|problem| problem.reason.is_transient());
        if let Some(part) = self.part(question.namespace).filter(|_| keepable) {
            part.insert(question.into(), Kept { verdict: Arc::clone(&verdict), at: Instant::now() });
        }
        verdict
    }

    /// How many bytes are held.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(weigh::held).sum()
    }
}

/// All that was found.
pub(super) fn findings(verdict: &ImageVerdict) -> impl Iterator<Item = &Problem> {
    verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit)
}

/// Whether nothing that the registry may say later changes the verdict for the better.
pub(super) fn is_settled(verdict: &ImageVerdict) -> bool {
    findings(verdict).all(|problem| {
        matches!(
            problem.reason,
            Reason::PlatformMissing
                | Reason::UnpinnedTag
                | Reason::UnmatchedImage
                | Reason::InvalidReference
                | Reason::TooManyImages
                | Reason::InvalidPolicy
        )
    })
}
