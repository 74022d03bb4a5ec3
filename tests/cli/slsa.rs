//! The flags of `slsa-verifier verify-image` and `cosign verify-attestation`: each with what it admits and what it denies.

use bonafide_kit::{
    image::{Image, attach_bundle},
    registry::Registry,
    sigstore::{Build, BundleVersion, Identity, KeyKind, SigningKey, Sigstore, statement_v1, statement_v02},
};
use serde_json::{Value, json};

use crate::{bonafide, file, vectors};

const GENERATOR: &str =
    "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";
const SOURCE: &str = "github.com/slsa-framework/example-package";

#[test]
fn a_release_of_the_generator_in_the_words_of_slsa_verifier() {
    let Some(layout) = vectors("images/slsa-github-generator-v2.1.0") else { return };
    let exact = format!("{GENERATOR}@refs/tags/v2.1.0");
    let older = format!("{GENERATOR}@refs/tags/v1.4.0");
    let git = format!("git+https://{SOURCE}");
    let base = ["--source-uri", SOURCE, "--builder-id", GENERATOR];
    for (flags, reasons) in [
        (base.to_vec(), &[][..]),
        (vec!["--source-uri", &git, "--builder-id", &exact], &[]),
        (vec!["--source-uri", SOURCE, "--builder-id", &older], &["WrongSigner"]),
        (
            vec!["--source-uri", "github.com/slsa-framework/other", "--builder-id", GENERATOR],
            &["WrongSource"],
        ),
        // A workflow of another repository signs for whoever calls it: it must be named.
        (vec!["--source-uri", SOURCE], &["WrongSigner"]),
        ([&base[..], &["--source-branch", "main"]].concat(), &[]),
        ([&base[..], &["--source-branch", "mai"]].concat(), &["WrongSource"]),
        ([&base[..], &["--source-tag", "main"]].concat(), &["WrongSource"]),
        ([&base[..], &["--type", "slsaprovenance"]].concat(), &[]),
        ([&base[..], &["--type", "slsaprovenance02"]].concat(), &[]),
        ([&base[..], &["--type", "slsaprovenance1"]].concat(), &["NoProvenance"]),
        ([&base[..], &["--offline"]].concat(), &[]),
        // It was started without any.
        ([&base[..], &["--build-workflow-input", "a=b"]].concat(), &["ConditionFailed"]),
    ] {
        let line =
            ["verify", "ghcr.io/example/app", "--layout", layout.to_str().unwrap(), "--output", "json"];
        let ran = bonafide(&[&line[..], &flags].concat());
        assert_eq!(ran.reasons(), reasons, "{flags:?}: {ran:?}");
        assert_eq!(ran.code, i32::from(!reasons.is_empty()), "{flags:?}");
    }
    let line = ["verify", "ghcr.io/example/app", "--layout", layout.to_str().unwrap(), "--print-provenance"];
    let printed = bonafide(&[&line[..], &base].concat());
    let predicate: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!((printed.code, predicate["builder"]["id"].as_str()), (0, Some(exact.as_str())));
    let denied = bonafide(&[&line[..], &["--source-uri", SOURCE]].concat());
    assert_eq!(denied.code, 1);
    assert!(denied.out.contains("WrongSigner") && !denied.out.contains("buildType"), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_versions_and_inputs_of_a_workflow() {
    let (registry, sigstore) = (Registry::start().await, Sigstore::new());
    let image = Image::single("linux/amd64").push(&registry, "example/app", "v1");
    let root = file("trusted_root.json", &sigstore.trusted_root_json());
    let path = ".github/workflows/build.yml";
    let identity = Identity::github("example/app", path, "refs/tags/v1.2.3", "workflow_dispatch");
    let digest = image.digest.trim_start_matches("sha256:");
    let mut statement = statement_v02(&[("app", digest)], &Build::of(&identity));
    statement["predicate"]["invocation"]["environment"]["github_event_payload"] =
        json!({"inputs": {"release": "it's \"1\"", "dry-run": "false"}});
    let signed = sigstore.sign_statement(&identity, statement.to_string());
    attach_bundle(&registry, "example/app", &image.digest, signed.bundle_json(BundleVersion::V03));
    let key = SigningKey::generate(KeyKind::P256);
    let public = file("key.pub", &key.public_pem());
    let keyed = sigstore.signing_with(&key).sign(statement.to_string());
    attach_bundle(&registry, "example/app", &image.digest, keyed.bundle_json(BundleVersion::V03));

    let reference = registry.reference("example/app", &image.digest);
    let root = root.to_str().unwrap().to_owned();
    let verify = async |flags: &[&str]| {
        let line = ["verify", &reference, "--trust-root", &root, "--output", "json"];
        let line: Vec<String> = line.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap()
    };
    let input = |text: &'static str| vec!["--build-workflow-input", text];
    let source = ["--source-uri", "github.com/example/app"];
    for (flags, reasons) in [
        (vec![], &[][..]),
        (vec!["--source-tag", "v1.2.3"], &[]),
        (vec!["--source-tag", "v1.2"], &["WrongSource"]),
        (vec!["--source-versioned-tag", "v1.2.3"], &[]),
        (vec!["--source-versioned-tag", "v1.2"], &[]),
        (vec!["--source-versioned-tag", "v1"], &[]),
        (vec!["--source-versioned-tag", "v1.3"], &["WrongSource"]),
        (vec!["--source-versioned-tag", "v1.20"], &["WrongSource"]),
        (vec!["--source-branch", "v1.2.3"], &["WrongSource"]),
        (input("release=it's \"1\""), &[]),
        ([input("release=it's \"1\""), input("dry-run=false")].concat(), &[]),
        ([input("release=it's \"1\""), input("dry-run=true")].concat(), &["ConditionFailed"]),
        (input("release=2"), &["ConditionFailed"]),
        (input("other=2"), &["ConditionFailed"]),
    ] {
        let ran = verify(&[&source[..], &flags].concat()).await;
        assert_eq!(ran.reasons(), reasons, "{flags:?}: {ran:?}");
        assert_eq!(ran.code, i32::from(!reasons.is_empty()), "{flags:?}");
    }
    // With a key nothing proves the source, and what is claimed is held against the same flags.
    let key = ["--key", public.to_str().unwrap()];
    let ran = verify(&[&key[..], &source].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let other = ["--source-uri", "github.com/example/other"];
    let ran = verify(&[&key[..], &other].concat()).await;
    assert_eq!((ran.code, ran.reasons()), (1, vec!["WrongSource".to_owned()]), "{ran:?}");
}

/// Inputs in the predicates of v1: of a workflow as a whole in its parameters, of slsa-github-generator in the event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_are_read_where_the_build_type_has_them() {
    let (registry, sigstore) = (Registry::start().await, Sigstore::new());
    let root = file("trusted_root.json", &sigstore.trusted_root_json());
    let (own, community, other) = (
        "https://actions.github.io/buildtypes/workflow/v1",
        "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
        "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0",
    );
    let (parameters, event) = (
        "/predicate/buildDefinition/externalParameters/inputs",
        "/predicate/buildDefinition/internalParameters/GITHUB_EVENT_PAYLOAD/inputs",
    );
    for (build_type, place, trigger, input, code) in [
        (own, parameters, "workflow_dispatch", "release=1", 0),
        (own, parameters, "workflow_dispatch", "release=2", 1),
        (own, parameters, "workflow_dispatch", "other=1", 1),
        // An event that starts a workflow by itself gives it no inputs, whatever is claimed.
        (own, parameters, "push", "release=1", 1),
        (own, event, "workflow_dispatch", "release=1", 1),
        (community, parameters, "workflow_dispatch", "release=1", 0),
        (community, event, "workflow_dispatch", "release=1", 1),
        (other, event, "workflow_dispatch", "release=1", 0),
        (other, event, "workflow_dispatch", "release=2", 1),
        (other, parameters, "workflow_dispatch", "release=1", 1),
    ] {
        let image = Image::single("linux/amd64").push(&registry, "example/app", "");
        let identity =
            Identity::github("example/app", ".github/workflows/build.yml", "refs/heads/main", trigger);
        let digest = image.digest.trim_start_matches("sha256:");
        let mut statement = statement_v1(&[("app", digest)], &Build::of(&identity));
        statement["predicate"]["buildDefinition"]["buildType"] = build_type.into();
        let mut at = &mut statement;
        for name in place.split('/').skip(1) {
            at = &mut at[name];
        }
        *at = json!({"release": "1"});
        let signed = sigstore.sign_statement(&identity, statement.to_string());
        attach_bundle(&registry, "example/app", &image.digest, signed.bundle_json(BundleVersion::V03));
        let reference = registry.reference("example/app", &image.digest);
        let line = ["verify", &reference, "--trust-root", root.to_str().unwrap(), "--output", "json"];
        let flags = ["--source-uri", "github.com/example/app", "--build-workflow-input", input];
        let line: Vec<String> = line.iter().chain(&flags).map(|&flag| flag.to_owned()).collect();
        let ran = tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap();
        let reasons = if code == 0 { Vec::new() } else { vec!["ConditionFailed".to_owned()] };
        assert_eq!(
            (ran.code, ran.reasons()),
            (code, reasons),
            "{build_type} {place} {trigger} {input}: {ran:?}"
        );
    }
}

#[test]
fn what_makes_no_policy_is_said_to_be_that() {
    let source = ["--source-uri", "github.com/o/r"];
    for (flags, words) in [
        (vec!["--source-uri", "gitlab.com/o/r"], "--source-uri gitlab.com/o/r is no repository of GitHub's"),
        (vec!["--source-uri", "github.com/o/*"], "is no repository of GitHub's"),
        (vec!["--source-uri", "github.com/o"], "is no repository of GitHub's"),
        (vec!["--builder-id", "x"], "who must have signed the image is not said"),
        (vec!["--source-branch", "main"], "--source-uri"),
        ([&source[..], &["--source-branch", "a*"]].concat(), "is no name of a branch or tag"),
        ([&source[..], &["--source-tag", "refs/tags/v1"]].concat(), "is no name of a branch or tag"),
        ([&source[..], &["--source-tag", "v1", "--source-branch", "main"]].concat(), "cannot be used with"),
        (
            [&source[..], &["--source-tag", "v1", "--source-versioned-tag", "v1"]].concat(),
            "cannot be used with",
        ),
        ([&source[..], &["--source-versioned-tag", "1.2"]].concat(), "is no version"),
        ([&source[..], &["--repository", "o/r"]].concat(), "cannot be used with"),
        ([&source[..], &["--policy", "x"]].concat(), "cannot be used with"),
        ([&source[..], &["--build-workflow-input", "x"]].concat(), "KEY=VALUE"),
        ([&source[..], &["--offline"]].concat(), "--layout"),
        ([&source[..], &["--print-provenance", "--output", "json"]].concat(), "cannot be used with"),
    ] {
        let ran = bonafide(&[&["verify", "ghcr.io/o/r"][..], &flags].concat());
        assert_eq!(ran.code, 64, "{flags:?}: {ran:?}");
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
}
