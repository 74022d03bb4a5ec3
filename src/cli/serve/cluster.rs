//! The parts of a webhook in a cluster: what is followed of the API server, for as long as the webhook serves.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{Args, ServeError};
use crate::{
    cluster::{
        client,
        events::PolicyEvents,
        inventory::{ClusterInventory, Watched},
        pods::PendingPods,
    },
    domain::policy::PolicyEntry,
    gather::ports::Inventory,
    server::{admission::InCluster, health::Readiness, metrics::Metrics},
};

/// What is followed of a cluster; dropped, it is followed no more.
pub(super) struct Cluster {
    inventory: Arc<ClusterInventory>,
    pods: Arc<PendingPods>,
    events: Arc<PolicyEvents>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    /// Begins to follow the cluster.
    pub(super) async fn start(
        args: &Args,
        metrics: &Metrics,
        readiness: &Readiness,
    ) -> Result<Self, ServeError> {
        let client = client::infer().await?;
        let inventory = ClusterInventory::new(
            args.platforms.clone(),
            args.unmatched_images.into(),
            args.in_cluster.pinning,
        );
        let pods = PendingPods::new(client.clone(), Arc::clone(&inventory));
        let (events, writer) =
            PolicyEvents::new(client.clone(), Arc::clone(&inventory), args.in_cluster.identity());
        let tasks = vec![
            tokio::spawn(Arc::clone(&inventory).run(client)),
            tokio::spawn(Arc::clone(&pods).run()),
            tokio::spawn(writer.run()),
        ];
        let listing = Arc::clone(&inventory);
        readiness.waits_for(move || listing.unlisted().into_iter().map(Watched::as_str).collect());
        let shown = Arc::clone(&inventory);
        metrics.before_scrape(move |metrics| show(&shown, metrics));
        Ok(Self { inventory, pods, events, tasks })
    }

    pub(super) fn inventory(&self) -> Arc<dyn Inventory> {
        Arc::<ClusterInventory>::clone(&self.inventory)
    }

    pub(super) fn ports(&self) -> InCluster {
        InCluster {
            pods: Arc::<PendingPods>::clone(&self.pods),
            findings: Arc::<PolicyEvents>::clone(&self.events),
        }
    }
}

fn show(inventory: &ClusterInventory, metrics: &Metrics) {
    let snapshot = inventory.snapshot();
    let all = snapshot.policies.entries();
    let invalid = all.iter().filter(|entry| matches!(entry, PolicyEntry::Invalid(_))).count();
    metrics.set_policies(all.len().saturating_sub(invalid), invalid);
    for watched in Watched::ALL {
        metrics.set_watch_staleness(watched.as_str(), inventory.staleness(watched));
    }
}
