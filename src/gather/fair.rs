//! Something of which there is so much for all. Nobody has more of it than is free: so whatever some take, a part is left for another.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What there is for all.
pub struct FairShares {
    most: usize,
    taken: Mutex<usize>,
    freed: Notify,
}

/// A part of it, of somebody who has `own` of it. Dropping it gives it back.
pub struct FairShare {
    all: Arc<FairShares>,
    own: Arc<AtomicUsize>,
    amount: usize,
}

impl FairShares {
    /// So much.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), freed: Notify::new() })
    }

    /// How much is taken.
    pub fn taken(&self) -> usize {
        *self.taken.lock()
    }

    fn try_take(self: &Arc<Self>, own: &Arc<AtomicUsize>, amount: usize) -> Option<FairShare> {
        let mut taken = self.taken.lock();
        let with = own.load(Ordering::Relaxed).saturating_add(amount);
        if with > self.most.saturating_sub(*taken) {
            return None;
        }
        *taken = taken.saturating_add(amount);
        own.store(with, Ordering::Relaxed);
        Some(FairShare { all: Arc::clone(self), own: Arc::clone(own), amount })
    }

    /// Takes so much, once it is there. `own` says how much its owner has, and nothing else changes that.
    pub async fn take(self: &Arc<Self>, own: &Arc<AtomicUsize>, amount: usize) -> FairShare {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // A share that is given back between the look and the wait is noticed.
            freed.as_mut().enable();
            if let Some(share) = self.try_take(own, amount) {
                return share;
            }
            freed.await;
        }
    }
}

impl Drop for FairShare {
    fn drop(&mut self) {
        let mut taken = self.all.taken.lock();
        *taken = taken.saturating_sub(self.amount);
        let own = self.own.load(Ordering::Relaxed).saturating_sub(self.amount);
        self.own.store(own, Ordering::Relaxed);
        drop(taken);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_whatever_some_take_a_part_is_left_for_another() {
        let all = FairShares::new(48);
        let mut held = Vec::new();
        for _ in 0..3 {
            let greedy = Arc::default();
            while let Some(share) = all.try_take(&greedy, 4) {
                held.push(share);
            }
        }
        assert!(all.taken() > 40, "{}", all.taken());
        let other = Arc::default();
        assert!(all.try_take(&other, 1).is_some());
        held.clear();
        assert_eq!(all.taken(), 0);
        assert!(all.try_take(&other, 48).is_some());
    }
}
