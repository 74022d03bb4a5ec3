//! How many things are read from the API server at once: in all, and for one namespace.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gather::weigh::capped;

/// How many bytes of namespaces' shares are remembered.
const BYTES: u64 = 1 << 20;

/// Permits to read.
pub(super) struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    namespaces: moka::sync::Cache<String, Arc<Semaphore>>,
}

impl Shares {
    /// So many in all, and `each` of them for one namespace.
    pub(super) fn new(all: usize, each: usize) -> Self {
        let namespaces = moka::sync::Cache::builder()
            .max_capacity(BYTES)
            .weigher(|namespace: &String, _| capped(namespace.len()))
            .build();
        Self { all: Arc::new(Semaphore::new(all)), each, namespaces }
    }

    /// Waits for a permit, which lasts until both are dropped. There is always one in the end: the semaphores are never closed.
    pub(super) async fn acquire(&self, namespace: &str) -> Option<[OwnedSemaphorePermit; 2]> {
        let share = self.namespaces.get_with_by_ref(namespace, || Arc::new(Semaphore::new(self.each)));
        // The share first: a namespace that waits for its share holds no permit of the others.
        let of_namespace = share.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some([of_namespace, of_all])
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn b_a_namespace_that_takes_its_share_leaves_the_rest_to_others() {
        let shares = Shares::new(4, 2);
        let one = shares.acquire("a").await;
        let _other = shares.acquire("a").await;
        assert!(shares.acquire("a").now_or_never().is_none());
        let _rest = (shares.acquire("b").await, shares.acquire("b").await);
        assert!(shares.acquire("c").now_or_never().is_none());
        drop(one);
        assert!(shares.acquire("c").now_or_never().flatten().is_some());
    }
}
