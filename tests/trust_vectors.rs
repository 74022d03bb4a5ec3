//! What real build systems signed and published, through `trust`: genuine material verifies, everything else does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod trust_support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bonafide::{
    api::compile::public_key,
    domain::{
        authorize::check_consistency,
        digest::Digest,
        evidence::{CertificateReading, Finding, SubjectEvidence, Verified},
        identity::{Certificate, SignerIdentity, SubjectMatcher, TrustRootName},
        provenance::{SIGNATURE, SLSA_V0_2, SLSA_V1},
        vouch::signatures,
    },
    gather::ports::TrustRoots,
    trust::{Refusal, Roots, Subject},
};
use bonafide_kit::sigstore::{KeyKind, SigningKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use trust_support::{IMAGES, att_layer, bundle, layer, public_good, refused, root, vectors, verified};

fn root_names(verified: &Verified) -> Vec<TrustRootName> {
    verified.readings.iter().map(|reading| reading.trust_root.clone()).collect()
}

#[test]
fn layers_of_cosign_att_tags_verify() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    for image in IMAGES {
        let (envelope, annotations, digest) = att_layer(&vectors.join("images").join(image));
        let version = image.trim_start_matches("slsa-github-generator-");
        let found = verified(roots.verify(&layer(envelope, annotations), Timestamp::now()));
        let Verified { readings, statement } = found;
        let [CertificateReading { trust_root, certificate }] = readings.as_slice() else {
            panic!("{readings:?}")
        };
        assert_eq!(*trust_root, TrustRootName::default());
        assert_eq!(statement.subjects, [digest]);
        assert_eq!(statement.predicate_type, SLSA_V0_2);
        let generator = format!(
            "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/{version}"
        );
        assert_eq!(certificate.subject, generator);
        assert_eq!(certificate.issuer, "https://token.actions.githubusercontent.com");
        let source = "https://github.com/slsa-framework/example-package";
        assert_eq!(certificate.source_repository.as_deref(), Some(source));
        assert_eq!(certificate.source_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!(certificate.trigger.as_deref(), Some("workflow_dispatch"));
        let runner = (version == "v2.1.0").then_some("github-hosted");
        assert_eq!(certificate.runner.as_deref(), runner);
        let provenance = statement.provenance.unwrap();
        assert_eq!(provenance.builder_id, generator);
        assert_eq!(provenance.source.as_deref(), Some(source));
        assert_eq!(provenance.source_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!(provenance.commit, certificate.source_digest);
        assert!(provenance.workflow.unwrap().starts_with(".github/workflows/verifier-e2e"));
    }
}

/// The certificate's source and the provenance's: repository, ref, commit, workflow.
fn sources(verified: &Verified) -> [Option<String>; 4] {
    let provenance = verified.statement.provenance.as_ref().unwrap();
    assert_eq!(provenance.source, verified.readings[0].certificate.source_repository);
    assert_eq!(provenance.source_ref, verified.readings[0].certificate.source_ref);
    assert_eq!(provenance.commit, verified.readings[0].certificate.source_digest);
    [
        provenance.source.clone(),
        provenance.source_ref.clone(),
        provenance.commit.clone(),
        provenance.workflow.clone(),
    ]
}

#[test]
fn bundles_of_each_version_verify() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    let find = |name: &str| {
        let bytes = fs::read(vectors.join("bundles").join(name)).unwrap();
        verified(roots.verify(&bundle(bytes), Timestamp::now()))
    };
    let some = |text: &str| Some(text.to_owned());

    let v0_1 = find("gha-delegator-v1.10.0.sigstore.json");
    assert_eq!(v0_1.statement.predicate_type, SLSA_V1);
    assert_eq!(
        sources(&v0_1),
        [
            some("https://github.com/slsa-framework/example-package"),
            some("refs/tags/v14"),
            some("4e383a8215c979d61c6afd2e125cb2f559090adf"),
            some(".github/workflows/verifier-e2e.all.workflow_dispatch.main.all.slsa3.yml"),
        ]
    );
    // The builder is claimed; the certificate is the delegator's.
    assert_ne!(v0_1.statement.provenance.unwrap().builder_id, v0_1.readings[0].certificate.subject);

    let v0_2 = find("gha-container-based-v2.1.0.slsa-v1.sigstore.json");
    assert_eq!(
        sources(&v0_2),
        [
            some("https://github.com/slsa-framework/example-package"),
            some("refs/tags/v14.2"),
            some("4d329c75e7ec1725f7c9ce917a8799d408d06be3"),
            some(".github/configs-docker/config-tag-v14.2.toml"),
        ]
    );

    let v0_3 = find("github-actions-reusable-workflow.slsa-v1.sigstore.json");
    assert_eq!(
        sources(&v0_3),
        [
            some("https://github.com/malancas/attest-demo"),
            some("refs/heads/main"),
            some("95baf27389e83e6a5c48f42e190d48d7abcea19e"),
            some(".github/workflows/shared.yml"),
        ]
    );
    assert!(!v0_3.readings[0].certificate.subject.starts_with("https://github.com/malancas/attest-demo/"));
    let run = "https://github.com/malancas/attest-demo/actions/runs/9228858953/attempts/1";
    assert_eq!(v0_3.readings[0].certificate.run_uri.as_deref(), Some(run));
    assert_eq!(v0_3.statement.provenance.unwrap().invocation_id.as_deref(), Some(run));
}

#[test]
fn what_builders_publish_does_not_contradict_itself() {
    let Some(vectors) = vectors() else { return };
    let roots = Roots::embedded().unwrap();
    let mut found = Vec::new();
    for image in IMAGES {
        let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
        found.push(verified(roots.verify(&layer(envelope, annotations), Timestamp::now())));
    }
    for file in fs::read_dir(vectors.join("bundles")).unwrap() {
        let file = file.unwrap().path();
        if file.to_str().unwrap().ends_with(".sigstore.json") {
            found.push(verified(roots.verify(&bundle(fs::read(&file).unwrap()), Timestamp::now())));
        }
    }
    assert!(found.len() > 6, "{}", found.len());
    let signer = SignerIdentity::Certificate {
        issuer: String::new(),
        subject: SubjectMatcher::Exact(String::new()),
        triggers: Vec::new(),
    };
    for Verified { readings, statement } in found {
        let certificate = readings.into_iter().next().unwrap().certificate;
        let provenance = statement.provenance.unwrap();
        assert_eq!(check_consistency(&signer, &certificate, &provenance), Ok(()), "{}", certificate.subject);
        // Each of them names all three.
        let twins = [
            Certificate { source_repository: Some("https://github.com/o/r".into()), ..certificate.clone() },
            Certificate { source_ref: Some("refs/heads/other".into()), ..certificate.clone() },
            Certificate { source_digest: Some("0".repeat(40)), ..certificate.clone() },
        ];
        for twin in twins {
            assert!(check_consistency(&signer, &twin, &provenance).is_err(), "{}", certificate.subject);
        }
    }
}

#[test]
fn nothing_public_verifies_under_another_root() {
    let Some(vectors) = vectors() else { return };
    for other in ["trusted_root_staging.json", "trusted_root_github.json"] {
        let roots = root(&vectors.join("roots").join(other));
        for image in IMAGES {
            let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
            let (kind, reason) = refused(&roots.verify(&layer(envelope, annotations), Timestamp::now()));
            assert_eq!(kind, "untrusted");
            let of_another = reason.contains("trust root sigstore does not know")
                || reason.contains("does not chain to the trust root sigstore");
            assert!(of_another, "{reason}");
        }
        for name in [
            "gha-delegator-v1.10.0.sigstore.json",
            "gha-container-based-v2.1.0.slsa-v1.sigstore.json",
            "github-actions-reusable-workflow.slsa-v1.sigstore.json",
        ] {
            let bytes = fs::read(vectors.join("bundles").join(name)).unwrap();
            assert_eq!(refused(&roots.verify(&bundle(bytes), Timestamp::now())).0, "untrusted", "{name}");
        }
    }
}

#[test]
fn the_root_given_as_a_file_is_the_embedded_one() {
    let Some(vectors) = vectors() else { return };
    let roots = root(&vectors.join("roots/trusted_root.json"));
    for image in IMAGES {
        let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
        verified(roots.verify(&layer(envelope, annotations), Timestamp::now()));
    }
    assert_eq!(roots.generation(), root(&vectors.join("roots/trusted_root.json")).generation());
    assert_ne!(roots.generation(), root(&vectors.join("roots/trusted_root_staging.json")).generation());
}

/// Every root that there is, each under its name.
fn all_roots(vectors: &Path) -> Roots {
    let staging = fs::read_to_string(vectors.join("roots/trusted_root_staging.json")).unwrap();
    Roots::embedded().unwrap().with(TrustRootName("staging".to_owned()), &staging).unwrap()
}

#[test]
fn a_private_instance_is_trusted_under_its_own_root_alone() {
    let Some(vectors) = vectors() else { return };
    let bytes = fs::read(vectors.join("bundles/github-private-instance.slsa-v1.sigstore.json")).unwrap();
    let github = fs::read_to_string(vectors.join("roots/trusted_root_github.json")).unwrap();
    let named = |name: &str| Roots::from_json(TrustRootName(name.to_owned()), &github).unwrap();
    for roots in [Roots::embedded().unwrap(), named("github"), named("corp"), all_roots(&vectors)] {
        let expected = if roots.validities().count() == 1 {
            roots.validities().next().unwrap().0.clone()
        } else {
            TrustRootName::github()
        };
        let found = verified(roots.verify(&bundle(bytes.clone()), Timestamp::now()));
        assert_eq!(found.readings[0].trust_root, expected);
        assert_eq!(found.readings[0].certificate.source_visibility.as_deref(), Some("private"));
        assert_eq!(found.statement.predicate_type, SLSA_V1);
    }
    for other in ["trusted_root.json", "trusted_root_staging.json"] {
        let roots = root(&vectors.join("roots").join(other));
        let (kind, reason) = refused(&roots.verify(&bundle(bytes.clone()), Timestamp::now()));
        assert_eq!(kind, "untrusted");
        assert!(reason.contains("does not chain to the trust root sigstore"), "{reason}");
    }
}

#[test]
fn each_bundle_names_the_one_root_that_vouches_for_it() {
    let Some(vectors) = vectors() else { return };
    let roots = all_roots(&vectors);
    for file in fs::read_dir(vectors.join("bundles")).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".sigstore.json") {
            continue;
        }
        let found = verified(roots.verify(&bundle(fs::read(&file).unwrap()), Timestamp::now()));
        let expected = if name.contains("private") { "github" } else { "sigstore" };
        assert_eq!(root_names(&found), [TrustRootName(expected.to_owned())], "{name}");
    }
    for image in IMAGES {
        let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
        let found = verified(roots.verify(&layer(envelope, annotations), Timestamp::now()));
        assert_eq!(root_names(&found), [TrustRootName::default()], "{image}");
    }
    // The same root under two names vouches under both.
    let twice = fs::read_to_string(vectors.join("roots/trusted_root.json")).unwrap();
    let roots = roots.with(TrustRootName("mirror".to_owned()), &twice).unwrap();
    let bytes = fs::read(vectors.join("bundles/gha-delegator-v1.10.0.sigstore.json")).unwrap();
    let found = verified(roots.verify(&bundle(bytes), Timestamp::now()));
    assert_eq!(root_names(&found), [TrustRootName::default(), TrustRootName("mirror".to_owned())]);
}

#[test]
fn a_signature_of_an_artifact_is_one_and_no_provenance() {
    let Some(vectors) = vectors() else { return };
    let bytes = fs::read(vectors.join("conformance/happy-path-v0.3/bundle.sigstore.json")).unwrap();
    let found = verified(public_good().verify(&bundle(bytes.clone()), Timestamp::now()));
    let artifact = fs::read(vectors.join("conformance/a.txt")).unwrap();
    assert_eq!(found.statement.subjects, [Digest::of(&artifact)]);
    assert_eq!(found.statement.predicate_type, SIGNATURE);
    assert!(found.statement.provenance.is_none());
    // What it states to sign is what is verified.
    let mut stated: Value = serde_json::from_slice(&bytes).unwrap();
    stated["messageSignature"]["messageDigest"]["digest"] =
        json!("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    let (kind, _) =
        refused(&public_good().verify(&bundle(stated.to_string().into_bytes()), Timestamp::now()));
    assert_eq!(kind, "untrusted");
    stated["messageSignature"].as_object_mut().unwrap().remove("messageDigest").unwrap();
    let unstated = bundle(stated.to_string().into_bytes());
    let (kind, reason) = refused(&public_good().verify(&unstated, Timestamp::now()));
    assert_eq!(
        (kind, reason.as_str()),
        ("malformed", "it signs something, and does not state the sha256 digest of it")
    );
    let other = Digest::of(b"another artifact");
    let refusal =
        public_good().verify_artifact(&bytes, Subject::Digest(&other), Timestamp::now()).unwrap_err();
    assert!(matches!(refusal, Refusal::Artifact | Refusal::Signature), "{refusal}");
}

/// The signature of an attestation manifest of Docker's builder: by its workflow, of that manifest and of nothing else.
#[test]
fn the_signature_of_an_attestation_manifest_vouches_for_it_alone() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("images/docker-signed-attestation-manifest-raw");
    let files: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let json = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).unwrap();
    let of = |pointer: &str, value: &str| {
        files
            .iter()
            .find(|bytes| json(bytes).pointer(pointer).and_then(Value::as_str) == Some(value))
            .unwrap()
    };
    let signed = of("/artifactType", "application/vnd.docker.attestation.manifest.v1+json");
    let referrer = of("/artifactType", "application/vnd.dev.sigstore.bundle.v0.3+json");
    let bytes = of("/mediaType", "application/vnd.dev.sigstore.bundle.v0.3+json");
    // The chain of digests that leads from the manifest to the bundle.
    assert_eq!(json(referrer)["subject"]["digest"], Digest::of(signed).to_string());
    assert_eq!(json(referrer)["layers"][0]["digest"], Digest::of(bytes).to_string());

    let attestation = public_good().verify(&bundle(bytes.clone()), Timestamp::now());
    let evidence = SubjectEvidence { attestations: vec![Arc::new(attestation.clone())], gaps: Vec::new() };
    assert_eq!(signatures(&Digest::of(signed), &evidence).count(), 1);
    assert_eq!(signatures(&Digest::of(referrer), &evidence).count(), 0);
    let found = verified(attestation);
    assert_eq!(
        (found.statement.predicate_type.as_str(), &found.statement.provenance.is_some()),
        (SIGNATURE, &false)
    );
    assert_eq!(
        found.readings[0].certificate.subject,
        "https://github.com/docker/github-builder-experimental/.github/workflows/build.yml@refs/heads/build-reusable-workflow"
    );
    assert_eq!(
        found.readings[0].certificate.source_repository.as_deref(),
        Some("https://github.com/docker/github-builder-test")
    );
    // What it signs cannot be exchanged for another digest.
    let mut forged = json(bytes);
    let payload =
        String::from_utf8(BASE64.decode(forged["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap());
    let (own, other) = (Digest::of(signed).hex(), Digest::of(referrer).hex());
    let payload = payload.unwrap();
    assert!(payload.contains(&own), "{payload}");
    forged["dsseEnvelope"]["payload"] = BASE64.encode(payload.replace(&own, &other)).into();
    let (kind, _) =
        refused(&public_good().verify(&bundle(forged.to_string().into_bytes()), Timestamp::now()));
    assert_eq!(kind, "untrusted");
}

/// A verification summary in a bare envelope, signed with a key and in no log.
#[test]
fn a_verification_summary_verifies_with_its_key_and_no_other() {
    let Some(vectors) = vectors() else { return };
    let envelope = fs::read(vectors.join("bundles/14-google-gke-vsa-v1.dsse.jsonl")).unwrap();
    let roots = public_good();
    let key = |pem: &str| public_key(pem).unwrap();
    let own = key(&fs::read_to_string(vectors.join("bundles/14-google-vsa-key.pem")).unwrap());
    let other = key(&SigningKey::generate(KeyKind::P256).public_pem());
    let check = |envelope: &[u8], key| {
        roots.check_key(&layer(envelope.to_vec(), BTreeMap::new()), key, Timestamp::now())
    };
    let right = check(&envelope, &own);
    assert_eq!((right.signature, right.logged.len()), (Ok(()), 0));
    assert!(check(&envelope, &other).signature.is_err());
    let mut forged: Value = serde_json::from_slice(&envelope).unwrap();
    let payload = forged["payload"].as_str().unwrap().to_owned();
    // `SLSA_BUILD_LEVEL_2` becomes another level.
    let bytes = BASE64.decode(&payload).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    forged["payload"] = BASE64.encode(text.replace("LEVEL_2", "LEVEL_3")).into();
    assert!(check(forged.to_string().as_bytes(), &own).signature.is_err());

    let statement = bonafide::api::statement::parse(text.as_bytes()).unwrap();
    let summary = statement.summary.unwrap();
    assert_eq!(summary.verifier_id, "https://bcid.corp.google.com/verifier/bcid_package_enforcer/v0.1");
    assert_eq!(summary.levels, ["BCID_L1", "SLSA_BUILD_LEVEL_2"]);
    assert_eq!(summary.result, "PASSED");
    assert!(summary.resource_uri.starts_with("gce_image://"));
    // Of a disk image, not of a container image: it names no digest of one.
    assert!(statement.provenance.is_none() && statement.subjects.is_empty());
}

#[test]
fn what_was_logged_after_now_is_refused() {
    let Some(vectors) = vectors() else { return };
    let (envelope, annotations, _) = att_layer(&vectors.join("images").join(IMAGES[2]));
    let bytes =
        fs::read(vectors.join("bundles/github-actions-reusable-workflow.slsa-v1.sigstore.json")).unwrap();
    let early: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    for attestation in [layer(envelope, annotations), bundle(bytes)] {
        let (_, reason) = refused(&public_good().verify(&attestation, early));
        assert!(reason.contains("in the future"), "{reason}");
    }
}

#[test]
fn the_verification_summary_is_by_its_key_and_by_no_other() {
    let Some(vectors) = vectors() else { return };
    let bundles = vectors.join("bundles");
    let envelope = fs::read(bundles.join("14-google-gke-vsa-v1.dsse.jsonl")).unwrap();
    let raw = layer(envelope, BTreeMap::new());
    let roots = public_good();
    let Finding::Keyed(found) = roots.verify(&raw, Timestamp::now()).finding else { panic!("not keyed") };
    assert_eq!(found.statement.predicate_type, "https://slsa.dev/verification_summary/v1");
    let check = |pem: PathBuf| {
        let key = public_key(&fs::read_to_string(pem).unwrap()).unwrap();
        roots.check_key(&raw, &key, Timestamp::now())
    };
    let right = check(bundles.join("14-google-vsa-key.pem"));
    assert_eq!((right.signature, right.logged), (Ok(()), Vec::new()));
    assert_eq!(right.unlogged, "it has no transparency log entry");
    let wrong = check(vectors.join("conformance/managed-key-happy-path/key.pub"));
    assert_eq!(wrong.signature.unwrap_err(), "its signature does not verify with the key");
}

#[test]
fn verification_takes_little() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    let mut attestations = Vec::new();
    for image in IMAGES {
        let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
        attestations.push((image.to_owned(), layer(envelope, annotations)));
    }
    for name in
        ["gha-delegator-v1.10.0.sigstore.json", "github-actions-reusable-workflow.slsa-v1.sigstore.json"]
    {
        let bytes = fs::read(vectors.join("bundles").join(name)).unwrap();
        attestations.push((name.to_owned(), bundle(bytes)));
    }
    for (name, attestation) in attestations {
        let start = Instant::now();
        for _ in 0..20 {
            verified(roots.verify(&attestation, Timestamp::now()));
        }
        println!("{name}: {:?} each", start.elapsed() / 20);
    }
}
