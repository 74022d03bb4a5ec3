//! Keys and trust roots on the command line: `--key`, `--root`, `--trust-root NAME=FILE`.

use std::path::PathBuf;

use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::Registry,
    sigstore::{Build, BundleVersion, Defect, Identity, KeyKind, SigningKey, Sigstore, statement_v1},
};

use crate::{Ran, bonafide, file, vectors};

const REPO: &str = "example/app";

struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
    root: PathBuf,
}

impl World {
    async fn of(sigstore: Sigstore) -> Self {
        let registry = Registry::start().await;
        let image = Image::single("linux/amd64").push(&registry, REPO, "v1");
        let root = file("trusted_root.json", &sigstore.trusted_root_json());
        Self { registry, image, sigstore, root }
    }

    fn identity() -> Identity {
        Identity::github("example/app", ".github/workflows/build.yml", "refs/heads/main", "push")
    }

    fn statement(&self) -> String {
        let digest = self.image.digest.trim_start_matches("sha256:");
        statement_v1(&[("app", digest)], &Build::of(&Self::identity())).to_string()
    }

    async fn verify(&self, flags: &[&str]) -> Ran {
        let mut line = vec!["verify".to_owned(), self.registry.reference(REPO, &self.image.digest)];
        line.extend(flags.iter().map(|flag| (*flag).to_owned()));
        tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap()
    }
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_each_kind_verifies_what_it_signed() {
    let world = World::of(Sigstore::new()).await;
    for kind in KeyKind::ALL {
        let key = SigningKey::generate(kind);
        let signed = world.sigstore.signing_with(&key).sign(world.statement());
        attach_bundle(&world.registry, REPO, &world.image.digest, signed.bundle_json(BundleVersion::V03));
        let key = file("key.pub", &key.public_pem());
        let ran =
            world.verify(&["--key", path(&key), "--trust-root", path(&world.root), "--output", "json"]).await;
        assert_eq!(ran.code, 0, "{kind:?}: {ran:?}");
        let proof = &ran.json()["images"][0]["proofs"][0];
        assert!(proof["publicKey"]["id"].as_str().unwrap().starts_with("sha256:"), "{proof}");
        assert_eq!(
            (&proof["publicKey"]["logged"], &proof["certificate"]),
            (&true.into(), &().into()),
            "{proof}"
        );
        let other = file("other.pub", &SigningKey::generate(kind).public_pem());
        let ran = world
            .verify(&["--key", path(&other), "--trust-root", path(&world.root), "--output", "json"])
            .await;
        assert_eq!(
            (ran.code, ran.reasons()),
            (1, vec!["UntrustedSignature".to_owned()]),
            "{kind:?}: {ran:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_logged_needs_the_flag_that_says_so() {
    let world = World::of(Sigstore::new()).await;
    let key = SigningKey::generate(KeyKind::P256);
    let signed = world.sigstore.signing_with(&key).defect(Defect::NoLogEntry).sign(world.statement());
    attach_att(&world.registry, REPO, &world.image.digest, &[signed.cosign_att_layer()]);
    let key = file("key.pub", &key.public_pem());
    let ran = world.verify(&["--key", path(&key)]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("but it has no transparency log entry"), "{ran:?}");
    let ran = world.verify(&["--key", path(&key), "--transparency-log", "optional"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("proved by the key") && ran.out.contains("logged      no"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_root_vouches_for_signers_that_name_it() {
    let world = World::of(Sigstore::new()).await;
    let signed = world.sigstore.sign_statement(&World::identity(), world.statement());
    attach_bundle(&world.registry, REPO, &world.image.digest, signed.bundle_json(BundleVersion::V03));
    let corp = format!("corp={}", path(&world.root));
    let admitted = ["--repository", "example/app", "--trust-root", &corp, "--root", "corp"];
    let ran = world.verify(&admitted).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("trust root  corp"), "{ran:?}");
    // The signer that names no root means sigstore.
    let ran = world.verify(&["--repository", "example/app", "--trust-root", &corp]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("signed under the trust root corp, not under sigstore"), "{ran:?}");
    // A file without a name takes sigstore's place.
    let ran = world.verify(&["--repository", "example/app", "--trust-root", path(&world.root)]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for (flags, words) in [
        (vec!["--root", "corp"], "there is no trust root corp"),
        (vec!["--trust-root", &corp, "--trust-root", &corp], "the trust root corp is given twice"),
        (vec!["--trust-root", "Corp=x"], "is no name"),
        (vec!["--root", "Corp"], "is no name of a trust root"),
    ] {
        let ran = world.verify(&[&["--repository", "example/app"], flags.as_slice()].concat()).await;
        assert_eq!(ran.code, 64, "{ran:?}");
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_instance_is_githubs_where_it_takes_its_place() {
    let world = World::of(Sigstore::builder().timestamps_only().build()).await;
    let signed = world.sigstore.sign_statement(&World::identity(), world.statement());
    attach_bundle(&world.registry, REPO, &world.image.digest, signed.bundle_json(BundleVersion::V03));
    let github = format!("github={}", path(&world.root));
    let ran =
        world.verify(&["--repository", "example/app", "--trust-root", &github, "--root", "github"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = world.verify(&["--repository", "example/app", "--trust-root", &github]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    // Without that file it is of nobody's instance.
    let ran = world.verify(&["--repository", "example/app", "--root", "github"]).await;
    assert!(ran.code == 1 && ran.out.contains("any of the trust roots sigstore, github"), "{ran:?}");
}

#[test]
fn a_key_that_is_none_is_told_by_its_file() {
    let verify = |text: &str| {
        let key = file("key.pub", text);
        bonafide(&["verify", "ghcr.io/example/app", "--key", path(&key)])
    };
    let private = verify("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    assert!(private.code == 64 && private.err.contains("is a private key"), "{private:?}");
    assert!(!private.err.contains("c2VjcmV0"), "{private:?}");
    let Some(vectors) = vectors("bundles") else { return };
    let bundle = vectors.join("14-google-gke-vsa-v1.dsse.jsonl");
    let ran = bonafide(&["verify", "ghcr.io/example/app", "--key", path(&bundle)]);
    assert!(ran.code == 64 && ran.err.contains("is no public key in PEM"), "{ran:?}");
    let ran = bonafide(&["verify", "ghcr.io/example/app", "--key", "nowhere.pub"]);
    assert!(ran.code == 64 && ran.err.contains("--key nowhere.pub"), "{ran:?}");
}
