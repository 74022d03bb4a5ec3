//! A large cluster beside a small one: what its nodes and policies cost in memory, in time until ready, and in each review.
//!
//! The API server is a stand-in that lists what there is and then never tells of a change.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use bonafide_kit::scenario::Scenario;
use futures::{StreamExt as _, stream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::{
    Server,
    load::Run,
    median,
    process::{is_ready, resident_kib},
    review,
};

/// The large cluster.
const NODES: usize = 5_000;
const POLICIES: usize = 2_000;
/// How many of its policies a namespace has.
const EACH: usize = 10;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);

/// What an API server lists, by path.
struct Lists {
    nodes: Vec<Value>,
    namespaces: Vec<Value>,
    policies: Vec<Value>,
    cluster_policies: Vec<Value>,
}

impl Lists {
    fn new(scenario: &Scenario, nodes: usize, policies: usize) -> Self {
        let policy: Value = serde_saphyr::from_str(&scenario.policy()).unwrap();
        let metadata =
            |name: String| json!({"name": name, "uid": name, "generation": 1, "resourceVersion": "1"});
        let node = |n: usize| {
            let arch = if n.is_multiple_of(2) { "amd64" } else { "arm64" };
            let mut node = json!({"metadata": metadata(format!("node-{n}"))});
            node["metadata"]["labels"] = json!({
                "kubernetes.io/arch": arch, "kubernetes.io/os": "linux", "kubernetes.io/hostname": format!("node-{n}"),
                "topology.kubernetes.io/zone": format!("zone-{}", n % 3), "node.kubernetes.io/instance-type": "large",
                "example.com/pool": format!("pool-{}", n % 40),
            });
            node
        };
        let namespaces = 1 + policies / EACH;
        let namespace = |n: usize| {
            let name = if n == 0 { "shop".to_owned() } else { format!("team-{n}") };
            let mut namespace = json!({"metadata": metadata(name.clone())});
            namespace["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": name, "team": name});
            namespace
        };
        let other = |n: usize| {
            let mut other = policy.clone();
            other["metadata"] = metadata(format!("policy-{n}"));
            other["metadata"]["namespace"] = json!(format!("team-{}", 1 + n % (namespaces - 1)));
            other["spec"]["images"]["include"] = json!([format!("registry.example/team-{n}/**")]);
            other
        };
        let selecting = |n: usize| {
            let mut other = other(n);
            other["kind"] = json!("ClusterProvenancePolicy");
            other["metadata"].as_object_mut().unwrap().remove("namespace");
            other["spec"]["namespaceSelector"] = json!({"matchLabels": {"team": format!("team-{n}")}});
            other
        };
        let mut own = policy.clone();
        own["metadata"]["uid"] = json!("own");
        own["metadata"]["generation"] = json!(1);
        // A twentieth of them is the cluster's.
        let of_cluster = policies / 20;
        Self {
            nodes: (0..nodes).map(node).collect(),
            namespaces: (0..namespaces).map(namespace).collect(),
            policies: (of_cluster..policies).map(other).chain([own]).collect(),
            cluster_policies: (0..of_cluster).map(selecting).collect(),
        }
    }

    fn of(&self, path: &str) -> Option<(&str, &[Value])> {
        let list: (&str, &[Value]) = match path.rsplit('/').next()? {
            "nodes" => ("v1", &self.nodes),
            "namespaces" => ("v1", &self.namespaces),
            "provenancepolicies" => ("bonafide.dev/v1alpha1", &self.policies),
            "clusterprovenancepolicies" => ("bonafide.dev/v1alpha1", &self.cluster_policies),
            "trustroots" => ("bonafide.dev/v1alpha1", &[]),
            "runtimeclasses" => ("node.k8s.io/v1", &[]),
            "pods" => ("v1", &[]),
            _ => return None,
        };
        Some(list)
    }

    /// An API server on a port of its own.
    async fn serve(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        url
    }
}

async fn answer(State(lists): State<Arc<Lists>>, RawQuery(query): RawQuery, request: Request) -> Response {
    let list = lists.of(request.uri().path()).filter(|_| request.method() == "GET");
    let Some((version, items)) = list else {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        return (StatusCode::NOT_FOUND, Json(status)).into_response();
    };
    if query.is_some_and(|query| query.contains("watch=true")) {
        // Nothing changes.
        let silence = stream::pending::<Result<Bytes, std::io::Error>>().boxed();
        return Response::new(Body::from_stream(silence));
    }
    let list =
        json!({"apiVersion": version, "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
    Json(list).into_response()
}

/// A webhook that follows such a cluster.
struct Followed {
    server: Server,
    ready: Duration,
    resident: u64,
}

impl Followed {
    async fn start(folder: &Path, name: &str, lists: Lists) -> Self {
        let (folder, url) = (folder.join(name), lists.serve().await);
        fs::create_dir_all(&folder).unwrap();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let (authority, chain, key) = certificate();
        for (file, text) in [("ca.pem", &authority), ("tls.crt", &chain), ("tls.key", &key)] {
            fs::write(folder.join(file), text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.args(["serve", "--cluster", "--namespace=system", "--certificates=files"]);
        command.args(["--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"]);
        command.arg("--tls-cert").arg(folder.join("tls.crt")).arg("--tls-key").arg(folder.join("tls.key"));
        command.arg("--trust-root").arg(folder.join("../trusted_root.json"));
        command.env("KUBECONFIG", folder.join("kubeconfig"));
        let begun = Instant::now();
        let server = Server::start(command, &folder.join("ca.pem"));
        while !is_ready(&server.health) {
            assert!(begun.elapsed() < Duration::from_mins(1), "not ready in a minute");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ready = begun.elapsed();
        let resident = resident_kib(server.process.id());
        Self { server, ready, resident }
    }
}

/// An authority, and a certificate and key for this machine; PEM.
fn certificate() -> (String, String, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    (authority_pem, chain.pem(), key.serialize_pem())
}

/// Starts a webhook in each cluster and asks both in turn.
pub async fn measure(folder: &Path, scenario: &Scenario) {
    let small = Followed::start(folder, "small", Lists::new(scenario, 2, EACH)).await;
    let large = Followed::start(folder, "large", Lists::new(scenario, NODES, POLICIES)).await;
    println!("a cluster of {NODES} nodes and {POLICIES} policies, next to one of 2 and {}", EACH + 1);
    let line = |what: &str, small: f64, large: f64, unit: &str| {
        println!("{what:<28}{small:>9.1} {unit}{large:>11.1} {unit}{:>8.2}", large / small);
    };
    let seconds = |followed: &Followed| followed.ready.as_secs_f64() * 1e3;
    line("time to ready", seconds(&small), seconds(&large), "ms");
    let mib = |followed: &Followed| followed.resident as f64 / 1024.0;
    line("resident when ready", mib(&small), mib(&large), "MiB");
    let request = review(scenario.image("shop"), 1);
    let unsigned = review(scenario.image("bare"), 1);
    for webhook in [&small, &large] {
        let mut connection = webhook.server.target.connect().await;
        assert!(connection.ask(&request).await);
        assert!(!connection.ask(&unsigned).await, "the policy is not in force");
    }
    for connections in [1, 8] {
        let (mut smalls, mut larges) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            smalls.push(small.server.target.load(Arc::clone(&request), connections, ROUND).await);
            larges.push(large.server.target.load(Arc::clone(&request), connections, ROUND).await);
        }
        let p50 = |runs: &[Run]| median(runs.iter().map(|run| run.percentile(50).as_secs_f64() * 1e6));
        let what = format!("warm p50, {connections} connections");
        line(&what, p50(&smalls), p50(&larges), "µs");
    }
    println!();
}
