//! `TrustRoot` objects: followed, handed to whoever keeps the trust roots, and their status written by the leading replica.
//!
//! A cluster need not have the kind: Helm does not upgrade definitions, so that a newer Bonafide meets the older ones. Then there is no
//! such object, nobody waits for one, and it is looked again now and then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch as channel};

use super::{
    call,
    follow::{Sent, follow},
    inventory::{ClusterInventory, Watched},
    objects::ApiObject,
    state::Reported,
    status::{self, shortened},
    watch::Change,
};
use crate::{domain::identity::TrustRootName, gather::ports::RootKeeper};

const KIND: &str = "TrustRoot";
/// How often is looked whether each status is as it should be: roots that are fetched change by themselves.
const LOOK: Duration = Duration::from_secs(10);
/// How long changes are gathered.
const GATHERING: Duration = Duration::from_millis(100);

/// The `TrustRoot` objects of a cluster.
pub struct TrustRootObjects {
    client: Client,
    inventory: Arc<ClusterInventory>,
    keeper: Arc<dyn RootKeeper>,
    known: Mutex<BTreeMap<String, Known>>,
    changed: Notify,
    /// All were forgotten. Those that come back are listed: a watch that goes on does not tell of them.
    forgotten: Notify,
}

#[derive(Debug, Clone)]
struct Known {
    uid: String,
    generation: i64,
    object: Value,
    reported: Option<Reported>,
}

impl TrustRootObjects {
    /// None is known yet.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>, keeper: Arc<dyn RootKeeper>) -> Arc<Self> {
        let (changed, forgotten) = (Notify::new(), Notify::new());
        Arc::new(Self { client, inventory, keeper, known: Mutex::default(), changed, forgotten })
    }

    /// Follows them for ever.
    pub async fn run(self: Arc<Self>) {
        let path = format!("/apis/bonafide.dev/v1alpha1/{}", Watched::TrustRoots);
        let read = |json: &[u8]| ApiObject::read(json).map(known);
        loop {
            tokio::select! {
                () = follow(&self.client, &path, Sent::Whole, &read, |change| self.take(change)) => {}
                () = self.forgotten.notified() => {}
            }
        }
    }

    fn objects(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("bonafide.dev", "v1alpha1", KIND);
        Api::all_with(
            self.client.clone(),
            &ApiResource::from_gvk_with_plural(&kind, Watched::TrustRoots.as_str()),
        )
    }

    fn take(&self, change: Change<(String, Known)>) {
        let watched = Watched::TrustRoots;
        match change {
            Change::Lost(error) => self.inventory.watched(watched, Some(&error)),
            Change::Absent(error) => {
                if self.inventory.is_absent(watched, &error) {
                    let had_some = self.keep(Change::All(Vec::new()));
                    self.inventory.listed(watched);
                    if had_some {
                        self.forgotten.notify_one();
                    }
                }
            }
            change @ Change::All(_) => {
                self.keep(change);
                self.inventory.listed(watched);
                self.inventory.watched(watched, None);
            }
            change @ (Change::One(_) | Change::Gone(_)) => {
                self.keep(change);
                self.inventory.watched(watched, None);
            }
        }
    }

    /// Takes a change in. Whether any root is another than before.
    fn keep(&self, change: Change<(String, Known)>) -> bool {
        let mut known = self.known.lock();
        let specs = |known: &BTreeMap<String, Known>| -> Vec<(String, i64)> {
            known.values().map(|root| (root.uid.clone(), root.generation)).collect()
        };
        let before = specs(&known);
        match change {
            Change::All(all) => *known = all.into_iter().collect(),
            Change::One((name, root)) => drop(known.insert(name, root)),
            // What is gone may have been made anew meanwhile.
            Change::Gone((name, root)) => {
                if known.get(&name).is_some_and(|known| known.uid == root.uid) {
                    known.remove(&name);
                }
            }
            Change::Lost(_) | Change::Absent(_) => {}
        }
        // A status alone changes no root.
        let is_other = specs(&known) != before;
        if is_other {
            let objects: Vec<Value> = known.values().map(|root| root.object.clone()).collect();
            self.keeper.keep(&objects);
            self.inventory.roots_changed();
        }
        self.changed.notify_one();
        is_other
    }

    /// Writes statuses for ever, while `leads` says that it is this replica's to do.
    pub async fn report(self: Arc<Self>, mut leads: channel::Receiver<bool>) {
        let mut written: HashMap<String, Reported> = HashMap::new();
        loop {
            if !*leads.borrow_and_update() {
                written.clear();
                if leads.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let known = self.known.lock().clone();
            for (name, root) in known {
                let Some(report) = self.keeper.report(&TrustRootName(name.clone()), Timestamp::now()) else {
                    continue;
                };
                let wanted = Reported {
                    generation: root.generation,
                    ready: report.ready,
                    message: shortened(report.message),
                    since: None,
                    reviewed: None,
                };
                // What was written comes back by the watch; until then it need not be written again.
                let is_there = root.reported.as_ref().is_some_and(|reported| reported.says(&wanted))
                    || written.get(&root.uid).is_some_and(|written| written.says(&wanted));
                if is_there {
                    continue;
                }
                let status = status::status(&wanted, report.reason, root.reported.as_ref(), Timestamp::now());
                // The uid sees to it that another object of the name is left alone.
                let patch = json!({"metadata": {"uid": root.uid}, "status": status});
                let (objects, how) = (self.objects(), PatchParams::default());
                let patch = Patch::Merge(patch);
                // One that hangs keeps no other status from being written.
                match call::within(call::LIMIT, objects.patch_status(&name, &how, &patch)).await {
                    Ok(_) => drop(written.insert(root.uid, wanted)),
                    Err(error) => {
                        let error = error.to_string();
                        tracing::warn!(trust_root = name, error, "its status cannot be written");
                    }
                }
            }
            tokio::select! {
                () = self.changed.notified() => tokio::time::sleep(GATHERING).await,
                _ = leads.changed() => {}
                () = tokio::time::sleep(LOOK) => written.clear(),
            }
        }
    }
}

fn known(object: ApiObject) -> (String, Known) {
    let ApiObject { name, uid, generation, mut object, status, .. } = object;
    // An item of a list need not say of which kind it is.
    if let Value::Object(fields) = &mut object {
        fields.insert("apiVersion".to_owned(), "bonafide.dev/v1alpha1".into());
        fields.insert("kind".to_owned(), KIND.into());
    }
    (name, Known { uid, generation, object, reported: status.as_ref().and_then(Reported::of) })
}
