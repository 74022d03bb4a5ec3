//! Room for large bodies. The oldest of them may always grow to the limit, and all others share what is left: so no two wait for each
//! other with their hands full.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::server::{caller::Account, pool::Full};

/// What all large bodies but the oldest take together, one peer's, one namespace's, and everyone's who proved nothing. An API server is
/// one peer: no namespace takes the whole of its share.
const SHARED: usize = 12 * 1024 * 1024;
const OF_PEER: usize = SHARED / 2;
const OF_NAMESPACE: usize = SHARED / 4;
const UNAUTHENTICATED: usize = 1024 * 1024;

/// The large bodies that are on their way or being answered.
#[derive(Debug, Default)]
pub struct LargeBodies {
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// In the order of their coming.
    bodies: BTreeMap<u64, Large>,
}

#[derive(Debug, Clone, Copy)]
struct Large {
    peer: Option<IpAddr>,
    account: Option<Account>,
    bytes: usize,
}

impl Large {
    fn is_proven(&self) -> bool {
        self.account != Some(Account::Unauthenticated)
    }
}

impl LargeBodies {
    /// How many bytes they take.
    pub fn used(&self) -> usize {
        self.held.lock().bodies.values().fold(0, |sum, body| sum.saturating_add(body.bytes))
    }

    /// A body that is larger than most.
    pub fn open(self: &Arc<Self>, peer: Option<IpAddr>, account: Option<Account>) -> LargeBody {
        let mut held = self.held.lock();
        let id = held.next;
        held.next = held.next.saturating_add(1);
        held.bodies.insert(id, Large { peer, account, bytes: 0 });
        LargeBody { all: Arc::clone(self), id }
    }
}

impl Held {
    fn take(&mut self, id: u64, more: usize) -> bool {
        let oldest = self.bodies.iter().find(|(_, body)| body.is_proven()).map(|(id, _)| *id);
        let Some(body) = self.bodies.get(&id).copied() else { return false };
        if oldest != Some(id) {
            let sum = |counts: &dyn Fn(&Large) -> bool| {
                let others = self.bodies.iter().filter(|(id, _)| Some(**id) != oldest).map(|(_, body)| body);
                others.filter(|body| counts(body)).fold(more, |sum, body| sum.saturating_add(body.bytes))
            };
            let share = if body.is_proven() { OF_NAMESPACE } else { UNAUTHENTICATED };
            let of_account = sum(&|other| other.account == body.account);
            let of_peer = sum(&|other| body.peer.is_some() && other.peer == body.peer);
            if sum(&|_| true) > SHARED || of_account > share || of_peer > OF_PEER {
                return false;
            }
        }
        if let Some(body) = self.bodies.get_mut(&id) {
            body.bytes = body.bytes.saturating_add(more);
        }
        true
    }
}

/// What one large body takes. Dropping it gives that back.
#[derive(Debug)]
pub struct LargeBody {
    all: Arc<LargeBodies>,
    id: u64,
}

impl LargeBody {
    /// Takes so many more bytes, once there is room. The caller keeps to the limit of a body.
    ///
    /// # Errors
    /// There was no room until then.
    pub async fn grow(&mut self, more: usize, until: Instant) -> Result<(), Full> {
        loop {
            let mut freed = std::pin::pin!(self.all.freed.notified());
            // Whoever gives back between the look and the wait is heard.
            freed.as_mut().enable();
            if self.all.held.lock().take(self.id, more) {
                return Ok(());
            }
            timeout_at(until, freed).await.map_err(|_| Full)?;
        }
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        self.all.held.lock().bodies.remove(&self.id);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn of(all: &Arc<LargeBodies>, namespace: u64) -> LargeBody {
        all.open(None, Some(Account::Namespace(namespace)))
    }

    #[tokio::test(start_paused = true)]
    async fn b3_the_oldest_always_ends_and_then_the_next_does() {
        let all = Arc::new(LargeBodies::default());
        let (mut one, mut two) = (of(&all, 1), of(&all, 2));
        one.grow(MIB, soon()).await.unwrap();
        two.grow(3 * MIB, soon()).await.unwrap();
        assert_eq!(two.grow(MIB, soon()).await, Err(Full), "what one namespace may take beside the oldest");
        one.grow(35 * MIB, soon()).await.unwrap();
        drop(one);
        two.grow(30 * MIB, soon()).await.unwrap();
        drop(two);
        assert_eq!(all.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn b3_who_proved_nothing_is_never_the_oldest() {
        let all = Arc::new(LargeBodies::default());
        let mut stranger = all.open(None, Some(Account::Unauthenticated));
        stranger.grow(MIB, soon()).await.unwrap();
        assert_eq!(stranger.grow(1, soon()).await, Err(Full));
        let mut known = of(&all, 1);
        known.grow(36 * MIB, soon()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn b3_one_namespace_leaves_room_for_another_of_the_same_api_server() {
        let all = Arc::new(LargeBodies::default());
        let of = |namespace| all.open(Some([10, 0, 0, 1].into()), Some(Account::Namespace(namespace)));
        let (mut oldest, mut second) = (of(1), of(1));
        oldest.grow(30 * MIB, soon()).await.unwrap();
        while second.grow(MIB, soon()).await.is_ok() {}
        of(2).grow(MIB, soon()).await.unwrap();
    }
}
