//! What the fuzz targets hold, with any toolchain: the same properties over made-up bytes, and over genuine documents that are changed,
//! cut off and spliced. `fuzz/` goes on where this ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, unused_imports)]
mod properties;
mod trust_support;

use std::panic::catch_unwind;

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};

use properties::{TARGETS, Target, apply, says_the_same_or_nothing};
use trust_support::{bundle, layer, public_good, vectors};

/// How many inputs of each sort a target is given, where `PROPTEST_CASES` says nothing else.
const CASES: u32 = 150;

/// An input that breaks a target is told whole, for it to become a seed.
fn hold(target: Target, data: &[u8]) -> Result<(), TestCaseError> {
    let held = catch_unwind(|| (target.holds)(data));
    held.map_err(|_| {
        let shown = data.escape_ascii();
        TestCaseError::fail(format!("{} does not hold of b\"{shown}\"", target.name))
    })
}

fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn edits() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 3..24)
}

fn each(run: impl Fn(Target, &[Vec<u8>])) {
    for target in TARGETS {
        let seeds = target.seeds();
        assert!(!seeds.is_empty(), "{}", target.name);
        run(target, &seeds);
    }
}

#[test]
fn of_every_seed() {
    each(|target, seeds| seeds.iter().for_each(|seed| (target.holds)(seed)));
}

/// What broke one of them once.
const BROKE: [(&str, &[u8]); 3] = [
    ("reference", b"Glocalhost/x__y"),
    ("reference", b"registry:443/app"),
    ("policy", b"apiVersion: bonafide.dev/v1alpha1\rkind: ClusterProvenancePolicy\rmetadata: {name: a}\rspec: {x: 1}\r"),
];

#[test]
fn of_what_broke_them() {
    for (name, data) in BROKE {
        let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
        (target.holds)(data);
    }
}

#[test]
fn of_made_up_bytes() {
    each(|target, _| {
        let any = prop::collection::vec(any::<u8>(), 0..200);
        runner().run(&any, |data| hold(target, &data)).unwrap();
    });
}

#[test]
fn of_changes_of_what_is_genuine() {
    each(|target, seeds| {
        let input = (any::<Index>(), edits());
        let changed = |(which, edits): (Index, Vec<u8>)| {
            hold(target, &apply(which.get::<Vec<u8>>(seeds), &edits))?;
            // The same as an input that says of itself that it is edits.
            hold(target, &[&[0, u8::try_from(which.index(250)).unwrap()], edits.as_slice()].concat())
        };
        runner().run(&input, changed).unwrap();
    });
}

#[test]
fn of_the_head_of_one_with_the_tail_of_another() {
    each(|target, seeds| {
        let input = any::<(Index, Index, Index, Index)>();
        let spliced = |(one, other, head, tail): (Index, Index, Index, Index)| {
            let (one, other): (&Vec<u8>, &Vec<u8>) = (one.get(seeds), other.get(seeds));
            let head = &one[..head.index(one.len() + 1)];
            hold(target, head)?;
            let tail = &other[tail.index(other.len() + 1)..];
            hold(target, &[head, tail].concat())
        };
        runner().run(&input, spliced).unwrap();
    });
}

#[test]
fn real_attestations_that_are_changed_say_the_same_or_nothing() {
    let Some(vectors) = vectors() else { return };
    let roots = public_good();
    for name in
        ["gha-delegator-v1.10.0.sigstore.json", "github-actions-reusable-workflow.slsa-v1.sigstore.json"]
    {
        let bytes = std::fs::read(vectors.join("bundles").join(name)).unwrap();
        let original = bundle(bytes.clone());
        let changed = |edits: Vec<u8>| {
            says_the_same_or_nothing(&roots, &original, &bundle(apply(&bytes, &edits)));
            Ok(())
        };
        runner().run(&edits(), changed).unwrap();
    }
    for image in trust_support::IMAGES {
        let (envelope, annotations, _) = trust_support::att_layer(&vectors.join("images").join(image));
        let original = layer(envelope.clone(), annotations.clone());
        let changed = |edits: Vec<u8>| {
            let envelope = apply(&envelope, &edits);
            says_the_same_or_nothing(&roots, &original, &layer(envelope, annotations.clone()));
            Ok(())
        };
        runner().run(&edits(), changed).unwrap();
    }
}
