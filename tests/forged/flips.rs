//! One flipped bit, in many places of each form: the image is not admitted, or on the very same proof (the flip is in white
//! space, or in a part that proves nothing).

use bonafide::{
    domain::verdict::{Outcome, SignedBy},
    gather::ports::{RawAttestation, RawContent},
};
use bonafide_kit::sigstore::Signed;

use crate::{
    form::{FORMS, Kept, World, judge, statement},
    trust_support::{bundle, layer},
};

/// How many flips there are in each part.
const FLIPS: usize = 120;

fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let bits = bytes.len() * 8;
    // A step that is odd meets every bit of a byte in turn.
    (0..bits).step_by((bits / FLIPS) | 1).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        (bit, bytes)
    })
}

/// The attestation with one bit flipped, in each of many places.
fn variants(world: &World, signed: &Signed) -> Vec<(String, RawAttestation)> {
    match (world.form.kept, world.form.of(signed).content) {
        (Kept::Bundle(_), RawContent::Bundle(json)) => {
            flipped(&json).map(|(bit, json)| (format!("bundle, bit {bit}"), bundle(json))).collect()
        }
        (_, RawContent::CosignLayer { envelope, annotations }) => {
            let with = |bytes: Vec<u8>| layer(bytes, annotations.clone());
            let envelopes =
                flipped(&envelope).map(|(bit, bytes)| (format!("envelope, bit {bit}"), with(bytes)));
            let mut variants: Vec<_> = envelopes.collect();
            for (name, value) in &annotations {
                for (bit, value) in flipped(value.as_bytes()) {
                    let mut annotations = annotations.clone();
                    annotations.insert(name.clone(), String::from_utf8_lossy(&value).into_owned());
                    variants.push((format!("{name}, bit {bit}"), layer(envelope.to_vec(), annotations)));
                }
            }
            variants
        }
        (Kept::Att, RawContent::Bundle(_)) => unreachable!("a layer is kept as one"),
    }
}

#[test]
fn no_flipped_bit_admits_anything_else_in_any_form() {
    for form in FORMS {
        let world = World::of(form);
        let signed = world.signing().with_timestamp().sign(statement());
        let right = world.judge(&signed);
        assert_eq!(right.outcome, Outcome::Allow, "{form:?}");
        let (mut flips, mut admitted) = (0, 0);
        for (what, raw) in variants(&world, &signed) {
            flips += 1;
            let verdict = judge(&world.roots, &world.policy(), &raw);
            if verdict.outcome == Outcome::Allow {
                admitted += 1;
                let mut expected = right.proofs.clone();
                // Where it was found is told by its own digest, which is another with each bit.
                expected[0].spot = verdict.proofs[0].spot.clone();
                // Of a key the time need not be known: whoever takes a timestamp away proves less, and nothing else.
                let (SignedBy::Key { at, .. }, SignedBy::Key { at: found, .. }) =
                    (&mut expected[0].signed_by, &verdict.proofs[0].signed_by)
                else {
                    assert_eq!(format!("{:?}", verdict.proofs), format!("{expected:?}"), "{form:?}: {what}");
                    continue;
                };
                *at = found.and(*at);
                assert_eq!(format!("{:?}", verdict.proofs), format!("{expected:?}"), "{form:?}: {what}");
            }
        }
        println!("{form:?}: {flips} flips, {admitted} without effect");
        // The chain in a layer, and the time and hint that prove nothing, are not read.
        assert!(admitted * 2 < flips, "{form:?}: {admitted} of {flips}");
    }
}
