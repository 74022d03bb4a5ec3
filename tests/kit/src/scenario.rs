//! A small world to try the whole on: a registry with one signed image and siblings that each differ from it in one thing.

use crate::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::Registry,
    sigstore::{Build, BundleVersion, Defect, EntryKind, Identity, Sigstore, statement_v1, statement_v02},
};

/// The repository that builds the images.
pub const SOURCE: &str = "acme/shop";
/// The workflow that signs them.
pub const WORKFLOW: &str = ".github/workflows/release.yml";
/// The ref they are built from.
pub const REF: &str = "refs/heads/main";

/// A registry, a Sigstore and images.
pub struct Scenario {
    /// Where the images are.
    pub registry: Registry,
    /// Who vouches for the signers.
    pub sigstore: Sigstore,
    /// The images, the good one first.
    pub cases: Vec<Case>,
}

/// One image and what must become of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// A short name.
    pub name: &'static str,
    /// What is special about it.
    pub about: &'static str,
    /// The reference, by digest.
    pub image: String,
    /// `kubernetes.io/arch` in the pod's node selector.
    pub architecture: Option<&'static str>,
    /// The reason it must be denied for; `None`: admitted.
    pub denied: Option<&'static str>,
}

/// Who signs the good images.
pub fn signer() -> Identity {
    Identity::github(SOURCE, WORKFLOW, REF, "push")
}

impl Scenario {
    /// Starts the registry and pushes everything.
    pub async fn start() -> Self {
        let registry = Registry::start().await;
        let sigstore = Sigstore::new();
        let cases = cases(&registry, &sigstore);
        Self { registry, sigstore, cases }
    }

    /// The policy that the images are judged by, for `bonafide serve --policies`.
    pub fn policy(&self) -> String {
        format!(
            r#"apiVersion: bonafide.dev/v1alpha1
kind: ProvenancePolicy
metadata:
  name: shop
  namespace: shop
spec:
  images:
    include: ["{host}/acme/**"]
  signers:
    - name: release
      github:
        repository: {SOURCE}
        workflow: {WORKFLOW}
        refs: ["{REF}"]
        triggers: [push]
"#,
            host = self.registry.host()
        )
    }

    /// The image of a case.
    pub fn image(&self, name: &str) -> &str {
        &self.cases.iter().find(|case| case.name == name).expect("a case of that name").image
    }
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// Provenance for a digest, as actions/attest-build-provenance writes it, signed by `identity`.
pub fn bundle(sigstore: &Sigstore, identity: &Identity, name: &str, digest: &str) -> String {
    let statement = statement_v1(&[(name, hex(digest))], &Build::of(identity)).to_string();
    sigstore.sign_statement(identity, statement).bundle_json(BundleVersion::V03)
}

fn cases(registry: &Registry, sigstore: &Sigstore) -> Vec<Case> {
    let both = ["linux/amd64", "linux/arm64"];
    let push = |name: &str, image: Image| image.seed(name).push(registry, &format!("acme/{name}"), "v1");
    let good = signer();
    let attest_leaves = |name: &str, pushed: &Pushed, sigstore: &Sigstore, identity: &Identity| {
        for (_, leaf) in &pushed.platforms {
            attach_bundle(registry, &format!("acme/{name}"), leaf, bundle(sigstore, identity, name, leaf));
        }
    };
    let case =
        |name: &'static str, about: &'static str, pushed: &Pushed, denied: Option<&'static str>| Case {
            name,
            about,
            image: registry.reference(&format!("acme/{name}"), &pushed.digest),
            architecture: None,
            denied,
        };
    let mut cases = Vec::new();

    let pushed = push("shop", Image::index(&both));
    attest_leaves("shop", &pushed, sigstore, &good);
    cases.push(case("shop", "signed provenance for each architecture", &pushed, None));

    let pushed = push("index", Image::index(&both));
    let statement = statement_v02(&[("index", hex(&pushed.digest))], &Build::of(&good)).to_string();
    let signed = sigstore.signing(&good).entry(EntryKind::Intoto001).sign(statement);
    attach_att(registry, "acme/index", &pushed.digest, &[signed.cosign_att_layer()]);
    cases.push(case("index", "one cosign attestation for the index", &pushed, None));

    let pushed = push("bare", Image::index(&both));
    cases.push(case("bare", "no attestation at all", &pushed, Some("NoProvenance")));

    let pushed = push("buildkit", Image::index(&both).buildkit("https://slsa.dev/provenance/v1"));
    cases.push(case(
        "buildkit",
        "BuildKit provenance that nobody signed",
        &pushed,
        Some("UnsignedProvenance"),
    ));

    let pushed = push("stranger", Image::index(&both));
    attest_leaves("stranger", &pushed, sigstore, &Identity::github("mallory/shop", WORKFLOW, REF, "push"));
    cases.push(case("stranger", "signed by another repository's workflow", &pushed, Some("WrongSigner")));

    let pushed = push("pull-request", Image::index(&both));
    attest_leaves(
        "pull-request",
        &pushed,
        sigstore,
        &Identity::github(SOURCE, WORKFLOW, "refs/pull/7/merge", "pull_request"),
    );
    cases.push(case("pull-request", "signed, but built from a pull request", &pushed, Some("WrongSource")));

    let pushed = push("tampered", Image::index(&both));
    for (_, leaf) in &pushed.platforms {
        let statement = statement_v1(&[("tampered", hex(leaf))], &Build::of(&good)).to_string();
        let tampered = sigstore.sign_with_defect(&good, statement, Defect::PayloadSwapped);
        attach_bundle(registry, "acme/tampered", leaf, tampered.bundle_json(BundleVersion::V03));
    }
    cases.push(case(
        "tampered",
        "the provenance was changed after signing",
        &pushed,
        Some("UntrustedSignature"),
    ));

    let pushed = push("other-root", Image::index(&both));
    attest_leaves("other-root", &pushed, &Sigstore::new(), &good);
    cases.push(case(
        "other-root",
        "signed under somebody else's Sigstore",
        &pushed,
        Some("UntrustedSignature"),
    ));

    let pushed = push("copied", Image::index(&both));
    for (_, leaf) in &pushed.platforms {
        let of_another = bundle(sigstore, &good, "shop", &crate::registry::digest_of(b"another image"));
        attach_bundle(registry, "acme/copied", leaf, of_another);
    }
    cases.push(case("copied", "the signed provenance of another image", &pushed, Some("NoProvenance")));

    let pushed = push("half", Image::index(&both));
    let amd64 = pushed.platform("linux/amd64");
    attach_bundle(registry, "acme/half", amd64, bundle(sigstore, &good, "half", amd64));
    cases.push(case("half", "only the amd64 manifest is attested", &pushed, Some("PlatformNotCovered")));
    let on_amd64 = case("half", "the same, on amd64 nodes only", &pushed, None);
    cases.push(Case { architecture: Some("amd64"), ..on_amd64 });

    let pushed = push("amd64-only", Image::index(&["linux/amd64"]));
    attest_leaves("amd64-only", &pushed, sigstore, &good);
    cases.push(case("amd64-only", "signed, for amd64 alone: a warning", &pushed, None));
    let on_arm64 = case("amd64-only", "the same, on arm64 nodes only", &pushed, Some("PlatformMissing"));
    cases.push(Case { architecture: Some("arm64"), ..on_arm64 });
    cases
}
