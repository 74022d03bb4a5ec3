//! What the kit signs is verified by cosign, and what is forged is refused by it and by Bonafide.

use bonafide::domain::verdict::{Outcome, Reason};
use bonafide_kit::{
    scenario::{SOURCE, WORKFLOW, signer},
    sigstore::{Defect, GITHUB_ISSUER, KeyKind, Signing, SigningKey, Sigstore},
};

use crate::support::{Cosign, LEGACY, World, of_key, of_workflow};

/// By a key, or by the workflow's certificate.
fn signing<'a>(sigstore: &'a Sigstore, key: Option<&'a SigningKey>) -> Signing<'a> {
    key.map_or_else(|| sigstore.signing(&signer()), |key| sigstore.signing_with(key))
}

/// What cosign says of the image, by a key or by the workflow's certificate.
async fn verified(
    cosign: &Cosign,
    world: &World,
    legacy: bool,
    key: Option<&SigningKey>,
) -> Result<String, String> {
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let pem = key.map(|key| cosign.write("key.pub", &key.public_pem()));
    let identity = format!("https://github.com/{SOURCE}/{WORKFLOW}@refs/heads/main");
    let who: Vec<&str> = match &pem {
        Some(pem) => vec!["--key", pem],
        None => vec!["--certificate-identity", &identity, "--certificate-oidc-issuer", GITHUB_ISSUER],
    };
    let image = world.reference();
    let what =
        ["verify-attestation", "--allow-http-registry", "--type", "slsaprovenance1", "--trusted-root", &root];
    let layout: &[&str] = if legacy { &[LEGACY] } else { &[] };
    cosign.run(&[&what[..], &who, layout, &[&image]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kit_signs_cosign_verifies_and_what_is_forged_neither() {
    let Some(cosign) = Cosign::find() else { return };
    let key = SigningKey::generate(KeyKind::P256);
    let (own, other) = (Some(&key), &SigningKey::generate(KeyKind::P256));
    let cases =
        [false, true].map(|index| [false, true].map(|legacy| [None, own].map(|key| (index, legacy, key))));
    for (index, legacy, key) in cases.into_iter().flatten().flatten() {
        let case = format!("index: {index}, .att: {legacy}, by key: {}", key.is_some());
        let asked = || key.map_or_else(of_workflow, |key| of_key(&key.public_pem(), "Required"));

        let good = World::new(index).await;
        good.attach(legacy, |sigstore| signing(sigstore, key));
        verified(&cosign, &good, legacy, key).await.unwrap_or_else(|why| panic!("{case}: {why}"));
        let verdict = good.judge(asked()).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
        if key.is_some() {
            verified(&cosign, &good, legacy, Some(other)).await.unwrap_err();
            assert_eq!(
                good.reasons(of_key(&other.public_pem(), "Required")).await[0],
                Reason::UntrustedSignature
            );
        }

        for defect in [Defect::PayloadSwapped, Defect::LogEntryOfAnotherEnvelope] {
            let forged = World::new(index).await;
            forged.attach(legacy, |sigstore| signing(sigstore, key).defect(defect));
            assert!(verified(&cosign, &forged, legacy, key).await.is_err(), "{case}: {defect:?}");
            assert_eq!(forged.reasons(asked()).await[0], Reason::UntrustedSignature, "{case}: {defect:?}");
        }
    }
}
