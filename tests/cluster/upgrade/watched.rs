//! Pods that are created again and again while versions change, and the webhook configurations meanwhile.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bonafide_kit::plane::ControlPlane;
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Pod};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::RwLock, task::JoinHandle};

use super::{VALIDATING, entries};
use crate::{keeping, objects::pod};

/// The pause between two pods.
const PAUSE: Duration = Duration::from_millis(100);

/// What must become of a pod, whichever replica judges it.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    Admitted,
    Denied,
}

/// Creates pods, in dry runs, and looks at the entries.
pub struct Watched {
    client: Client,
    over: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<usize>>,
    /// Held by each request; whoever writes waits until none is under way.
    requests: Arc<RwLock<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watched {
    pub async fn new(plane: &ControlPlane) -> Self {
        Self {
            client: keeping::client(plane).await,
            over: Arc::default(),
            wrong: Arc::default(),
            asked: Arc::default(),
            requests: Arc::default(),
            tasks: Vec::new(),
        }
    }

    /// Creates pods of an image in a namespace until it is over.
    pub fn pods(&mut self, namespace: &str, image: &str, expected: Expected) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut object = pod("", image);
        object["metadata"] = json!({"generateName": "watched-"});
        let object: Pod = serde_json::from_value(object).unwrap();
        let (over, wrong, asked) = (Arc::clone(&self.over), Arc::clone(&self.wrong), Arc::clone(&self.asked));
        let (requests, about) = (Arc::clone(&self.requests), format!("{namespace} {image} {expected:?}"));
        self.tasks.push(tokio::spawn(async move {
            let params = PostParams { dry_run: true, ..PostParams::default() };
            while !over.load(Ordering::Relaxed) {
                let request = requests.read().await;
                let created = pods.create(&params, &object).await;
                drop(request);
                *asked.lock() += 1;
                match (expected, created) {
                    (Expected::Admitted, Ok(_)) | (Expected::Denied, Err(_)) => {}
                    (Expected::Admitted, Err(error)) => wrong.lock().push(format!("{about}: {error}")),
                    (Expected::Denied, Ok(_)) => wrong.lock().push(format!("{about}: it was admitted")),
                }
                tokio::time::sleep(PAUSE).await;
            }
        }));
    }

    /// Looks at the entries until it is over: workloads are always sent, with this failure policy, and the API server trusts one authority.
    pub fn entries(&mut self, failure_policy: &'static str) {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let (over, wrong) = (Arc::clone(&self.over), Arc::clone(&self.wrong));
        self.tasks.push(tokio::spawn(async move {
            let mut bundles = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let entries = configurations.get("bonafide").await.unwrap().webhooks.unwrap_or_default();
                bundles.extend(entries.iter().map(|entry| entry.client_config.ca_bundle.clone().unwrap().0));
                for name in ["workloads.bonafide.dev", "bindings.bonafide.dev"] {
                    let entry = entries.iter().find(|entry| entry.name == name);
                    if entry.is_none_or(|entry| entry.failure_policy.as_deref() != Some(failure_policy)) {
                        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
                        wrong
                            .lock()
                            .push(format!("{name} is missing or has another failure policy: {names:?}"));
                    }
                }
                if bundles.len() != 1 {
                    wrong.lock().push(format!("{} bundles", bundles.len()));
                }
                tokio::time::sleep(PAUSE / 2).await;
            }
        }));
    }

    /// Does something while no pod is being created.
    pub fn between(&self, what: impl FnOnce()) {
        let _between = self.requests.blocking_write();
        what();
    }

    /// Waits until this many more pods were created.
    pub fn more(&self, count: usize) {
        let before = *self.asked.lock();
        bonafide_kit::plane::eventually("more pods", || {
            let asked = *self.asked.lock() - before;
            if asked >= count { Ok(()) } else { Err(format!("{asked}")) }
        });
    }

    /// Nothing was wrong.
    pub async fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
        let wrong = self.wrong.lock();
        assert!(
            wrong.is_empty(),
            "{} of {}: {:#?}",
            wrong.len(),
            self.asked.lock(),
            &wrong[..wrong.len().min(20)]
        );
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The authorities that the API server trusts.
pub fn bundle(plane: &ControlPlane) -> String {
    entries(plane, VALIDATING).unwrap()[0]["clientConfig"]["caBundle"].as_str().unwrap().to_owned()
}
