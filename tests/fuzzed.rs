//! What the fuzz targets hold, with any toolchain: the same properties over made-up bytes, and over genuine documents that are changed,
//! cut off and spliced. `fuzz/` goes on where this ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod go_support;
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

/// What is read of a document here: the same in the words of the program in Go.
fn read_here(document: &[u8]) -> Option<serde_json::Value> {
    use bonafide::domain::{evidence::Root, platform::EntryKind};
    let shown = |root: Root| match root {
        Root::Manifest(_) => serde_json::json!("manifest"),
        Root::Index(entries) => entries
            .into_iter()
            .map(|entry| {
                let platform = entry.platform.as_ref().map_or("none".to_owned(), |platform| {
                    format!("{}/{}", platform.os(), platform.architecture())
                });
                let kind = match entry.kind {
                    EntryKind::Attestation(_) => "attestation-manifest",
                    EntryKind::Image | EntryKind::Index(_) => "",
                };
                format!("{} {platform} {kind}", entry.digest)
            })
            .collect(),
    };
    properties::root_of(document).ok().map(shown)
}

/// The same of what Go reads: the image's own digest where it is no index.
fn read_by_go(read: &serde_json::Value) -> serde_json::Value {
    let listed = read["manifests"].as_array().expect("a list");
    let entry = |entry: &serde_json::Value| {
        let parts: Vec<&str> = entry.as_str().expect("a text").splitn(4, ' ').collect();
        let platform = parts[2].rsplit_once('/').map_or(parts[2], |(platform, _)| platform);
        let kind = if parts[3] == "attestation-manifest" { parts[3] } else { "" };
        serde_json::json!(format!("{} {platform} {kind}", parts[0]))
    };
    listed.iter().map(entry).collect()
}

/// Documents that tempt a reader to differ from another one: keys twice, in other cases or escaped, what is not UTF-8, `null` everywhere.
#[allow(clippy::too_many_lines)] // a table
fn tempting() -> Vec<Vec<u8>> {
    let digest = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
    let entry = |n: u8, more: &str| {
        format!(r#"{{"digest":"{}","platform":{{"os":"linux","architecture":"amd64"}}{more}}}"#, digest(n))
            .into_bytes()
    };
    let list =
        |key: &[u8], n: u8, more: &str| [b"\"", key, b"\":[", entry(n, more).as_slice(), b"]"].concat();
    let keys: [&[u8]; 14] = [
        b"manifests",
        b"Manifests",
        b"MANIFESTS",
        "manife\u{17f}ts".as_bytes(),
        b"manife\\u017fts",
        b"\\u006danifests",
        b"\\u004Danifests",
        b"manifests\\u0000",
        b"manifests\xff",
        b"manifests ",
        b"\xef\xbb\xbfmanifests",
        b"manifest\\ud800s",
        b"man\\/ifests",
        b"",
    ];
    let odd: [&[u8]; 18] = [
        b"",
        b",\"x\":\"\xff\"",
        b",\"\xff\":0",
        b",\"x\":\"\\ud800\"",
        b",\"x\":\"\x00\"",
        b",\"x\":\"\\u0000\"",
        b",\"x\":null",
        b",\"x\":[[[{}]]]",
        b",\"x\":01",
        b",\"x\":1e999",
        b",\"x\":-",
        b",\"annotations\":null",
        b",\"annotations\":{\"a\":null}",
        b",\"annotations\":{\"a\":1}",
        b",\"schemaVersion\":2.0",
        b",\"schemaVersion\":\"2\"",
        b",\"subject\":null",
        b",\"mediaType\":null",
    ];
    let mut all: Vec<Vec<u8>> = Vec::new();
    let object = |parts: &[&[u8]]| [b"{", parts.concat().as_slice(), b"}"].concat();
    for key in keys {
        all.push(object(&[&list(key, 1, "")]));
        for odd in odd {
            all.push(object(&[&list(b"manifests", 1, ""), odd, b",", &list(key, 2, "")]));
            all.push(object(&[&list(key, 2, ""), odd, b",", &list(b"manifests", 1, "")]));
            all.push(object(&[&list(b"manifests", 1, ""), odd, b",\"", key, b"\":null"]));
        }
    }
    for more in [
        r#","Digest":"x""#,
        r#","digest":null"#,
        r#","digeſt":"x""#,
        r#","\u0064igest":"x""#,
        r#","size":1.0"#,
        r#","size":1e2"#,
        r#","size":null"#,
        r#","size":99999999999999999999"#,
        r#","data":"AA=="#,
        r#","data":"AA==""#,
        r#","data":"A""#,
        r#","data":null"#,
        r#","urls":null"#,
        r#","urls":[null]"#,
        r#","urls":["#,
        r#","urls":[1]"#,
        r#","platform":null"#,
        r#","Platform":null"#,
        r#","platform":{"os":"windows"}"#,
        r#","PLATFORM":{"os":"windows"}"#,
        r#","platform":[]"#,
        r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
        r#","annotations":{"vnd.docker.reference.type":null}"#,
        r#","annotations":{"vnd.docker.reference.type":"x","vnd.docker.reference.type":"attestation-manifest"}"#,
        r#","annotations":{"Vnd.docker.reference.type":"attestation-manifest"}"#,
        r#","annotationſ":{"vnd.docker.reference.type":"attestation-manifest"}"#,
        r#","mediaType":5"#,
        r#","artifactType":{}"#,
        r#","x":{"digest":1}"#,
    ] {
        all.push(object(&[&list(b"manifests", 1, more)]));
    }
    for (before, after) in [
        ("\u{feff}", ""),
        (" \t\r\n", " \t\r\n"),
        ("", "x"),
        ("", "{}"),
        ("", "\0"),
        ("\0", ""),
        ("", "\u{a0}"),
        ("\u{c}", ""),
    ] {
        let document = object(&[&list(b"manifests", 1, "")]);
        all.push([before.as_bytes(), document.as_slice(), after.as_bytes()].concat());
    }
    for depth in [900, 1_100, 9_000, 11_000] {
        let deep = format!(",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
        all.push(object(&[&list(b"manifests", 1, ""), deep.as_bytes()]));
    }
    for whole in [
        "null",
        "[]",
        "{}",
        "1",
        "\"x\"",
        "",
        "{\"manifests\":null}",
        "{\"manifests\":{}}",
        "{\"manifests\":[null]}",
        "{\"manifests\":[],\"manifests\":null}",
    ] {
        all.push(whole.as_bytes().to_vec());
    }
    all
}

/// Whatever Go reads otherwise is refused here: a runtime must not run what nobody judged.
#[test]
fn a6_what_is_read_of_an_index_is_what_go_reads() {
    let Some(go) = go_support::Go::build() else { return };
    let mut documents = tempting();
    let genuine = documents.clone();
    let input = (any::<Index>(), edits());
    let changed: std::cell::RefCell<Vec<Vec<u8>>> = std::cell::RefCell::default();
    runner()
        .run(&prop::collection::vec(input, 20), |all| {
            for (which, edits) in all {
                changed.borrow_mut().push(apply(which.get::<Vec<u8>>(&genuine), &edits));
            }
            Ok(())
        })
        .unwrap();
    documents.extend(changed.into_inner());
    let mut same = 0;
    for (document, by_go) in documents.iter().zip(go.read(&documents)) {
        let shown = document.escape_ascii();
        let Some(here) = read_here(document) else { continue };
        let Some(by_go) = by_go else { panic!("Go refuses what is read here: b\"{shown}\"") };
        if here.is_array() {
            assert_eq!(here, read_by_go(&by_go), "b\"{shown}\"");
        } else {
            assert!(by_go["manifests"].as_array().is_some_and(Vec::is_empty), "b\"{shown}\"");
        }
        same += 1;
    }
    println!("{same} of {} documents are read, and as Go reads them", documents.len());
    assert!(same >= 50, "{same}");
}
