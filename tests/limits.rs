//! What somebody who controls the images of a namespace, or a registry's answers, can make us do: so much and no more. Each limit has a
//! twin just below it that is admitted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod gather_support;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bonafide::domain::{
    digest::Digest,
    evaluate::evaluate,
    evidence::{ImageFacts, Root, SubjectEvidence},
    identity::TrustRootName,
    plan::{ImagePlan, Stage},
    platform::{EntryKind, IndexEntry},
    policy::PolicyEntry,
    verdict::{Outcome, Reason},
    workload::{Placement, Platforms, Workload},
};
use bytes::Bytes;
use gather_support::{OCI_INDEX, OCI_MANIFEST, Setup, at, attestation, pod, policy, reasons, setup};
use jiff::Timestamp;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

fn attested(setup: &Setup, count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let image = setup.world.image(&format!("{n}"));
            setup.world.attest_by_tag(image);
            at(image)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_workload_names_so_many_images_and_no_more() {
    let setup = setup();
    let images = attested(&setup, 128);
    assert_eq!(setup.review(&images).await.outcome, Outcome::Allow);
    // Each image is two look-ups: what it is, and what is attached to it in two layouts.
    assert!(setup.world.most_under_way.load(Ordering::SeqCst) <= 16 * 3);
    let same = vec![images[0].clone(); 500];
    assert_eq!(setup.review(&same).await.images.len(), 500);

    let before = setup.world.requests();
    let review = setup.review(&attested(&setup, 129)).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::TooManyImages]));
    assert_eq!(setup.world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_images_never_come_takes_its_share_and_others_go_on() {
    let setup = setup();
    *setup.world.hanging.lock() = Some("evil".to_owned());
    let good = attested(&setup, 2);
    let evil = |n: usize| (0..100).map(|m| format!("r.example/app:evil-{n}-{m}")).collect::<Vec<_>>();
    let flood = async {
        let images: Vec<Vec<String>> = (0..8).map(evil).collect();
        let reviews = images.iter().map(|images| setup.review_in("evil", images, Duration::from_secs(10)));
        futures::future::join_all(reviews).await
    };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(setup.world.under_way.load(Ordering::SeqCst), 64);
        let theirs = setup.review_in("evil", &good[..1], Duration::from_secs(2)).await;
        (setup.review_in("good", &good[1..], Duration::from_secs(2)).await, theirs)
    };
    let (flooded, (good, theirs)) = tokio::join!(flood, meanwhile);
    assert_eq!(good.outcome, Outcome::Allow);
    assert_eq!((theirs.outcome, reasons(&theirs)), (Outcome::Unverifiable, vec![Reason::DeadlineExceeded]));
    for review in flooded {
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::DeadlineExceeded));
        assert_eq!(review.images.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn the_whole_does_so_much_at_once_and_says_so_in_time() {
    let setup = setup();
    *setup.world.hanging.lock() = Some("evil".to_owned());
    let images: Vec<String> = (0..256).map(|m| format!("r.example/app:evil-{m}")).collect();
    let flood = async {
        let reviews = (0..16).map(|n| {
            let (namespace, images) = (format!("evil-{n}"), &images[n * 16..(n + 1) * 16]);
            let setup = &setup;
            async move { setup.review_in(&namespace, images, Duration::from_secs(10)).await }
        });
        futures::future::join_all(reviews).await
    };
    let good = attested(&setup, 1);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        setup.review_in("good", &good, Duration::from_secs(2)).await
    };
    let (_, review) = tokio::join!(flood, meanwhile);
    assert_eq!(setup.world.most_under_way.load(Ordering::SeqCst), 128);
    assert_eq!((review.outcome, reasons(&review)[0]), (Outcome::Unverifiable, Reason::DeadlineExceeded));
    // What hangs is given up, and then there is room again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.review_in("good", &good, Duration::from_secs(2)).await.outcome, Outcome::Allow);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_of_attestations_holds_so_many_values_and_no_more() {
    for (count, outcome) in [(79_900, Outcome::Allow), (80_000, Outcome::Deny)] {
        let setup = setup();
        let image = setup.world.image("x");
        setup.world.attest_with(image, image);
        let holder = setup.world.referrers.lock()[&image][0];
        let mut body: Value = serde_json::from_slice(&setup.world.content.lock()[&holder]).unwrap();
        body["x"] = json!(vec![0; count]);
        let fuller = setup.world.put(&body);
        setup.world.referrers.lock().insert(image, vec![fuller]);
        let review = setup.review(&[at(image)]).await;
        assert_eq!(review.outcome, outcome);
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::MalformedAttestation));
    }
}

/// An attestation as large as that: spaces before and behind are no part of JSON's text.
fn attest_at_length(setup: &Setup, subject: Digest, size: usize) {
    let mut text = serde_json::to_vec(&json!(format!("signed {subject}"))).unwrap();
    text.resize(size, b' ');
    let (bytes, envelope) = (Bytes::from(text.clone()), Digest::of(&text));
    setup.world.content.lock().insert(envelope, bytes);
    let layer = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": envelope, "size": size});
    let holder = setup.world.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
    setup.world.referrers.lock().entry(subject).or_default().push(holder);
}

#[tokio::test]
async fn one_review_reads_so_many_bytes_and_no_more() {
    for (count, outcome) in [(4, Outcome::Allow), (7, Outcome::Unverifiable)] {
        let setup = setup();
        let images: Vec<Digest> = (0..count).map(|n| setup.world.image(&format!("{n}"))).collect();
        for image in &images {
            attest_at_length(&setup, *image, 15 << 20);
        }
        let images: Vec<String> = images.into_iter().map(at).collect();
        let review = setup.review_within(&images, LONG).await;
        assert_eq!(review.outcome, outcome);
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::DeadlineExceeded));
        // What one review could not read, two can.
        assert!(reasons(&review).len() <= 3);
    }
}

#[tokio::test(start_paused = true)]
async fn one_review_holds_so_many_bytes_and_no_more() {
    for (count, outcome) in [(8, Outcome::Allow), (40, Outcome::Unverifiable)] {
        let setup = setup();
        setup.trust.predicate_bytes.store(3 << 19, Ordering::SeqCst);
        let images = attested(&setup, count);
        let review = setup.review_within(&images, LONG).await;
        assert_eq!(review.outcome, outcome);
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::DeadlineExceeded));
        // Those that come first are looked at together, and none behind them.
        assert!(reasons(&review).len() <= count.saturating_sub(8));
        let told = review.images.iter().flat_map(|image| &image.verdict.problems);
        assert!(told.into_iter().all(|problem| problem.found.contains("16 MiB that are held in one go")));
    }
}

#[tokio::test]
async fn verification_takes_so_long_and_no_longer() {
    for (attestations, outcome) in [(2, Outcome::Allow), (6, Outcome::Unverifiable)] {
        let setup = setup();
        *setup.trust.pause.lock() = Duration::from_millis(800);
        let image = setup.world.image("x");
        for n in 1..attestations {
            setup.world.attest_with(image, Digest::of(&[n]));
        }
        // The right one is the last.
        setup.world.attest_with(image, image);
        let review = setup.review_within(&[at(image)], LONG).await;
        assert_eq!(review.outcome, outcome);
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::DeadlineExceeded));
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_attestations_of_an_image_are_read() {
    for (others, outcome) in [(255_u16, Outcome::Allow), (256, Outcome::Unverifiable)] {
        let setup = setup();
        let image = setup.world.image("x");
        for n in 0..others {
            setup.world.attest_with(image, Digest::of(&n.to_be_bytes()));
        }
        // The right one is the last.
        setup.world.attest_with(image, image);
        let review = setup.review_within(&[at(image)], LONG).await;
        assert_eq!(review.outcome, outcome, "{others}");
        let told = review.images[0].verdict.problems.iter().map(|problem| problem.found.as_str());
        assert!(
            told.into_iter().all(|found| found.contains("256")),
            "{:?}",
            review.images[0].verdict.problems
        );
    }
}

#[tokio::test(start_paused = true)]
async fn caches_hold_so_many_bytes_whatever_is_signed() {
    for (predicate, kept) in [(10, true), (3 << 19, false)] {
        let setup = setup();
        setup.trust.predicate_bytes.store(predicate, Ordering::SeqCst);
        let images = attested(&setup, 128);
        // So few at once that a review may hold them.
        for images in images.chunks(8) {
            assert_eq!(setup.review(images).await.outcome, Outcome::Allow);
        }
        for (cache, most) in [("facts", 64 << 20), ("verifications", 32 << 20), ("verdicts", 64 << 20)] {
            let bytes = setup.cache_bytes(cache);
            assert!(bytes <= most && bytes > 90 * 10, "{cache}: {bytes}");
        }
        let before = setup.world.requests();
        for images in images.chunks(8) {
            assert_eq!(setup.review(images).await.outcome, Outcome::Allow);
        }
        assert_eq!(setup.world.requests() == before, kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_placement_that_is_a_book_is_not_kept() {
    let setup = setup();
    for (length, kept) in [(100_000, false), (10, true)] {
        let selector = [("x".repeat(length), "y".to_owned())].into();
        let placement = Placement { node_selector: selector, ..Placement::default() };
        let workload = Workload { placement, ..pod(&attested(&setup, 1)) };
        let soon = tokio::time::Instant::now() + LONG;
        let review = setup.reviewer.review(&setup.snapshot, &workload, Stage::Final, soon).await;
        assert_eq!(review.outcome, Outcome::Allow);
        assert_eq!(setup.cache_bytes("placements") > 0, kept);
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_without_end_is_refused() {
    let setup = setup();
    let leaf = setup.world.image("x");
    let nest = |inner: &[Digest]| {
        let entry = |digest: &Digest| json!({"mediaType": OCI_INDEX, "digest": digest});
        let entries: Vec<Value> = inner.iter().map(entry).collect();
        setup.world.put(&json!({"mediaType": OCI_INDEX, "manifests": entries}))
    };
    let wide = |count: usize| setup.world.index(&vec![("amd64", leaf); count]);
    let deep =
        |depth: usize| (1..depth).fold(setup.world.index(&[("amd64", leaf)]), |inner, _| nest(&[inner]));
    let many = |count: usize| {
        let inner = |n: usize| setup.world.index(&[("amd64", leaf), ("arm64", Digest::of(&n.to_be_bytes()))]);
        nest(&(0..count).map(inner).collect::<Vec<_>>())
    };
    let full = |count: usize| {
        let config = setup.world.put(&json!({"os": "linux", "architecture": "amd64"}));
        let body = json!({"mediaType": OCI_MANIFEST, "config": {"digest": config}, "layers": [], "x": vec![0; count]});
        setup.world.put(&body)
    };
    // A registry that lies about its digests would be found out before this; all the same.
    let circle = Digest::of(b"circle");
    let body = json!({"mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": circle}]});
    setup.world.content.lock().insert(circle, Bytes::from(body.to_string()));
    for (index, outcome) in [
        (wide(256), Outcome::Allow),
        (wide(257), Outcome::Deny),
        (deep(4), Outcome::Allow),
        (deep(5), Outcome::Deny),
        (many(16), Outcome::Allow),
        (many(17), Outcome::Deny),
        (circle, Outcome::Deny),
        (full(79_900), Outcome::Allow),
        (full(80_000), Outcome::Deny),
    ] {
        setup.world.attest_by_tag(index);
        let before = setup.world.requests();
        let review = setup.review(&[at(index)]).await;
        assert_eq!(review.outcome, outcome, "{:?}", reasons(&review));
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::MalformedImage));
        assert!(setup.world.requests() - before <= 20);
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_manifests_are_asked_about_one_by_one() {
    for (count, outcome) in [(128, Outcome::Allow), (129, Outcome::Unverifiable)] {
        let setup = setup();
        let leaves: Vec<Digest> = (0..count).map(|n| setup.world.image(&format!("{n}"))).collect();
        for leaf in &leaves {
            setup.world.attest_by_tag(*leaf);
        }
        let entries: Vec<(&str, Digest)> = leaves.iter().map(|leaf| ("amd64", *leaf)).collect();
        let review = setup.review(&[at(setup.world.index(&entries))]).await;
        assert_eq!(review.outcome, outcome);
        for problem in &review.images[0].verdict.problems {
            assert_eq!(problem.reason, Reason::NotAllInspected, "{problem:?}");
            assert!(problem.found.contains("more than 128 manifests of the index"), "{problem:?}");
        }
    }
}

/// Everything that somebody chooses multiplies: manifests, attestations and their subjects, policies. What does not depend on the
/// manifest is worked out once.
#[test]
fn many_manifests_are_evaluated_in_little_more_time_than_one() {
    let took = |manifests: usize, about_us: bool| {
        let root = Digest::of(b"index");
        let entry = |n: usize| IndexEntry {
            digest: Digest::of(&n.to_be_bytes()),
            platform: Some("linux/amd64".parse().unwrap()),
            conditional: false,
            kind: EntryKind::Image,
        };
        let subjects = (0..2000).map(|n: usize| Digest::of(&(n + 1_000_000).to_be_bytes()));
        let subjects: Vec<Digest> = subjects.chain(about_us.then_some(root)).collect();
        let attestations = (0..50).map(|_| Arc::new(attestation(subjects.clone())));
        let evidence = SubjectEvidence { attestations: attestations.collect(), gaps: Vec::new() };
        let facts = ImageFacts {
            digest: root,
            root: Arc::new(Root::Index((0..manifests).map(entry).collect())),
            evidence: HashMap::from([(root, Arc::new(evidence))]),
            elsewhere: HashMap::new(),
            key_checks: HashMap::new(),
            trust_roots: None,
        };
        let policies = (0..10).map(|n| {
            let mut policy = policy();
            policy.id.name = format!("policy-{n}");
            policy.signers[0].trust_root = TrustRootName("other".into());
            PolicyEntry::Valid(Arc::new(policy))
        });
        let plan = ImagePlan {
            reference: at(root).parse().unwrap(),
            policies: policies.collect(),
            stage: Stage::Final,
            beyond: None,
        };
        let once = || {
            let begun = std::time::Instant::now();
            let verdict = evaluate(&plan, &Platforms::Unknown, &facts, Timestamp::UNIX_EPOCH);
            assert_eq!(verdict.problems.len(), manifests * 10);
            begun.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    for about_us in [true, false] {
        let (one, many) = (took(1, about_us), took(200, about_us));
        assert!(many < one * 50, "one took {one:?}, two hundred {many:?}");
    }
}

#[tokio::test]
async fn a_large_configuration_takes_a_large_room_and_a_larger_one_is_refused() {
    for (size, outcome) in [(100, Outcome::Allow), (2 << 20, Outcome::Allow), (5 << 20, Outcome::Deny)] {
        let setup = setup();
        let config = json!({"os": "linux", "architecture": "amd64", "label": "x".repeat(size)});
        let config = setup.world.put(&config);
        let image =
            setup.world.put(&json!({"mediaType": OCI_MANIFEST, "config": {"digest": config}, "layers": []}));
        setup.world.attest_by_tag(image);
        let review = setup.review(&[at(image)]).await;
        assert_eq!(review.outcome, outcome, "{size}: {:?}", reasons(&review));
    }
}
