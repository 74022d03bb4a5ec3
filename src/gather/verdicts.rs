//! The verdicts of earlier reviews: a yes until something changes that it depends on, a no for seconds, what could not be found out never.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use jiff::Timestamp;
use moka::Equivalent;
use tokio::time::Instant;

use super::weigh::{self, capped};
use crate::domain::{
    digest::Digest,
    plan::Stage,
    verdict::{ImageVerdict, Problem, Reason},
    workload::Platforms,
};

/// How old evidence may be to say no: attestations arrive seconds after the push.
pub(super) const DENIAL_AGE: Duration = Duration::from_secs(5);
/// How many bytes of verdicts are kept.
const BYTES: u64 = 64 << 20;
/// The longest reference of which the verdict is kept: no valid one is longer.
const LONGEST: usize = 1024;

/// All that a verdict depends on, but for what the registry says; as it is asked for, with nothing copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question<'a> {
    /// `None`: every policy, whatever namespace it is for.
    pub(super) namespace: Option<&'a str>,
    pub(super) image: &'a str,
    /// What the tag stood for; `None` where the image's text alone decides.
    pub(super) resolved: Option<Digest>,
    pub(super) platforms: &'a Arc<Platforms>,
    pub(super) stage: Stage,
    pub(super) policies: u64,
    pub(super) trust: u64,
}

/// A [`Question`] as it is kept.
struct VerdictKey {
    namespace: Option<String>,
    image: String,
    resolved: Option<Digest>,
    platforms: Arc<Platforms>,
    stage: Stage,
    policies: u64,
    trust: u64,
}

impl From<Question<'_>> for VerdictKey {
    fn from(question: Question<'_>) -> Self {
        let Question { namespace, image, resolved, platforms, stage, policies, trust } = question;
        Self {
            namespace: namespace.map(ToOwned::to_owned),
            image: image.to_owned(),
            resolved,
            platforms: Arc::clone(platforms),
            stage,
            policies,
            trust,
        }
    }
}

impl Hash for VerdictKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question().hash(state);
    }
}

impl PartialEq for VerdictKey {
    fn eq(&self, other: &Self) -> bool {
        self.question() == other.question()
    }
}

impl Eq for VerdictKey {}

impl Equivalent<VerdictKey> for Question<'_> {
    fn equivalent(&self, key: &VerdictKey) -> bool {
        *self == key.question()
    }
}

impl VerdictKey {
    fn question(&self) -> Question<'_> {
        let Self { namespace, image, resolved, platforms, stage, policies, trust } = self;
        Question {
            namespace: namespace.as_deref(),
            image,
            resolved: *resolved,
            platforms,
            stage: *stage,
            policies: *policies,
            trust: *trust,
        }
    }

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

/// The verdicts that are kept.
pub(super) struct Verdicts(moka::sync::Cache<VerdictKey, Kept, RandomState>);

impl Default for Verdicts {
    fn default() -> Self {
        let weigher =
            |key: &VerdictKey, kept: &Kept| capped(key.bytes().saturating_add(weigh::verdict(&kept.verdict)));
        let cache = moka::sync::Cache::builder().max_capacity(BYTES).weigher(weigher);
        Self(cache.build_with_hasher(RandomState::new()))
    }
}

impl Verdicts {
    /// The verdict that is kept, where it still holds.
    pub(super) fn get(&self, question: Question<'_>) -> Option<Arc<ImageVerdict>> {
        Some(self.0.get(&question).filter(Kept::holds)?.verdict)
    }

    /// Keeps a verdict unless it says that something could not be found out.
    pub(super) fn keep(&self, question: Question<'_>, verdict: ImageVerdict) -> Arc<ImageVerdict> {
        let verdict = Arc::new(verdict);
        let keepable = question.image.len() <= LONGEST
            && !findings(&verdict).any(|problem| problem.reason.is_transient());
        if keepable {
            self.0.insert(question.into(), Kept { verdict: Arc::clone(&verdict), at: Instant::now() });
        }
        verdict
    }

    /// How many bytes are held.
    pub(super) fn bytes(&self) -> u64 {
        weigh::held(&self.0)
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
