//! The real cosign beside Bonafide, over one registry: what it signs is admitted here, what the kit signs is verified by it, and
//! what is forged is refused by both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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
    api::compile::compile,
    domain::{
        identity::TrustRootName,
        policy::{PolicySet, Scope},
        verdict::{ImageVerdict, Outcome, Reason},
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    trust::Roots,
};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    plane::{Availability, Tools},
    registry::Registry,
    scenario::{SOURCE, WORKFLOW, signer},
    sigstore::{
        Build, BundleVersion, Defect, EntryKind, GITHUB_ISSUER, KeyKind, Signing, SigningKey, Sigstore,
        statement_v1,
    },
};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

const REPO: &str = "acme/shop";
/// What makes cosign keep to the layout of before its third version.
const LEGACY: &str = "--new-bundle-format=false";

/// cosign, with a folder of its own for keys and whatever else it writes.
struct Cosign {
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
    fn find() -> Option<Self> {
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
    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
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

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(Path::new(name))).unwrap()
    }
}

/// A registry with an image of one of two shapes.
struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
}

impl World {
    async fn new(index: bool) -> Self {
        let registry = Registry::start().await;
        let image =
            if index { Image::index(&["linux/amd64", "linux/arm64"]) } else { Image::single("linux/amd64") };
        let image = image.push(&registry, REPO, "v1");
        Self { registry, image, sigstore: Sigstore::new() }
    }

    fn reference(&self) -> String {
        self.registry.reference(REPO, &self.image.digest)
    }

    fn statement(&self) -> Value {
        let digest = self.image.digest.trim_start_matches("sha256:");
        statement_v1(&[("shop", digest)], &Build::of(&signer()))
    }

    fn attach<'a>(&'a self, legacy: bool, sign: impl FnOnce(&'a Sigstore) -> Signing<'a>) {
        let signed = sign(&self.sigstore).entry(EntryKind::Dsse001).sign(self.statement().to_string());
        if legacy {
            attach_att(&self.registry, REPO, &self.image.digest, &[signed.cosign_att_layer()]);
        } else {
            attach_bundle(&self.registry, REPO, &self.image.digest, signed.bundle_json(BundleVersion::V03));
        }
    }

    async fn judge(&self, signer: Value) -> Arc<ImageVerdict> {
        let compiled = compile(&json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
            "spec": {"images": {"include": ["**"]}, "signers": [signer]},
        }));
        assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
        let policies = PolicySet::new(vec![compiled.entry], 1);
        let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
        let roots = Roots::from_json(TrustRootName::default(), &self.sigstore.trusted_root_json()).unwrap();
        let client = Client::new(ClientConfig::default()).unwrap();
        let reviewer = Reviewer::new(Arc::new(client), Arc::new(roots), Arc::new(Unobserved));
        let deadline = Instant::now() + Duration::from_secs(20);
        let image = self.reference();
        reviewer.verify_image(&snapshot, Scope::Everywhere, &image, &Platforms::Unknown, deadline).await
    }

    async fn reasons(&self, signer: Value) -> Vec<Reason> {
        let verdict = self.judge(signer).await;
        assert_ne!(verdict.outcome, Outcome::Allow);
        verdict.problems.iter().map(|problem| problem.reason).collect()
    }
}

fn of_key(pem: &str, log: &str) -> Value {
    json!({"name": "key", "publicKey": {"pem": pem, "transparencyLog": log}})
}

fn of_workflow() -> Value {
    json!({"name": "workflow", "github": {"repository": SOURCE, "workflow": WORKFLOW, "triggers": ["push"]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_with_a_key_is_admitted() {
    let Some(cosign) = Cosign::find() else { return };
    cosign.run(&["generate-key-pair"]).await.unwrap();
    cosign.run(&["generate-key-pair", "--output-key-prefix", "other"]).await.unwrap();
    let (key, other) = (cosign.read("cosign.pub"), cosign.read("other.pub"));
    // No log: what cosign would ask is not on this machine.
    let services = ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
    cosign.run(&[&["signing-config", "create", "--out", "none.json"], &services[..]].concat()).await.unwrap();
    for (index, legacy) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = World::new(index).await;
        let image = world.reference();
        assert_eq!(world.reasons(of_key(&key, "Optional")).await[0], Reason::NoProvenance);
        let predicate = cosign.write("predicate.json", &world.statement()["predicate"].to_string());
        let how: &[&str] = if legacy {
            &[LEGACY, "--use-signing-config=false", "--tlog-upload=false"]
        } else {
            &["--signing-config", "none.json"]
        };
        let what =
            ["attest", "--yes", "--allow-http-registry", "--key", "cosign.key", "--type", "slsaprovenance1"];
        cosign.run(&[&what[..], &["--predicate", &predicate], how, &[&image]].concat()).await.unwrap();

        let verdict = world.judge(of_key(&key, "Optional")).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{index} {legacy}: {:?}", verdict.problems);
        assert_eq!(verdict.proofs[0].predicate_type, "https://slsa.dev/provenance/v1");
        for wrong in [of_key(&other, "Optional"), of_key(&key, "Required")] {
            assert_eq!(world.reasons(wrong).await[0], Reason::UntrustedSignature, "{index} {legacy}");
        }
    }
}

/// By a key, or by the workflow's certificate.
fn signing<'a>(sigstore: &'a Sigstore, key: Option<&'a SigningKey>) -> Signing<'a> {
    key.map_or_else(|| sigstore.signing(&signer()), |key| sigstore.signing_with(key))
}

/// What cosign says of the image, by a key or by the workflow's certificate.
async fn verified(
    cosign: &Cosign,
    world: &World,
    legacy: bool,
    key: Option<&SigningKey>,
) -> Result<String, String> {
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let pem = key.map(|key| cosign.write("key.pub", &key.public_pem()));
    let identity = format!("https://github.com/{SOURCE}/{WORKFLOW}@refs/heads/main");
    let who: Vec<&str> = match &pem {
        Some(pem) => vec!["--key", pem],
        None => vec!["--certificate-identity", &identity, "--certificate-oidc-issuer", GITHUB_ISSUER],
    };
    let image = world.reference();
    let what =
        ["verify-attestation", "--allow-http-registry", "--type", "slsaprovenance1", "--trusted-root", &root];
    let layout: &[&str] = if legacy { &[LEGACY] } else { &[] };
    cosign.run(&[&what[..], &who, layout, &[&image]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kit_signs_cosign_verifies_and_what_is_forged_neither() {
    let Some(cosign) = Cosign::find() else { return };
    let key = SigningKey::generate(KeyKind::P256);
    let (own, other) = (Some(&key), &SigningKey::generate(KeyKind::P256));
    let cases =
        [false, true].map(|index| [false, true].map(|legacy| [None, own].map(|key| (index, legacy, key))));
    for (index, legacy, key) in cases.into_iter().flatten().flatten() {
        let case = format!("index: {index}, .att: {legacy}, by key: {}", key.is_some());
        let asked = || key.map_or_else(of_workflow, |key| of_key(&key.public_pem(), "Required"));

        let good = World::new(index).await;
        good.attach(legacy, |sigstore| signing(sigstore, key));
        verified(&cosign, &good, legacy, key).await.unwrap_or_else(|why| panic!("{case}: {why}"));
        let verdict = good.judge(asked()).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
        if key.is_some() {
            verified(&cosign, &good, legacy, Some(other)).await.unwrap_err();
            assert_eq!(
                good.reasons(of_key(&other.public_pem(), "Required")).await[0],
                Reason::UntrustedSignature
            );
        }

        for defect in [Defect::PayloadSwapped, Defect::LogEntryOfAnotherEnvelope] {
            let forged = World::new(index).await;
            forged.attach(legacy, |sigstore| signing(sigstore, key).defect(defect));
            assert!(verified(&cosign, &forged, legacy, key).await.is_err(), "{case}: {defect:?}");
            assert_eq!(forged.reasons(asked()).await[0], Reason::UntrustedSignature, "{case}: {defect:?}");
        }
    }
}
