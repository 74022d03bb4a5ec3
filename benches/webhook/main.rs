//! What a review costs, next to a floor measured in the same run: a TLS server of the same stack that only answers `allowed`.
//!
//! Machines are shared and noisy, so the figures to quote are the ratios and the counts. `make bench` runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]
#![allow(missing_docs)]

mod cold;
mod load;
mod process;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, http::header, routing::post};
use bonafide::{
    cli::serve,
    server::{
        health::{self, Readiness},
        listen::{Listeners, Service},
        metrics::Metrics,
        tls,
    },
};
use bonafide_kit::scenario::Scenario;
use clap::Parser;
use serde_json::json;

use load::{Run, Target};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: serve::Args,
}

fn main() {
    // `cargo test --benches` only wants to know that it is well.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    tls::install_crypto_provider();
    let folder = std::env::temp_dir().join(format!("bonafide-bench-{}", std::process::id()));
    // The servers and the load each have a runtime of their own, as they would have processes.
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

    let scenario = servers.block_on(Scenario::start());
    let webhook = servers.block_on(start_webhook(&folder, &scenario));
    let floor = servers.block_on(start_floor());
    clients.block_on(warm(&scenario, &webhook, &floor));
    clients.block_on(cold::measure(&scenario, &webhook));
    process::measure(&folder);
    let _ = std::fs::remove_dir_all(&folder);
}

/// Writes what `serve` reads and gives its flags.
fn flags(folder: &Path, scenario: &Scenario) -> Vec<PathBuf> {
    let policies = folder.join("policies");
    let root = folder.join("trusted_root.json");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("shop.yaml"), scenario.policy()).unwrap();
    std::fs::write(&root, scenario.sigstore.trusted_root_json()).unwrap();
    let mut flags: Vec<PathBuf> =
        ["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"].map(Into::into).into();
    flags.extend(["--platform", "linux/amd64", "--platform", "linux/arm64"].map(PathBuf::from));
    flags.extend([PathBuf::from("--policies"), policies, PathBuf::from("--trust-root"), root]);
    flags
}

async fn start_webhook(folder: &Path, scenario: &Scenario) -> Target {
    let flags = [PathBuf::from("serve")].into_iter().chain(flags(folder, scenario));
    let webhook = serve::start(Serve::parse_from(flags).args, "bench").await.unwrap();
    let target = Target::new(webhook.address(), webhook.authority().unwrap());
    tokio::spawn(webhook.run(std::future::pending(), Duration::ZERO));
    target
}

/// The floor: the same listeners and TLS, a body that is read, an answer that is always the same.
async fn start_floor() -> Target {
    const ALLOWED: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x","allowed":true}}"#;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(any, any).await.unwrap();
    let (certificate, authority) = tls::self_made(any.ip()).unwrap();
    let echo = |body: Bytes| async move {
        assert!(!body.is_empty());
        ([(header::CONTENT_TYPE, "application/json")], ALLOWED)
    };
    let readiness = Arc::new(Readiness::default());
    let service = Service {
        admission: Router::new().route("/validate", post(echo)),
        health: health::router(Arc::clone(&readiness), Metrics::new("bench")),
        readiness,
        certificate,
    };
    let target = Target::new(listeners.webhook_address(), &authority);
    tokio::spawn(listeners.serve(service, std::future::pending(), Duration::ZERO));
    target
}

/// The review of a pod with `image`.
pub fn review(image: &str, containers: usize) -> Arc<Vec<u8>> {
    let containers: Vec<_> = (0..containers)
        .map(|n| {
            json!({"name": format!("c{n}"), "image": image, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]})
        })
        .collect();
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "shop-7d4b9c-", "namespace": "shop", "labels": {"app": "shop"}},
                "spec": {"containers": containers, "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]}}
        }
    });
    Arc::new(load::post(&body.to_string()))
}

async fn warm(scenario: &Scenario, webhook: &Target, floor: &Target) {
    let request = review(scenario.image("shop"), 1);
    assert!(webhook.connect().await.ask(&request).await);
    scenario.registry.clear_requests();
    println!("warm reviews, {ROUNDS} rounds of {ROUND:?} each in turn, medians");
    println!(
        "{:<12}{:>12}{:>12}{:>10}{:>10}{:>10}{:>12}{:>12}{:>8}",
        "connections", "floor p50", "review p50", "ratio", "p99", "ratio", "floor /s", "reviews /s", "ratio"
    );
    for connections in [1, 8, 64] {
        let (mut floors, mut reviews) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floors.push(floor.load(Arc::clone(&request), connections, ROUND).await);
            reviews.push(webhook.load(Arc::clone(&request), connections, ROUND).await);
        }
        let p = |runs: &[Run], percent| {
            median(runs.iter().map(|run| run.percentile(percent).as_secs_f64() * 1e6))
        };
        let rate = |runs: &[Run]| median(runs.iter().map(Run::per_second));
        println!(
            "{connections:<12}{:>9.1} µs{:>9.1} µs{:>10.2}{:>7.0} µs{:>10.2}{:>12.0}{:>12.0}{:>8.2}",
            p(&floors, 50),
            p(&reviews, 50),
            p(&reviews, 50) / p(&floors, 50),
            p(&reviews, 99),
            p(&reviews, 99) / p(&floors, 99),
            rate(&floors),
            rate(&reviews),
            rate(&reviews) / rate(&floors),
        );
    }
    println!("registry requests meanwhile: {}\n", scenario.registry.count());
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
