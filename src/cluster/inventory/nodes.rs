//! Looks up nodes by name: a pod may name one that the watch has not told of yet, and a node whose labels do not say what it is has a
//! status that does. Anyone who reaches the webhook can name nodes, so few are looked up at once, and each once in a while.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use tokio::sync::{Notify, Semaphore};

use super::{ClusterInventory, objects};
use crate::{
    domain::{placement, platform::Platform, workload::Node},
    gather::ports::Inventory as _,
};

/// For how long the answer to a look-up holds. A node that was not there may come at any moment.
const HOLDS: Duration = Duration::from_secs(1);
/// How many answers are remembered.
const MOST: u64 = 1000;
/// The longest name that a node can have (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;
/// How many nodes are looked up at once.
const AT_ONCE: usize = 4;
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it takes until a node that could not be looked up is looked up again.
const AGAIN: Duration = Duration::from_secs(30);

/// How nodes are looked up.
pub(super) struct NodeLookups {
    /// Whom to ask; nobody, until the cluster is followed.
    client: OnceLock<Client>,
    permits: Semaphore,
    /// Who asks for a name while it is looked up waits for that answer.
    answered: moka::future::Cache<String, ()>,
    changed: Notify,
}

impl std::fmt::Debug for NodeLookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeLookups").finish_non_exhaustive()
    }
}

impl Default for NodeLookups {
    fn default() -> Self {
        Self {
            client: OnceLock::new(),
            permits: Semaphore::new(AT_ONCE),
            answered: moka::future::Cache::builder().max_capacity(MOST).time_to_live(HOLDS).build(),
            changed: Notify::new(),
        }
    }
}

impl NodeLookups {
    /// From now on this is asked.
    pub(super) fn ask(&self, client: Client) {
        // It is followed once.
        let _ = self.client.set(client);
    }

    /// The watch has told of nodes.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }
}

impl ClusterInventory {
    /// Looks up a node, unless it was looked up just now.
    pub(super) async fn find_node(&self, name: &str) {
        let Some(client) = self.nodes.client.get() else { return };
        if name.is_empty() || name.len() > LONGEST_NAME {
            return;
        }
        let ask = async {
            let asked = tokio::time::timeout(PATIENCE, self.ask_for_node(client, name)).await;
            match asked {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(node = name, error, "a node could not be looked up"),
                Err(_) => tracing::warn!(node = name, "a node could not be looked up in time"),
            }
        };
        self.nodes.answered.get_with_by_ref(name, ask).await;
    }

    async fn ask_for_node(&self, client: &Client, name: &str) -> Result<(), String> {
        let _permit = self.nodes.permits.acquire().await.map_err(|error| error.to_string())?;
        let gone = self.state.lock().nodes_gone();
        let nodes: Api<NodeObject> = Api::all(client.clone());
        let found = nodes.get_opt(name).await.map_err(|error| error.to_string())?;
        let is_bounded = |node: &Node| objects::label_bytes(&node.labels) <= objects::LABELS;
        let Some(node) = found.map(read).filter(is_bounded) else { return Ok(()) };
        let changed = self.state.lock().found_node(node, gone);
        if changed {
            self.publish_now();
        }
        Ok(())
    }

    /// Looks up the nodes whose labels do not say what they are, whenever the watch tells of nodes.
    pub(super) async fn look_up_unlabelled(&self) {
        let mut failed: Option<Instant> = None;
        loop {
            self.nodes.changed.notified().await;
            if failed.is_some_and(|at| at.elapsed() < AGAIN) {
                continue;
            }
            let is_unlabelled = |node: &&std::sync::Arc<Node>| placement::node_platform(node).is_none();
            let names = || -> Vec<String> {
                // What the watch told is in the snapshot a moment later.
                let Ok(snapshot) = self.snapshot() else { return Vec::new() };
                snapshot.nodes.iter().filter(is_unlabelled).map(|node| node.name.clone()).collect()
            };
            tokio::time::sleep(super::GATHERING.saturating_mul(2)).await;
            for name in names() {
                self.find_node(&name).await;
            }
            failed = (!names().is_empty()).then(Instant::now);
        }
    }
}

fn read(object: NodeObject) -> Node {
    let info = object.status.and_then(|status| status.node_info);
    let platform = info.filter(|info| !info.architecture.is_empty() && !info.operating_system.is_empty());
    Node {
        name: object.metadata.name.unwrap_or_default(),
        labels: object.metadata.labels.unwrap_or_default(),
        platform: platform.map(|info| Platform::new(&info.operating_system, &info.architecture, None)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse as _, routing::get};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{cluster::keys::KeyObjects, gather::ports::Unmatched};

    fn node(labels: &Value) -> Value {
        let info = json!({"architecture": "arm64", "operatingSystem": "linux", "bootID": "", "containerRuntimeVersion": "",
            "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": ""});
        json!({"metadata": {"name": "n1", "labels": labels}, "status": {"nodeInfo": info}})
    }

    /// An inventory before an API server that has one node or none, and how often it was asked.
    fn before(stored: Option<Value>) -> (Arc<ClusterInventory>, Arc<AtomicUsize>, Arc<Mutex<Option<Value>>>) {
        let (asked, stored) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(stored)));
        let (counted, served) = (Arc::clone(&asked), Arc::clone(&stored));
        let answer = async move |Path(name): Path<String>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let found = served.lock().clone().filter(|node| node["metadata"]["name"] == *name);
            let none = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            found.map_or_else(
                || (StatusCode::NOT_FOUND, Json(none)).into_response(),
                |node| Json(node).into_response(),
            )
        };
        let keys = KeyObjects::new("ns".to_owned(), false);
        let inventory = ClusterInventory::new(Vec::new(), Unmatched::Allow, false, keys);
        inventory.nodes.ask(Client::new(Router::new().route("/api/v1/nodes/{name}", get(answer)), "ns"));
        (inventory, asked, stored)
    }

    fn known(inventory: &ClusterInventory) -> Vec<String> {
        let nodes = inventory.state.lock().snapshot().nodes;
        let shown = |node: &Arc<Node>| {
            let platform = placement::node_platform(node);
            format!(
                "{} {}",
                node.name,
                platform.map_or_else(|| "?".to_owned(), |platform| platform.to_string())
            )
        };
        nodes.iter().map(shown).collect()
    }

    #[tokio::test]
    async fn a3_a_node_that_is_named_is_looked_up_once_by_all_who_name_it() {
        let (inventory, asked, _) = before(Some(node(&json!({"kubernetes.io/arch": "amd64"}))));
        tokio::join!(inventory.find_node("n1"), inventory.find_node("n1"), inventory.find_node("n1"));
        assert_eq!(
            (known(&inventory), asked.load(Ordering::Relaxed)),
            (vec!["n1 linux/amd64".to_owned()], 1)
        );
    }

    #[tokio::test]
    async fn a3_a_node_that_is_not_there_is_looked_up_again_soon() {
        let (inventory, asked, stored) = before(None);
        for _ in 0..3 {
            inventory.find_node("n1").await;
        }
        assert_eq!((known(&inventory), asked.load(Ordering::Relaxed)), (vec![], 1));
        *stored.lock() = Some(node(&json!({})));
        tokio::time::sleep(HOLDS).await;
        while known(&inventory).is_empty() {
            inventory.find_node("n1").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(known(&inventory), ["n1 linux/arm64"], "its status says what its labels do not");
    }

    #[tokio::test]
    async fn a3_names_that_no_node_can_have_are_not_looked_up() {
        let (inventory, asked, _) = before(None);
        inventory.find_node("").await;
        inventory.find_node(&"x".repeat(300)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
