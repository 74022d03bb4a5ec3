//! Provenance in the index, vouched for by a signature of the manifest that holds it or of the index: admitted as such, and in no
//! shape that differs from it in one thing.

use std::{sync::Arc, time::Duration};

use bonafide::{
    api::manifest,
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
    image::{Image, Pushed, attach_att, attach_bundle, attach_signature},
    registry::{OCI_INDEX, Registry, digest_of},
    sigstore::{
        Build, BundleVersion, Defect, EntryKind, Identity, Signed, Signing, statement_cosign_sign,
        statement_v1, statement_v02,
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    form::{By, FORMS, Form, Kept, World, denied, identity},
    table::expected,
};

pub const REPO: &str = "acme/app";
pub const SLSA: &str = "https://slsa.dev/provenance/v1";

/// What is signed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signs {
    /// The attestation manifest, as Docker's builder does.
    Holder,
    /// The index, with cosign.
    Index,
    /// Provenance of the index: whoever built it.
    IndexByProvenance,
}

const SIGNS: [Signs; 3] = [Signs::Holder, Signs::Index, Signs::IndexByProvenance];

pub fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

pub fn signature_of(digest: &str) -> String {
    statement_cosign_sign(&[("", hex(digest))]).to_string()
}

/// The form of Docker's builder and of cosign 3.
pub fn usual() -> Form {
    let kept = Kept::Bundle(BundleVersion::V03);
    Form { by: By::Certificate, kept, entry: Some(EntryKind::Dsse001) }
}

/// A registry beside a Sigstore.
pub struct Setup {
    pub world: World,
    pub registry: Registry,
}

impl Setup {
    async fn of(form: Form) -> Self {
        Self { world: World::of(form), registry: Registry::start().await }
    }

    pub async fn new() -> Self {
        Self::of(usual()).await
    }

    fn image(&self) -> Pushed {
        self.push(&Image::index(&["linux/amd64"]).buildkit(SLSA))
    }

    pub fn push(&self, image: &Image) -> Pushed {
        image.push(&self.registry, REPO, "")
    }

    pub fn bundle(&self, statement: &str) -> String {
        self.world.signing().sign(statement).bundle_json(BundleVersion::V03)
    }

    fn attach(&self, to: &str, signed: &Signed) {
        match self.world.form.kept {
            Kept::Bundle(version) => {
                attach_signature(&self.registry, REPO, to, signed.bundle_json(version));
            }
            Kept::Att => {
                attach_att(&self.registry, REPO, to, &[signed.cosign_att_layer()]);
            }
        }
    }

    /// Signs an image as it is signed where all is well, but for what `change` does.
    fn sign_with<'a>(
        &'a self,
        image: &Pushed,
        signs: Signs,
        by: &Identity,
        change: impl Fn(Signing<'a>) -> Signing<'a>,
    ) {
        let sign = |statement: String| change(self.world.signing_by(by)).sign(statement);
        match signs {
            Signs::Holder => {
                for (_, holder) in &image.attestations {
                    self.attach(holder, &sign(signature_of(holder)));
                }
            }
            Signs::Index => self.attach(&image.digest, &sign(signature_of(&image.digest))),
            Signs::IndexByProvenance => {
                let statement = statement_v1(&[("", hex(&image.digest))], &Build::of(by)).to_string();
                self.attach(&image.digest, &sign(statement));
            }
        }
    }

    fn sign(&self, image: &Pushed, signs: Signs) {
        self.sign_with(image, signs, &identity(), |signing| signing);
    }

    pub async fn judge(&self, image: &Pushed) -> ImageVerdict {
        self.judge_on(&image.digest, "linux/amd64").await
    }

    pub async fn judge_on(&self, digest: &str, platforms: &str) -> ImageVerdict {
        let mut policy = self.world.policy();
        policy["spec"]["images"]["include"] = json!([format!("{}/**", self.registry.host())]);
        // What names the index alone does not do.
        policy["spec"]["subject"] = json!("Platform");
        self.judge_by(&policy.to_string(), REPO, digest, platforms).await
    }

    /// An image as it is written, under a policy for every image.
    pub async fn judge_as_written(&self, image: &str) -> ImageVerdict {
        let mut policy = self.world.policy();
        policy["spec"]["images"]["include"] = json!(["**"]);
        self.judge_reference(&policy.to_string(), image, "linux/amd64").await
    }

    /// The same under another policy.
    pub async fn judge_under(&self, policy: &Value, digest: &str, platforms: &str) -> ImageVerdict {
        self.judge_by(&policy.to_string(), REPO, digest, platforms).await
    }

    async fn judge_by(&self, policy: &str, repo: &str, digest: &str, platforms: &str) -> ImageVerdict {
        self.judge_reference(policy, &self.registry.reference(repo, digest), platforms).await
    }

    async fn judge_reference(&self, policy: &str, image: &str, platforms: &str) -> ImageVerdict {
        let documents = manifest::policies(policy).unwrap();
        let policies = documents.into_iter().map(|document| {
            assert!(document.compiled.errors.is_empty(), "{:?}", document.compiled.errors);
            document.compiled.entry
        });
        let snapshot = Snapshot { policies: PolicySet::new(policies.collect(), 1), ..Snapshot::default() };
        let snapshot = Arc::new(snapshot);
        let root = TrustRootName(self.world.form.root().to_owned());
        let roots = Roots::from_json(root, &self.world.sigstore.trusted_root_json()).unwrap();
        let client = Arc::new(Client::new(ClientConfig::default()).unwrap());
        let reviewer = Reviewer::new(client, Arc::new(roots), Arc::new(Unobserved));
        let platforms = Platforms::These(platforms.split(',').map(|text| text.parse().unwrap()).collect());
        let deadline = Instant::now() + Duration::from_secs(20);
        let verdict = reviewer.verify_image(&snapshot, Scope::Everywhere, image, &platforms, deadline);
        Arc::unwrap_or_clone(verdict.await)
    }

    async fn admitted(&self, image: &Pushed, case: &dyn std::fmt::Debug) -> ImageVerdict {
        let verdict = self.judge(image).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{case:?}: {:?}", verdict.problems);
        let proof = &verdict.proofs[0];
        assert_eq!(proof.subject.to_string(), image.platform("linux/amd64"), "{case:?}");
        assert_eq!(proof.predicate_type, SLSA, "{case:?}");
        assert_eq!(
            proof.provenance.build_type, "https://mobyproject.org/buildkit@v1",
            "{case:?}: what is proved is what BuildKit wrote"
        );
        verdict
    }
}

#[tokio::test]
async fn one_wrong_thing_in_the_signature_is_enough_in_every_form() {
    let mut cases = 0;
    for form in FORMS {
        let setup = Setup::of(form).await;
        for signs in SIGNS {
            // Of an attestation manifest the referrers are asked for, and no tag.
            let is_read = form.kept != Kept::Att || signs != Signs::Holder;
            let good = setup.image();
            setup.sign(&good, signs);
            if !is_read {
                let verdict = setup.judge(&good).await;
                denied(&verdict, Reason::UnsignedProvenance, "nobody signed it", &(form, signs));
                continue;
            }
            setup.admitted(&good, &(form, signs)).await;
            let defects: &[Defect] = if form == usual() { &Defect::ALL } else { &[Defect::SignatureInvalid] };
            for defect in defects.iter().copied() {
                let image = setup.image();
                setup.sign_with(&image, signs, &identity(), |signing| signing.defect(defect));
                match expected(defect, form) {
                    Some((reason, words)) => {
                        cases += 1;
                        denied(&setup.judge(&image).await, reason, words, &(form, signs, defect));
                    }
                    None => {
                        setup.admitted(&image, &(form, signs, defect)).await;
                    }
                }
            }
        }
    }
    println!("{cases} forgeries denied");
    assert!(cases >= 150, "{cases}");
}

#[tokio::test]
async fn a_signature_counts_for_what_it_names_and_by_whom_the_policy_names() {
    let setup = Setup::new().await;
    let (other, stranger) =
        (setup.image(), Identity::github("mallory/app", crate::form::WORKFLOW, "refs/heads/main", "push"));
    for signs in SIGNS {
        let good = setup.image();
        setup.sign(&good, signs);
        let verdict = setup.admitted(&good, &signs).await;
        assert_eq!(verdict.proofs[0].signer, "ci");

        let unsigned = setup.image();
        denied(&setup.judge(&unsigned).await, Reason::UnsignedProvenance, "nobody signed it", &signs);

        // Signed genuinely, over another digest, and attached here.
        let copied = setup.image();
        let bundle = match signs {
            Signs::Holder => setup.bundle(&signature_of(&other.attestations[0].1)),
            Signs::Index => setup.bundle(&signature_of(&other.digest)),
            Signs::IndexByProvenance => {
                let build = Build::of(&identity());
                setup.bundle(&statement_v1(&[("", hex(&other.digest))], &build).to_string())
            }
        };
        let to = if signs == Signs::Holder { &copied.attestations[0].1 } else { &copied.digest };
        attach_signature(&setup.registry, REPO, to, bundle);
        denied(&setup.judge(&copied).await, Reason::UnsignedProvenance, "nobody signed it", &signs);

        let strange = setup.image();
        setup.sign_with(&strange, signs, &stranger, |signing| signing);
        denied(&setup.judge(&strange).await, Reason::WrongSigner, "mallory/app", &signs);

        // The signature holds, and the statement is about another manifest.
        let elsewhere =
            Image::index(&["linux/amd64"]).buildkit(SLSA).buildkit_about(other.platform("linux/amd64"));
        let elsewhere = setup.push(&elsewhere);
        setup.sign(&elsewhere, signs);
        denied(&setup.judge(&elsewhere).await, Reason::NoProvenance, "about another digest", &signs);
    }
}

#[tokio::test]
async fn an_attestation_manifest_beside_the_signed_index_is_nobodys() {
    let setup = Setup::new().await;
    let signed = setup.push(&Image::index(&["linux/amd64"]));
    let holder = setup
        .push(&Image::index(&["linux/amd64"]).buildkit(SLSA).buildkit_about(signed.platform("linux/amd64")));
    let entries = |image: &Pushed| {
        setup.registry.manifest(REPO, &image.digest).unwrap().json()["manifests"].as_array().unwrap().clone()
    };
    let mut beside = entries(&holder).pop().unwrap();
    beside["annotations"]["vnd.docker.reference.digest"] = json!(signed.platform("linux/amd64"));
    let index = |entries: &[Value]| {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
        setup.registry.push_manifest(REPO, None, OCI_INDEX, index.clone());
        digest_of(index.as_bytes())
    };
    let image = entries(&signed).pop().unwrap();
    let together = index(&[image.clone(), beside.clone()]);
    let signature = setup.bundle(&signature_of(&together));
    attach_signature(&setup.registry, REPO, &together, signature.clone());
    assert_eq!(setup.judge_on(&together, "linux/amd64").await.outcome, Outcome::Allow);

    // One byte more, and it is another index: the signature does not come along.
    let altered = index(&[beside.clone(), image.clone()]);
    attach_signature(&setup.registry, REPO, &altered, signature);
    let verdict = setup.judge_on(&altered, "linux/amd64").await;
    denied(&verdict, Reason::UnsignedProvenance, "nobody signed it", &"altered");

    // The signed index nested in another, which lists the attestation manifest: nobody signed that list.
    setup.sign(&signed, Signs::Index);
    let nested =
        json!({"mediaType": OCI_INDEX, "digest": signed.digest, "size": 1, "platform": image["platform"]});
    let around = index(&[nested, beside.clone()]);
    let verdict = setup.judge_on(&around, "linux/amd64").await;
    denied(&verdict, Reason::UnsignedProvenance, "nobody signed it", &"around");

    // Nested in a signed index it is listed by whoever signed.
    let nested =
        json!({"mediaType": OCI_INDEX, "digest": together, "size": 1, "platform": image["platform"]});
    let around = index(&[nested]);
    assert_eq!(setup.judge_on(&around, "linux/amd64").await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn annotations_prove_nothing() {
    let setup = Setup::new().await;
    // Genuinely signed, for another image: annotated to be for this one.
    let good = setup.image();
    setup.sign(&good, Signs::Holder);
    setup.admitted(&good, &"good").await;
    let entries = setup.registry.manifest(REPO, &good.digest).unwrap().json()["manifests"].clone();
    let bad = setup.push(&Image::single("linux/amd64"));
    for (image, is_admitted) in [(good.platform("linux/amd64"), true), (bad.digest.as_str(), false)] {
        let mut entries = entries.as_array().unwrap().clone();
        entries[0]["digest"] = json!(image);
        entries[1]["annotations"]["vnd.docker.reference.digest"] = json!(image);
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
        setup.registry.push_manifest(REPO, None, OCI_INDEX, index.clone());
        let verdict = setup.judge_on(&digest_of(index.as_bytes()), "linux/amd64").await;
        if is_admitted {
            assert_eq!(verdict.outcome, Outcome::Allow);
        } else {
            denied(&verdict, Reason::NoProvenance, "about another digest", &image);
        }
    }
}

#[tokio::test]
async fn who_only_looked_at_an_index_does_not_stand_by_what_is_in_it() {
    let setup = Setup::new().await;
    for (predicate, is_admitted) in [
        ("https://sigstore.dev/cosign/sign/v1", true),
        ("https://spdx.dev/Document", false),
        ("https://in-toto.io/attestation/vulns/v0.1", false),
    ] {
        let image = setup.image();
        let statement = signature_of(&image.digest).replace("https://sigstore.dev/cosign/sign/v1", predicate);
        attach_bundle(&setup.registry, REPO, &image.digest, setup.bundle(&statement));
        let verdict = setup.judge(&image).await;
        if is_admitted {
            assert_eq!(verdict.outcome, Outcome::Allow, "{predicate}");
        } else {
            denied(&verdict, Reason::UnsignedProvenance, "nobody signed it", &predicate);
        }
    }
}

#[tokio::test]
async fn each_platform_needs_its_own_and_a_good_layout_is_enough() {
    let setup = Setup::new().await;
    let both = "linux/amd64,linux/arm64";
    for artifacts in [false, true] {
        let image = Image::index(&["linux/amd64", "linux/arm64"]).buildkit(SLSA);
        let image = setup.push(&if artifacts { image.attestation_artifacts() } else { image });
        let [amd64, arm64] = [0, 1].map(|at| image.attestations[at].1.as_str());
        let sign = |holder: &str| {
            attach_signature(&setup.registry, REPO, holder, setup.bundle(&signature_of(holder)));
        };
        sign(amd64);
        let verdict = setup.judge_on(&image.digest, both).await;
        let [problem] = verdict.problems.as_slice() else { panic!("{:?}", verdict.problems) };
        assert_eq!(problem.digest.unwrap().to_string(), image.platform("linux/arm64"));
        assert_eq!((verdict.outcome, problem.reason), (Outcome::Deny, Reason::UnsignedProvenance));
        sign(arm64);
        let verdict = setup.judge_on(&image.digest, both).await;
        assert_eq!((verdict.outcome, verdict.proofs.len()), (Outcome::Allow, 2), "{:?}", verdict.problems);
        // Whatever is broken beside it.
        let forged = setup.world.signing().defect(Defect::SignatureInvalid).sign(signature_of(amd64));
        setup.attach(amd64, &forged);
        attach_signature(&setup.registry, REPO, amd64, "not json");
        let forged = setup.world.signing().defect(Defect::PayloadSwapped);
        let statement = statement_v02(&[("", hex(image.platform("linux/amd64")))], &Build::of(&identity()));
        attach_bundle(
            &setup.registry,
            REPO,
            image.platform("linux/amd64"),
            forged.sign(statement.to_string()).bundle_json(BundleVersion::V03),
        );
        let verdict = setup.judge_on(&image.digest, both).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
    }
}

/// What Docker's reusable workflow signs satisfies the ready-made policy for it.
#[tokio::test]
async fn an_image_of_dockers_builder_is_admitted_by_the_ready_made_policy() {
    let setup = Setup::new().await;
    let repo = "example-org/app";
    let text = std::fs::read_to_string("policies/docker-github-builder.yaml").unwrap();
    let policy = text.replace("docker.io/", &format!("{}/", setup.registry.host()));
    for (workflow, outcome) in [
        ("docker/github-builder/.github/workflows/build.yml@refs/tags/v1", Outcome::Allow),
        ("docker/github-builder/.github/workflows/bake.yml@refs/tags/v1", Outcome::Allow),
        ("docker/github-builder-experimental/.github/workflows/build.yml@refs/heads/main", Outcome::Deny),
    ] {
        let image = Image::index(&["linux/amd64", "linux/arm64"]).buildkit(SLSA).attestation_artifacts();
        let image = image.push(&setup.registry, repo, "");
        let identity = Identity::github(repo, ".github/workflows/ci.yml", "refs/heads/main", "push");
        let identity = identity.signed_by(workflow);
        for (_, holder) in &image.attestations {
            let signed = setup.world.sigstore.sign_statement(&identity, signature_of(holder));
            attach_signature(&setup.registry, repo, holder, signed.bundle_json(BundleVersion::V03));
        }
        let verdict = setup.judge_by(&policy, repo, &image.digest, "linux/amd64,linux/arm64").await;
        assert_eq!(verdict.outcome, outcome, "{workflow}: {:?}", verdict.problems);
    }
}
