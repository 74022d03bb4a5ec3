//! Look-ups that wait for their turn, in a room of a size: first in a small one, and where that is too small again from the start in a
//! large one, of which there are few.
//!
//! Whoever waits does so on its own namespace's turns before it joins a flight, and never within one that others may join: somebody who
//! has used up what is theirs takes nothing from who asks for the same. A flight keeps the turn of the caller that started it: it may
//! go on after every caller has stopped waiting, and counts until it ends.

use std::hash::Hash;

use futures::{FutureExt, future::BoxFuture};

use super::{
    flight::{Dated, Flights, Freshness},
    lanes::{Errand, Room, Stop, Turn},
};
use crate::domain::evidence::{FetchError, FetchErrorKind};

/// A cache of answers that are looked up so.
pub struct Paced<K, V> {
    /// The flag: in a large room.
    flights: Flights<(K, bool), Found<V>>,
}

#[derive(Clone)]
enum Found<V> {
    Here(V),
    /// The room is too small for it.
    Larger,
}

impl<K, V> Paced<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache that keeps at most `max_bytes` of answers, as `weigh` counts them.
    pub fn new(max_bytes: u64, weigh: fn(&K, Option<&V>) -> u32) -> Self {
        let flights = Flights::new(max_bytes, move |(key, _): &(K, bool), found: &Found<V>| match found {
            Found::Here(value) => weigh(key, Some(value)),
            Found::Larger => weigh(key, None),
        });
        Self { flights }
    }

    /// The same, where only answers of which `keep` holds are kept.
    #[must_use]
    pub fn keeping(self, keep: fn(&V) -> bool) -> Self {
        let keep = move |found: &Found<V>| match found {
            Found::Here(value) => keep(value),
            Found::Larger => true,
        };
        Self { flights: self.flights.keeping(keep) }
    }

    /// The answer at hand, if it is fresh enough.
    pub fn peek(&self, key: &K, freshness: Freshness) -> Option<Dated<V>> {
        [false, true].into_iter().find_map(|large| {
            let Dated { value, at } = self.flights.peek(&(key.clone(), large), freshness)?;
            match value {
                Found::Here(value) => Some(Dated { value, at }),
                Found::Larger => None,
            }
        })
    }

    /// The answer for `key`: one at hand that is fresh enough, else what `ask` gives in a room that is large enough for it.
    ///
    /// # Errors
    /// What it failed with; `Deadline` where there was no turn or no time.
    pub async fn get<F>(
        &self,
        key: K,
        freshness: Freshness,
        errand: &Errand,
        waiting_for: &str,
        ask: F,
    ) -> Result<Dated<V>, FetchError>
    where
        F: Fn(Room) -> BoxFuture<'static, Result<V, Stop>>,
    {
        if let Some(dated) = self.peek(&key, freshness) {
            return Ok(dated);
        }
        for room in Room::ALL {
            let key = (key.clone(), room.is_largest);
            let Dated { value, at } = if let Some(dated) = self.flights.peek(&key, freshness) {
                dated
            } else {
                let (_own, turn) = errand.turn(room).await?;
                let fly = || {
                    let work = ask(room);
                    async move { in_turn(turn, work).await }.boxed()
                };
                self.flights.get(key, freshness, errand.deadline, waiting_for, fly).await?
            };
            if let Found::Here(value) = value {
                return Ok(Dated { value, at });
            }
        }
        Err(FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("{waiting_for} gave more than the {} bytes that are held", Room::LARGEST.bytes),
        })
    }

    /// How many bytes the answers take.
    pub fn bytes(&self) -> u64 {
        self.flights.bytes()
    }
}

async fn in_turn<V>(turn: Turn, work: BoxFuture<'static, Result<V, Stop>>) -> Result<Found<V>, FetchError> {
    match turn.spend(work).await {
        Ok(value) => Ok(Found::Here(value)),
        Err(Stop::TooSmall) => Ok(Found::Larger),
        Err(Stop::Failed(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::time::Instant;

    use super::*;
    use crate::gather::lanes::{Lanes, reader};

    /// What answers a key `n` needs a room of `n` bytes, and tells which it had.
    struct Setup {
        lanes: Arc<Lanes>,
        paced: Paced<(usize, u32), usize>,
        large_now: Arc<AtomicUsize>,
        most_large: Arc<AtomicUsize>,
        asked: Arc<AtomicUsize>,
    }

    impl Setup {
        fn new() -> Self {
            let lanes = Arc::new(Lanes::default());
            let paced = Paced::new(1 << 20, |_, _| 1);
            let count = Arc::<AtomicUsize>::default;
            Self { lanes, paced, large_now: count(), most_large: count(), asked: count() }
        }

        async fn get(
            &self,
            namespace: &str,
            key: (usize, u32),
            wait: Duration,
        ) -> Result<usize, FetchErrorKind> {
            let errand = self.lanes.errand(Some(namespace), Instant::now() + wait);
            let ask = |room: Room| {
                let (now, most) = (Arc::clone(&self.large_now), Arc::clone(&self.most_large));
                let asked = Arc::clone(&self.asked);
                async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    if key.0 > room.bytes {
                        return Err(Stop::TooSmall);
                    }
                    if room.is_largest {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    Ok(room.bytes)
                }
                .boxed()
            };
            let got = self.paced.get(key, Freshness::Any, &errand, "x", ask).await;
            got.map(|dated| dated.value).map_err(|error| error.kind)
        }
    }

    const LONG: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn what_needs_room_begins_anew_in_a_larger_one_and_not_all_at_once() {
        let setup = Setup::new();
        let [small, large] = Room::ALL.map(|room| room.bytes);
        assert_eq!(setup.get("n", (small, 0), LONG).await, Ok(small));
        let namespaces: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
        let all = namespaces.iter().zip(0..).map(|(name, n)| setup.get(name, (small + 1, n), LONG));
        assert!(futures::future::join_all(all).await.into_iter().all(|room| room == Ok(large)));
        assert_eq!(setup.most_large.load(Ordering::SeqCst), crate::gather::lanes::LARGE_LOOKUPS);
        assert_eq!(setup.get("n", (large + 1, 0), LONG).await, Err(FetchErrorKind::Malformed));
        // It is known which room it takes.
        let before = setup.asked.load(Ordering::SeqCst);
        assert_eq!(setup.get("n", (small + 1, 0), LONG).await, Ok(large));
        assert_eq!(setup.get("n", (large + 1, 0), LONG).await, Err(FetchErrorKind::Malformed));
        assert_eq!(setup.asked.load(Ordering::SeqCst), before);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_used_up_their_turns_holds_up_nobody_who_asks_for_the_same() {
        let setup = Setup::new();
        let [small, large] = Room::ALL.map(|room| room.bytes);
        let busy = (0..10).map(|n| setup.get("busy", (small + 1, n), Duration::from_secs(8)));
        let meanwhile = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // The last that the busy one waits for.
            setup.get("other", (small + 1, 9), Duration::from_secs(6)).await
        };
        let (busy, other) = futures::future::join(futures::future::join_all(busy), meanwhile).await;
        assert_eq!(other, Ok(large));
        assert!(busy.contains(&Err(FetchErrorKind::Deadline)), "{busy:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn b7_look_ups_that_nobody_waits_for_leave_room_for_other_namespaces() {
        let lanes = Arc::new(Lanes::default());
        let paced = Paced::<(&str, u32), ()>::new(1 << 20, |_, _| 1);
        let get = async |namespace: &'static str, number: u32, hangs: bool| {
            let errand = lanes.errand(Some(namespace), Instant::now() + Duration::from_millis(900));
            let ask = |_| async move { if hangs { std::future::pending().await } else { Ok(()) } }.boxed();
            let got = paced.get((namespace, number), Freshness::Any, &errand, "x", ask).await;
            got.map(drop).map_err(|error| error.kind)
        };
        // Again and again, and for each time a registry that never answers.
        for round in 0..5 {
            for namespace in ["a", "b", "c"] {
                let all = (0..200).map(|n| get(namespace, round * 200 + n, true));
                futures::future::join_all(all).await;
            }
            assert_eq!(get("other", round, false).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn b7_a_look_up_knows_for_whom_it_reads() {
        let (lanes, paced) = (Lanes::default(), Paced::<(&str, u32), usize>::new(1 << 20, |_, _| 1));
        let read = async |namespace: &'static str, number: u32| {
            let errand = lanes.errand(Some(namespace), Instant::now() + LONG);
            let ask = |_| async { Ok(reader().fetch_add(1, Ordering::SeqCst)) }.boxed();
            paced.get((namespace, number), Freshness::Any, &errand, "x", ask).await.map(|dated| dated.value)
        };
        for (namespace, number, before) in [("a", 1, 0), ("a", 2, 1), ("b", 1, 0)] {
            assert_eq!(read(namespace, number).await, Ok(before));
        }
    }
}
