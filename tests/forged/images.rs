//! Images that a runtime would read in another way than they are judged, and images with more attached than is inspected.

use bonafide::domain::verdict::{Outcome, Reason};
use bonafide_kit::{
    image::{Image, Pushed, Referrer, attach_att, attach_bundle, attach_signature},
    registry::{OCI_INDEX, OCI_MANIFEST, digest_of},
    sigstore::{Build, Identity, statement_v1},
};

use serde_json::{Value, json};

use crate::{
    form::{Form, Kept, WORKFLOW, World, denied, identity},
    in_index::{REPO, SLSA, Setup, hex, signature_of, usual},
};

fn provenance_by(world: &World, by: &Identity, digest: &str) -> bonafide_kit::sigstore::Signed {
    world.signing_by(by).sign(statement_v1(&[("", hex(digest))], &Build::of(by)).to_string())
}

fn stranger() -> Identity {
    Identity::github("mallory/app", WORKFLOW, "refs/heads/main", "push")
}

impl Setup {
    fn provenance(&self, by: &Identity, digest: &str) -> String {
        provenance_by(&self.world, by, digest).bundle_json(bonafide_kit::sigstore::BundleVersion::V03)
    }
}

#[tokio::test]
async fn a4_an_image_id_is_no_reference_whatever_is_attested() {
    let setup = Setup::new().await;
    let image = Image::single("linux/amd64").push(&setup.registry, REPO, "v1");
    attach_bundle(&setup.registry, REPO, &image.digest, setup.provenance(&identity(), &image.digest));
    let good = setup.judge_on(&image.digest, "linux/amd64").await;
    assert_eq!(good.outcome, Outcome::Allow, "{:?}", good.problems);
    for id in [image.digest.as_str(), &image.digest[..19], hex(&image.digest)] {
        let verdict = setup.judge_as_written(id).await;
        denied(&verdict, Reason::InvalidReference, "the ID of an image that is already on the node", &id);
    }
}

#[tokio::test]
async fn a6_an_index_that_go_reads_otherwise_is_malformed() {
    let setup = Setup::new().await;
    let [good, evil] =
        ["good", "evil"].map(|seed| Image::single("linux/amd64").seed(seed).push(&setup.registry, REPO, ""));
    attach_bundle(&setup.registry, REPO, &good.digest, setup.provenance(&identity(), &good.digest));
    let entry = |image: &Pushed| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":2,"platform":{{"os":"linux","architecture":"amd64"}}}}"#,
            image.digest
        )
    };
    let index = |more: &[u8]| {
        let head = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]"#, entry(&good));
        [head.as_bytes(), more, b"}"].concat()
    };
    let unsigned = format!(r#","Manifests":[{}]"#, entry(&evil));
    let folded = unsigned.replace('M', "m").replacen("ts", "t\u{17f}", 1);
    let twice = unsigned.replace('M', "m");
    for (more, words) in [
        ([br#","x":"_""#.to_vec(), unsigned.clone().into_bytes()].concat(), "read differently"),
        (br#","x":"_""#.to_vec(), ""),
        ([b",\"x\":\"\xff\"".to_vec(), unsigned.clone().into_bytes()].concat(), "not UTF-8"),
        (b",\"x\":\"\xff\"".to_vec(), "not UTF-8"),
        (b",\"\xff\":1".to_vec(), "not UTF-8"),
        (folded.into_bytes(), "read differently"),
        (twice.into_bytes(), "duplicate field"),
        (unsigned.replace("Manifests", r"\u004danifests").into_bytes(), "read differently"),
        (br#","x":"\ud800""#.to_vec(), ""),
    ] {
        let bytes = index(&more);
        let digest = digest_of(&bytes);
        setup.registry.push_manifest(REPO, None, OCI_INDEX, bytes);
        let verdict = setup.judge_on(&digest, "linux/amd64").await;
        let case = more.escape_ascii().to_string();
        if words.is_empty() {
            assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
        } else {
            denied(&verdict, Reason::MalformedImage, words, &case);
        }
    }
}

const AMD64: &str = "linux/amd64";
const VSA: &str = "https://slsa.dev/verification_summary/v1";

impl Setup {
    /// Pushes an index of these entries.
    fn push_index(&self, entries: &[Value]) -> String {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
        self.registry.push_manifest(REPO, None, OCI_INDEX, index.clone());
        digest_of(index.as_bytes())
    }

    /// Pushes a manifest that holds a statement, as BuildKit does, and returns its entry in an index.
    fn push_holder(&self, subject: &str, predicate_type: &str, statement: &Value) -> Value {
        let blob = |media_type: &str, text: String| {
            let size = text.len();
            json!({"mediaType": media_type, "digest": self.registry.push_blob(REPO, text.into_bytes()), "size": size})
        };
        let mut layer = blob("application/vnd.in-toto+json", statement.to_string());
        layer["annotations"] = json!({"in-toto.io/predicate-type": predicate_type});
        let config = blob("application/vnd.oci.image.config.v1+json", "{}".to_owned());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]})
                .to_string();
        self.registry.push_manifest(REPO, None, OCI_MANIFEST, manifest.clone());
        json!({
            "mediaType": OCI_MANIFEST, "digest": digest_of(manifest.as_bytes()), "size": manifest.len(),
            "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject},
            "platform": {"os": "unknown", "architecture": "unknown"},
        })
    }
}

/// Of what an index holds, only provenance counts as of whoever signed the index. A summary counts where its signer signed the summary.
#[tokio::test]
async fn a12_a_summary_in_a_signed_index_is_nobodys() {
    let setup = Setup::new().await;
    let summary = |digest: &str| {
        json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": VSA,
            "subject": [{"name": "app", "digest": {"sha256": hex(digest)}}],
            "predicate": {
                "verifier": {"id": "https://verifier.example"}, "timeVerified": "2026-01-01T00:00:00Z",
                "resourceUri": setup.registry.reference(REPO, digest), "policy": {"uri": "https://policy.example"},
                "verificationResult": "PASSED", "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
            },
        })
    };
    let mut policy = setup.world.policy();
    policy["spec"]["images"]["include"] = json!([format!("{}/**", setup.registry.host())]);
    policy["spec"]["vsa"] = json!({
        "verifierIds": ["https://verifier.example"], "minLevel": 3, "signers": policy["spec"]["signers"],
    });
    let index_with = |leaf: &Pushed, predicate_type: &str, statement: &Value| {
        let entry = json!({
            "mediaType": OCI_MANIFEST, "digest": leaf.digest, "size": 2,
            "platform": {"os": "linux", "architecture": "amd64"},
        });
        let index = setup.push_index(&[entry, setup.push_holder(&leaf.digest, predicate_type, statement)]);
        attach_signature(&setup.registry, REPO, &index, setup.bundle(&signature_of(&index)));
        index
    };
    let push = || Image::single(AMD64).push(&setup.registry, REPO, "");

    let leaf = push();
    let provenance = statement_v1(&[("", hex(&leaf.digest))], &Build::of(&identity()));
    let of_provenance = index_with(&leaf, SLSA, &provenance);
    let leaf = push();
    let of_summary = index_with(&leaf, VSA, &summary(&leaf.digest));
    for (index, is_admitted) in [(&of_provenance, true), (&of_summary, false)] {
        let verdict = setup.judge_under(&policy, index, AMD64).await;
        if is_admitted {
            assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
        } else {
            denied(&verdict, Reason::NoProvenance, "", index);
        }
    }
    let signed = setup.bundle(&summary(&leaf.digest).to_string());
    Referrer::bundle(signed).predicate_type(VSA).attach(&setup.registry, REPO, &leaf.digest);
    let verdict = setup.judge_under(&policy, &of_summary, AMD64).await;
    assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
}

/// What is listed as an image manifest and is an index is neither: the index is attested, and not what a runtime picks from it.
#[tokio::test]
async fn a15_an_index_that_is_listed_as_a_manifest_is_malformed() {
    let setup = Setup::new().await;
    let leaf = Image::single(AMD64).push(&setup.registry, REPO, "");
    let nested = Image::index(&[AMD64]).push(&setup.registry, REPO, "");
    for attested in [&leaf.digest, &nested.digest, &nested.platform(AMD64).to_owned()] {
        attach_bundle(&setup.registry, REPO, attested, setup.provenance(&identity(), attested));
    }
    for (media_type, listed, is_admitted) in [
        (OCI_MANIFEST, &leaf.digest, true),
        (OCI_INDEX, &nested.digest, true),
        (OCI_MANIFEST, &nested.digest, false),
    ] {
        let index = setup.push_index(&[json!({
            "mediaType": media_type, "digest": listed, "size": 2,
            "platform": {"os": "linux", "architecture": "amd64"},
        })]);
        let verdict = setup.judge_on(&index, AMD64).await;
        if is_admitted {
            assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
        } else {
            denied(&verdict, Reason::MalformedImage, "as an image manifest, and it is an index", &listed);
        }
    }
}

#[tokio::test]
async fn c1_provenance_is_inspected_before_what_is_attached_beside_it() {
    for (others, by, outcome, reason) in [
        (300, identity(), Outcome::Allow, None),
        (300, stranger(), Outcome::Unverifiable, Some(Reason::NotAllInspected)),
        (100, stranger(), Outcome::Deny, Some(Reason::WrongSigner)),
    ] {
        let setup = Setup::new().await;
        let image = Image::single("linux/amd64").push(&setup.registry, REPO, "");
        let bundle = setup.provenance(&by, &image.digest);
        Referrer::bundle(bundle).predicate_type(SLSA).attach(&setup.registry, REPO, &image.digest);
        for n in 0..others {
            // Scans that are attached as bundles too, and later.
            Referrer::bundle(format!("{{\"n\": {n}}}"))
                .predicate_type("https://cosign.sigstore.dev/attestation/vuln/v1")
                .attach(&setup.registry, REPO, &image.digest);
        }
        let verdict = setup.judge_on(&image.digest, "linux/amd64").await;
        assert_eq!(verdict.outcome, outcome, "{others}: {:?}", verdict.problems);
        assert_eq!(verdict.problems.first().map(|problem| problem.reason), reason);
        // By pages it is the same, as many as are read.
        setup.registry.set_page_size(Some(50));
        assert_eq!(setup.judge_on(&image.digest, "linux/amd64").await.outcome, outcome);
    }
}

#[tokio::test]
async fn c1_the_layers_of_a_tag_that_were_added_last_are_inspected() {
    for (before, after, outcome, reason) in [
        (299, 0, Outcome::Allow, None),
        (0, 299, Outcome::Unverifiable, Some(Reason::NotAllInspected)),
        (0, 255, Outcome::Allow, None),
    ] {
        let form =
            Form { kept: Kept::Att, entry: Some(bonafide_kit::sigstore::EntryKind::Dsse001), ..usual() };
        let setup =
            Setup { world: World::of(form), registry: bonafide_kit::registry::Registry::start().await };
        let image = Image::single("linux/amd64").push(&setup.registry, REPO, "");
        let good = provenance_by(&setup.world, &identity(), &image.digest).cosign_att_layer();
        let other = provenance_by(&setup.world, &stranger(), &image.digest).cosign_att_layer();
        let layers: Vec<_> = std::iter::repeat_n(other.clone(), before)
            .chain([good])
            .chain(std::iter::repeat_n(other, after))
            .collect();
        attach_att(&setup.registry, REPO, &image.digest, &layers);
        let verdict = setup.judge_on(&image.digest, "linux/amd64").await;
        assert_eq!(verdict.outcome, outcome, "{before} {after}: {:?}", verdict.problems);
        assert_eq!(verdict.problems.first().map(|problem| problem.reason), reason);
    }
}
