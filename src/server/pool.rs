//! Pools of bytes that reviews share. Each account has a share. Where a pool is full, who holds much gives way to who holds little, and
//! others wait until a deadline.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::caller::Account;

/// There was no room until the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The sizes of a pool, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of all accounts together.
    pub total: usize,
    /// Of one namespace.
    pub namespace: usize,
    /// Of everyone who proved nothing where callers are checked.
    pub unauthenticated: usize,
}

/// A pool of bytes.
#[derive(Debug)]
pub struct Pool {
    sizes: Sizes,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    total: usize,
    entries: BTreeMap<u64, Entry>,
    /// The sums of entries. Who holds nothing is left out.
    accounts: HashMap<Account, usize>,
    peers: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    bytes: usize,
    /// Tells its holder to let go; `None` once that was told, and where its holder does not listen any more.
    evict: Option<Arc<Notify>>,
    /// Whether its holder was told and lets go soon.
    is_leaving: bool,
}

/// Whose bytes they are, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    peer: Option<IpAddr>,
    account: Option<Account>,
}

fn add<K: Hash + Eq>(sums: &mut HashMap<K, usize>, key: Option<K>, bytes: usize) {
    if let Some(key) = key.filter(|_| bytes > 0) {
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(bytes);
    }
}

fn subtract<K: Hash + Eq>(sums: &mut HashMap<K, usize>, key: Option<K>, bytes: usize) {
    if let Some(key) = key
        && let Some(sum) = sums.get_mut(&key)
    {
        *sum = sum.saturating_sub(bytes);
        if *sum == 0 {
            sums.remove(&key);
        }
    }
}

fn of<K: Hash + Eq>(sums: &HashMap<K, usize>, key: Option<K>) -> usize {
    key.and_then(|key| sums.get(&key).copied()).unwrap_or_default()
}

/// Who holds most of all others, where that is more than `than`.
fn greediest<K: Hash + Eq + Copy>(sums: &HashMap<K, usize>, own: Option<K>, than: usize) -> Option<K> {
    let others = sums.iter().filter(|(key, sum)| Some(**key) != own && **sum > than);
    others.max_by_key(|(_, sum)| **sum).map(|(key, _)| *key)
}

impl Held {
    /// Tells one entry to let go, for the sake of an owner that holds less. Peers come before accounts: what a review says of its
    /// namespace may be made up.
    fn make_room(&mut self, owner: Owner, more: usize) {
        let is_leaving = |entry: &Entry| entry.is_leaving && entry.bytes >= more;
        if self.entries.values().any(is_leaving) {
            return;
        }
        let of_peer = of(&self.peers, owner.peer).saturating_add(more);
        let of_account = of(&self.accounts, owner.account).saturating_add(more);
        let peer = greediest(&self.peers, owner.peer, of_peer);
        let account = greediest(&self.accounts, owner.account, of_account);
        let is_victim = |entry: &Entry| match (peer, account) {
            (Some(_), _) => entry.owner.peer == peer,
            (None, Some(_)) => entry.owner.account == account,
            (None, None) => false,
        };
        let victims = self.entries.values_mut().filter(|entry| entry.evict.is_some() && is_victim(entry));
        // A peer may be an API server, which asks for many namespaces: of these the one with the most.
        let accounts = &self.accounts;
        let victim = victims.max_by_key(|entry| (of(accounts, entry.owner.account), entry.bytes));
        if let Some((entry, evict)) = victim.and_then(|entry| entry.evict.take().map(|evict| (entry, evict)))
        {
            entry.is_leaving = true;
            evict.notify_one();
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(sizes: Sizes) -> Arc<Self> {
        Arc::new(Self { sizes, held: Mutex::default(), freed: Notify::new() })
    }

    /// How many bytes are reserved.
    pub fn used(&self) -> usize {
        self.held.lock().total
    }

    /// Nothing yet. Until it has an account, only the total limits it.
    pub fn open(self: &Arc<Self>, peer: Option<IpAddr>) -> Reservation {
        let evict = Arc::new(Notify::new());
        let mut held = self.held.lock();
        let id = held.next;
        held.next = held.next.saturating_add(1);
        let owner = Owner { peer, account: None };
        held.entries
            .insert(id, Entry { owner, bytes: 0, evict: Some(Arc::clone(&evict)), is_leaving: false });
        Reservation { pool: Arc::clone(self), id, evicted: evict }
    }

    const fn share(&self, account: Account) -> usize {
        match account {
            Account::Namespace(_) => self.sizes.namespace,
            Account::Unauthenticated => self.sizes.unauthenticated,
        }
    }

    /// Whether so much more fits.
    fn take(&self, id: u64, more: usize) -> bool {
        let mut held = self.held.lock();
        let Some(owner) = held.entries.get(&id).map(|entry| entry.owner) else { return false };
        let of_account = of(&held.accounts, owner.account).saturating_add(more);
        if owner.account.is_some_and(|account| of_account > self.share(account)) {
            return false;
        }
        if held.total.saturating_add(more) > self.sizes.total {
            held.make_room(owner, more);
            return false;
        }
        held.total = held.total.saturating_add(more);
        add(&mut held.accounts, owner.account, more);
        add(&mut held.peers, owner.peer, more);
        if let Some(entry) = held.entries.get_mut(&id) {
            entry.bytes = entry.bytes.saturating_add(more);
        }
        true
    }
}

/// Bytes of a pool. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Pool>,
    id: u64,
    evicted: Arc<Notify>,
}

impl Reservation {
    /// Counts what it holds on this account from now on. What is held already is never too much for it.
    pub fn assign(&self, account: Account) {
        let mut held = self.pool.held.lock();
        let Some(entry) = held.entries.get_mut(&self.id) else { return };
        if entry.owner.account.is_none() {
            entry.owner.account = Some(account);
            let bytes = entry.bytes;
            add(&mut held.accounts, Some(account), bytes);
        }
    }

    /// Nobody listens any more whether it must let go: others are asked.
    pub fn settle(&self) {
        if let Some(entry) = self.pool.held.lock().entries.get_mut(&self.id) {
            (entry.evict, entry.is_leaving) = (None, false);
        }
    }

    /// Takes so many more bytes, once there is room.
    ///
    /// # Errors
    /// There was no room until then.
    pub async fn grow(&self, more: usize, until: Instant) -> Result<(), Full> {
        loop {
            let mut freed = std::pin::pin!(self.pool.freed.notified());
            // Whoever gives back between the look and the wait is heard.
            freed.as_mut().enable();
            if self.pool.take(self.id, more) {
                return Ok(());
            }
            timeout_at(until, freed).await.map_err(|_| Full)?;
        }
    }

    /// Ends when others need the bytes more.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + 'static {
        let evicted = Arc::clone(&self.evicted);
        async move { evicted.notified().await }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.pool.held.lock();
        if let Some(Entry { owner, bytes, .. }) = held.entries.remove(&self.id) {
            held.total = held.total.saturating_sub(bytes);
            subtract(&mut held.accounts, owner.account, bytes);
            subtract(&mut held.peers, owner.peer, bytes);
        }
        drop(held);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn pool() -> Arc<Pool> {
        Pool::new(Sizes { total: 100, namespace: 60, unauthenticated: 10 })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn of_peer(pool: &Arc<Pool>, peer: u8, namespace: u64) -> Reservation {
        let reservation = pool.open(Some(Ipv4Addr::new(10, 0, 0, peer).into()));
        reservation.assign(Account::Namespace(namespace));
        reservation
    }

    #[tokio::test(start_paused = true)]
    async fn b3_one_account_leaves_room_for_another() {
        let pool = pool();
        let greedy = of_peer(&pool, 1, 1);
        greedy.grow(60, soon()).await.unwrap();
        let more = of_peer(&pool, 1, 1);
        assert_eq!(more.grow(1, soon()).await, Err(Full), "its share is taken");
        let other = of_peer(&pool, 1, 2);
        other.grow(40, soon()).await.unwrap();
        assert_eq!(pool.used(), 100);
        drop((greedy, more, other));
        let held = pool.held.lock();
        assert_eq!((held.total, held.accounts.len(), held.peers.len(), held.entries.len()), (0, 0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn b3_who_proved_nothing_shares_one_small_account() {
        let pool = pool();
        let open = || {
            let reservation = pool.open(None);
            reservation.assign(Account::Unauthenticated);
            reservation
        };
        let (one, other) = (open(), open());
        one.grow(6, soon()).await.unwrap();
        assert_eq!(other.grow(6, soon()).await, Err(Full));
        other.grow(4, soon()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn b3_who_waits_gets_what_is_given_back() {
        let pool = pool();
        let first = pool.open(None);
        first.grow(90, soon()).await.unwrap();
        let second = pool.open(None);
        let begun = Instant::now();
        let give_back = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        };
        let (grown, ()) = tokio::join!(second.grow(50, soon()), give_back);
        assert_eq!(grown, Ok(()));
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        assert_eq!(pool.used(), 50);
    }

    /// Holds it until it must let go.
    async fn hold(reservation: Reservation) {
        reservation.evicted().await;
    }

    #[tokio::test(start_paused = true)]
    async fn b3_who_holds_much_gives_way_to_who_holds_little() {
        let pool = pool();
        // One peer makes up a namespace for each of its reviews.
        let greedy: Vec<_> = (0..10).map(|namespace| of_peer(&pool, 1, namespace)).collect();
        for reservation in &greedy {
            reservation.grow(10, soon()).await.unwrap();
        }
        let holding: Vec<_> = greedy.into_iter().map(|reservation| tokio::spawn(hold(reservation))).collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        let honest = of_peer(&pool, 2, 100);
        honest.grow(5, soon()).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(holding.iter().filter(|holding| holding.is_finished()).count(), 1);
        // The twin of the same peer and of no smaller namespace waits.
        let another = of_peer(&pool, 1, 101);
        assert_eq!(another.grow(10, soon()).await, Err(Full));
    }

    #[tokio::test(start_paused = true)]
    async fn b3_who_does_not_listen_any_more_keeps_nobody_else_from_giving_way() {
        let pool = pool();
        let settled = of_peer(&pool, 1, 1);
        settled.grow(50, soon()).await.unwrap();
        settled.settle();
        let small = of_peer(&pool, 1, 2);
        small.grow(50, soon()).await.unwrap();
        let holding = tokio::spawn(hold(small));
        tokio::task::yield_now().await;
        let honest = of_peer(&pool, 2, 100);
        honest.grow(5, soon()).await.unwrap();
        assert!(holding.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn b7_of_an_api_servers_namespaces_the_one_that_holds_most_gives_way() {
        let pool = pool();
        let quiet = of_peer(&pool, 1, 1);
        quiet.grow(40, soon()).await.unwrap();
        let loud: Vec<_> = (0..6).map(|_| of_peer(&pool, 1, 2)).collect();
        for reservation in &loud {
            reservation.grow(10, soon()).await.unwrap();
        }
        let quiet = tokio::spawn(hold(quiet));
        let loud: Vec<_> = loud.into_iter().map(|reservation| tokio::spawn(hold(reservation))).collect();
        tokio::task::yield_now().await;
        let other = of_peer(&pool, 2, 3);
        other.grow(5, soon()).await.unwrap();
        assert_eq!((quiet.is_finished(), loud.iter().filter(|one| one.is_finished()).count()), (false, 1));
    }
}
