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
mod scale;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, http::header, routing::post};
use bonafide::server::{
    health::{self, Readiness},
    listen::{Listeners, Service},
    metrics::Metrics,
    tls,
};
use bonafide_kit::scenario::Scenario;
use serde_json::json;

use load::{Run, Target};

/// The floor is of the same stack, down to the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);

/// The argument that makes this program the floor.
const FLOOR: &str = "--floor";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it is well.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    tls::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [_, flag, authority] = arguments.as_slice()
        && flag == FLOOR
    {
        return runtime.block_on(floor(Path::new(authority)));
    }
    let folder = std::env::temp_dir().join(format!("bonafide-bench-{}", std::process::id()));
    let scenario = runtime.block_on(Scenario::start());
    let policies = write(&folder, &scenario);
    let webhook = Server::webhook(&folder, &policies);
    let floor = Server::floor(&folder);
    runtime.block_on(warm(&scenario, &webhook, &floor));
    drop(floor);
    runtime.block_on(cold::measure(&scenario, &webhook.target));
    drop(webhook);
    runtime.block_on(scale::measure(&folder, &scenario));
    process::measure(&policies);
    let _ = std::fs::remove_dir_all(&folder);
}

/// What `serve` reads.
fn write(folder: &Path, scenario: &Scenario) -> PathBuf {
    let policies = folder.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("shop.yaml"), scenario.policy()).unwrap();
    std::fs::write(folder.join("trusted_root.json"), scenario.sigstore.trusted_root_json()).unwrap();
    policies
}

/// A server in a process of its own, as both are in life; it ends with this.
struct Server {
    process: Child,
    target: Target,
    /// Where it tells how it is, without the scheme.
    health: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// The real binary, with its log.
    fn webhook(folder: &Path, policies: &Path) -> Self {
        let authority = folder.join("webhook.pem");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]);
        command.args(["--platform", "linux/amd64", "--platform", "linux/arm64"]);
        command.arg("--policies").arg(policies).arg("--trust-root").arg(folder.join("trusted_root.json"));
        command.arg("--tls-ca-out").arg(&authority);
        Self::start(command, &authority)
    }

    fn floor(folder: &Path) -> Self {
        let authority = folder.join("floor.pem");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(FLOOR).arg(&authority);
        Self::start(command, &authority)
    }

    /// The processor time taken so far.
    fn cpu_time(&self) -> Duration {
        process::cpu_time(self.process.id())
    }

    /// Both say on standard output where they listen.
    fn start(mut command: Command, authority: &Path) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut said = |what: &str| loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some(url) = line.trim_end().strip_prefix(what) {
                break url.to_owned();
            }
        };
        let address = said("webhook https://").trim_end_matches("/validate").parse().unwrap();
        let health = said("health http://");
        // Whoever writes to a pipe that nobody reads waits for ever; and reading is not what is measured.
        std::thread::spawn(move || {
            let mut output = output.into_inner();
            let mut discarded = vec![0; 1 << 16];
            while output.read(&mut discarded).is_ok_and(|read| read > 0) {}
        });
        let authority = std::fs::read_to_string(authority).unwrap();
        Self { process, target: Target::new(address, &authority), health }
    }
}

/// The floor: the same listeners and TLS, a body that is read, an answer that is always the same.
async fn floor(authority_file: &Path) {
    const ALLOWED: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x","allowed":true}}"#;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(any, any).await.unwrap();
    let (certificate, authority) = tls::self_made(any.ip()).unwrap();
    std::fs::write(authority_file, authority).unwrap();
    println!("webhook https://{}/validate", listeners.webhook_address());
    println!("health http://{}", listeners.health_address());
    let echo = |body: Bytes| async move {
        assert!(!body.is_empty());
        ([(header::CONTENT_TYPE, "application/json")], ALLOWED)
    };
    let readiness = Arc::new(Readiness::default());
    let service = Service {
        validate: None,
        admission: Router::new().route("/validate", post(echo)),
        health: health::router(Arc::clone(&readiness), Metrics::new("bench")),
        metrics: Metrics::new("bench"),
        readiness,
        certificate,
    };
    listeners.serve(service, std::future::pending(), Duration::ZERO).await.unwrap();
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

async fn warm(scenario: &Scenario, webhook: &Server, floor: &Server) {
    let request = review(scenario.image("shop"), 1);
    assert!(webhook.target.connect().await.ask(&request).await);
    scenario.registry.clear_requests();
    println!("warm reviews, {ROUNDS} rounds of {ROUND:?} each in turn, medians");
    println!(
        "{:<12}{:>12}{:>12}{:>8}{:>10}{:>8}{:>12}{:>12}{:>8}{:>12}{:>12}{:>8}",
        "connections",
        "floor p50",
        "review p50",
        "ratio",
        "p99",
        "ratio",
        "floor /s",
        "reviews /s",
        "ratio",
        "floor CPU",
        "review CPU",
        "ratio"
    );
    for connections in [1, 8, 64] {
        let (mut floors, mut reviews) = (Vec::new(), Vec::new());
        let before = [floor.cpu_time(), webhook.cpu_time()];
        for _ in 0..ROUNDS {
            floors.push(floor.target.load(Arc::clone(&request), connections, ROUND).await);
            reviews.push(webhook.target.load(Arc::clone(&request), connections, ROUND).await);
        }
        // Of the server alone, and so the steadiest figure of a noisy machine.
        let each = |server: &Server, before: Duration, runs: &[Run]| {
            let requests: usize = runs.iter().map(|run| run.latencies.len()).sum();
            server.cpu_time().saturating_sub(before).as_secs_f64() * 1e6 / requests as f64
        };
        let [floor_cpu, review_cpu] = [each(floor, before[0], &floors), each(webhook, before[1], &reviews)];
        let p = |runs: &[Run], percent| {
            median(runs.iter().map(|run| run.percentile(percent).as_secs_f64() * 1e6))
        };
        let rate = |runs: &[Run]| median(runs.iter().map(Run::per_second));
        println!(
            "{connections:<12}{:>9.1} µs{:>9.1} µs{:>8.2}{:>7.0} µs{:>8.2}{:>12.0}{:>12.0}{:>8.2}{:>9.1} µs{:>9.1} µs{:>8.2}",
            p(&floors, 50),
            p(&reviews, 50),
            p(&reviews, 50) / p(&floors, 50),
            p(&reviews, 99),
            p(&reviews, 99) / p(&floors, 99),
            rate(&floors),
            rate(&reviews),
            rate(&reviews) / rate(&floors),
            floor_cpu,
            review_cpu,
            review_cpu / floor_cpu,
        );
    }
    println!("registry requests meanwhile: {}\n", scenario.registry.count());
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
