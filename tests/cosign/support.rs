//! The real cosign in a folder of its own, and a registry with an image that both it and Bonafide look at.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bonafide::{
    api::compile::{NoKeys, compile},
    domain::{
        identity::TrustRootName,
        policy::{PolicySet, Scope},
        verdict::{ImageVerdict, Outcome, Reason},
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, TrustRoots, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    trust::Roots,
};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    plane::{Availability, Tools},
    registry::Registry,
    scenario::{SOURCE, signer},
    sigstore::{Build, BundleVersion, Signing, SigningKey, Sigstore, statement_v1},
};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

pub const REPO: &str = "acme/shop";
/// What makes cosign keep to the layout of before its third version.
pub const LEGACY: &str = "--new-bundle-format=false";

/// cosign, with a folder of its own for keys and whatever else it writes.
pub struct Cosign {
    program: PathBuf,
    folder: PathBuf,
}

impl Drop for Cosign {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Cosign {
    /// `None`, said aloud, where it is not there.
    pub fn find() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (program, required) = match Tools::find() {
            Availability::Run(tools) => {
                (tools.optional("cosign"), std::env::var_os("BONAFIDE_PLANE").is_some())
            }
            Availability::Skip(why) => {
                println!("SKIPPED: {why}");
                return None;
            }
            Availability::Fail(why) => panic!("{why}"),
        };
        assert!(program.is_some() || !required, "there is no cosign; `tests/plane/build cosign` makes it");
        let Some(program) = program else {
            println!("SKIPPED: there is no cosign; `tests/plane/build cosign` makes it");
            return None;
        };
        let next = NEXT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("bonafide-cosign-{}-{next}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Some(Self { program, folder })
    }

    /// Runs it; what it says where it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        // Nothing of the machine's owner is read, and nothing beyond loopback is asked.
        command
            .env_clear()
            .env("HOME", &self.folder)
            .env("TUF_ROOT", &self.folder)
            .env("COSIGN_PASSWORD", "");
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
        let ended = tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() { Ok(text(&ended.stdout)) } else { Err(text(&ended.stderr)) }
    }

    /// Writes a signing configuration of no service at all, and gives its name.
    pub async fn without_services(&self) -> String {
        let services = ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
        let file = "none.json".to_owned();
        if !self.folder.join(&file).exists() {
            self.run(&[&["signing-config", "create", "--out", &file], &services[..]].concat()).await.unwrap();
        }
        file
    }

    /// Makes `name.key` and `name.pub` of a key, and gives the second.
    pub async fn import(&self, name: &str, key: &SigningKey) -> String {
        let file = self.write("private.pem", &key.private_pem());
        for half in ["key", "pub"] {
            let _ = fs::remove_file(self.folder.join(format!("{name}.{half}")));
        }
        self.run(&["import-key-pair", "--key", &file, "--output-key-prefix", name]).await.unwrap();
        self.read(&format!("{name}.pub"))
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(Path::new(name))).unwrap()
    }
}

/// A registry with an image of one of two shapes.
pub struct World {
    pub registry: Registry,
    pub image: Pushed,
    pub sigstore: Arc<Sigstore>,
}

impl World {
    pub async fn new(index: bool) -> Self {
        Self::under(Sigstore::new(), index).await
    }

    pub async fn under(sigstore: Sigstore, index: bool) -> Self {
        let registry = Registry::start().await;
        let image =
            if index { Image::index(&["linux/amd64", "linux/arm64"]) } else { Image::single("linux/amd64") };
        let image = image.push(&registry, REPO, "v1");
        Self { registry, image, sigstore: Arc::new(sigstore) }
    }

    pub fn reference(&self) -> String {
        self.registry.reference(REPO, &self.image.digest)
    }

    /// The image's digest without its algorithm.
    pub fn hex(&self) -> &str {
        self.image.digest.trim_start_matches("sha256:")
    }

    /// Whether something is under the image's tag `.att`.
    pub fn has_att(&self) -> bool {
        self.registry.manifest(REPO, &format!("sha256-{}.att", self.hex())).is_some()
    }

    pub fn statement(&self) -> Value {
        statement_v1(&[("shop", self.hex())], &Build::of(&signer()))
    }

    pub fn attach<'a>(&'a self, legacy: bool, sign: impl FnOnce(&'a Sigstore) -> Signing<'a>) {
        let signed = sign(&self.sigstore).sign(self.statement().to_string());
        if legacy {
            attach_att(&self.registry, REPO, &self.image.digest, &[signed.cosign_att_layer()]);
        } else {
            attach_bundle(&self.registry, REPO, &self.image.digest, signed.bundle_json(BundleVersion::V03));
        }
    }

    pub async fn judge(&self, signer: Value) -> Arc<ImageVerdict> {
        self.judge_under(&self.sigstore, signer).await
    }

    /// What Bonafide says where another Sigstore is the one to trust.
    pub async fn judge_under(&self, sigstore: &Sigstore, signer: Value) -> Arc<ImageVerdict> {
        let roots = Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json()).unwrap();
        self.judge_by(Arc::new(roots), signer).await
    }

    pub async fn judge_by(&self, roots: Arc<dyn TrustRoots>, signer: Value) -> Arc<ImageVerdict> {
        let compiled = compile(
            &json!({
                "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
                "spec": {"images": {"include": ["**"]}, "signers": [signer]},
            }),
            &NoKeys,
        );
        assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
        let policies = PolicySet::new(vec![compiled.entry], 1);
        let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
        let client = Client::new(ClientConfig::default()).unwrap();
        let reviewer = Reviewer::new(Arc::new(client), roots, Arc::new(Unobserved));
        let deadline = Instant::now() + Duration::from_secs(20);
        let image = self.reference();
        reviewer.verify_image(&snapshot, Scope::Everywhere, &image, &Platforms::Unknown, deadline).await
    }

    pub async fn reasons(&self, signer: Value) -> Vec<Reason> {
        denied(self.judge(signer).await.as_ref())
    }
}

pub fn of_key(pem: &str, log: &str) -> Value {
    json!({"name": "key", "publicKey": {"pem": pem, "transparencyLog": log}})
}

/// The source's workflow of this path.
pub fn of_workflow(path: &str) -> Value {
    json!({"name": "workflow", "github": {"repository": SOURCE, "workflow": path, "triggers": ["push"]}})
}

/// Why a verdict is none that admits.
pub fn denied(verdict: &ImageVerdict) -> Vec<Reason> {
    assert_ne!(verdict.outcome, Outcome::Allow);
    verdict.problems.iter().map(|problem| problem.reason).collect()
}
