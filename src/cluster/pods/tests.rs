//! Pods by a list, a watch and a look-up, before an API server of three routes.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{cluster::keys::KeyObjects, gather::ports::Unmatched};

fn pod(name: &str, image: &str) -> Value {
    json!({
        "metadata": {"namespace": "team", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {"nodeSelector": {"k": "v"}, "containers": [{"name": "c", "image": image}]},
    })
}

/// What the API server has, and what it was asked.
#[derive(Default)]
struct Served {
    listed: Mutex<Vec<Value>>,
    events: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    stored: Mutex<Vec<Value>>,
    asked: Mutex<Vec<String>>,
}

async fn all(State(served): State<Arc<Served>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    served.asked.lock().push(query.clone());
    assert!(query.contains("fieldSelector=spec.nodeName"), "{query}");
    if !query.contains("watch=true") {
        let items = served.listed.lock().clone();
        return Json(json!({"metadata": {"resourceVersion": "5"}, "items": items})).into_response();
    }
    let Some(events) = served.events.lock().take() else { return std::future::pending().await };
    let lines = futures::stream::unfold(events, |mut events| async {
        let line = events.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), events))
    });
    Body::from_stream(lines.boxed()).into_response()
}

async fn one(State(served): State<Arc<Served>>, Path(name): Path<String>) -> Response {
    served.asked.lock().push(name.clone());
    let found = served.stored.lock().iter().find(|pod| pod["metadata"]["name"] == *name).cloned();
    let none =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    let not_found = || (axum::http::StatusCode::NOT_FOUND, Json(none)).into_response();
    found.map_or_else(not_found, |pod| Json(pod).into_response())
}

struct World {
    served: Arc<Served>,
    events: mpsc::UnboundedSender<String>,
    pods: Arc<PendingPods>,
    inventory: Arc<ClusterInventory>,
}

impl World {
    fn new(listed: Vec<Value>) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let served = Arc::new(Served::default());
        *served.listed.lock() = listed;
        *served.events.lock() = Some(received);
        let router = Router::new()
            .route("/api/v1/pods", get(all))
            .route("/api/v1/namespaces/team/pods/{name}", get(one))
            .with_state(Arc::clone(&served));
        let inventory = ClusterInventory::new(
            Vec::new(),
            Unmatched::Allow,
            false,
            KeyObjects::new("ns".to_owned(), false),
        );
        let pods = PendingPods::new(Client::new(router, "ns"), Arc::clone(&inventory));
        Self { served, events, pods, inventory }
    }

    async fn followed(listed: Vec<Value>) -> Self {
        let world = Self::new(listed);
        tokio::spawn(Arc::clone(&world.pods).run());
        while world.inventory.unlisted().iter().any(|one| one.resource == "pods")
            || world.served.asked.lock().len() < 2
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world
    }

    fn happens(&self, kind: &str, object: &Value) {
        self.events.send(format!("{}\n", json!({"type": kind, "object": object}))).unwrap();
    }

    /// The image of a pod, as it is known when it is bound; whether the API server was asked for it.
    async fn found(&self, name: &str, uid: &str) -> (Option<String>, bool) {
        let before = self.served.asked.lock().len();
        let found = self.pods.find("team", name, uid).await.unwrap();
        let image = found.map(|workload| workload.images[0].image.clone());
        (image, self.served.asked.lock().len() > before)
    }

    async fn kept(&self, uid: &str, image: Option<&str>) {
        for _ in 0..2000 {
            let kept = self.pods.pending.lock().get(uid);
            if kept.as_ref().map(|workload| workload.images[0].image.as_str()) == image {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{uid} does not come to run {image:?}");
    }
}

fn of(image: &str) -> String {
    image.to_owned()
}

#[tokio::test]
async fn a5_a_pod_is_what_the_api_server_says_it_is() {
    let world = World::followed(vec![pod("a", "one")]).await;
    assert_eq!(world.found("a", "uid-a").await, (Some(of("one")), false));
    world.happens("ADDED", &pod("b", "two"));
    world.kept("uid-b", Some("two")).await;
    world.happens("MODIFIED", &pod("b", "three"));
    world.kept("uid-b", Some("three")).await;
    world.happens("BOOKMARK", &json!({"metadata": {"resourceVersion": "9"}}));
    world.happens("DELETED", &pod("b", "three"));
    world.kept("uid-b", None).await;
    // A uid of another pod, none, and a pod that the watch does not have are asked for.
    world.served.stored.lock().extend([pod("a", "stored"), pod("c", "four")]);
    assert_eq!(world.found("c", "uid-a").await, (None, true), "it is another pod");
    assert_eq!(world.found("a", "").await, (Some(of("stored")), true));
    assert_eq!(world.found("c", "uid-c").await, (Some(of("four")), true));
    assert_eq!(world.found("d", "uid-d").await, (None, true), "there is none");
}

#[tokio::test]
async fn a5_pods_that_cannot_be_followed_are_asked_for() {
    let world = World::followed(vec![pod("a", "one")]).await;
    world.served.stored.lock().push(pod("a", "two"));
    world.inventory.watched(Watched::Pods, Some("away"));
    assert_eq!(world.found("a", "uid-a").await, (Some(of("two")), true));
}

#[tokio::test]
async fn a_watch_that_cannot_go_on_is_begun_with_a_list() {
    let world = World::followed(vec![pod("a", "one")]).await;
    *world.served.listed.lock() = vec![pod("b", "two")];
    world.happens(
        "ERROR",
        &json!({"code": 410, "message": "too old", "reason": "Expired", "status": "Failure"}),
    );
    world.kept("uid-b", Some("two")).await;
    world.kept("uid-a", None).await;
}
