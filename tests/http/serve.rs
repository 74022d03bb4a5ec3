//! `serve` as a whole: flags, files, TLS, and policies that change while it runs.

use std::{fs, net::TcpListener, sync::Arc, time::Duration};

use axum::body::Bytes;
use bonafide::cli::serve::{self, Args};
use clap::Parser;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_rustls::TlsConnector;

use crate::support::Folder;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn parse(flags: &[&str]) -> Result<Args, String> {
    let anywhere = ["serve", "--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"];
    let command = Command::try_parse_from(anywhere.iter().chain(flags));
    command.map(|command| command.args).map_err(|error| error.to_string())
}

#[test]
fn flags_have_defaults_and_bad_values_are_named() {
    let policies = "--policies=/etc/bonafide";
    let args = Command::try_parse_from(["serve", policies]).unwrap().args;
    assert_eq!(args.listen.to_string(), "127.0.0.1:8443");
    assert_eq!(args.health_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(args.timeout, Duration::from_secs(10));
    for (flag, value) in [
        ("--listen", "8443"),
        ("--health-listen", "nowhere"),
        ("--platform", "linux"),
        ("--insecure-registry", "http://registry.example"),
        ("--unmatched-images", "maybe"),
        ("--log-format", "xml"),
        ("--timeout", "0s"),
        ("--timeout", "1h"),
        ("--timeout", "soon"),
    ] {
        let error = Command::try_parse_from(["serve", policies, flag, value]).err().unwrap().to_string();
        assert!(error.contains(flag) && error.contains(value), "{error}");
    }
    assert!(parse(&[]).unwrap_err().contains("--policies"));
    assert!(parse(&[policies, "--tls-cert=a"]).unwrap_err().contains("--tls-key"));
    assert!(parse(&[policies, "--tls-cert=a", "--tls-key=b", "--tls-ca-out=c"]).is_err());
    assert!(parse(&[policies, "--tls-cert=a", "--tls-key=b"]).is_ok(), "the twin");
}

#[tokio::test]
async fn what_a_flag_names_must_be_of_use() {
    let folder = Folder::new();
    let policies = format!("--policies={}", folder.path().display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let _held = TcpListener::bind(taken);
    let no_root = folder.write("root.txt", "{}");
    let (missing, taken) = ("/nowhere/at-all", taken.to_string());
    let no_root = no_root.display().to_string();
    for (flag, value) in [
        ("listen", taken.as_str()),
        ("health-listen", taken.as_str()),
        ("policies", missing),
        ("trust-root", missing),
        ("trust-root", no_root.as_str()),
        ("docker-config", missing),
        ("tls-ca-out", missing),
    ] {
        let both = ["serve", "--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"];
        let given = format!("--{flag}={value}");
        let flags = both.into_iter().filter(|known| !known.starts_with(&format!("--{flag}=")));
        let flags = flags.chain([policies.as_str(), given.as_str()]);
        let args = Command::try_parse_from(flags).unwrap().args;
        let error = serve::start(args, "test").await.err().unwrap_or_else(|| panic!("{given}"));
        assert!(error.to_string().starts_with(&format!("--{flag} ")), "{error}");
        assert!(error.to_string().contains(value), "{error}");
        assert_eq!(error.exit_code(), 64, "{error}");
    }
}

struct Running {
    client: reqwest::Client,
    url: String,
    health: String,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(flags: &[&str], ca: &std::path::Path) -> Self {
        let webhook = serve::start(parse(flags).unwrap(), "test").await.unwrap();
        let authority = fs::read_to_string(ca).unwrap();
        assert_eq!(webhook.authority(), Some(authority.as_str()));
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes()).unwrap()])
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let url = format!("https://{}/validate?timeout=5s", webhook.address());
        let health = format!("http://{}", webhook.health_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let server = tokio::spawn(async move {
            webhook.run(shutdown, Duration::from_secs(5)).await.unwrap();
        });
        Self { client, url, health, stop, server }
    }

    async fn review(&self, image: &str) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "team",
                "operation": "CREATE",
                "object": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "web"},
                    "spec": {"containers": [{"name": "c", "image": image}]},
                },
            },
        });
        let sent = self.client.post(&self.url).header("content-type", "application/json");
        let response = sent.body(review.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        answer["response"].clone()
    }

    /// Waits for an answer; files are looked at twice a second.
    async fn review_until(&self, image: &str, allowed: bool) -> Value {
        for _ in 0..200 {
            let answer = self.review(image).await;
            if answer["allowed"] == allowed {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the answer never becomes {allowed}");
    }

    async fn health(&self, path: &str) -> String {
        reqwest::get(format!("{}{path}", self.health)).await.unwrap().text().await.unwrap()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
    }
}

const POLICY: &str = "\
apiVersion: bonafide.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: release, namespace: other}
spec:
  images: {include: [\"ghcr.io/other/**\"]}
  signers:
    - name: ci
      github: {repository: other/app}
";

/// Whoever opens no window for an answer keeps it in memory for as long as it likes.
#[tokio::test]
async fn b7_an_answer_that_nobody_takes_counts_as_a_request() {
    const REQUESTS: usize = 12;
    let (policies, folder) = (Folder::new(), Folder::new());
    let ca = folder.join("ca.pem");
    let flags =
        [format!("--policies={}", policies.path().display()), format!("--tls-ca-out={}", ca.display())];
    let running = Running::start(&flags.each_ref().map(String::as_str), &ca).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(&ca).unwrap()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(running.url.split('/').nth(2).unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let none = h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(tls).await;
    let (mut client, connection) = none.unwrap();
    let driving = tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..REQUESTS {
        client = client.ready().await.unwrap();
        let request = axum::http::Request::post("https://localhost/validate");
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(br#"{"request":{"uid":"1","#), true).unwrap();
        answers.push(answer.await.unwrap());
    }
    let load = async || {
        let metrics = running.health("/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with("bonafide_connections{listener=\"reviews\""));
        line.and_then(|line| line.rsplit(' ').next()).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(load().await, REQUESTS);
    drop(answers);
    for _ in 0..200 {
        if load().await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(load().await, 1, "the twin: answers that nobody waits for any more");
    driving.abort();
    running.end().await;
}

#[tokio::test]
async fn a_broken_policy_denies_until_it_is_mended() {
    let folder = Folder::new();
    let ca = Folder::new();
    let ca = ca.join("ca.pem");
    folder.write("other.yaml", POLICY);
    let policies = format!("--policies={}", folder.path().display());
    let ca_out = format!("--tls-ca-out={}", ca.display());
    fs::create_dir_all(ca.parent().unwrap()).unwrap();
    let running = Running::start(&[&policies, &ca_out], &ca).await;
    assert_eq!(running.health("/livez").await, "ok\n");
    assert_eq!(running.health("/readyz").await, "ok\n");
    let image = "ghcr.io/team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    assert_eq!(running.review(image).await["allowed"], true, "no policy names it");

    folder.write("broken.yaml", "apiVersion: bonafide.dev/v1alpha1\nkind: ProvenancePolicy\nspec: [");
    let answer = running.review_until(image, false).await;
    assert_eq!(answer["status"]["code"], 403);
    assert!(answer["status"]["message"].as_str().unwrap().contains("InvalidPolicy"), "{answer}");
    let metrics = running.health("/metrics").await;
    assert!(metrics.contains("bonafide_policies{state=\"invalid\"} 1\n"), "{metrics}");
    assert!(metrics.contains("bonafide_policies{state=\"valid\"} 1\n"), "{metrics}");
    assert!(metrics.contains("bonafide_trust_root_age_seconds{trust_root=\"sigstore\"}"), "{metrics}");
    assert_eq!(running.health("/readyz").await, "ok\n", "a team's broken file takes nobody's webhook away");

    fs::remove_file(folder.join("broken.yaml")).unwrap();
    running.review_until(image, true).await;
    running.end().await;
}

#[tokio::test]
async fn images_that_no_policy_names_get_what_was_asked_for() {
    for (rule, allowed, word) in
        [("allow", true, None), ("warn", true, Some("warnings")), ("deny", false, Some("status"))]
    {
        let folder = Folder::new();
        folder.write("other.yaml", POLICY);
        let ca = Folder::new();
        let policies = format!("--policies={}", folder.path().display());
        let ca_out = format!("--tls-ca-out={}", ca.join("ca.pem").display());
        let rule = format!("--unmatched-images={rule}");
        let running = Running::start(&[&policies, &ca_out, &rule], &ca.join("ca.pem")).await;
        let answer = running.review("ghcr.io/team/app").await;
        assert_eq!(answer["allowed"], allowed, "{rule}");
        let said = word.map(|word| answer[word].to_string());
        assert!(said.is_none_or(|said| said.contains("UnmatchedImage")), "{answer}");
        running.end().await;
    }
}

/// A cluster policy that selects namespaces; nobody listens at the registry of its images.
const SELECTING: &str = "\
apiVersion: bonafide.dev/v1alpha1
kind: ClusterProvenancePolicy
metadata: {name: team}
spec:
  namespaceSelector: {matchLabels: {LABEL}}
  images: {include: [\"127.0.0.1:1/**\"]}
  signers:
    - name: ci
      github: {repository: team/app}
";

/// Reviews a pod of the namespace `team` under these policies; whether it is admitted.
async fn admitted(policies: &str) -> bool {
    let (folder, ca) = (Folder::new(), Folder::new());
    folder.write("a.yaml", policies);
    let policies = format!("--policies={}", folder.path().display());
    let ca_out = format!("--tls-ca-out={}", ca.join("ca.pem").display());
    let running = Running::start(&[&policies, &ca_out], &ca.join("ca.pem")).await;
    let answer = running.review("127.0.0.1:1/app:v1").await;
    let allowed = answer["allowed"].as_bool().unwrap();
    if !allowed {
        assert_eq!(answer["status"]["code"], 503, "nobody listens there: {answer}");
        assert_eq!(answer["status"]["reason"], "ServiceUnavailable");
        assert!(answer["status"]["message"].as_str().unwrap().contains("RegistryUnavailable"));
        let metrics = running.health("/metrics").await;
        assert!(metrics.contains("outcome=\"unavailable\""), "{metrics}");
    }
    running.end().await;
    allowed
}

#[tokio::test]
async fn a_cluster_policy_reaches_a_namespace_by_its_name() {
    assert!(!admitted(&SELECTING.replace("LABEL", "kubernetes.io/metadata.name: team")).await);
    assert!(admitted(&SELECTING.replace("LABEL", "kubernetes.io/metadata.name: other")).await);
}

#[tokio::test]
async fn a_label_that_nobody_told_is_no_way_around_a_cluster_policy() {
    let selecting = SELECTING.replace("LABEL", "stage: production");
    let namespace = |stage: &str| {
        format!(
            "{selecting}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team, labels: {{stage: {stage}}}}}\n"
        )
    };
    assert!(!admitted(&selecting).await);
    assert!(!admitted(&namespace("production")).await);
    assert!(admitted(&namespace("test")).await);
}

#[test]
fn the_process_says_where_it_listens_and_ends_well_when_told_to() {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };
    let folder = Folder::new();
    folder.write("other.yaml", POLICY);
    let mut process = Command::new(env!("CARGO_BIN_EXE_bonafide"))
        .args(["serve", "--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0", "--policies"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: Vec<String> =
        BufReader::new(process.stdout.take().unwrap()).lines().take(2).map(Result::unwrap).collect();
    let port = |line: &str, start: &str, end: &str| -> u16 {
        line.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).unwrap().parse().unwrap()
    };
    assert_ne!(port(&lines[0], "webhook https://127.0.0.1:", "/validate"), 0);
    assert_ne!(port(&lines[1], "health http://127.0.0.1:", ""), 0);
    let told = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(process.wait().unwrap().success());
}
