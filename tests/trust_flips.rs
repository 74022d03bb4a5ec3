//! One bit of real attestations is flipped, in many places: what comes out is not verified, or says exactly what the
//! original says (a flip in white space, or in a part that nothing reads).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod trust_support;

use std::fs;

use bonafide::{
    domain::evidence::{Finding, Verified},
    gather::ports::{RawAttestation, TrustRoots},
    trust::Roots,
};
use jiff::Timestamp;

use trust_support::{IMAGES, att_layer, bundle, layer, public_good, vectors, verified};

/// Flips every `step`th bit of `bytes` in turn. Gives how many flips there were, and how many of them changed nothing.
fn flip(
    roots: &Roots,
    original: &Verified,
    bytes: &[u8],
    step: usize,
    build: impl Fn(Vec<u8>) -> RawAttestation,
) -> (usize, usize) {
    let expected = format!("{original:?}");
    let (mut flips, mut without_effect) = (0, 0);
    for bit in (0..bytes.len() * 8).step_by(step) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flips += 1;
        if let Finding::Verified(found) = roots.verify(&build(flipped), Timestamp::now()).finding {
            assert_eq!(format!("{found:?}"), expected, "bit {} of byte {}", bit % 8, bit / 8);
            without_effect += 1;
        }
    }
    (flips, without_effect)
}

#[test]
fn no_bit_of_a_layer_may_change() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    for image in IMAGES {
        let (envelope, annotations, _) = att_layer(&vectors.join("images").join(image));
        let original =
            verified(roots.verify(&layer(envelope.clone(), annotations.clone()), Timestamp::now()));

        let (flips, without_effect) =
            flip(&roots, &original, &envelope, 97, |envelope| layer(envelope, annotations.clone()));
        println!("{image}: {flips} flips in the envelope, {without_effect} without effect");
        assert!(without_effect * 100 < flips, "{without_effect} of {flips}");

        for name in
            ["dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/chain"]
        {
            let (flips, without_effect) =
                flip(&roots, &original, annotations[name].as_bytes(), 29, |value| {
                    let mut annotations = annotations.clone();
                    annotations.insert(name.to_owned(), String::from_utf8_lossy(&value).into_owned());
                    layer(envelope.clone(), annotations)
                });
            println!("{image}: {flips} flips in {name}, {without_effect} without effect");
            // The chain is not read: the root has every intermediate.
            assert!(
                name.ends_with("/chain") || without_effect * 20 < flips,
                "{name}: {without_effect} of {flips}"
            );
        }
    }
}

#[test]
fn no_bit_of_a_bundle_may_change() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    for name in [
        "gha-delegator-v1.10.0.sigstore.json",
        "gha-container-based-v2.1.0.slsa-v1.sigstore.json",
        "github-actions-reusable-workflow.slsa-v1.sigstore.json",
    ] {
        let bytes = fs::read(vectors.join("bundles").join(name)).unwrap();
        let original = verified(roots.verify(&bundle(bytes.clone()), Timestamp::now()));
        let (flips, without_effect) = flip(&roots, &original, &bytes, 97, bundle);
        println!("{name}: {flips} flips, {without_effect} without effect");
        assert!(without_effect * 10 < flips, "{without_effect} of {flips}");
    }
}
