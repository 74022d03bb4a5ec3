//! What may be under way at once: over all reviews, for one namespace, and within one review. Whoever controls what is asked for
//! (images of a pod) or what is answered (a registry) must not take the memory or the time of everybody else.
//!
//! Waiting for a turn counts against the deadline: too much to do becomes "could not find out in time", and never a hang.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{
    fair::{FairShare, FairShares},
    held::{HeldEvidence, ReviewHeld},
    ports::{Acting, Attestations},
    trim,
    weigh::capped,
};
use crate::domain::{
    condition::ReviewBudget,
    digest::Digest,
    evidence::{FetchError, FetchErrorKind, SubjectEvidence},
    verdict::ImageVerdict,
};

/// How many look-ups run at once, over all reviews. One runs on for a while after its caller has given up.
const LOOKUPS: usize = 128;
/// How many callers of one namespace are served at once.
const SHARE: usize = 64;
/// How many bytes of namespaces' shares are remembered.
const SHARES: u64 = 4 << 20;
/// How many bytes a look-up may hold, but for the few that need more.
const SMALL: usize = 512 << 10;
/// How many bytes one of those may hold.
const LARGE: usize = 20 << 20;
/// How many of those run at once.
pub const LARGE_LOOKUPS: usize = 2;
/// How many of those callers of one namespace are served at once.
const LARGE_SHARE: usize = 1;
/// How many bytes of attestations are read for one review, over all its images.
const REVIEW_BYTES: usize = 64 << 20;
/// How many bytes of what was read are held for one review.
const REVIEW_HELD: usize = 16 << 20;
/// How many KiB of rooms one review has at once.
const REVIEW_ROOMS: usize = 24 << 10;
/// How many bytes of evidence all reviews of one namespace hold at once.
const NAMESPACE_HELD: usize = 32 << 20;
/// How many bytes of evidence all reviews hold at once.
const ALL_HELD: usize = 64 << 20;
/// How many bytes of findings one review, all of one namespace, and all reviews hold at once. What is beyond is told without details.
const VERDICTS: [usize; 3] = [4 << 20, 8 << 20, 24 << 20];

/// The turns that there are.
pub struct Lanes {
    small: Arc<FairShares>,
    large: Arc<FairShares>,
    evaluations: Arc<Semaphore>,
    shares: moka::sync::Cache<String, Arc<Share>>,
    evidence: Arc<HeldEvidence>,
    verdicts: Arc<AtomicUsize>,
}

/// A namespace's share of them.
struct Share {
    small: LookupShare,
    large: LookupShare,
    /// Those of which nothing is denied: a registry that hangs takes no more than these from the others.
    lenient: Arc<Semaphore>,
    /// KiB of the large bodies that are read for it.
    reading: Arc<AtomicUsize>,
    evidence: Arc<HeldEvidence>,
    verdicts: Arc<AtomicUsize>,
    evaluations: Arc<Semaphore>,
}

/// Which look-ups a namespace has under way.
struct LookupShare {
    /// Who waits for one does so in the order of coming.
    turns: Arc<Semaphore>,
    under_way: Arc<AtomicUsize>,
}

impl LookupShare {
    fn new(most: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(most)), under_way: Arc::default() }
    }
}

/// A review's own account.
struct Own {
    /// KiB of the rooms that it may have at once.
    rooms: Semaphore,
    /// Bytes.
    read: AtomicUsize,
    /// Bytes.
    held: AtomicUsize,
    /// What it holds, counted for its namespace and for all.
    holds: ReviewHeld,
}

/// The turn of a look-up, held until it ends: also where nobody waits for it any more.
pub struct Turn {
    reading: Arc<AtomicUsize>,
    _lenient: Option<OwnedSemaphorePermit>,
    _of_namespace: OwnedSemaphorePermit,
    _of_all: FairShare,
}

tokio::task_local! {
    /// KiB of the large bodies that are read for the namespace for which this task looks something up.
    static READING: Arc<AtomicUsize>;
}

/// Of whom a body is read here: of a namespace, or of nobody that is known.
pub fn reader() -> Arc<AtomicUsize> {
    READING.try_with(Arc::clone).unwrap_or_default()
}

impl Turn {
    /// Does the work of this turn.
    pub async fn spend<T>(self, work: impl Future<Output = T>) -> T {
        READING.scope(Arc::clone(&self.reading), work).await
    }
}

/// A part of a review's own room, held as long as it waits.
pub struct OwnRoom<'a> {
    _permit: SemaphorePermit<'a>,
}

/// A permit for an evaluation that takes long. Dropping it releases it.
pub struct EvaluationPermit {
    _of_namespace: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// How many threads compute at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// How much a look-up may hold.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// So many bytes.
    pub bytes: usize,
    /// Whether there is no larger room to ask for.
    pub is_largest: bool,
}

impl Room {
    /// The largest.
    pub const LARGEST: Self = Self { bytes: LARGE, is_largest: true };
    /// Every room, in the order in which they are tried.
    pub const ALL: [Self; 2] = [Self { bytes: SMALL, is_largest: false }, Self::LARGEST];
}

/// Why a look-up has no answer.
#[derive(Debug)]
pub enum Stop {
    /// It needs more room.
    TooSmall,
    /// It failed.
    Failed(FetchError),
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            small: FairShares::new(LOOKUPS),
            large: FairShares::new(LARGE_LOOKUPS),
            evaluations: Arc::new(Semaphore::new(processors().max(2))),
            shares: moka::sync::Cache::builder()
                .max_capacity(SHARES)
                .weigher(|namespace: &String, _| capped(namespace.len().saturating_add(size_of::<Share>())))
                .time_to_idle(Duration::from_mins(10))
                .build(),
            evidence: Arc::default(),
            verdicts: Arc::default(),
        }
    }
}

impl Lanes {
    /// How many bytes of evidence and of verdicts reviews hold.
    pub fn held_bytes(&self) -> [usize; 2] {
        [self.evidence.bytes(), self.verdicts.load(Ordering::Relaxed)]
    }

    /// A review's share of the turns. `None`: of a caller that is in no namespace.
    pub fn errand(&self, namespace: Option<&str>, deadline: Instant) -> Errand {
        let share = self.shares.get_with_by_ref(namespace.unwrap_or_default(), || {
            Arc::new(Share {
                small: LookupShare::new(SHARE),
                large: LookupShare::new(LARGE_SHARE),
                lenient: Arc::new(Semaphore::new(SHARE / 2)),
                reading: Arc::default(),
                evaluations: Arc::new(Semaphore::new((processors() / 2).max(1))),
                evidence: Arc::default(),
                verdicts: Arc::default(),
            })
        });
        let holds = ReviewHeld::new(
            [Arc::clone(&share.evidence), Arc::clone(&self.evidence)],
            [Arc::clone(&share.verdicts), Arc::clone(&self.verdicts)],
        );
        let own = Arc::new(Own {
            rooms: Semaphore::new(REVIEW_ROOMS),
            read: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            holds,
        });
        Errand {
            deadline,
            conditions: ReviewBudget::default(),
            small: Arc::clone(&self.small),
            large: Arc::clone(&self.large),
            is_lenient: false,
            evaluations: Arc::clone(&self.evaluations),
            share,
            own,
            all_evidence: Arc::clone(&self.evidence),
            acting: None,
        }
    }
}

fn over() -> FetchError {
    FetchError { kind: FetchErrorKind::Unavailable, detail: "nothing is asked any more".to_owned() }
}

/// What one review is allowed.
#[derive(Clone)]
pub struct Errand {
    /// When it is over.
    pub deadline: Instant,
    /// What its conditions may cost.
    pub conditions: ReviewBudget,
    small: Arc<FairShares>,
    large: Arc<FairShares>,
    /// Whether nothing is denied because of it.
    is_lenient: bool,
    evaluations: Arc<Semaphore>,
    share: Arc<Share>,
    own: Arc<Own>,
    all_evidence: Arc<HeldEvidence>,
    /// In whose name registries are asked, where it is not the webhook's own.
    acting: Option<Acting>,
}

impl Errand {
    /// The same errand in another's name.
    #[must_use]
    pub fn acting(&self, acting: Option<Acting>) -> Self {
        Self { acting, ..self.clone() }
    }

    /// What tells in whose name it is done: what is learnt in one is not told to another.
    pub fn credential(&self) -> Option<Digest> {
        self.acting.as_ref().map(|acting| acting.credential)
    }

    /// Who is asked.
    pub fn source<'a>(&'a self, own: &'a Arc<dyn Attestations>) -> &'a Arc<dyn Attestations> {
        self.acting.as_ref().map_or(own, |acting| &acting.source)
    }

    fn check(&self) -> Result<(), FetchError> {
        let beyond = |count: &AtomicUsize, most: usize, what: &str| {
            (count.load(Ordering::Relaxed) > most).then(|| {
                late(format!(
                    "the attestations of this workload's images are more than the {} MiB that are {what} in one go",
                    most >> 20
                ))
            })
        };
        let read = beyond(&self.own.read, REVIEW_BYTES, "read");
        let own = read.or_else(|| beyond(&self.own.held, REVIEW_HELD, "held"));
        own.or_else(|| self.check_others()).map_or(Ok(()), Err)
    }

    /// Whether reviews, this one included, hold more than they may.
    fn check_others(&self) -> Option<FetchError> {
        let held = |whose: &str, most: usize| {
            late(format!(
                "could not find out in time: {whose} hold more than the {} MiB of attestations that are held at once",
                most >> 20
            ))
        };
        if self.share.evidence.bytes() > NAMESPACE_HELD {
            return Some(held("the reviews of this namespace", NAMESPACE_HELD));
        }
        (self.all_evidence.bytes() > ALL_HELD).then(|| held("all reviews together", ALL_HELD))
    }

    /// Counts evidence as held until the review ends.
    pub fn hold_evidence(&self, evidence: &Arc<SubjectEvidence>, bytes: usize) {
        self.own.holds.add_evidence(evidence, bytes);
    }

    /// Counts a verdict as held until the review ends; one that is too large by then is told without details.
    pub fn hold_verdict(&self, verdict: Arc<ImageVerdict>) -> Arc<ImageVerdict> {
        let held = self.own.holds.verdict_bytes();
        let left = held.into_iter().zip(VERDICTS).map(|(held, most)| most.saturating_sub(held)).min();
        let limit = left.unwrap_or_default().clamp(trim::SMALLEST, trim::LARGEST);
        let verdict = trim::trimmed_shared(verdict, limit);
        self.own.holds.add_verdict(trim::weight(&verdict));
        verdict
    }

    /// The same errand, to be done sooner.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// The same errand, because of which nothing is denied.
    #[must_use]
    pub fn lenient(&self) -> Self {
        Self { is_lenient: true, ..self.clone() }
    }

    /// How much time is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A turn for a look-up: of the namespace's and of all that there are; beside it a part of the review's own room.
    ///
    /// # Errors
    /// `Deadline` where there is none in time, or where the review has read its bytes.
    pub async fn turn(&self, room: Room) -> Result<(OwnRoom<'_>, Turn), FetchError> {
        let kib = u32::try_from(room.bytes >> 10).unwrap_or(u32::MAX);
        let own = timeout_at(self.deadline, self.own.rooms.acquire_many(kib)).await;
        let own = own.map_err(|_| {
            late(
                "could not find out in time: too much was looked up for this workload all the while"
                    .to_owned(),
            )
        })?;
        let (turns, share, count) = if room.is_largest {
            (&self.large, &self.share.large, LARGE_SHARE)
        } else {
            (&self.small, &self.share.small, SHARE)
        };
        let of = |turns: &Arc<Semaphore>| Arc::clone(turns).acquire_owned();
        let of_namespace = async {
            let lenient = if self.is_lenient { Some(of(&self.share.lenient).await?) } else { None };
            Ok((lenient, of(&share.turns).await?))
        };
        let of_namespace: Result<_, AcquireError> = timeout_at(self.deadline, of_namespace).await.map_err(|_| {
            late(format!(
                "could not find out in time: {count} look-ups for this namespace were under way all the while"
            ))
        })?;
        let of_all = timeout_at(self.deadline, turns.take(&share.under_way, 1)).await.map_err(|_| {
            late(
                "could not find out in time: too much was looked up for other namespaces all the while"
                    .to_owned(),
            )
        })?;
        // Others of the review may have read while this one waited.
        self.check()?;
        let (lenient, of_namespace) = of_namespace.map_err(|_closed| over())?;
        let reading = Arc::clone(&self.share.reading);
        let turn = Turn { reading, _lenient: lenient, _of_namespace: of_namespace, _of_all: of_all };
        Ok((OwnRoom { _permit: own.map_err(|_closed| over())? }, turn))
    }

    /// A permit for an evaluation that takes long: of the namespace's, and of all that there are.
    ///
    /// # Errors
    /// `Deadline` where there is none in time.
    pub async fn evaluation(&self) -> Result<EvaluationPermit, FetchError> {
        let of = |permits: &Arc<Semaphore>| Arc::clone(permits).acquire_owned();
        let both = async { Ok((of(&self.share.evaluations).await?, of(&self.evaluations).await?)) };
        let permits: Result<_, AcquireError> =
            tokio::time::timeout_at(self.deadline, both).await.map_err(|_| {
                late("could not find out in time: other images were evaluated all the while".to_owned())
            })?;
        let (of_namespace, of_all) = permits.map_err(|_closed| over())?;
        Ok(EvaluationPermit { _of_namespace: of_namespace, _of_all: of_all })
    }

    /// So much was read on it, and so much of that is held.
    pub fn add(&self, read: usize, held: usize) {
        self.own.read.fetch_add(read, Ordering::Relaxed);
        self.own.held.fetch_add(held, Ordering::Relaxed);
    }
}

fn late(detail: String) -> FetchError {
    FetchError { kind: FetchErrorKind::Deadline, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_review_reads_so_much_and_no_more() {
        let soon = Instant::now() + Duration::from_secs(5);
        for (read, held) in [(1, 0), (0, 1)] {
            let errand = Lanes::default().errand(Some("n"), soon);
            errand.add(REVIEW_BYTES, REVIEW_HELD);
            assert!(errand.turn(Room::ALL[0]).await.is_ok());
            errand.add(read, held);
            let told = errand.turn(Room::ALL[0]).await.err().map(|error| error.kind);
            assert_eq!(told, Some(FetchErrorKind::Deadline));
        }
    }

    #[tokio::test]
    async fn a_review_has_so_much_room_at_once_and_no_more() {
        let soon = Instant::now() + Duration::from_millis(20);
        let lanes = Lanes::default();
        let errand = lanes.errand(Some("n"), soon);
        let large = errand.turn(Room::LARGEST).await;
        assert!(large.is_ok() && errand.turn(Room::ALL[0]).await.is_ok());
        let told = errand.turn(Room::LARGEST).await.err().map(|error| error.kind);
        assert_eq!(told, Some(FetchErrorKind::Deadline));
        // It is the review's room, whoever of the review asks and in whose name, and no other review's.
        assert!(errand.acting(None).turn(Room::LARGEST).await.is_err());
        assert!(lanes.errand(Some("m"), soon).turn(Room::LARGEST).await.is_ok());
        drop(large);
        assert!(errand.turn(Room::LARGEST).await.is_ok());
    }

    #[tokio::test]
    async fn b6_one_namespaces_evaluations_leave_room_for_anothers() {
        let soon = Instant::now() + Duration::from_millis(20);
        let lanes = Lanes::default();
        let busy = lanes.errand(Some("busy"), soon);
        let mut held = Vec::new();
        while let Ok(permit) = busy.evaluation().await {
            held.push(permit);
        }
        assert_eq!(held.len(), (processors() / 2).max(1));
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(lanes.errand(Some("other"), soon).evaluation().await.is_ok());
        let told = lanes.errand(Some("busy"), soon).evaluation().await.err().map(|error| error.kind);
        assert_eq!(told, Some(FetchErrorKind::Deadline));
        drop(held);
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(lanes.errand(Some("busy"), soon).evaluation().await.is_ok());
    }

    #[tokio::test]
    async fn a_namespace_takes_no_more_than_its_share() {
        let lanes = Lanes::default();
        let soon = Instant::now() + Duration::from_millis(20);
        let busy = lanes.errand(Some("busy"), soon);
        let also = lanes.errand(Some("busy"), soon);
        let each = (0..SHARE).map(|n| if n % 2 == 0 { &busy } else { &also }.turn(Room::ALL[0]));
        let held = futures::future::join_all(each).await;
        assert!(held.iter().all(Result::is_ok));
        // Of the same namespace, but another review.
        let told = lanes.errand(Some("busy"), soon).turn(Room::ALL[0]).await.err().map(|error| error.kind);
        assert_eq!(told, Some(FetchErrorKind::Deadline));
        assert!(lanes.errand(Some("other"), soon).turn(Room::ALL[0]).await.is_ok());
        drop(held);
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(lanes.errand(Some("busy"), soon).turn(Room::ALL[0]).await.is_ok());
    }
}
