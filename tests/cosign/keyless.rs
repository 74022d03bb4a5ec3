//! What cosign signs without a key is admitted by Bonafide: with a certificate of the kit's Fulcio, in the kit's Rekor.

use std::sync::Arc;

use bonafide::domain::verdict::{Outcome, Reason};
use bonafide_kit::{
    scenario::{REF, SOURCE, WORKFLOW, signer},
    sigstore::{
        Build, SLSA_V1, SLSA_V02, Sigstore,
        services::{RekorVersion, Services, github_claims, token},
        statement_v02,
    },
};

use crate::{
    support::{Cosign, LEGACY, World, denied, of_workflow},
    verified::{Who, verified},
};

/// How cosign is told where to sign, and what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A bundle, by a signing configuration.
    Bundle(RekorVersion),
    /// Under the tag `.att`, by the addresses of each service; with a timestamp beside the log's, or without.
    Att { timestamp: bool },
}

/// Signs the image's provenance as a workflow of this name would.
async fn attest(cosign: &Cosign, world: &World, services: &Services, how: How, kind: &str) {
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let (statement, kind) = match kind {
        SLSA_V1 => (world.statement(), "slsaprovenance1"),
        _ => (statement_v02(&[("shop", world.hex())], &Build::of(&signer())), "slsaprovenance02"),
    };
    let predicate = cosign.write("predicate.json", &statement["predicate"].to_string());
    let token = cosign.write("token", &token(&github_claims(SOURCE, WORKFLOW, REF, "push")));
    let (url, stamps) = (services.url(), services.timestamp_url());
    let config = |version| cosign.write("signing.json", &services.signing_config(Some(version)).to_string());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let by_address = [LEGACY, "--use-signing-config=false", "--fulcio-url", url, "--rekor-url", url];
    let how = match how {
        How::Bundle(version) => words(&["--new-bundle-format", "--signing-config", &config(version)]),
        How::Att { timestamp: false } => words(&by_address),
        How::Att { timestamp: true } => {
            [words(&by_address), words(&["--timestamp-server-url", &stamps])].concat()
        }
    };
    let how: Vec<&str> = how.iter().map(String::as_str).collect();
    let what =
        ["attest", "--yes", "--allow-http-registry", "--trusted-root", &root, "--identity-token", &token];
    let image = world.reference();
    cosign
        .run(&[&what[..], &["--type", kind, "--predicate", &predicate], &how[..], &[&image]].concat())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_as_a_workflow_is_admitted() {
    let Some(cosign) = Cosign::find() else { return };
    let stranger = Sigstore::new();
    let another = of_workflow(".github/workflows/other.yml");
    let forms = [
        How::Bundle(RekorVersion::V1),
        How::Bundle(RekorVersion::V2),
        How::Att { timestamp: false },
        How::Att { timestamp: true },
    ];
    for (index, how) in forms.into_iter().flat_map(|how| [(false, how), (true, how)]) {
        for kind in [SLSA_V1, SLSA_V02] {
            let case = format!("index: {index}, {how:?}, {kind}");
            let world = World::new(index).await;
            let services = Services::start(Arc::clone(&world.sigstore)).await;
            assert_eq!(world.reasons(of_workflow(WORKFLOW)).await[0], Reason::NoProvenance, "{case}");
            attest(&cosign, &world, &services, how, kind).await;
            let is_att = matches!(how, How::Att { .. });
            assert_eq!(world.has_att(), is_att, "{case}");
            if kind == SLSA_V1 {
                verified(&cosign, &world, is_att, Who::Workflow(WORKFLOW)).await.unwrap();
            }

            let verdict = world.judge(of_workflow(WORKFLOW)).await;
            assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
            assert_eq!(verdict.proofs[0].predicate_type, kind, "{case}");
            assert_eq!(world.reasons(another.clone()).await[0], Reason::WrongSigner, "{case}");
            let untrusted = world.judge_under(&stranger, of_workflow(WORKFLOW)).await;
            assert_eq!(denied(&untrusted)[0], Reason::UntrustedSignature, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_of_cosign_is_no_provenance() {
    let Some(cosign) = Cosign::find() else { return };
    let world = World::new(false).await;
    let services = Services::start(Arc::clone(&world.sigstore)).await;
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let token = cosign.write("token", &token(&github_claims(SOURCE, WORKFLOW, REF, "push")));
    let config = services.signing_config(Some(RekorVersion::V1)).to_string();
    let config = cosign.write("signing.json", &config);
    let how = ["--trusted-root", &root, "--identity-token", &token, "--signing-config", &config];
    let image = world.reference();
    cosign.run(&[&["sign", "--yes", "--allow-http-registry"], &how[..], &[&image]].concat()).await.unwrap();
    let verdict = world.judge(of_workflow(WORKFLOW)).await;
    assert_eq!(denied(&verdict)[0], Reason::NoProvenance);
    assert!(verdict.problems[0].found.contains("it is a signature"), "{:?}", verdict.problems);

    attest(&cosign, &world, &services, How::Bundle(RekorVersion::V1), SLSA_V1).await;
    assert_eq!(world.judge(of_workflow(WORKFLOW)).await.outcome, Outcome::Allow);
}
