//! Single flight with a cache behind it: one asks, everybody waits, nobody's leaving cancels the others.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::weigh::{capped, held};
use crate::domain::evidence::{FetchError, FetchErrorKind};

/// How long a failure is answered again without asking: a brief back-off, never an answer that is kept.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How many bytes of failures are kept.
const FAILURE_BYTES: u64 = 4 << 20;
/// What a key takes: those that are long are bounded before they are parsed.
const KEY: usize = 512;
/// The longest that a request runs on when nobody waits for it any more.
const LONGEST: Duration = Duration::from_secs(30);

type Answer<V> = Result<V, FetchError>;
type InFlight<V> = Shared<BoxFuture<'static, Answer<V>>>;

/// A cache of answers of type `V`, asked for at most once at a time for each key.
pub struct Flights<K, V> {
    answers: moka::sync::Cache<K, Dated<V>>,
    failures: moka::sync::Cache<K, FetchError>,
    running: Arc<Mutex<HashMap<K, InFlight<V>>>>,
    keep: Arc<dyn Fn(&V) -> bool + Send + Sync>,
}

/// An answer and when it was had.
#[derive(Debug, Clone)]
pub struct Dated<V> {
    /// The answer.
    pub value: V,
    /// When it was had.
    pub at: Instant,
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy)]
pub enum Freshness {
    /// Any age: what is content-addressed stays true.
    Any,
    /// At most so old.
    Within(Duration),
}

impl<V> Dated<V> {
    fn is_fresh(&self, freshness: Freshness) -> bool {
        match freshness {
            Freshness::Any => true,
            Freshness::Within(age) => self.at.elapsed() <= age,
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache that keeps at most `max_bytes` of answers, as `weigh` counts them.
    pub fn new(max_bytes: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        let answers = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |key: &K, dated: &Dated<V>| weigh(key, &dated.value))
            .build();
        let failures = moka::sync::Cache::builder()
            .max_capacity(FAILURE_BYTES)
            .weigher(|_: &K, error: &FetchError| capped(error.detail.len().saturating_add(KEY)))
            .time_to_live(BACK_OFF)
            .build();
        Self { answers, failures, running: Arc::default(), keep: Arc::new(|_| true) }
    }

    /// The same, where only answers of which `keep` holds are kept; the others go to those who wait for them.
    #[must_use]
    pub fn keeping(self, keep: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        Self { keep: Arc::new(keep), ..self }
    }

    /// The answer at hand, if it is fresh enough.
    pub fn peek(&self, key: &K, freshness: Freshness) -> Option<Dated<V>> {
        self.answers.get(key).filter(|dated| dated.is_fresh(freshness))
    }

    /// The answer for `key`: one at hand that is fresh enough, else what `ask` gives, which runs to its end whether or not
    /// somebody still waits at `deadline`.
    ///
    /// # Errors
    /// What `ask` failed with, shared by all who wait, or `Deadline` where there was no time left.
    pub async fn get<F>(
        &self,
        key: K,
        freshness: Freshness,
        deadline: Instant,
        waiting_for: &str,
        ask: F,
    ) -> Answer<Dated<V>>
    where
        F: FnOnce() -> BoxFuture<'static, Answer<V>>,
    {
        if let Some(dated) = self.peek(&key, freshness) {
            return Ok(dated);
        }
        if let Some(failure) = self.failures.get(&key) {
            return Err(failure);
        }
        let flight = self.join(key, ask);
        match tokio::time::timeout_at(deadline, flight).await {
            Ok(answer) => answer.map(|value| Dated { value, at: Instant::now() }),
            Err(_) => Err(out_of_time(waiting_for)),
        }
    }

    /// Joins the flight for `key`, or starts one.
    fn join<F>(&self, key: K, ask: F) -> InFlight<V>
    where
        F: FnOnce() -> BoxFuture<'static, Answer<V>>,
    {
        let mut running = self.running.lock();
        if let Some(flight) = running.get(&key) {
            return flight.clone();
        }
        let asking = ask();
        let (answers, failures, landed) =
            (self.answers.clone(), self.failures.clone(), Arc::clone(&self.running));
        let (landing_key, keep) = (key.clone(), Arc::clone(&self.keep));
        let task = tokio::spawn(async move {
            let answer =
                tokio::time::timeout(LONGEST, std::panic::AssertUnwindSafe(asking).catch_unwind()).await;
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_panic)) => Err(broken()),
                Err(_) => Err(out_of_time("the registry")),
            };
            // The answer is kept before the flight is taken off the list, so that nobody finds neither.
            match &answer {
                Ok(value) if keep(value) => {
                    answers.insert(landing_key.clone(), Dated { value: value.clone(), at: Instant::now() });
                }
                Err(error) if error.kind.is_transient() => {
                    failures.insert(landing_key.clone(), error.clone());
                }
                Ok(_) | Err(_) => {}
            }
            landed.lock().remove(&landing_key);
            answer
        });
        let flight = async move { task.await.unwrap_or_else(|_| Err(broken())) }.boxed().shared();
        running.insert(key, flight.clone());
        flight
    }

    /// Forgets the answer for `key` if `is_it` holds of it.
    pub fn forget(&self, key: &K, is_it: impl FnOnce(&V) -> bool) {
        if self.answers.get(key).is_some_and(|dated| is_it(&dated.value)) {
            self.answers.invalidate(key);
        }
    }

    /// How many bytes the answers and the failures take, as they were weighed.
    pub fn bytes(&self) -> u64 {
        held(&self.answers).saturating_add(held(&self.failures))
    }
}

fn out_of_time(waiting_for: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Deadline,
        detail: format!("could not find out in time: still waiting for {waiting_for}"),
    }
}

fn broken() -> FetchError {
    FetchError { kind: FetchErrorKind::Unavailable, detail: "an internal error ended the request".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn counted(asked: &Arc<AtomicU32>, answer: Answer<u32>) -> BoxFuture<'static, Answer<u32>> {
        let asked = Arc::clone(asked);
        async move {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        }
        .boxed()
    }

    fn failure(kind: FetchErrorKind) -> FetchError {
        FetchError { kind, detail: String::new() }
    }

    #[tokio::test]
    async fn many_callers_ask_once() {
        let (flights, asked) = (Arc::new(Flights::<u8, u32>::new(100, |_, _| 1)), Arc::default());
        let calls = (0..200).map(|_| flights.get(1, Freshness::Any, soon(), "x", || counted(&asked, Ok(7))));
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().value == 7));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_gives_up_cancels_nobody() {
        let (flights, asked) = (Arc::new(Flights::<u8, u32>::new(100, |_, _| 1)), Arc::default());
        let hasty = flights.get(1, Freshness::Any, Instant::now(), "x", || counted(&asked, Ok(7))).await;
        assert_eq!(hasty.unwrap_err().kind, FetchErrorKind::Deadline);
        let patient = flights.get(1, Freshness::Any, soon(), "x", || counted(&asked, Ok(8))).await;
        assert_eq!(patient.unwrap().value, 7);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_not_kept() {
        let (flights, asked) = (Arc::new(Flights::<u8, u32>::new(100, |_, _| 1)), Arc::default());
        let down = || counted(&asked, Err(failure(FetchErrorKind::Unavailable)));
        let (a, b) = tokio::join!(
            flights.get(1, Freshness::Any, soon(), "x", down),
            flights.get(1, Freshness::Any, soon(), "x", down)
        );
        assert!(a.is_err() && b.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokio::time::sleep(BACK_OFF + Duration::from_millis(50)).await;
        let up = flights.get(1, Freshness::Any, soon(), "x", || counted(&asked, Ok(9))).await;
        assert_eq!(up.unwrap().value, 9);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_leaves_no_flight_behind() {
        let flights = Flights::<u8, u32>::new(100, |_, _| 1);
        let answer = flights.get(1, Freshness::Any, soon(), "x", || async { panic!("boom") }.boxed()).await;
        assert_eq!(answer.unwrap_err().kind, FetchErrorKind::Unavailable);
        assert!(flights.running.lock().is_empty());
    }

    #[tokio::test]
    async fn stale_answers_are_asked_for_again() {
        let (flights, asked) = (Flights::<u8, u32>::new(100, |_, _| 1), Arc::default());
        let get = |freshness| flights.get(1, freshness, soon(), "x", || counted(&asked, Ok(7)));
        get(Freshness::Any).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        get(Freshness::Any).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        get(Freshness::Within(Duration::from_millis(10))).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
