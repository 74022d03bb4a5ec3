//! What cosign signs with keys is admitted by Bonafide.

use bonafide::domain::verdict::{Outcome, Reason};

use crate::support::{Cosign, LEGACY, World, of_key};

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
