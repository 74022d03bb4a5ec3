//! What a pod runs, when the scheduler binds it to a node: known from a watch of the pods that are not bound yet, and asked of the API
//! server where the watch does not have it. What a review said of a pod is never believed here: anybody could have sent it.

mod kept;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Error, Resource as _,
    api::{GetParams, ListParams, WatchParams},
    core::{Request, Status},
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::kept::Kept;
use super::{
    inventory::{ClusterInventory, Watched},
    shares::Shares,
    split::{self, Form, Part},
    watch::{Patience, Trouble, WATCH_SECONDS},
};
use crate::{
    api::workload::{self, Object},
    domain::workload::{Placement, Workload},
    gather::ports::{PodLookupError, Pods},
};

/// Pods that no scheduler has bound.
const UNBOUND: &str = "spec.nodeName=";
/// How many pods are read per request. One at a time is held, however many these are.
const PAGE: u32 = 500;
/// How many pods are looked up at once, in all and of one namespace: each may be 10 MiB of JSON.
const LOOKUPS: usize = 4;
const LOOKUPS_OF_NAMESPACE: usize = 2;
/// A watch that ended sooner has not gone well.
const SOON: Duration = Duration::from_secs(1);

/// The pods that are not bound yet.
pub struct PendingPods {
    client: Client,
    inventory: Arc<ClusterInventory>,
    pending: Mutex<Kept>,
    lookups: Shares,
}

/// What a list says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    /// From where on its changes are watched.
    pub(super) resource_version: String,
    /// What the next page is asked for with; empty: this is the last.
    #[serde(rename = "continue")]
    pub(super) next: String,
}

/// An event of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// An object whose version is wanted and nothing else.
#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

impl PendingPods {
    /// None is known yet.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>) -> Arc<Self> {
        let lookups = Shares::new(LOOKUPS, LOOKUPS_OF_NAMESPACE);
        Arc::new(Self { client, inventory, pending: Mutex::default(), lookups })
    }

    /// Follows the pods that are not bound, until the process ends.
    pub async fn run(self: Arc<Self>) {
        let mut version: Option<String> = None;
        let mut patience = Patience::default();
        loop {
            let (begun, was_listed) = (Instant::now(), version.is_none());
            let followed = match &mut version {
                None => self.list().await.map(|listed| version = Some(listed)),
                Some(version) => self.watch(version).await,
            };
            let wait = match followed {
                Ok(()) if was_listed || begun.elapsed() >= SOON => {
                    patience = if was_listed { patience } else { Patience::default() };
                    continue;
                }
                // A watch that ends at once has not gone well.
                Ok(()) => patience.next_wait(Trouble::Other),
                Err(error) => {
                    self.inventory.watched(Watched::Pods, Some(&error.to_string()));
                    let code = if let Error::Api(status) = &error { status.code } else { 0 };
                    // What the API server refuses to continue is listed again.
                    if (400..500).contains(&code) {
                        version = None;
                    }
                    patience.next_wait(Trouble::of_status(code))
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// How many bytes are kept of pods.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.pending.lock().bytes()).unwrap_or(u64::MAX)
    }

    /// Reads all of them, and says from where on they are to be watched.
    async fn list(&self) -> Result<String, Error> {
        let mut all = Kept::default();
        let mut page = ListParams::default().fields(UNBOUND).limit(PAGE);
        loop {
            let metadata = read_page(&self.client, &page, |json| {
                if let Some((uid, workload)) = known(json) {
                    all.put(&uid, workload);
                }
            })
            .await?;
            if metadata.next.is_empty() {
                *self.pending.lock() = all;
                self.inventory.listed(Watched::Pods);
                self.inventory.watched(Watched::Pods, None);
                return Ok(metadata.resource_version);
            }
            page = page.continue_token(&metadata.next);
        }
    }

    /// Takes changes in until the API server ends the watch; `version` is where to go on.
    async fn watch(&self, version: &mut String) -> Result<(), Error> {
        let params = WatchParams::default().fields(UNBOUND).timeout(WATCH_SECONDS);
        let request =
            Request::new(Pod::url_path(&(), None)).watch(&params, version).map_err(Error::BuildRequest)?;
        split::read(&self.client, request, Form::Events, |part| {
            match part {
                Part::Begun => self.inventory.watched(Watched::Pods, None),
                Part::Object(bytes) => {
                    let event = serde_json::from_slice(bytes).map_err(Error::SerdeError)?;
                    *version = self.take(&event)?;
                }
                // Which pod it is about is not known: all are listed again.
                Part::Metadata(_) | Part::TooLarge => return Err(gone("an event was too large to be read")),
            }
            Ok(())
        })
        .await
    }

    /// Takes an event in, and says of which version it is.
    fn take(&self, event: &Event<'_>) -> Result<String, Error> {
        let json = event.object.get();
        if event.r#type == "ERROR" {
            let status: Status = serde_json::from_str(json).map_err(Error::SerdeError)?;
            return Err(Error::Api(Box::new(status)));
        }
        let Versioned { metadata } = serde_json::from_str(json).map_err(Error::SerdeError)?;
        match (event.r#type, known(json)) {
            ("ADDED" | "MODIFIED", Some((uid, workload))) => self.pending.lock().put(&uid, workload),
            ("DELETED", Some((uid, _))) => self.pending.lock().remove(&uid),
            _ => {}
        }
        Ok(metadata.resource_version)
    }

    /// Asks the API server for a pod.
    async fn ask(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Arc<Workload>>, PodLookupError> {
        let failed = |error: &dyn std::fmt::Display| PodLookupError(error.to_string());
        let _permits = self.lookups.acquire(namespace).await;
        let request = Request::new(Pod::url_path(&(), Some(namespace)));
        let request = request.get(name, &GetParams::default()).map_err(|error| failed(&error))?;
        let mut found = None;
        let read = split::read(&self.client, request, Form::Events, |part| {
            if let Part::Object(bytes) = part {
                found = std::str::from_utf8(bytes).ok().and_then(known);
            }
            Ok(())
        });
        match read.await {
            Ok(()) => {}
            Err(Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(failed(&error)),
        }
        match found {
            // Of another uid it is another pod, and the API server refuses the binding by itself.
            Some((found, _)) if !uid.is_empty() && found != uid => Ok(None),
            Some((_, workload)) => Ok(Some(Arc::new(workload))),
            None => Err(PodLookupError("the pod cannot be read".to_owned())),
        }
    }
}

impl Pods for PendingPods {
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Workload>>, PodLookupError>> {
        // What the watch knows is what is stored, while it goes.
        let is_followed = self.inventory.staleness(Watched::Pods).is_zero();
        let is_asked_for = |pod: &Arc<Workload>| pod.namespace == namespace && pod.name == name;
        let known = if is_followed { self.pending.lock().get(uid).filter(is_asked_for) } else { None };
        Box::pin(async move {
            match known {
                Some(workload) => Ok(Some(workload)),
                None => self.ask(namespace, name, uid).await,
            }
        })
    }
}

/// Reads one page of pods, and hands over the JSON of each.
pub(super) async fn read_page(
    client: &Client,
    page: &ListParams,
    mut pod: impl FnMut(&str),
) -> Result<ListMetadata, Error> {
    let request = Request::new(Pod::url_path(&(), None)).list(page).map_err(Error::BuildRequest)?;
    let mut metadata = ListMetadata::default();
    split::read(client, request, Form::List, |part| {
        match part {
            Part::Metadata(bytes) => metadata = serde_json::from_slice(bytes).map_err(Error::SerdeError)?,
            Part::Object(bytes) => {
                if let Ok(json) = std::str::from_utf8(bytes) {
                    pod(json);
                }
            }
            // It is looked up when it is bound.
            Part::Begun | Part::TooLarge => {}
        }
        Ok(())
    })
    .await?;
    Ok(metadata)
}

/// What a pod runs, by its uid; `None` where it cannot be read. Where it may land its binding says.
fn known(json: &str) -> Option<(String, Workload)> {
    let Object { uid, workload, .. } = workload::read("", "Pod", json).ok()??;
    Some((uid?, Workload { placement: Placement::default(), ..workload }))
}

fn gone(message: &str) -> Error {
    let status = Status { code: 410, message: message.to_owned(), ..Status::default() };
    Error::Api(Box::new(status))
}

#[cfg(test)]
mod tests;
