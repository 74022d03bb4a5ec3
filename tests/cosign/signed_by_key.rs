//! What cosign signs with keys is admitted by Bonafide, in each form that cosign makes with a key of the kind.

use std::sync::Arc;

use bonafide::domain::verdict::{Outcome, Reason};
use bonafide_kit::sigstore::{
    KeyKind, SigningKey, Sigstore,
    services::{RekorVersion, Services},
};

use crate::support::{Cosign, LEGACY, World, denied, of_key};

/// What cosign writes, and who logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bundle(Option<RekorVersion>),
    /// Which is logged in Rekor v1, or not at all.
    Att {
        logged: bool,
    },
}

/// All forms; those in Rekor v1 last.
const FORMS: [Form; 5] = [
    Form::Bundle(None),
    Form::Bundle(Some(RekorVersion::V2)),
    Form::Att { logged: false },
    Form::Bundle(Some(RekorVersion::V1)),
    Form::Att { logged: true },
];

/// How many of the forms cosign makes with a key of this kind. Before it logs in Rekor v1 it verifies its own signature as one of
/// a SHA-256, which those by P-384 are not.
fn made(kind: KeyKind) -> usize {
    if kind == KeyKind::P384 { 3 } else { FORMS.len() }
}

impl Form {
    const fn is_logged(self) -> bool {
        matches!(self, Self::Bundle(Some(_)) | Self::Att { logged: true })
    }
}

/// Signs the image's provenance with the key in a file.
async fn attest(cosign: &Cosign, world: &World, key: &str, form: Form) -> Result<String, String> {
    let services = Services::start(Arc::clone(&world.sigstore)).await;
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let predicate = cosign.write("predicate.json", &world.statement()["predicate"].to_string());
    let config = match form {
        Form::Bundle(Some(version)) => {
            cosign.write("logged.json", &services.signing_config(Some(version)).to_string())
        }
        _ => cosign.without_services().await,
    };
    let how: &[&str] = match form {
        Form::Bundle(None) => &["--signing-config", &config],
        Form::Bundle(Some(_)) => &["--signing-config", &config, "--trusted-root", &root],
        Form::Att { logged: false } => &[LEGACY, "--use-signing-config=false", "--tlog-upload=false"],
        Form::Att { logged: true } => &[LEGACY, "--use-signing-config=false", "--rekor-url", services.url()],
    };
    let what = ["attest", "--yes", "--allow-http-registry", "--key", key, "--type", "slsaprovenance1"];
    let image = world.reference();
    cosign.run(&[&what[..], &["--predicate", &predicate], how, &[&image]].concat()).await
}

async fn admitted(cosign: &Cosign, name: &str, key: &str, other: &str, forms: &[Form]) {
    let stranger = Sigstore::new();
    for (index, form) in forms.iter().flat_map(|form| [(false, *form), (true, *form)]) {
        let case = format!("index: {index}, {form:?}, {name}");
        let world = World::new(index).await;
        assert_eq!(world.reasons(of_key(key, "Optional")).await[0], Reason::NoProvenance, "{case}");
        attest(cosign, &world, &format!("{name}.key"), form).await.unwrap();
        assert_eq!(world.has_att(), matches!(form, Form::Att { .. }), "{case}");

        let verdict = world.judge(of_key(key, "Optional")).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
        assert_eq!(verdict.proofs[0].predicate_type, "https://slsa.dev/provenance/v1", "{case}");
        let of_other = world.reasons(of_key(other, "Optional")).await;
        assert_eq!(of_other[0], Reason::UntrustedSignature, "{case}");

        let logged = world.judge(of_key(key, "Required")).await;
        assert_eq!(logged.outcome == Outcome::Allow, form.is_logged(), "{case}: {:?}", logged.problems);
        let elsewhere = world.judge_under(&stranger, of_key(key, "Required")).await;
        assert_eq!(denied(&elsewhere)[0], Reason::UntrustedSignature, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_with_a_key_of_its_making_is_admitted() {
    let Some(cosign) = Cosign::find() else { return };
    cosign.run(&["generate-key-pair"]).await.unwrap();
    cosign.run(&["generate-key-pair", "--output-key-prefix", "other"]).await.unwrap();
    let (key, other) = (cosign.read("cosign.pub"), cosign.read("other.pub"));
    admitted(&cosign, "cosign", &key, &other, &FORMS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_with_a_key_that_it_was_given_is_admitted() {
    let Some(cosign) = Cosign::find() else { return };
    for kind in [KeyKind::P384, KeyKind::Rsa2048, KeyKind::Rsa3072] {
        let key = cosign.import(&format!("{kind:?}"), &SigningKey::generate(kind)).await;
        let other = SigningKey::generate(kind).public_pem();
        let (made, unmade) = FORMS.split_at(made(kind));
        admitted(&cosign, &format!("{kind:?}"), &key, &other, made).await;
        for form in unmade {
            attest(&cosign, &World::new(false).await, &format!("{kind:?}.key"), *form).await.unwrap_err();
        }
    }
}

/// With Ed25519, cosign signs the hash (Ed25519ph) where everybody, itself included, expects a signature of the envelope.
/// Where it has a trust root at hand or is to log, it notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_with_ed25519_neither_verifies() {
    let Some(cosign) = Cosign::find() else { return };
    let key = SigningKey::generate(KeyKind::Ed25519);
    let pem = cosign.import("ed25519", &key).await;
    for (legacy, form) in [(false, Form::Bundle(None)), (true, Form::Att { logged: false })] {
        let world = World::new(false).await;
        attest(&cosign, &world, "ed25519.key", form).await.unwrap();
        let verdict = world.judge(of_key(&pem, "Optional")).await;
        assert_eq!(denied(&verdict)[0], Reason::UntrustedSignature, "{form:?}");
        assert!(verdict.problems[0].found.contains("Ed25519ph"), "{:?}", verdict.problems);
        let image = world.reference();
        let verify = ["verify-attestation", "--allow-http-registry", "--insecure-ignore-tlog", "--key"];
        let what: &[&str] = &["ed25519.pub", "--type", "slsaprovenance1", &image];
        let layout = if legacy { LEGACY } else { "--new-bundle-format" };
        let verify = [&verify[..], what, &[layout]].concat();
        cosign.run(&verify).await.unwrap_err();

        world.attach(legacy, |sigstore| sigstore.signing_with(&key));
        let verdict = world.judge(of_key(&pem, "Optional")).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}: {:?}", verdict.problems);
        cosign.run(&verify).await.unwrap();
    }
}
