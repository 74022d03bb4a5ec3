//! A real Kubernetes control plane on this machine: etcd, API server, controller manager and scheduler as processes, nodes as
//! mere objects. `tests/plane/build` makes the binaries.
//!
//! No kubelet runs: pods are made, admitted and bound, and then nothing starts them.

mod client;
mod objects;
mod ports;
mod process;
mod tools;
mod wait;

use std::{
    env, fs,
    io::{self, PipeWriter, Write as _},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

pub use self::{
    client::{Client, Ran},
    objects::{Namespace, Node},
    ports::free_port,
    process::Process,
    tools::{Availability, Tools},
    wait::eventually,
};
use crate::sigstore::pem;

/// What the API server writes down: what service accounts ask of it.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ['system:serviceaccounts']}
  - {level: None}
";
/// Gives the API server a client certificate for one webhook, and a token for another.
const ADMISSION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
  - name: ValidatingAdmissionWebhook
    configuration: &webhooks
      apiVersion: apiserver.config.k8s.io/v1
      kind: WebhookAdmissionConfiguration
      kubeConfigFile: WEBHOOKS
  - name: MutatingAdmissionWebhook
    configuration: *webhooks
";
/// The namespaces of these webhooks; their Services are called `bonafide`.
const PRESENTED_TO: &str = "presented";
const BEARING_TO: &str = "bearing";
/// The administrator's token.
const ADMIN: &str = "administrator";

/// The control plane. Whatever it started is gone when it is dropped, and also when the test process ends in any other way.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the API server ends slowly once etcd is gone.
    scheduler: Process,
    controller_manager: Process,
    api_server: Mutex<Option<Process>>,
    etcd: Process,
    admin: Client,
    place: Place,
}

/// Whose control plane it is, is the administrator.
impl Deref for ControlPlane {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.admin
    }
}

impl ControlPlane {
    /// Starts one. Where it may not or cannot run here, and need not, it says so on standard error, and there is none.
    ///
    /// # Panics
    /// It does not come up, or `BONAFIDE_PLANE=require` and a binary is missing.
    pub fn start() -> Option<Self> {
        match Tools::find() {
            Availability::Run(tools) => Some(Self::start_with(&tools)),
            Availability::Fail(why) => panic!("there is no control plane: {why}"),
            Availability::Skip(why) => {
                // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
                let _ = writeln!(io::stderr(), "SKIPPED: tests on a control plane: {why}");
                None
            }
        }
    }

    fn start_with(tools: &Tools) -> Self {
        let place = Place::new(tools);
        let etcd = place.start_etcd();
        let server = format!("https://127.0.0.1:{}", place.api_port);
        let authority = place.path("certificates/apiserver.crt");
        let admin = Client::new(tools, place.path("admin.kubeconfig"), &server, &authority, ADMIN);
        let mut api_server = place.start_api_server();
        wait_until_ready(&mut api_server, &admin);
        let scheduler = place.start("kube-scheduler", &controller_flags(&admin));
        let controller_manager = place.start(
            "kube-controller-manager",
            &[
                controller_flags(&admin).as_slice(),
                &[
                    format!("--service-account-private-key-file={}", place.path("sa.key").display()),
                    // Nodes are objects that nobody keeps alive.
                    "--controllers=*,-node-lifecycle-controller".to_owned(),
                ],
            ]
            .concat(),
        );
        // The controller manager bears an API server that is away, but not while it starts.
        admin.wait_for_service_account("default");
        Self { scheduler, controller_manager, api_server: Mutex::new(Some(api_server)), etcd, admin, place }
    }

    /// A service account, by a token that it is given now; its rights are what RBAC grants it.
    ///
    /// # Panics
    /// There is no such service account.
    pub fn service_account(&self, namespace: &str, name: &str) -> Client {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace]).ok();
        let file = self.place.path(&format!("{namespace}-{name}.kubeconfig"));
        let server = format!("https://127.0.0.1:{}", self.place.api_port);
        let authority = self.place.path("certificates/apiserver.crt");
        Client::new(&self.place.tools, file, &server, &authority, token.trim())
    }

    /// Ends the API server at once; what it knew is kept. Asked in an orderly way, it would take half a minute.
    ///
    /// # Panics
    /// It was stopped already.
    pub fn stop_api_server(&self) {
        self.api_server.lock().take().unwrap().kill();
    }

    /// Starts it again, on the same port and with all that it knew.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start_api_server(&self) {
        assert!(self.api_server.lock().is_none(), "the API server runs already");
        let mut api_server = self.place.start_api_server();
        wait_until_ready(&mut api_server, &self.admin);
        *self.api_server.lock() = Some(api_server);
    }

    /// What a service account asked of the API server so far (`audit.k8s.io/v1` events).
    ///
    /// # Panics
    /// There is no log of it.
    pub fn asked_by(&self, namespace: &str, name: &str) -> Vec<Value> {
        let account = format!("system:serviceaccount:{namespace}:{name}");
        let log = fs::read_to_string(self.place.path("audit.log")).unwrap();
        // The last line may be half written.
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["user"]["username"] == account).collect()
    }

    /// The webhook that the API server presents a client certificate to.
    pub fn presented_client(&self) -> PresentedClient {
        let (certificate, key) =
            (self.place.path("webhook-client.crt"), self.place.path("webhook-client.key"));
        PresentedClient { namespace: PRESENTED_TO, port: self.place.presented_port, certificate, key }
    }

    /// The webhook that the API server presents a token to.
    pub fn presented_token(&self) -> PresentedToken {
        let token = self.place.path("webhook-token");
        PresentedToken { namespace: BEARING_TO, port: self.place.bearing_port, token }
    }

    /// A folder for what tests write; it is gone with the control plane.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// What its processes said last, for the message of a test that failed.
    pub fn logs(&self) -> String {
        let api_server = self.api_server.lock();
        let all = [Some(&self.etcd), api_server.as_ref()].into_iter().flatten();
        all.chain([&self.controller_manager, &self.scheduler]).map(Process::tail).collect()
    }
}

/// A webhook, and the files of the client certificate that the API server presents to it. They are read when it first connects.
#[derive(Debug)]
pub struct PresentedClient {
    /// The namespace of its Service, which is called `bonafide`.
    pub namespace: &'static str,
    /// The port of its Service.
    pub port: u16,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// A webhook, and the file of the token that the API server presents to it. It is read when it first connects.
#[derive(Debug)]
pub struct PresentedToken {
    /// The namespace of its Service, which is called `bonafide`.
    pub namespace: &'static str,
    /// The port of its Service.
    pub port: u16,
    /// The file.
    pub token: PathBuf,
}

/// Its folder and ports, and the binaries that run there.
#[derive(Debug)]
struct Place {
    // The janitor waits for this to close.
    held: Option<PipeWriter>,
    janitor: Child,
    folder: PathBuf,
    tools: Tools,
    etcd_port: u16,
    api_port: u16,
    presented_port: u16,
    bearing_port: u16,
}

impl Place {
    fn new(tools: &Tools) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("bonafide-plane-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // The folder goes when every process that writes there is gone, whoever ended it: each supervisor holds the pipe.
        let (read, held) = io::pipe().unwrap();
        let janitor = Command::new("/bin/sh")
            .args(["-c", "cat >/dev/null; rm -rf \"$1\"", "janitor"])
            .arg(&folder)
            .stdin(read)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let place = Self {
            held: Some(held),
            janitor,
            folder,
            tools: tools.clone(),
            etcd_port: free_port(),
            api_port: free_port(),
            presented_port: free_port(),
            bearing_port: free_port(),
        };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        fs::write(place.path("sa.key"), pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref())).unwrap();
        fs::write(place.path("sa.pub"), pem("PUBLIC KEY", public.as_ref())).unwrap();
        fs::write(place.path("audit.yaml"), AUDIT).unwrap();
        let webhooks = place.path("webhooks.kubeconfig");
        let presenting = json!({
            "client-certificate": place.path("webhook-client.crt"),
            "client-key": place.path("webhook-client.key"),
        });
        let users = json!({"apiVersion": "v1", "kind": "Config", "users": [
            {"name": format!("bonafide.{PRESENTED_TO}.svc:{}", place.presented_port), "user": presenting},
            {"name": format!("bonafide.{BEARING_TO}.svc:{}", place.bearing_port),
                "user": {"tokenFile": place.path("webhook-token")}},
        ]});
        fs::write(&webhooks, users.to_string()).unwrap();
        let admission = ADMISSION.replace("WEBHOOKS", &webhooks.display().to_string());
        fs::write(place.path("admission.yaml"), admission).unwrap();
        fs::write(place.path("tokens.csv"), format!("{ADMIN},admin,admin,\"system:masters\"\n")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn start(&self, name: &str, flags: &[String]) -> Process {
        let configure = |command: &mut Command| {
            command.args(flags).env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        };
        let log = self.path(&format!("{name}.log"));
        Process::start(name, self.tools.path(name), configure, &log, self.held.as_ref()).unwrap()
    }

    fn start_etcd(&self) -> Process {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", free_port());
        self.start(
            "etcd",
            &[
                format!("--data-dir={}", self.path("etcd").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                // Nothing here has to survive the machine.
                "--unsafe-no-fsync".to_owned(),
            ],
        )
    }

    fn start_api_server(&self) -> Process {
        self.start(
            "kube-apiserver",
            &[
                format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
                format!("--secure-port={}", self.api_port),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--cert-dir={}", self.path("certificates").display()),
                format!("--service-account-key-file={}", self.path("sa.pub").display()),
                format!("--service-account-signing-key-file={}", self.path("sa.key").display()),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--token-auth-file={}", self.path("tokens.csv").display()),
                "--authorization-mode=RBAC".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                format!("--admission-control-config-file={}", self.path("admission.yaml").display()),
                // Tokens that are bound to webhook configurations (KEP-6060).
                "--feature-gates=APIServerWebhookAuthenticationToken=true".to_owned(),
                format!("--audit-policy-file={}", self.path("audit.yaml").display()),
                format!("--audit-log-path={}", self.path("audit.log").display()),
                "--audit-log-mode=blocking".to_owned(),
            ],
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.take();
        let _ = self.janitor.wait();
    }
}

/// Nobody else leads, and nobody asks them how they are.
fn controller_flags(admin: &Client) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", admin.kubeconfig().display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--authentication-skip-lookup".to_owned(),
    ]
}

fn wait_until_ready(api_server: &mut Process, admin: &Client) {
    eventually("the API server", || {
        if let Some(status) = api_server.ended() {
            panic!("the API server ended with {status}: {}", api_server.tail());
        }
        admin.kubectl(&["get", "--raw=/readyz"]).attempt()
    });
}
