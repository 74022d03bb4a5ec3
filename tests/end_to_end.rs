//! The whole, as it is used: the real webhook over TLS, in front of a plain registry, with signatures made by the kit and with real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bonafide::cli::serve;
use bonafide_kit::{
    image::Image,
    registry::{Fault, On, Registry, TokenAuth},
    scenario::{Scenario, bundle, signer},
};
use clap::Parser;
use serde_json::{Value, json};

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];
const GENERATOR: &str =
    "slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: serve::Args,
}

/// A webhook that answers until it is dropped.
struct Webhook {
    url: String,
    health: String,
    client: reqwest::Client,
    folder: PathBuf,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn serve(policy: &str, trust_root: Option<&str>, more: &[&str]) -> Webhook {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join(format!(
        "bonafide-e2e-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::SeqCst)
    ));
    std::fs::create_dir_all(folder.join("policies")).unwrap();
    std::fs::write(folder.join("policies/policy.yaml"), policy).unwrap();
    let mut flags: Vec<String> =
        ["serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"].map(Into::into).into();
    flags.extend(["--policies".to_owned(), folder.join("policies").display().to_string()]);
    if let Some(root) = trust_root {
        std::fs::write(folder.join("root.json"), root).unwrap();
        flags.extend(["--trust-root".to_owned(), folder.join("root.json").display().to_string()]);
    }
    flags.extend(more.iter().map(ToString::to_string));
    let webhook = serve::start(Serve::parse_from(flags).args, "test").await.unwrap();
    let url = format!("https://{}/validate?timeout=10s", webhook.address());
    let health = format!("http://{}", webhook.health_address());
    let authority = reqwest::Certificate::from_pem(webhook.authority().unwrap().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(webhook.run(async { stopped.await.unwrap_or(()) }, Duration::ZERO));
    Webhook { url, health, client, folder, _stop: stop }
}

fn pod(images: &[&str], architecture: Option<&str>) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(at, image)| json!({"name": format!("c{at}"), "image": image}))
        .collect();
    let selector = architecture.map(|architecture| json!({"kubernetes.io/arch": architecture}));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": containers, "nodeSelector": selector}})
}

impl Webhook {
    async fn review(&self, object: &Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop",
            "operation": "CREATE", "object": object}});
        let request =
            self.client.post(&self.url).header("content-type", "application/json").body(review.to_string());
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["uid"], "u");
        answer["response"].clone()
    }

    /// `Ok` with the warnings, or the reason's words.
    async fn judge(&self, images: &[&str], architecture: Option<&str>) -> Result<String, String> {
        let response = self.review(&pod(images, architecture)).await;
        if response["allowed"] == json!(true) {
            return Ok(response["warnings"].to_string());
        }
        let message = response["status"]["message"].as_str().unwrap();
        let words = message.lines().next().unwrap().rsplit_once(": ").unwrap().1;
        Err(format!("{} {words}", response["status"]["code"]))
    }
}

#[tokio::test]
async fn every_case_of_the_small_world_is_decided_as_it_must_be() {
    let world = Scenario::start().await;
    let root = world.sigstore.trusted_root_json();
    let webhook =
        serve(&world.policy(), Some(&root), &["--platform", PLATFORMS[0], "--platform", PLATFORMS[1]]).await;
    for case in &world.cases {
        let judged = webhook.judge(&[&case.image], case.architecture).await;
        let expected = case.denied.map_or(Ok(()), |reason| Err(format!("403 {reason}")));
        assert_eq!(judged.map(|_| ()), expected, "{}: {}", case.name, case.about);
    }
    // The worst of several images decides, and each is named.
    let both = [world.image("shop"), world.image("bare")];
    assert_eq!(webhook.judge(&both, None).await, Err("403 NoProvenance".to_owned()));
    // What was verified is in the audit log.
    let response = webhook.review(&pod(&[world.image("shop")], None)).await;
    let audit = response["auditAnnotations"].to_string();
    let digest = world.image("shop").rsplit_once('@').unwrap().1;
    assert!(audit.contains(digest) && audit.contains("release"), "{audit}");
    let metrics =
        webhook.client.get(format!("{}/metrics", webhook.health)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("NoProvenance"), "{metrics}");
}

#[tokio::test]
async fn a_tag_that_moves_is_judged_anew_and_a_registry_that_is_down_stops_only_what_is_new() {
    let world = Scenario::start().await;
    let root = world.sigstore.trusted_root_json();
    let webhook = serve(&world.policy(), Some(&root), &[]).await;
    let tag = format!("{}/acme/shop:v1", world.registry.host());
    assert!(webhook.judge(&[&tag], None).await.unwrap().contains("UnpinnedTag"));
    let bad = Image::index(&PLATFORMS).seed("moved").push(&world.registry, "acme/shop", "v1");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(webhook.judge(&[&tag], None).await, Err("403 NoProvenance".to_owned()));
    let response = webhook.review(&pod(&[&tag], None)).await;
    assert!(response["status"]["message"].as_str().unwrap().contains(bad.platform("linux/amd64")));

    world.registry.stop().await;
    assert!(webhook.judge(&[world.image("shop")], None).await.is_ok());
    assert_eq!(webhook.judge(&[world.image("index")], None).await, Err("503 RegistryUnavailable".to_owned()));
    assert!(webhook.judge(&["127.0.0.1:1/other/image:v1"], None).await.is_ok(), "no policy covers it");
    world.registry.resume().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(webhook.judge(&[world.image("index")], None).await.is_ok());
}

#[tokio::test]
async fn a_token_is_asked_for_once_for_any_number_of_reviews() {
    let world = Scenario::start().await;
    let root = world.sigstore.trusted_root_json();
    let webhook = serve(&world.policy(), Some(&root), &[]).await;
    world.registry.require_token(TokenAuth::anonymous());
    let repo = "acme/many";
    let images: Vec<String> = (0..5)
        .map(|n| {
            let image = Image::single("linux/amd64").seed(&n.to_string()).push(&world.registry, repo, "");
            let attestation = bundle(&world.sigstore, &signer(), repo, &image.digest);
            bonafide_kit::image::attach_bundle(&world.registry, repo, &image.digest, attestation);
            world.registry.reference(repo, &image.digest)
        })
        .collect();
    for image in &images {
        assert!(webhook.judge(&[image], None).await.is_ok());
    }
    assert_eq!(world.registry.token_count(), 1);
}

fn vectors() -> Option<PathBuf> {
    let folder = Path::new("../shared/vectors/images");
    if !folder.exists() {
        println!("skipped: {} is not there", folder.display());
    }
    folder.exists().then(|| folder.to_owned())
}

fn generator_policy(registry: &Registry) -> String {
    format!(
        r#"apiVersion: bonafide.dev/v1alpha1
kind: ClusterProvenancePolicy
metadata: {{name: generator}}
spec:
  images: {{include: ["{}/**"]}}
  signers:
    - name: generator
      github:
        repository: slsa-framework/example-package
        workflow: {GENERATOR}
        workflowRefs: ["refs/tags/v*"]
        refs: ["refs/heads/main"]
        triggers: [workflow_dispatch]
"#,
        registry.host()
    )
}

#[tokio::test]
async fn real_images_in_front_of_a_plain_registry() {
    let Some(folder) = vectors() else { return };
    let registry = Registry::start().await;
    let load = |name: &str| {
        let loaded = registry.load_layout(&format!("real/{name}"), folder.join(name));
        registry.reference(&format!("real/{name}"), &loaded.images[0])
    };
    let images =
        ["slsa-github-generator-v1.4.0", "slsa-github-generator-v1.5.0", "slsa-github-generator-v2.1.0"]
            .map(load);
    let unsigned = load("buildkit-multiarch-unsigned");
    let webhook =
        serve(&generator_policy(&registry), None, &["--platform", PLATFORMS[0], "--platform", PLATFORMS[1]])
            .await;
    for image in &images {
        let warnings = webhook.judge(&[image], None).await.unwrap();
        assert!(warnings.contains("PlatformMissing") && warnings.contains("linux/arm64"), "{warnings}");
        assert_eq!(webhook.judge(&[image], Some("arm64")).await, Err("403 PlatformMissing".to_owned()));
        assert_eq!(webhook.judge(&[image], Some("amd64")).await, Ok("null".to_owned()));
    }
    assert_eq!(webhook.judge(&[&unsigned], None).await, Err("403 UnsignedProvenance".to_owned()));
    registry.clear_requests();
    for image in &images {
        webhook.judge(&[image], None).await.unwrap();
    }
    assert_eq!(registry.count(), 0, "what was judged is not asked about again");
}

#[tokio::test]
async fn two_hundred_first_reviews_ask_once() {
    let Some(folder) = vectors() else { return };
    let registry = Registry::start().await;
    let name = "slsa-github-generator-v2.1.0";
    let one = registry.reference("real/one", &registry.load_layout("real/one", folder.join(name)).images[0]);
    let many =
        registry.reference("real/many", &registry.load_layout("real/many", folder.join(name)).images[0]);
    let webhook = serve(&generator_policy(&registry), None, &[]).await;
    registry.set_latency(Duration::from_millis(20));
    webhook.judge(&[&one], None).await.unwrap();
    let alone = registry.count();
    registry.clear_requests();
    let images = [many.as_str(); 3];
    let reviews = futures::future::join_all((0..200).map(|_| webhook.judge(&images, None))).await;
    assert!(reviews.iter().all(Result::is_ok));
    assert_eq!(registry.count(), alone);
}

#[tokio::test]
async fn each_failure_of_a_registry_has_its_name_in_the_answer() {
    let Some(folder) = vectors() else { return };
    let registry = Registry::start().await;
    let loaded = registry.load_layout("real/x", folder.join("slsa-github-generator-v1.4.0"));
    let image = registry.reference("real/x", &loaded.images[0]);
    for (on, fault, expected) in [
        (On::any(), Fault::Status(401), "503 RegistryDenied"),
        (On::any(), Fault::Status(403), "503 RegistryDenied"),
        (On::any(), Fault::throttled(30), "503 RegistryThrottled"),
        (On::any(), Fault::Status(500), "503 RegistryUnavailable"),
        (On::manifests(), Fault::Status(404), "403 ImageNotFound"),
        (On::att_tags(), Fault::Status(404), "403 NoProvenance"),
        (On::att_tags(), Fault::Status(500), "503 RegistryUnavailable"),
        (On::att_tags(), Fault::WrongBytes, "403 NoProvenance"),
    ] {
        let webhook = serve(&generator_policy(&registry), None, &[]).await;
        registry.clear_faults();
        registry.fault(on, fault.clone());
        let judged = webhook.judge(&[&image], None).await;
        // Bytes of a tag have no digest to be held to; whatever they are, they admit nothing.
        if matches!(fault, Fault::WrongBytes) {
            assert!(judged.is_err());
        } else {
            assert_eq!(judged, Err(expected.to_owned()), "{fault:?}");
        }
    }
    registry.clear_faults();
    let webhook = serve(&generator_policy(&registry), None, &[]).await;
    registry.fault(On::any(), Fault::Hang);
    let short = Webhook {
        url: webhook.url.replace("10s", "1s"),
        health: String::new(),
        client: webhook.client.clone(),
        folder: PathBuf::new(),
        _stop: tokio::sync::oneshot::channel().0,
    };
    assert_eq!(short.judge(&[&image], None).await, Err("503 DeadlineExceeded".to_owned()));
}
