//! After a start: what the pods of the cluster run already is judged once, so that no user's pod waits for a registry that this
//! process has not asked yet. What comes of it is kept by whoever judges, and told to nobody.

use std::{
    collections::HashSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use kube::{Client, api::ListParams};
use serde::Deserialize;

use super::{inventory::ClusterInventory, pods};
use crate::{
    api::workload::{self, Object},
    domain::{digest::Digest, workload::Workload},
    gather::{ports::Inventory as _, weigh},
};

/// How many pods are read per request. Of these what they run is held, one whole pod at a time.
const PAGE: u32 = 500;
/// The most bytes of what one pod runs. Images of larger ones are inspected when they are asked for.
const LARGEST: usize = 16 << 10;
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
    let mut known = HashSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let mut unseen = Vec::new();
        let metadata = pods::read_page(&client, &page, |json| unseen.extend(fresh(json, &mut known))).await?;
        stream::iter(unseen).for_each_concurrent(AT_ONCE, &judge).await;
        if metadata.next.is_empty() || known.len() >= MOST {
            return Ok(known.len());
        }
        page = page.continue_token(&metadata.next);
    }
}

/// How far a pod is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    #[serde(borrow)]
    status: Option<Phase<'a>>,
}

#[derive(Deserialize)]
struct Phase<'a> {
    #[serde(borrow)]
    phase: Option<&'a str>,
}

/// What a pod runs that no pod before it does. The node it runs on is left out: its successors may land elsewhere.
fn fresh(json: &str, known: &mut HashSet<Digest>) -> Option<Arc<Workload>> {
    let Object { mut workload, being_deleted, .. } = workload::read("", "Pod", json).ok()??;
    let progress: Progress<'_> = serde_json::from_str(json).ok()?;
    let phase = progress.status.and_then(|status| status.phase);
    if being_deleted || matches!(phase, Some("Succeeded" | "Failed")) || weigh::workload(&workload) > LARGEST
    {
        return None;
    }
    workload.placement.node_name = None;
    // A reference may be of kilobytes, and there may be many thousands.
    let mark = |image: &str| Digest::of(format!("{} {image}", workload.namespace).as_bytes());
    workload.images.retain(|image| known.insert(mark(&image.image)));
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
