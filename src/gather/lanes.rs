//! What may be under way at once: over all reviews, for one namespace, and within one review. Whoever controls what is asked for
//! (images of a pod) or what is answered (a registry) must not take the memory or the time of everybody else.
//!
//! Waiting for a turn counts against the deadline: too much to do becomes "could not find out in time", and never a hang.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::ports::{Acting, Attestations};
use crate::domain::{
    digest::Digest,
    evidence::{FetchError, FetchErrorKind},
};

/// How many look-ups run at once, over all reviews. One runs on for a while after its caller has given up.
const LOOKUPS: usize = 256;
/// How many callers of one namespace are served at once.
const SHARE: usize = 64;
/// How many namespaces have a share that is remembered.
const SHARES: u64 = 10_000;
/// How many bytes a look-up may hold, but for the few that need more.
const SMALL: usize = 512 << 10;
/// How many bytes one of those may hold.
const LARGE: usize = 32 << 20;
/// How many of those run at once.
const LARGE_LOOKUPS: usize = 3;
/// How many bytes of attestations are read for one review, over all its images.
const REVIEW_BYTES: usize = 64 << 20;

/// The turns that there are.
pub struct Lanes {
    small: Semaphore,
    large: Semaphore,
    shares: moka::sync::Cache<String, Arc<Semaphore>>,
}

/// How much a look-up may hold.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// So many bytes.
    pub bytes: usize,
    /// Whether there is no larger room to ask for.
    pub is_largest: bool,
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
            small: Semaphore::new(LOOKUPS),
            large: Semaphore::new(LARGE_LOOKUPS),
            shares: moka::sync::Cache::builder()
                .max_capacity(SHARES)
                .time_to_idle(Duration::from_mins(10))
                .build(),
        }
    }
}

impl Lanes {
    /// Does `work` when it is its turn, in a small room, and where that is too small again from the start in a large one: of those a
    /// review has one at a time. Nobody waits for a turn with a room in hand.
    ///
    /// # Errors
    /// What the work failed with; `Deadline` where the review has read its bytes.
    pub async fn run<T, F>(&self, errand: &Errand, work: impl Fn(Room) -> F) -> Result<T, FetchError>
    where
        F: Future<Output = Result<T, Stop>>,
    {
        {
            let _turn = turn(&self.small).await?;
            match work(Room { bytes: SMALL, is_largest: false }).await {
                Ok(value) => return Ok(value),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::TooSmall) => {}
            }
        }
        let _mine = turn(&errand.large).await?;
        errand.check()?;
        let _turn = turn(&self.large).await?;
        work(Room { bytes: LARGE, is_largest: true }).await.map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::TooSmall => FetchError {
                kind: FetchErrorKind::Malformed,
                detail: format!("it is larger than the {LARGE} bytes that are held"),
            },
        })
    }

    /// A review's share of the turns. `None`: of a caller that is in no namespace.
    pub fn errand(&self, namespace: Option<&str>, deadline: Instant) -> Errand {
        let share =
            self.shares.get_with_by_ref(namespace.unwrap_or_default(), || Arc::new(Semaphore::new(SHARE)));
        Errand { deadline, share, large: Arc::new(Semaphore::new(1)), read: Arc::default(), acting: None }
    }
}

async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, FetchError> {
    turns.acquire().await.map_err(|_closed| FetchError {
        kind: FetchErrorKind::Unavailable,
        detail: "nothing is asked any more".to_owned(),
    })
}

/// What one review is allowed.
#[derive(Clone)]
pub struct Errand {
    /// When it is over.
    pub deadline: Instant,
    share: Arc<Semaphore>,
    large: Arc<Semaphore>,
    read: Arc<AtomicUsize>,
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
        if self.read.load(Ordering::Relaxed) <= REVIEW_BYTES {
            return Ok(());
        }
        let most = REVIEW_BYTES >> 20;
        Err(late(format!(
            "the attestations of this workload's images are more than the {most} MiB that are read in one go"
        )))
    }

    /// A turn of the namespace's share, held as long as the caller waits.
    ///
    /// # Errors
    /// `Deadline` where there is none in time, or where the review has read its bytes.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, FetchError> {
        self.check()?;
        match tokio::time::timeout_at(self.deadline, turn(&self.share)).await {
            Ok(turn) => turn,
            Err(_) => Err(late(format!(
                "could not find out in time: {SHARE} look-ups for this namespace were under way all the while"
            ))),
        }
    }

    /// So much was read on it.
    pub fn add(&self, bytes: usize) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn late(detail: String) -> FetchError {
    FetchError { kind: FetchErrorKind::Deadline, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_needs_room_begins_anew_in_a_larger_one_and_not_all_at_once() {
        let lanes = Arc::new(Lanes::default());
        let at_once = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let work = |needs: usize| {
            let (lanes, at_once, most) = (Arc::clone(&lanes), Arc::clone(&at_once), Arc::clone(&most));
            async move {
                let errand = lanes.errand(None, Instant::now());
                lanes
                    .run(&errand, |room: Room| {
                        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
                        async move {
                            if needs > room.bytes {
                                return Err(Stop::TooSmall);
                            }
                            if room.is_largest {
                                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                                tokio::time::sleep(Duration::from_millis(5)).await;
                                at_once.fetch_sub(1, Ordering::SeqCst);
                            }
                            Ok(room.bytes)
                        }
                    })
                    .await
            }
        };
        assert_eq!(work(SMALL).await.unwrap(), SMALL);
        let large = futures::future::join_all((0..10).map(|_| work(SMALL + 1))).await;
        assert!(large.into_iter().all(|room| room.unwrap() == LARGE));
        assert_eq!(most.load(Ordering::SeqCst), LARGE_LOOKUPS);
        assert_eq!(work(LARGE + 1).await.unwrap_err().kind, FetchErrorKind::Malformed);
    }

    #[tokio::test]
    async fn a_review_reads_so_much_and_no_more() {
        let soon = Instant::now() + Duration::from_secs(5);
        let errand = Lanes::default().errand(Some("n"), soon);
        errand.add(REVIEW_BYTES);
        assert!(errand.turn().await.is_ok());
        errand.add(1);
        assert_eq!(errand.turn().await.unwrap_err().kind, FetchErrorKind::Deadline);
    }

    #[tokio::test]
    async fn a_namespace_takes_no_more_than_its_share() {
        let lanes = Lanes::default();
        let soon = Instant::now() + Duration::from_millis(20);
        let busy = lanes.errand(Some("busy"), soon);
        let held = futures::future::join_all((0..SHARE).map(|_| busy.turn())).await;
        assert!(held.iter().all(Result::is_ok));
        // Of the same namespace, but another review.
        let error = lanes.errand(Some("busy"), soon).turn().await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Deadline);
        assert!(lanes.errand(Some("other"), soon).turn().await.is_ok());
        drop(held);
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(lanes.errand(Some("busy"), soon).turn().await.is_ok());
    }
}
