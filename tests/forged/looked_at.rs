//! An image with something wrong in every layout: all of it is told, where it was found and why it did not serve; and one good
//! layout is enough.

use bonafide::domain::{
    message,
    verdict::{ImageVerdict, Outcome},
};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle, attach_signature},
    sigstore::{Build, BundleVersion, Defect, EntryKind, Identity, Signing, statement_v1, statement_v02},
};

use crate::{
    form::identity,
    in_index::{REPO, SLSA, Setup, hex, signature_of},
};

/// With what is different each time put in words.
fn told(verdict: &ImageVerdict, names: &[(&str, &str)], host: &str) -> String {
    let mut text = message::denial(None, verdict).replace(host, "r.example");
    for (name, digest) in names {
        text = text.replace(digest, &format!("sha256:{name}")).replace(&hex(digest)[..12], name);
    }
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(", sha256:") {
        let end = after.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(after.len());
        out = format!("{out}{before}, sha256:{}", if end == 64 { "HEX" } else { &after[..end] });
        rest = &after[end..];
    }
    out + rest
}

/// Something wrong in each layout.
fn spoil(setup: &Setup, image: &Pushed) {
    let sigstore = &setup.world.sigstore;
    let stranger = Identity::github("mallory/app", crate::form::WORKFLOW, "refs/heads/main", "push");
    let leaf = image.platform("linux/amd64");
    let v1 = |digest: &str, by: &Identity| statement_v1(&[("", hex(digest))], &Build::of(by)).to_string();
    let bundle =
        |signing: Signing<'_>, statement: String| signing.sign(statement).bundle_json(BundleVersion::V03);
    let swapped = sigstore.signing(&identity()).defect(Defect::PayloadSwapped);
    attach_bundle(&setup.registry, REPO, leaf, bundle(swapped, v1(leaf, &identity())));
    attach_bundle(
        &setup.registry,
        REPO,
        leaf,
        bundle(sigstore.signing(&identity()), v1(&image.digest, &identity())),
    );
    attach_bundle(&setup.registry, REPO, &image.digest, "not json");
    let statement = statement_v02(&[("", hex(leaf))], &Build::of(&stranger)).to_string();
    let layer = sigstore.signing(&stranger).entry(EntryKind::Intoto001).sign(statement).cosign_att_layer();
    attach_att(&setup.registry, REPO, leaf, &[layer]);
    let holder = &image.attestations[0].1;
    let expired = sigstore.signing(&identity()).defect(Defect::SctMissing);
    attach_signature(&setup.registry, REPO, holder, bundle(expired, signature_of(holder)));
}

#[tokio::test]
async fn a_denial_tells_all_that_was_looked_at_and_one_good_layout_is_enough() {
    let setup = Setup::new().await;
    let image = setup.push(&Image::index(&["linux/amd64"]).buildkit(SLSA).seed("looked at"));
    spoil(&setup, &image);
    let verdict = setup.judge(&image).await;
    assert_eq!(verdict.outcome, Outcome::Deny);
    let names = [
        ("INDEX", image.digest.as_str()),
        ("LEAF", image.platform("linux/amd64")),
        ("HOLDER", image.attestations[0].1.as_str()),
    ];
    insta::assert_snapshot!(told(&verdict, &names, setup.registry.host()));

    let holder = &image.attestations[0].1;
    attach_signature(&setup.registry, REPO, holder, setup.bundle(&signature_of(holder)));
    assert_eq!(setup.judge(&image).await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn however_many_there_are_the_message_is_not_long() {
    let setup = Setup::new().await;
    let image = setup.push(&Image::index(&["linux/amd64", "linux/arm64"]));
    for n in 0..40 {
        for leaf in ["linux/amd64", "linux/arm64"] {
            let statement = format!("{{\"{}\": {n}}}", "x".repeat(4000));
            attach_bundle(&setup.registry, REPO, image.platform(leaf), setup.bundle(&statement));
        }
    }
    let verdict = setup.judge_on(&image.digest, "linux/amd64,linux/arm64").await;
    let text = message::denial(None, &verdict);
    assert_eq!(text.matches("referrer of").count(), 12, "{text}");
    assert!(text.contains("\n    … and at least 36 more"), "{text}");
    assert!(text.len() < 12 * 600, "{}", text.len());
}
