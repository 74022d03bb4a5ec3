//! What cosign signs with a key and a certificate of one's own authority is admitted under a `TrustRoot` of it.

use std::sync::Arc;

use bonafide::{
    domain::verdict::{Outcome, Reason},
    gather::ports::RootKeeper as _,
    trust::{Keeper, Roots},
};
use bonafide_kit::{
    scenario::{self, WORKFLOW},
    sigstore::{
        Identity, KeyKind, SigningKey, Sigstore,
        services::{RekorVersion, Services},
    },
};
use serde_json::{Value, json};

use crate::support::{Cosign, LEGACY, World, denied, of_workflow};

const ISSUER: &str = "https://pki.example";
const SIGNER: &str = "builds@corp.example";

/// What cosign writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A bundle, with the authority's timestamp or without.
    Bundle { stamped: bool },
    /// Under the tag `.att`. What cosign stamps there nobody verifies, itself included.
    Att,
}

fn signer(address: &str) -> Value {
    json!({"name": "builds", "trustRoot": "corp", "certificate": {"issuer": ISSUER, "subject": address}})
}

/// An authority alone: with its timestamps, or without anybody who states the time.
fn keeper(sigstore: &Sigstore, stamped: bool) -> Arc<Keeper> {
    let root = sigstore.trusted_root();
    let pem = |part: &str| {
        let chain = root[part][0]["certChain"]["certificates"].as_array().unwrap().clone();
        let one = |entry: &Value| {
            let contents = entry["rawBytes"].as_str().unwrap();
            format!("-----BEGIN CERTIFICATE-----\n{contents}\n-----END CERTIFICATE-----\n")
        };
        chain.iter().map(one).collect::<String>()
    };
    let mut authority = json!({"certificates": pem("certificateAuthorities"), "issuer": ISSUER});
    let mut spec = json!({"unsafeSkipTransparencyLog": true});
    if stamped {
        authority["timestampAuthority"] = pem("timestampAuthorities").into();
    } else {
        spec["unsafeSkipTimestamp"] = true.into();
    }
    spec["certificateAuthority"] = authority;
    let keeper = Keeper::new(Roots::embedded().unwrap());
    keeper.keep(&[json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"}, "spec": spec,
    })]);
    Arc::new(keeper)
}

/// Signs the image's provenance with `signer.key` and its certificate, and has cosign verify it.
async fn attest(cosign: &Cosign, world: &World, key: &SigningKey, chained: bool, form: Form) {
    let services = Services::start(Arc::clone(&world.sigstore)).await;
    let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
    let stamps = cosign.write("stamps.json", &services.signing_config(None).to_string());
    let none = cosign.without_services().await;
    let predicate = cosign.write("predicate.json", &world.statement()["predicate"].to_string());
    let who = Identity::email(SIGNER, ISSUER).without_extension(1).without_extension(8);
    let [leaf, intermediate, authority] = world.sigstore.certificates_for(&who, key);
    let leaf = cosign.write("leaf.pem", &leaf);
    let chain = cosign.write("chain.pem", &format!("{intermediate}{authority}"));
    let image = world.reference();

    let chain: &[&str] = if chained { &["--certificate-chain", &chain] } else { &[] };
    let how: &[&str] = match form {
        Form::Bundle { stamped: true } => &["--signing-config", &stamps],
        Form::Bundle { stamped: false } => &["--signing-config", &none],
        Form::Att => &[LEGACY, "--use-signing-config=false", "--tlog-upload=false"],
    };
    let what = ["attest", "--yes", "--allow-http-registry", "--trusted-root", &root, "--key", "signer.key"];
    let of = ["--certificate", &leaf, "--type", "slsaprovenance1", "--predicate", &predicate];
    cosign.run(&[&what[..], &of, chain, how, &[&image]].concat()).await.unwrap();

    if form == Form::Att && key.kind() == KeyKind::P384 {
        // There cosign expects a signature of a SHA-256 by any key.
        return;
    }
    let how: &[&str] = match form {
        Form::Bundle { stamped: true } => &["--use-signed-timestamps"],
        Form::Bundle { stamped: false } => &[],
        Form::Att => &[LEGACY],
    };
    let chain: &[&str] = if chained { &["--allow-certificate-chain"] } else { &[] };
    let what =
        ["verify-attestation", "--allow-http-registry", "--trusted-root", &root, "--type", "slsaprovenance1"];
    let who = ["--certificate-identity", SIGNER, "--certificate-oidc-issuer-regexp", ".*"];
    let without = ["--insecure-ignore-sct", "--insecure-ignore-tlog"];
    cosign.run(&[&what[..], &who, &without, chain, how, &[&image]].concat()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signs_with_a_certificate_of_ones_own_is_admitted_under_its_authority() {
    let Some(cosign) = Cosign::find() else { return };
    let authority = || Sigstore::builder().timestamps_only().build();
    let stranger = authority();
    let forms = [Form::Bundle { stamped: true }, Form::Bundle { stamped: false }, Form::Att];
    let cases = [
        (KeyKind::P256, false, false),
        (KeyKind::P256, true, true),
        (KeyKind::P384, true, false),
        (KeyKind::Rsa2048, false, true),
    ];
    for (kind, index, chained) in cases {
        let key = SigningKey::generate(kind);
        cosign.import("signer", &key).await;
        for form in forms {
            let case = format!("{kind:?}, index: {index}, chain: {chained}, {form:?}");
            let world = World::under(authority(), index).await;
            attest(&cosign, &world, &key, chained, form).await;
            assert_eq!(world.has_att(), form == Form::Att, "{case}");

            let verdict = world.judge_by(keeper(&world.sigstore, false), signer(SIGNER)).await;
            assert_eq!(verdict.outcome, Outcome::Allow, "{case}: {:?}", verdict.problems);
            let stamped = world.judge_by(keeper(&world.sigstore, true), signer(SIGNER)).await;
            let is_stamped = form == Form::Bundle { stamped: true };
            assert_eq!(stamped.outcome == Outcome::Allow, is_stamped, "{case}: {:?}", stamped.problems);
            for (keeper, address, reason) in [
                (keeper(&stranger, false), SIGNER, Reason::UntrustedSignature),
                (keeper(&world.sigstore, false), "other@corp.example", Reason::WrongSigner),
            ] {
                let verdict = world.judge_by(keeper, signer(address)).await;
                assert_eq!(denied(&verdict)[0], reason, "{case}");
            }
        }
    }
}

/// cosign writes it into bundles v0.3 for roots with logs too, and verifies it where it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_beside_the_certificate_is_for_authorities_alone() {
    let Some(cosign) = Cosign::find() else { return };
    let key = SigningKey::generate(KeyKind::P256);
    cosign.import("signer", &key).await;
    for index in [false, true] {
        let world = World::new(index).await;
        let services = Services::start(Arc::clone(&world.sigstore)).await;
        let root = cosign.write("root.json", &world.sigstore.trusted_root_json());
        let config = services.signing_config(Some(RekorVersion::V1)).to_string();
        let config = cosign.write("logged.json", &config);
        let predicate = cosign.write("predicate.json", &world.statement()["predicate"].to_string());
        let [leaf, intermediate, authority] = world.sigstore.certificates_for(&scenario::signer(), &key);
        let leaf = cosign.write("leaf.pem", &leaf);
        let chain = cosign.write("chain.pem", &format!("{intermediate}{authority}"));
        let image = world.reference();
        let what =
            ["attest", "--yes", "--allow-http-registry", "--trusted-root", &root, "--key", "signer.key"];
        let of = ["--certificate", &leaf, "--type", "slsaprovenance1", "--predicate", &predicate];
        let how = ["--certificate-chain", &chain, "--signing-config", &config];
        cosign.run(&[&what[..], &of, &how, &[&image]].concat()).await.unwrap();

        let verdict = world.judge_under(&world.sigstore, of_workflow(WORKFLOW)).await;
        assert_eq!(denied(&verdict)[0], Reason::MalformedAttestation, "index: {index}");
    }
}
