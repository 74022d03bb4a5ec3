//! `verify` in front of a registry that works, and of one that does not.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bonafide_kit::{
    image::{Image, Pushed, attach_bundle},
    registry::{Fault, On, Registry},
    sigstore::{Build, BundleVersion, Identity, Sigstore, statement_v1},
};

use crate::{Ran, bonafide, file, scratch};

const WORKFLOW: &str = ".github/workflows/build.yml";
const REPO: &str = "example/app";

struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
    root: PathBuf,
}

impl World {
    /// An image for two platforms that nobody attested yet.
    async fn new() -> Self {
        let registry = Registry::start().await;
        let image = Image::index(&["linux/amd64", "linux/arm64"]).push(&registry, REPO, "v1");
        let sigstore = Sigstore::new();
        let root = file("trusted_root.json", &sigstore.trusted_root_json());
        Self { registry, image, sigstore, root }
    }

    async fn attested() -> Self {
        let world = Self::new().await;
        world.attest();
        world
    }

    fn attest(&self) {
        self.attest_in(REPO);
    }

    fn attest_in(&self, repo: &str) {
        let identity = Identity::github("example/app", WORKFLOW, "refs/heads/main", "push");
        let digest = self.image.digest.trim_start_matches("sha256:");
        let statement = statement_v1(&[("app", digest)], &Build::of(&identity));
        let signed = self.sigstore.sign_statement(&identity, statement.to_string());
        attach_bundle(&self.registry, repo, &self.image.digest, signed.bundle_json(BundleVersion::V03));
    }

    async fn verify(&self, more: &[&str]) -> Ran {
        let mut line = vec![
            "verify".to_owned(),
            self.registry.reference(REPO, &self.image.digest),
            "--repository".to_owned(),
            "example/app".to_owned(),
            "--trust-root".to_owned(),
            self.root.display().to_string(),
            "--output".to_owned(),
            "json".to_owned(),
        ];
        line.extend(more.iter().map(|word| (*word).to_owned()));
        run(line).await
    }
}

async fn run(line: Vec<String>) -> Ran {
    tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_attested_is_admitted_and_what_is_not_is_told_to_wait() {
    let world = World::new().await;
    let ran = world.verify(&[]).await;
    assert_eq!((ran.code, ran.reasons()), (1, vec!["NoProvenance".to_owned(); 2]), "{ran:?}");
    assert!(ran.out.contains("10–30 s after the push"), "{ran:?}");
    world.attest();
    let ran = world.verify(&[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attestations_are_looked_for_where_it_is_said_too() {
    let world = World::new().await;
    world.attest_in("example/attestations");
    let other = format!("{}/example/attestations", world.registry.host());
    assert_eq!(world.verify(&["--attestation-repository", &other]).await.code, 0);
    let ran = world.verify(&[]).await;
    assert_eq!((ran.code, ran.reasons()), (1, vec!["NoProvenance".to_owned(); 2]), "{ran:?}");
    let ran = world.verify(&["--attestation-repository", "example/attestations:v1"]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.err.contains("--attestation-repository") && ran.err.contains("without tag"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_in_which_a_registry_fails_has_its_word() {
    let world = World::attested().await;
    for (on, fault, code, reason) in [
        (On::any(), Fault::Status(401), 2, "RegistryDenied"),
        (On::any(), Fault::Status(403), 2, "RegistryDenied"),
        (On::any(), Fault::throttled(30), 2, "RegistryThrottled"),
        (On::any(), Fault::Status(500), 2, "RegistryUnavailable"),
        (On::any(), Fault::Close, 2, "RegistryUnavailable"),
        (On::manifests(), Fault::WrongBytes, 2, "RegistryUnavailable"),
        (On::any(), Fault::Hang, 2, "DeadlineExceeded"),
        (On::manifests(), Fault::Status(404), 1, "ImageNotFound"),
        (On::referrers().or_fallback(), Fault::Status(404), 1, "NoProvenance"),
    ] {
        world.registry.fault(on, fault.clone());
        let ran = world.verify(&["--timeout", "2s"]).await;
        assert_eq!(ran.code, code, "{fault:?}: {ran:?}");
        assert!(ran.reasons().iter().all(|found| found == reason), "{fault:?}: {ran:?}");
        assert!(!ran.reasons().is_empty(), "{fault:?}: {ran:?}");
        world.registry.clear_faults();
    }
    assert_eq!(world.verify(&["--timeout", "10s"]).await.code, 0);
}

/// Both places in which a registry lists referrers.
trait OrFallback {
    fn or_fallback(self) -> Self;
}

impl OrFallback for On {
    fn or_fallback(self) -> Self {
        self.or(bonafide_kit::registry::Target::FallbackTag)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_is_no_verdict() {
    let world = World::attested().await;
    world.registry.stop().await;
    let ran = world.verify(&[]).await;
    assert_eq!((ran.code, ran.reasons()), (2, vec!["RegistryUnavailable".to_owned()]), "{ran:?}");
    world.registry.resume().await;
    assert_eq!(world.verify(&[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_an_attestation_that_comes_later() {
    let world = World::new().await;
    let begun = Instant::now();
    let late = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        world.attest();
    };
    let (ran, ()) = tokio::join!(world.verify(&["--wait", "60s"]), late);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begun.elapsed() > Duration::from_millis(1500) && begun.elapsed() < Duration::from_secs(50));
    assert_eq!(ran.err, "", "progress is for terminals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_not_wait_for_what_stays_wrong_and_not_beyond_its_time() {
    let world = World::attested().await;
    let begun = Instant::now();
    let ran = world.verify(&["--wait", "60s", "--ref", "refs/heads/other"]).await;
    assert_eq!((ran.code, ran.reasons()[0].as_str()), (1, "WrongSource"), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let bare = World::new().await;
    assert_eq!(bare.verify(&["--wait", "1s"]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_the_docker_config_that_is_named() {
    let world = World::attested().await;
    world.registry.require_basic("robot", "secret");
    let config = |login: &str| {
        file(
            "config.json",
            &format!(r#"{{"auths": {{"{}": {{"auth": "{login}"}}}}}}"#, world.registry.host()),
        )
    };
    // robot:secret, and robot:secreT
    let right = config("cm9ib3Q6c2VjcmV0");
    let wrong = config("cm9ib3Q6c2VjcmVU");
    assert_eq!(world.verify(&["--docker-config", right.to_str().unwrap()]).await.code, 0);
    let ran = world.verify(&["--docker-config", wrong.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.reasons()[0].as_str()), (2, "RegistryDenied"), "{ran:?}");
    assert!(!ran.out.contains("secreT"), "{ran:?}");
    let nowhere = scratch("none.json");
    assert_eq!(world.verify(&["--docker-config", nowhere.to_str().unwrap()]).await.code, 64);
}
