//! The cluster: an API server of lists, registries, and the process under attack.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bonafide::server::tls;
use bonafide_kit::{
    apiserver::{ListServer, Listed},
    scenario::Scenario,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::client::{Connection, Target};

/// Everything that Bonafide lists.
const KINDS: [&str; 9] = [
    "provenancepolicies",
    "clusterprovenancepolicies",
    "namespaces",
    "nodes",
    "runtimeclasses",
    "pods",
    "trustroots",
    "secrets",
    "serviceaccounts",
];

pub struct World {
    pub scenario: Scenario,
    pub api: ListServer,
    /// A registry that takes connections and never answers.
    pub silent: SocketAddr,
    _silent: TcpListener,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl World {
    /// A cluster with one honest namespace.
    pub async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        tls::install_crypto_provider();
        let name = format!("bonafide-flood-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let scenario = Scenario::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let world = Self { scenario, api: ListServer::new(&KINDS), silent, _silent: listener, folder };
        world.add("namespaces", &Self::namespace("shop"));
        for (name, arch) in [("one", "amd64"), ("two", "arm64")] {
            let labels = json!({"kubernetes.io/arch": arch, "kubernetes.io/os": "linux"});
            world.add("nodes", &json!({"metadata": {"name": name, "uid": name, "labels": labels}}));
        }
        world.add("provenancepolicies", &world.policy("shop", "shop", |_| {}));
        world
    }

    pub fn add(&self, kind: &'static str, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.api.add(kind, Listed::new(namespace, object));
    }

    /// A namespace.
    pub fn namespace(name: &str) -> Value {
        json!({"metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/metadata.name": name}}})
    }

    /// The policy that the scenario's images are judged by, in a namespace, and changed.
    pub fn policy(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let documents: Value = serde_saphyr::from_str(&self.scenario.policy()).unwrap();
        let mut policy = documents;
        policy["metadata"] = json!({
            "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"), "generation": 1,
            "resourceVersion": "1",
        });
        change(&mut policy["spec"]);
        policy
    }

    /// Starts the process in this cluster, and waits until it is ready.
    pub fn start(&self) -> Process {
        let url = format!("http://{}", futures::executor::block_on(self.api.serve()));
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        let (authority, chain, key) = certificate();
        let file = |name: &str, text: &str| {
            let path = self.folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.args(["serve", "--cluster", "--namespace=system", "--certificates=files", "--identity=one"]);
        command.args(["--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"]);
        command.args(["--pinning", "--pull-secrets", "--key-references"]);
        let silent = self.silent.to_string();
        for registry in [self.scenario.registry.host(), &silent] {
            command
                .arg(format!("--local-registry={registry}"))
                .arg(format!("--insecure-registry={registry}"));
        }
        command.arg("--tls-cert").arg(file("tls.crt", &chain)).arg("--tls-key").arg(file("tls.key", &key));
        let root = self.scenario.sigstore.trusted_root_json();
        command.arg("--trust-root").arg(file("trusted_root.json", &root));
        command.env("KUBECONFIG", file("kubeconfig", &kubeconfig.to_string()));
        Process::start(command, &authority, &self.folder)
    }
}

/// The process. It ends with this.
pub struct Process {
    child: Child,
    pub target: Target,
    health: String,
    /// How long it took until it was ready.
    pub ready: Duration,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(mut command: Command, authority: &str, folder: &Path) -> Self {
        let begun = Instant::now();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut said = |what: &str| loop {
            let Some(line) = lines.next() else {
                panic!("it ended: {}", fs::read_to_string(folder.join("log")).unwrap());
            };
            if let Some(rest) = line.strip_prefix(what) {
                break rest.to_owned();
            }
        };
        let address = said("webhook https://").trim_end_matches("/validate").parse().unwrap();
        let health = said("health http://");
        let mut process =
            Self { child, target: Target::new(address, authority), health, ready: Duration::ZERO };
        while !process.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(begun.elapsed() < Duration::from_mins(2), "it is not ready: {}", process.get("/readyz"));
            std::thread::sleep(Duration::from_millis(20));
        }
        process.ready = begun.elapsed();
        process
    }

    /// What the health port answers; nothing, where it does not.
    pub fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(&self.health) {
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        }
        answer
    }

    /// The most memory that it had so far, in MiB.
    pub fn most_resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        kib >> 10
    }
}

/// An authority, and a certificate and key for this machine; PEM.
fn certificate() -> (String, String, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    (pem, chain.pem(), key.serialize_pem())
}

/// What the honest user asks until the time is over: reviews of a signed image, which must be allowed, and of its unsigned twin, which
/// must not. How long each review of the signed image took, sorted.
pub async fn honest(world: &World, process: &Process, time: Duration, pause: Duration) -> Vec<Duration> {
    let review = |name: &str| {
        let object = super::objects::pod(&[world.scenario.image(name)]);
        super::objects::review("shop", &object).to_string().into_bytes()
    };
    let (signed, unsigned) = (review("shop"), review("bare"));
    let connect = async || {
        let stream = process.target.connect(1, &process.target.http1).await.unwrap();
        Connection(stream)
    };
    let (begun, mut took, mut connection) = (Instant::now(), Vec::new(), connect().await);
    loop {
        let asked = Instant::now();
        // A connection may be closed while it is idle.
        let answer = if let Ok(answer) = connection.review(&signed).await {
            answer
        } else {
            connection = connect().await;
            connection.review(&signed).await.unwrap()
        };
        took.push(asked.elapsed());
        assert!(answer.contains("\"allowed\":true"), "{answer}");
        if took.len() % 50 == 1 {
            let answer = process.target.review(1, &unsigned).await.unwrap();
            assert!(answer.contains("\"allowed\":false"), "{answer}");
        }
        if begun.elapsed() >= time {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    took.sort_unstable();
    took
}
