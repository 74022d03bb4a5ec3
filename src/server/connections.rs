//! How many connections and requests there are at once, per peer address and in all. A peer that holds many makes room for one that holds
//! few: idle connections are closed for it.

mod served;

pub use served::{PeerAcceptor, PeerAddress, PeerService};

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

/// How long a connection waits for its place, before the TLS handshake.
const WAIT: Duration = Duration::from_secs(2);

/// Who has so many times as much as another gives even a connection away of which a request is under way.
const MANY: usize = 8;

/// How much there may be at once. A connection counts as many as it has requests, and one where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of one peer address. An API server has a connection for each review in flight, of which there may be 600 by default.
    pub peer: usize,
    /// Of all.
    pub total: usize,
    /// How many connections wait for their place, per peer and in all.
    pub waiting: usize,
}

/// For reviews.
pub const REVIEWS: ConnectionLimits = ConnectionLimits { peer: 1024, total: 2048, waiting: 512 };
/// For health and metrics.
pub const HEALTH: ConnectionLimits = ConnectionLimits { peer: 64, total: 256, waiting: 64 };

/// The connections of a listener.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    held: Mutex<Held>,
    freed: Notify,
    refused: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    total: usize,
    waiting: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// What its connections count together.
    load: usize,
    waiting: usize,
    connections: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    requests: usize,
    /// Changes with each request that ends.
    idle_since: Instant,
    /// Closes the connection. Gone once it was used.
    close: Option<oneshot::Sender<()>>,
}

impl Peer {
    /// Closes one connection: the one that is idle for the longest time, else the one with the most requests, of more than `spared`.
    fn close_one(&mut self, spared: usize) -> bool {
        let open = || self.connections.iter().filter(|(_, open)| open.close.is_some());
        let idle = open().filter(|(_, open)| open.requests == 0).min_by_key(|(_, open)| open.idle_since);
        let busiest =
            || open().filter(|(_, open)| open.requests > spared).max_by_key(|(_, open)| open.requests);
        let Some(id) = idle.or_else(busiest).map(|(id, _)| *id) else { return false };
        let close = self.connections.get_mut(&id).and_then(|open| open.close.take());
        close.is_some_and(|close| close.send(()).is_ok())
    }
}

impl Held {
    /// Makes room in all for a peer with so much load: a peer with more gives a connection away.
    fn make_room(&mut self, load: usize) {
        let greediest = self.peers.values_mut().max_by_key(|peer| peer.load);
        if let Some(peer) = greediest.filter(|peer| peer.load > load.saturating_add(1)) {
            // A single request is broken off only where its peer has many times as much.
            let spared = usize::from(peer.load < load.saturating_add(1).saturating_mul(MANY));
            peer.close_one(spared);
        }
    }
}

impl Connections {
    /// None yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: Mutex::default(),
            freed: Notify::new(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// How many connections and requests there are.
    pub fn load(&self) -> usize {
        self.held.lock().total
    }

    /// How many connections were refused, and how many were closed for their number of requests.
    pub fn turned_away(&self) -> u64 {
        self.refused.load(Ordering::Relaxed).saturating_add(self.evicted.load(Ordering::Relaxed))
    }

    /// A place for a connection, once there is one; `None` where there was none in time.
    async fn open(self: &Arc<Self>, peer: IpAddr) -> Option<(Connection, oneshot::Receiver<()>)> {
        let until = Instant::now() + WAIT;
        let mut waiting = None;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(opened) = self.try_open(peer) {
                return Some(opened);
            }
            if waiting.is_none() {
                waiting = self.wait(peer);
            }
            if waiting.is_none() || timeout_at(until, freed).await.is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
    }

    fn try_open(self: &Arc<Self>, address: IpAddr) -> Option<(Connection, oneshot::Receiver<()>)> {
        let mut held = self.held.lock();
        let load = held.peers.get(&address).map_or(0, |peer| peer.load);
        if load >= self.limits.peer {
            held.peers.get_mut(&address)?.close_one(usize::MAX);
            return None;
        }
        if held.total >= self.limits.total {
            held.make_room(load);
            return None;
        }
        let id = held.next;
        held.next = held.next.saturating_add(1);
        held.total = held.total.saturating_add(1);
        let (close, closed) = oneshot::channel();
        let peer = held.peers.entry(address).or_default();
        peer.load = peer.load.saturating_add(1);
        peer.connections.insert(id, Open { requests: 0, idle_since: Instant::now(), close: Some(close) });
        Some((Connection { all: Arc::clone(self), address, id }, closed))
    }

    /// Waits, where not too many do.
    fn wait(self: &Arc<Self>, address: IpAddr) -> Option<Waiting> {
        let mut held = self.held.lock();
        let of_peer = held.peers.get(&address).map_or(0, |peer| peer.waiting);
        if held.waiting >= self.limits.waiting.saturating_mul(2) || of_peer >= self.limits.waiting {
            return None;
        }
        held.waiting = held.waiting.saturating_add(1);
        let peer = held.peers.entry(address).or_default();
        peer.waiting = peer.waiting.saturating_add(1);
        Some(Waiting { all: Arc::clone(self), address })
    }

    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Held, &mut Peer)) {
        let mut held = self.held.lock();
        if let Some(mut peer) = held.peers.remove(&address) {
            change(&mut held, &mut peer);
            if peer.load > 0 || peer.waiting > 0 {
                held.peers.insert(address, peer);
            }
        }
        drop(held);
        self.freed.notify_waiters();
    }
}

/// A connection that waits for its place.
struct Waiting {
    all: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.change(self.address, |held, peer| {
            held.waiting = held.waiting.saturating_sub(1);
            peer.waiting = peer.waiting.saturating_sub(1);
        });
    }
}

/// The place of a connection. Dropping it gives the place to another.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    address: IpAddr,
    id: u64,
}

impl Connection {
    /// A request begins; `None` where this connection has many already and there is no room for more. Then it is closed.
    fn begin(self: &Arc<Self>) -> Option<InRequest> {
        let mut held = self.all.held.lock();
        let limits = self.all.limits;
        let is_full = held.total >= limits.total;
        let peer = held.peers.get_mut(&self.address)?;
        let is_over = is_full || peer.load >= limits.peer;
        let open = peer.connections.get_mut(&self.id)?;
        // The first request of a connection is always taken: connections are limited already.
        if open.requests > 0 && is_over {
            if let Some(close) = open.close.take() {
                let _ = close.send(());
                self.all.evicted.fetch_add(1, Ordering::Relaxed);
            }
            return None;
        }
        let more = usize::from(open.requests > 0);
        open.requests = open.requests.saturating_add(1);
        peer.load = peer.load.saturating_add(more);
        held.total = held.total.saturating_add(more);
        Some(InRequest(Arc::clone(self)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.change(self.address, |held, peer| {
            if peer.connections.remove(&self.id).is_some() {
                peer.load = peer.load.saturating_sub(1);
                held.total = held.total.saturating_sub(1);
            }
        });
    }
}

/// A request of a connection, until it was answered.
#[derive(Debug)]
struct InRequest(Arc<Connection>);

impl Drop for InRequest {
    fn drop(&mut self) {
        let id = self.0.id;
        self.0.all.change(self.0.address, |held, peer| {
            if let Some(open) = peer.connections.get_mut(&id) {
                open.requests = open.requests.saturating_sub(1);
                open.idle_since = Instant::now();
                let less = usize::from(open.requests > 0);
                peer.load = peer.load.saturating_sub(less);
                held.total = held.total.saturating_sub(less);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn connections() -> Arc<Connections> {
        Connections::new(ConnectionLimits { peer: 4, total: 6, waiting: 1 })
    }

    type Place = (Arc<Connection>, oneshot::Receiver<()>);

    async fn open(all: &Arc<Connections>, last: u8) -> Option<Place> {
        all.open(peer(last)).await.map(|(connection, closed)| (Arc::new(connection), closed))
    }

    fn is_closed((_, closed): &mut Place) -> bool {
        closed.try_recv().is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn b7_a_peer_has_so_many_connections_and_its_idle_ones_make_room() {
        let all = connections();
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(open(&all, 1).await.unwrap());
        }
        let busy = places[0].0.begin().unwrap();
        // One that is busy and three that are idle: the one that is idle for longer is closed.
        let waiting = tokio::spawn({
            let all = Arc::clone(&all);
            async move { open(&all, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!is_closed(&mut places[0]) && is_closed(&mut places[1]) && !is_closed(&mut places[2]));
        drop(places.remove(1));
        assert!(waiting.await.unwrap().is_some());
        drop(busy);
    }

    #[tokio::test(start_paused = true)]
    async fn b7_who_has_many_makes_room_for_who_has_few() {
        let all = connections();
        let mut greedy = Vec::new();
        for _ in 0..4 {
            greedy.push(open(&all, 1).await.unwrap());
        }
        let other = [open(&all, 2).await.unwrap(), open(&all, 2).await.unwrap()];
        assert_eq!(all.load(), 6);
        let opening = tokio::spawn({
            let all = Arc::clone(&all);
            async move { open(&all, 3).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(greedy.iter_mut().filter_map(|place| is_closed(place).then_some(())).count(), 1);
        drop(greedy.remove(0));
        assert!(opening.await.unwrap().is_some());
        drop((greedy, other));
        assert_eq!(all.load(), 0);
        assert!(all.held.lock().peers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn b7_who_finds_no_place_in_time_is_refused() {
        let all = connections();
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(open(&all, 1).await.unwrap());
        }
        let requests: Vec<_> = places.iter().map(|place| place.0.begin().unwrap()).collect();
        let begun = Instant::now();
        assert!(open(&all, 1).await.is_none(), "all that there is, is busy");
        assert_eq!(begun.elapsed(), WAIT);
        assert!(open(&all, 2).await.is_some(), "another peer is not held up");
        drop(requests);
        assert_eq!(all.turned_away(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn b3_a_connection_of_too_many_streams_is_closed() {
        let all = connections();
        let mut place = open(&all, 1).await.unwrap();
        let streams: Vec<_> = (0..4).map(|_| place.0.begin().unwrap()).collect();
        assert!(place.0.begin().is_none());
        assert!(is_closed(&mut place));
        drop(streams);
        let other = open(&all, 1).await.unwrap();
        assert!(other.0.begin().is_some(), "its twin of one stream");
    }

    #[tokio::test(start_paused = true)]
    async fn b7_a_peer_has_as_many_requests_on_connections_of_their_own_as_connections() {
        let all = connections();
        let mut places = Vec::new();
        for _ in 0..4 {
            let place = open(&all, 1).await.unwrap();
            let request = place.0.begin().unwrap();
            places.push((place, request));
        }
        assert_eq!(all.load(), 4);
        places.clear();
        assert_eq!(all.load(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn b7_who_keeps_everything_busy_makes_room_for_who_has_nothing() {
        let all = Connections::new(ConnectionLimits { peer: 10, total: 20, waiting: 1 });
        let mut busy = Vec::new();
        for last in [1, 2] {
            for _ in 0..10 {
                let place = open(&all, last).await.unwrap();
                let request = place.0.begin().unwrap();
                busy.push((place, Some(request)));
            }
        }
        let opening = tokio::spawn({
            let all = Arc::clone(&all);
            async move { open(&all, 3).await }
        });
        tokio::task::yield_now().await;
        let closed = busy.iter_mut().position(|(place, _)| is_closed(place)).unwrap();
        drop(busy.remove(closed));
        let _third = opening.await.unwrap().unwrap();
        // Its twin that has not so much less breaks no request off.
        assert!(open(&all, 3).await.is_none());
        assert!(!busy.iter_mut().any(|(place, _)| is_closed(place)));
    }
}
