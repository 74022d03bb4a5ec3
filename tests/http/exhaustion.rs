//! The real process under all attacks on its port at once: its memory stays bounded, and reviews of another namespace are still admitted.
//! Each attack comes from an address of its own on the loopback network.
#![cfg(target_os = "linux")]

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bonafide::server::tls;
use bonafide_kit::scenario::Scenario;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    stand_in::{create, pod, with},
    support::Folder,
};

/// How much memory the process may have, whatever is done to it.
const RESIDENT: u64 = 300 << 10;
/// How long a client waits: the machine may have other things to do.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long it is attacked.
const ATTACK: Duration = Duration::from_secs(10);

struct Process {
    child: Child,
    webhook: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(folder: &Folder, flags: &[String]) -> Self {
        tls::install_crypto_provider();
        let authority = folder.join("ca.pem");
        let mut child = Command::new(env!("CARGO_BIN_EXE_bonafide"))
            .args(["serve", "--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"])
            .arg(format!("--tls-ca-out={}", authority.display()))
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let at = lines.into_iter().find_map(|line| {
            line.strip_prefix("webhook https://")
                .and_then(|rest| rest.strip_suffix("/validate"))
                .map(str::to_owned)
        });
        let webhook = at.unwrap().parse().unwrap();
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(authority).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let connector = |protocol: &[u8]| {
            let mut config =
                ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        let (http1, http2) = (connector(b"http/1.1"), connector(b"h2"));
        Self { child, webhook, http1, http2 }
    }

    async fn connect(&self, from: u8, tls: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into())?;
        let stream = timeout(PATIENCE, socket.connect(self.webhook)).await??;
        timeout(PATIENCE, tls.connect(ServerName::try_from("localhost").unwrap(), stream)).await?
    }

    /// Sends a review on a connection of its own, and reads the answer.
    async fn review(&self, from: u8, review: &[u8]) -> std::io::Result<String> {
        let mut stream = self.connect(from, &self.http1).await?;
        let head = format!(
            "POST /validate?timeout=10s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            review.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(review).await?;
        let mut answer = Vec::new();
        // Whoever closes a connection need not say so before.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The most memory that it had so far, in KiB.
    fn most_resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// Streams that send a head and nothing else.
async fn silent_streams(process: Arc<Process>) -> std::io::Result<()> {
    let tls = process.connect(2, &process.http2).await?;
    let (mut client, connection) = h2::client::handshake(tls).await.map_err(std::io::Error::other)?;
    let driving = tokio::spawn(connection);
    let mut streams = Vec::new();
    for _ in 0..90 {
        let Ok(ready) = client.clone().ready().await else { break };
        client = ready;
        let request = axum::http::Request::post("https://localhost/validate")
            .header("content-type", "application/json");
        let Ok(stream) = client.send_request(request.body(()).unwrap(), false) else { break };
        streams.push(stream);
    }
    sleep(Duration::from_millis(2500)).await;
    driving.abort();
    Ok(())
}

/// Connections that say nothing.
async fn idle(process: Arc<Process>) -> std::io::Result<()> {
    let _connection = process.connect(3, &process.http1).await?;
    sleep(ATTACK).await;
    Ok(())
}

/// The largest review there is, each in the name of another namespace.
async fn large(process: Arc<Process>, number: usize) -> std::io::Result<()> {
    let review =
        with(create(&pod(&["good"])), &json!({"namespace": format!("n{number}"), "options": "PLACE"}));
    let review = review.to_string().replace("PLACE", &"x".repeat(35 << 20));
    process.review(4, review.as_bytes()).await.map(drop)
}

/// A pod of much text, whose registry never answers.
async fn hanging(process: Arc<Process>, registry: SocketAddr, number: usize) -> std::io::Result<()> {
    let mut object = pod(&[&format!("{registry}/app:v{number}")]);
    object["metadata"]["annotations"] = json!({"a": "x".repeat(400 << 10)});
    let review = with(create(&object), &json!({"namespace": "noisy"}));
    process.review(5, review.to_string().as_bytes()).await.map(drop)
}

/// A pod of very many containers.
async fn wide(process: Arc<Process>, registry: SocketAddr) -> std::io::Result<()> {
    let container = |n| json!({"name": format!("c{n}"), "image": format!("{registry}/app:v1")});
    let containers: Vec<_> = (0..16_000).map(container).collect();
    let object = json!({"kind": "Pod", "metadata": {"name": "wide"}, "spec": {"containers": containers}});
    let review = with(create(&object), &json!({"namespace": "noisy"}));
    process.review(6, review.to_string().as_bytes()).await.map(drop)
}

/// Does it again and again, so many times at once, until the attack is over.
fn attack<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    over: &Arc<AtomicBool>,
    at_once: usize,
    attack: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let number = Arc::new(AtomicUsize::new(0));
    for _ in 0..at_once {
        let (over, number, attack) = (Arc::clone(over), Arc::clone(&number), attack.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                // What comes of an attack is nothing to whoever attacks.
                let _ = attack(number.fetch_add(1, Ordering::Relaxed)).await;
                sleep(Duration::from_millis(500)).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_b7_all_attacks_on_the_port_at_once_take_neither_memory_nor_others_reviews() {
    let world = Scenario::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = silent.local_addr().unwrap();
    let (policies, folder) = (Folder::new(), Folder::new());
    policies.write("shop.yaml", &world.policy());
    let noisy = world.policy().replace(world.registry.host(), &registry.to_string());
    policies.write("noisy.yaml", &noisy.replace("namespace: shop", "namespace: noisy"));
    let root = folder.write("root.json", &world.sigstore.trusted_root_json());
    let process = Arc::new(Process::start(
        &folder,
        &[
            format!("--policies={}", policies.path().display()),
            format!("--trust-root={}", root.display()),
            format!("--insecure-registry={}", world.registry.host()),
            format!("--insecure-registry={registry}"),
        ],
    ));
    let shop = |name: &str| {
        with(create(&pod(&[world.image(name)])), &json!({"namespace": "shop"})).to_string().into_bytes()
    };
    let (honest, bare) = (shop("shop"), shop("bare"));
    let answer = process.review(1, &honest).await.unwrap();
    assert!(answer.contains("\"allowed\":true"), "{answer}");
    assert!(process.review(1, &bare).await.unwrap().contains("NoProvenance"));
    println!("{} MiB before", process.most_resident() >> 10);

    let over = Arc::new(AtomicBool::new(false));
    let of = || Arc::clone(&process);
    let target = of();
    attack(&over, 8, move |_| silent_streams(Arc::clone(&target)));
    let target = of();
    attack(&over, 1100, move |_| idle(Arc::clone(&target)));
    let target = of();
    attack(&over, 4, move |n| large(Arc::clone(&target), n));
    let target = of();
    attack(&over, 200, move |n| hanging(Arc::clone(&target), registry, n));
    let target = of();
    attack(&over, 2, move |_| wide(Arc::clone(&target), registry));
    let begun = Instant::now();
    let (mut admitted, mut slowest) = (0, Duration::ZERO);
    while begun.elapsed() < ATTACK {
        let asked = Instant::now();
        let answer = process.review(1, &honest).await.unwrap();
        slowest = slowest.max(asked.elapsed());
        assert!(answer.contains("\"allowed\":true"), "{answer}");
        admitted += 1;
        sleep(Duration::from_millis(20)).await;
    }
    // To deny, a registry is asked again, for which there may be no time.
    let answer = process.review(1, &bare).await.unwrap();
    assert!(answer.contains("\"allowed\":false"), "{answer}");
    over.store(true, Ordering::Relaxed);
    let most = process.most_resident();
    println!("{admitted} admitted, the slowest in {slowest:?}; {} MiB at most", most >> 10);
    assert!(most < RESIDENT, "{} MiB", most >> 10);
}
