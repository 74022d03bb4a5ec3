//! After a start: what the pods of the cluster run already is judged once, so that no user's pod waits for a registry that this
//! process has not asked yet. What comes of it is kept by whoever judges, and told to nobody.

use std::{
    collections::HashSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};

use super::{inventory::ClusterInventory, pods};
use crate::{domain::workload::Workload, gather::ports::Inventory as _};

/// How many pods are read at once: more would be held in memory for nothing.
const PAGE: u32 = 500;
/// How many workloads are judged at once: registries have users to answer, too.
const AT_ONCE: usize = 4;
/// How often it is looked whether the cluster is known.
const LOOK: Duration = Duration::from_millis(50);
/// The most images that are judged. The caches hold no more of everyday's size.
const MOST: usize = 20_000;

/// Judges what the cluster's pods run, once all that is followed of it has been listed.
pub async fn run<F: Future<Output = ()>>(
    client: Client,
    inventory: Arc<ClusterInventory>,
    judge: impl Fn(Arc<Workload>) -> F,
) {
    while inventory.snapshot().is_err() {
        tokio::time::sleep(LOOK).await;
    }
    let begun = Instant::now();
    match warm(client, judge).await {
        Ok(images) => {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(images, took_ms, "the images of running pods have been looked at");
        }
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(
                error,
                "running pods cannot be listed; their images are looked at when they are asked for"
            );
        }
    }
}

async fn warm<F: Future<Output = ()>>(
    client: Client,
    judge: impl Fn(Arc<Workload>) -> F,
) -> Result<usize, kube::Error> {
    let pods: Api<Pod> = Api::all(client);
    let mut known = HashSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = pods.list(&page).await?;
        let fresh: Vec<_> = list.items.into_iter().filter_map(|pod| fresh(pod, &mut known)).collect();
        stream::iter(fresh).for_each_concurrent(AT_ONCE, &judge).await;
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) if known.len() < MOST => {
                page = ListParams::default().limit(PAGE).continue_token(&next);
            }
            _ => return Ok(known.len()),
        }
    }
}

/// What a pod runs that no pod before it does. The node it runs on is left out: its successors may land elsewhere.
fn fresh(pod: Pod, known: &mut HashSet<(String, String)>) -> Option<Arc<Workload>> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let (_, workload) = pods::known(pod)?;
    let mut workload = Arc::unwrap_or_clone(workload);
    workload.placement.node_name = None;
    workload.images.retain(|image| known.insert((workload.namespace.clone(), image.image.clone())));
    (!workload.images.is_empty()).then(|| Arc::new(workload))
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::RawQuery, routing::get};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    fn pod(namespace: &str, name: &str, image: &str, phase: &str) -> Value {
        json!({
            "metadata": {"namespace": namespace, "name": name, "uid": name},
            "spec": {"nodeName": "a", "nodeSelector": {"k": "v"}, "containers": [{"name": "c", "image": image}]},
            "status": {"phase": phase},
        })
    }

    async fn told(pages: [Value; 2]) -> Vec<(String, String)> {
        let page = move |RawQuery(query): RawQuery| async move {
            let query = query.unwrap_or_default();
            assert!(query.contains("limit=500"), "{query}");
            let [first, second] = pages;
            Json(if query.contains("continue=more") {
                json!({"metadata": {}, "items": second})
            } else {
                json!({"metadata": {"continue": "more"}, "items": first})
            })
        };
        let client = Client::new(Router::new().route("/api/v1/pods", get(page)), "ns");
        let told: Mutex<Vec<_>> = Mutex::default();
        let judge = |workload: Arc<Workload>| {
            assert_eq!(workload.placement.node_name, None, "its successors may land elsewhere");
            assert_eq!(workload.placement.node_selector["k"], "v");
            let images =
                workload.images.iter().map(|image| (workload.namespace.clone(), image.image.clone()));
            told.lock().extend(images);
            async {}
        };
        warm(client, judge).await.unwrap();
        told.into_inner()
    }

    #[tokio::test]
    async fn each_image_of_a_namespace_is_judged_once_and_what_has_ended_is_not() {
        let first = json!([pod("a", "one", "x", "Running"), pod("a", "two", "x", "Pending")]);
        let second = json!([
            pod("b", "three", "x", "Running"),
            pod("a", "four", "x", "Running"),
            pod("a", "five", "y", "Succeeded"),
            pod("a", "six", "z", "Running"),
        ]);
        let expected = [("a", "x"), ("b", "x"), ("a", "z")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(told([first, second]).await, expected);
    }
}
