//! What somebody who controls the images of a namespace, or a registry's answers, can make us do: so much and no more. Each limit has a
//! twin just below it that is admitted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod gather_support;

use std::{sync::atomic::Ordering, time::Duration};

use bonafide::domain::{
    digest::Digest,
    plan::Stage,
    verdict::{Outcome, Reason},
    workload::{Placement, Workload},
};
use bytes::Bytes;
use gather_support::{OCI_MANIFEST, Setup, at, pod, reasons, setup};
use serde_json::json;

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
    assert_eq!(setup.world.most_under_way.load(Ordering::SeqCst), 256);
    assert_eq!((review.outcome, reasons(&review)[0]), (Outcome::Unverifiable, Reason::DeadlineExceeded));
    // What hangs is given up, and then there is room again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.review_in("good", &good, Duration::from_secs(2)).await.outcome, Outcome::Allow);
}

/// An attestation as large as that: spaces before and behind are no part of JSON's text.
fn attest_at_length(setup: &Setup, subject: Digest, size: usize) {
    let mut text = serde_json::to_vec(&json!(format!("signed {subject}"))).unwrap();
    text.resize(size, b' ');
    let (bytes, envelope) = (Bytes::from(text.clone()), Digest::of(&text));
    setup.world.content.lock().insert(envelope, bytes);
    let layer = json!({"digest": envelope, "size": size});
    let holder = setup.world.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
    setup.world.tags.lock().insert(format!("sha256-{}.att", subject.hex()), holder);
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
async fn caches_hold_so_many_bytes_whatever_is_signed() {
    for (predicate, kept) in [(10, true), (1 << 20, false)] {
        let setup = setup();
        setup.trust.predicate_bytes.store(predicate, Ordering::SeqCst);
        let images = attested(&setup, 90);
        assert_eq!(setup.review(&images).await.outcome, Outcome::Allow);
        for (cache, most) in [("facts", 64 << 20), ("verifications", 32 << 20), ("verdicts", 64 << 20)] {
            let bytes = setup.cache_bytes(cache);
            assert!(bytes <= most && bytes > 90 * 10, "{cache}: {bytes}");
        }
        let before = setup.world.requests();
        assert_eq!(setup.review(&images).await.outcome, Outcome::Allow);
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
