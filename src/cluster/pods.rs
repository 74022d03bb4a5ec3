//! What a pod runs, when the scheduler binds it to a node: known from its own admission, else from a watch of the pods that are not
//! bound yet, and asked of the API server only where neither has it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use parking_lot::Mutex;

use super::{
    inventory::{ClusterInventory, Watched},
    watch::{self, Change},
};
use crate::{
    api::workload,
    domain::workload::Workload,
    gather::ports::{PodLookupError, Pods},
};

/// How long a pod of one's own admission is remembered: the scheduler takes milliseconds, and the watch is there for the rest.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many are.
const MOST: u64 = 10_000;

/// A pod, by its uid.
pub(super) type Known = (String, Arc<Workload>);

/// The pods that are not bound yet.
pub struct PendingPods {
    client: Client,
    inventory: Arc<ClusterInventory>,
    made: moka::sync::Cache<String, Arc<Workload>>,
    pending: Mutex<HashMap<String, Arc<Workload>>>,
}

impl PendingPods {
    /// None is known yet.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>) -> Arc<Self> {
        Arc::new(Self {
            client,
            inventory,
            made: moka::sync::Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build(),
            pending: Mutex::default(),
        })
    }

    /// Follows the pods that are not bound, for ever.
    pub async fn run(self: Arc<Self>) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let events = watcher::watcher(pods, watch::settings().fields("spec.nodeName="));
        watch::follow(events, known, |change| {
            let lost = match change {
                Change::All(all) => {
                    *self.pending.lock() = all.into_iter().flatten().collect();
                    self.inventory.listed(Watched::Pods);
                    None
                }
                Change::One(Some((uid, workload))) => {
                    self.pending.lock().insert(uid, workload);
                    None
                }
                Change::Gone(Some((uid, _))) => {
                    self.pending.lock().remove(&uid);
                    None
                }
                Change::One(None) | Change::Gone(None) => None,
                Change::Lost(error) | Change::Absent(error) => Some(error),
            };
            self.inventory.watched(Watched::Pods, lost.as_deref());
        })
        .await;
    }

    async fn ask(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Arc<Workload>>, PodLookupError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = pods.get_opt(name).await.map_err(|error| PodLookupError(error.to_string()))?;
        // Of another uid it is another pod, and the API server refuses the binding by itself.
        let found = pod.filter(|pod| uid.is_empty() || pod.uid().as_deref() == Some(uid));
        match found {
            None => Ok(None),
            Some(pod) => match known(pod) {
                Some((_, workload)) => Ok(Some(workload)),
                None => Err(PodLookupError("the pod cannot be read".to_owned())),
            },
        }
    }
}

impl Pods for PendingPods {
    fn made(&self, uid: &str, workload: &Workload) {
        self.made.insert(uid.to_owned(), Arc::new(workload.clone()));
    }

    fn changed(&self, uid: &str) {
        self.made.invalidate(uid);
    }

    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Workload>>, PodLookupError>> {
        // What the watch knows is what is stored.
        let known = self.pending.lock().get(uid).cloned().or_else(|| self.made.get(uid));
        Box::pin(async move {
            match known {
                Some(workload) => Ok(Some(workload)),
                None => self.ask(namespace, name, uid).await,
            }
        })
    }
}

/// What a pod runs, by its uid; `None` where it cannot be read.
pub(super) fn known(mut pod: Pod) -> Option<Known> {
    let uid = pod.metadata.uid.clone()?;
    pod.metadata.managed_fields = None;
    pod.status = None;
    let json = serde_json::to_string(&pod).ok()?;
    let object = workload::read("", "Pod", &json).ok()??;
    Some((uid, Arc::new(object.workload)))
}
