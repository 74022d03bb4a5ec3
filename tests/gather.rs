//! What is asked of a registry, how often and in how many rounds; what is kept, and what an outage does. The ports are played
//! here, so that each case is exact; the real client and real signatures have tests of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod gather_support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bonafide::{
    domain::{
        digest::Digest,
        evidence::FetchErrorKind,
        glob::{AnchoredRegex, Glob},
        identity::{SignerIdentity, SubjectMatcher, TrustRootName},
        plan::Stage,
        policy::{
            ImageSelector, Mode, Policy, PolicyEntry, PolicyId, PolicySet, SubjectRule, TagRule,
            UncoveredRule,
        },
        verdict::{Outcome, Problem, Reason},
        workload::{Placement, Workload},
    },
    gather::ports::Snapshot,
};
use gather_support::{
    OCI_INDEX, OCI_MANIFEST, ROUND, Setup, at, pod, policy, reasons, setup, setup_of, setup_with,
};
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_cold_review_takes_as_many_rounds_as_its_layout_needs_and_a_warm_one_none() {
    let setup = setup();
    let by_tag = setup.world.image("by tag");
    setup.world.attest_by_tag(by_tag);
    let by_referrer = setup.world.image("by referrer");
    setup.world.attest_by_referrer(by_referrer);
    let leaves = [("amd64", setup.world.image("amd64")), ("arm64", setup.world.image("arm64"))];
    let index = setup.world.index(&leaves);
    for (_, leaf) in &leaves {
        setup.world.attest_by_referrer(*leaf);
    }

    // Manifest, referrers and .att tag at once; then the configuration and the layer.
    assert_eq!(setup.measured(&at(by_tag)).await, (Outcome::Allow, 2, 5));
    assert_eq!(setup.measured(&at(by_referrer)).await, (Outcome::Allow, 3, 6));
    // The index has nothing: then both leaves at once, each with list, manifest and bundle, and beside them what it is itself.
    assert_eq!(setup.measured(&at(index)).await, (Outcome::Allow, 4, 3 + 2 * 5));
    for warm in [by_tag, by_referrer, index] {
        assert_eq!(setup.measured(&at(warm)).await, (Outcome::Allow, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attested_index_is_not_asked_leaf_by_leaf() {
    let setup = setup();
    let index = setup.world.index(&[("amd64", setup.world.image("a")), ("arm64", setup.world.image("b"))]);
    setup.world.attest_by_tag(index);
    assert_eq!(setup.measured(&at(index)).await, (Outcome::Allow, 2, 4));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_index_is_asked_for_beside_its_manifests() {
    let setup = setup_with(|policy| policy.subject = SubjectRule::Platform);
    let of = |name: &str| setup.world.buildkit_index(setup.world.image(name));
    let (unsigned, _) = of("unsigned");
    let (by_index, _) = of("by index");
    setup.world.attest_by_referrer(by_index);
    let (by_holder, holder) = of("by holder");
    setup.world.attest_by_referrer(holder);
    let (deny, allow) = (Outcome::Deny, Outcome::Allow);
    // The index, its referrers and .att tag; then the same of the manifest, what it is, and the attestation manifest but for the tag.
    assert_eq!(setup.measured(&at(unsigned)).await, (deny, 2, 3 + 3 + 2));
    // One more round for what is attached to the index, and one for the layer.
    assert_eq!(setup.measured(&at(by_index)).await, (allow, 3 + 2, 5 + 3 + 3));
    // Attached to the attestation manifest: list, manifest and bundle, and the layer beside them.
    assert_eq!(setup.measured(&at(by_holder)).await, (allow, 1 + 3, 3 + 3 + 5));
    for warm in [by_index, by_holder] {
        assert_eq!(setup.measured(&at(warm)).await, (allow, 0, 0));
    }
    // A no is founded on what is attached now.
    tokio::time::sleep(Duration::from_secs(6)).await;
    setup.world.attest_by_referrer(unsigned);
    assert_eq!(setup.measured(&at(unsigned)).await.0, allow);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_index_is_a_gap_only_where_it_could_matter() {
    for (signed, failing, outcome) in [
        // Whether the attestation manifest is signed is not known.
        (false, "referrers holder", Outcome::Unverifiable),
        // What nobody signed need not be read.
        (false, "manifest holder", Outcome::Deny),
        (true, "manifest holder", Outcome::Unverifiable),
        (true, "blob", Outcome::Unverifiable),
        (true, "nothing", Outcome::Allow),
        (false, "nothing", Outcome::Deny),
    ] {
        let setup = setup_with(|policy| policy.subject = SubjectRule::Platform);
        let leaf = setup.world.image("x");
        let (index, holder) = setup.world.buildkit_index(leaf);
        if signed {
            setup.world.attest_by_referrer(index);
        }
        let statement = Digest::of(json!(format!("said {leaf}")).to_string().as_bytes());
        let failing =
            failing.replace("holder", &holder.to_string()).replace("blob", &format!("blob {statement}"));
        setup.world.fail(Some(FetchErrorKind::Unavailable), &failing);
        let review = setup.review(&[at(index)]).await;
        assert_eq!(review.outcome, outcome, "{signed} {failing}: {:?}", reasons(&review));
    }
}

#[tokio::test(start_paused = true)]
async fn c1_of_very_much_in_an_index_some_is_looked_at_and_the_rest_is_open() {
    for (statements, holders, outcome) in [
        (8, 1, Outcome::Allow),
        (9, 1, Outcome::Unverifiable),
        (1, 4, Outcome::Allow),
        (1, 5, Outcome::Unverifiable),
    ] {
        let setup = setup_with(|policy| policy.subject = SubjectRule::Platform);
        let leaf = setup.world.image("x");
        // What is about the manifest comes last.
        let mut about: Vec<Digest> = (1..holders * statements).map(|n: u8| Digest::of(&[n])).collect();
        about.push(leaf);
        let index = setup.world.buildkit_index_about(leaf, &about, statements.into());
        setup.world.attest_by_referrer(index);
        let review = setup.review(&[at(index)]).await;
        assert_eq!(review.outcome, outcome, "{statements} {holders}");
        assert!(reasons(&review).iter().all(|reason| *reason == Reason::NotAllInspected), "{review:?}");
        assert!(setup.world.requests() < 30);
    }
}

#[tokio::test]
async fn what_is_known_of_every_image_is_answered_without_asking_and_is_the_same() {
    let setup = setup();
    let (good, bad, new) = (setup.world.image("good"), setup.world.image("bad"), setup.world.image("new"));
    setup.world.attest_by_tag(good);
    let known = |images: &[String]| setup.reviewer.known(&setup.snapshot, &pod(images), Stage::Final);
    assert!(known(&[at(good)]).is_none(), "nobody has asked yet");
    for images in [vec![at(good), at(good)], vec![at(good), at(bad)]] {
        let asked = setup.review(&images).await;
        let known = known(&images).unwrap();
        assert_eq!((known.outcome, reasons(&known)), (asked.outcome, reasons(&asked)));
        assert_eq!(known.images.len(), 2);
        for (known, asked) in known.images.iter().zip(&asked.images) {
            assert_eq!(known.image, asked.image);
            assert!(Arc::ptr_eq(&known.verdict, &asked.verdict));
        }
    }
    assert!(known(&[at(good), at(new)]).is_none(), "one of them is new");
    let other = Snapshot {
        landscape: 7,
        policies: PolicySet::new(Vec::new(), 9),
        ..Snapshot::clone(&setup.snapshot)
    };
    let known = setup.reviewer.known(&other, &pod(&[at(good)]), Stage::Final);
    assert!(known.is_none(), "under other policies");
}

#[tokio::test]
async fn two_hundred_first_reviews_and_three_containers_ask_once() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_referrer(image);
    let images = vec![at(image); 3];
    let reviews = futures::future::join_all((0..200).map(|_| setup.review(&images))).await;
    assert!(reviews.iter().all(|review| review.outcome == Outcome::Allow && review.images.len() == 3));
    assert_eq!(setup.world.requests(), 6);
    assert_eq!(setup.trust.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_verified_goes_on_being_admitted_while_the_registry_is_down() {
    let setup = setup();
    let (known, unknown) = (setup.world.image("known"), setup.world.image("unknown"));
    setup.world.attest_by_tag(known);
    setup.world.attest_by_tag(unknown);
    assert_eq!(setup.review(&[at(known)]).await.outcome, Outcome::Allow);
    setup.world.fail(Some(FetchErrorKind::Unavailable), "");
    assert_eq!(setup.review(&[at(known)]).await.outcome, Outcome::Allow);
    let review = setup.review(&[at(unknown)]).await;
    assert_eq!(
        (review.outcome, reasons(&review)),
        (Outcome::Unverifiable, vec![Reason::RegistryUnavailable])
    );
    // Images that no policy covers are nobody's concern.
    assert_eq!(setup.review(&["other.example/x".to_owned()]).await.outcome, Outcome::Allow);
    // A change of policy is decided again from the facts at hand.
    let mut snapshot = Snapshot::clone(&setup.snapshot);
    snapshot.policies.generation = 2;
    let review = setup
        .reviewer
        .review(&Arc::new(snapshot), &pod(&[at(known)]), Stage::Final, Instant::now() + ROUND)
        .await;
    assert_eq!(review.outcome, Outcome::Allow);
    // And when the registry is back, so are the answers.
    setup.world.fail(None, "");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(setup.review(&[at(unknown)]).await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn each_failure_keeps_its_name_and_a_part_that_failed_is_no_definite_no() {
    for (kind, outcome, reason) in [
        (FetchErrorKind::NotFound, Outcome::Deny, Reason::ImageNotFound),
        (FetchErrorKind::Denied, Outcome::Unverifiable, Reason::RegistryDenied),
        (FetchErrorKind::Throttled(None), Outcome::Unverifiable, Reason::RegistryThrottled),
        (FetchErrorKind::Unavailable, Outcome::Unverifiable, Reason::RegistryUnavailable),
    ] {
        let setup = setup();
        let image = setup.world.image("x");
        setup.world.fail(Some(kind), "manifest");
        let review = setup.review(&[at(image)]).await;
        assert_eq!((review.outcome, reasons(&review)), (outcome, vec![reason]));
    }
    // The list of referrers cannot be had: with the .att tag it is a yes, without it nobody knows.
    for (attested, outcome) in [(true, Outcome::Allow), (false, Outcome::Unverifiable)] {
        let setup = setup();
        let image = setup.world.image("x");
        if attested {
            setup.world.attest_by_tag(image);
        }
        setup.world.fail(Some(FetchErrorKind::Unavailable), "referrers");
        assert_eq!(setup.review(&[at(image)]).await.outcome, outcome);
    }
}

#[tokio::test]
async fn too_little_time_is_said_and_the_work_is_not_lost() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_referrer(image);
    let review = setup.review_within(&[at(image)], ROUND / 2).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Unverifiable, vec![Reason::DeadlineExceeded]));
    tokio::time::sleep(ROUND * 5).await;
    let before = setup.world.requests();
    assert_eq!(setup.review_within(&[at(image)], ROUND / 2).await.outcome, Outcome::Allow);
    assert_eq!(setup.world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_no_is_kept_for_seconds_and_a_yes_for_good() {
    let setup = setup();
    let image = setup.world.image("x");
    let review = setup.review(&[at(image)]).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::NoProvenance]));
    // The attestation arrives after the push.
    setup.world.attest_by_tag(image);
    let before = setup.world.requests();
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Deny);
    assert_eq!(setup.world.requests(), before);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    let before = setup.world.requests();
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    assert_eq!(setup.world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_moved_tag_is_another_image_and_each_answer_is_about_one_digest() {
    let setup = setup();
    let (good, bad) = (setup.world.image("good"), setup.world.image("bad"));
    setup.world.attest_by_tag(good);
    setup.world.tags.lock().insert("v1".into(), good);
    let tagged = ["r.example/app:v1".to_owned()];
    let review = setup.review(&tagged).await;
    assert_eq!((review.outcome, review.images[0].verdict.digest), (Outcome::Allow, Some(good)));
    setup.world.tags.lock().insert("v1".into(), bad);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let review = setup.review(&tagged).await;
    assert_eq!((review.outcome, review.images[0].verdict.digest), (Outcome::Deny, Some(bad)));
    // Within one review the tag is looked up once, however many containers name it.
    setup.world.tags.lock().insert("v1".into(), good);
    tokio::time::sleep(Duration::from_secs(3)).await;
    setup.world.log.lock().clear();
    let review = setup.review(&vec![tagged[0].clone(); 3]).await;
    assert_eq!(review.outcome, Outcome::Allow);
    assert_eq!(setup.world.log.lock().iter().filter(|asked| asked.starts_with("HEAD")).count(), 1);
}

#[tokio::test]
async fn facts_of_other_trust_roots_are_not_used() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    setup.review(&[at(image)]).await;
    setup.trust.generation.fetch_add(1, Ordering::SeqCst);
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    assert_eq!(setup.trust.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_verdict_ends_with_the_provenances_age() {
    let setup = setup_with(|policy| policy.provenance.max_age = Some(Duration::from_hours(1)));
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    // The played certificate is of 1970.
    assert_eq!(reasons(&setup.review(&[at(image)]).await), [Reason::ProvenanceTooOld]);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let setup = setup();
    let image = setup.world.image("x");
    let both = json!({"mediaType": OCI_INDEX, "manifests": [], "config": {"digest": image}, "layers": []});
    let contradicting = json!({"mediaType": OCI_MANIFEST, "manifests": [{"digest": image}]});
    // Go folds the case of keys, and the last one wins: what is read here is not what runs.
    let linux = json!({"os": "linux", "architecture": "amd64"});
    let folded =
        json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": linux}], "Manifests": []});
    let folded_below =
        json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "Digest": image, "platform": linux}]});
    let long_s = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image}], "manife\u{17f}ts": []});
    let respelt = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": {"os": "linux", "architecture": "x86_64"}}]});
    let no_index = json!({"mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": image, "platform": linux}]});
    for body in [
        folded,
        folded_below,
        long_s,
        respelt,
        no_index,
        both,
        contradicting,
        json!({}),
        json!([1]),
        json!({"manifests": 1}),
    ] {
        let digest = setup.world.put(&body);
        setup.world.attest_by_tag(digest);
        let review = setup.review(&[at(digest)]).await;
        assert_eq!(
            (review.outcome, reasons(&review)),
            (Outcome::Deny, vec![Reason::MalformedImage]),
            "{body}"
        );
    }
    let twin = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": {"os": "linux", "architecture": "amd64"}}]});
    let digest = setup.world.put(&twin);
    setup.world.attest_by_tag(digest);
    assert_eq!(setup.review(&[at(digest)]).await.outcome, Outcome::Allow);
}

/// What is attested of an index is said of no single manifest, whatever another index calls it.
#[tokio::test]
async fn a15_an_index_that_is_listed_as_a_manifest_is_no_image() {
    for subject in [SubjectRule::Platform, SubjectRule::Any] {
        let setup = setup_with(|policy| policy.subject = subject);
        let image = setup.world.image("x");
        let nested = setup.world.index(&[("amd64", image), ("arm64", image)]);
        setup.world.attest_by_tag(nested);
        setup.world.attest_by_tag(image);
        for (listed, outcome) in [(image, Outcome::Allow), (nested, Outcome::Deny)] {
            let index = setup.world.index(&[("amd64", listed), ("arm64", image)]);
            let review = setup.review(&[at(index)]).await;
            assert_eq!(review.outcome, outcome, "{subject:?}");
            if outcome == Outcome::Deny {
                assert_eq!(reasons(&review), [Reason::MalformedImage]);
                let found = &review.images[0].verdict.problems[0].found;
                let told = format!("the index lists {nested} as an image manifest, and it is an index");
                assert_eq!(*found, told);
            }
        }
        // Where the index says what it is, its manifests are judged.
        let linux = json!({"os": "linux", "architecture": "amd64"});
        let honest = json!({"mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_INDEX, "digest": nested, "platform": linux}, {"mediaType": OCI_MANIFEST, "digest": image}]});
        let honest = setup.world.put(&honest);
        assert_eq!(setup.review(&[at(honest)]).await.outcome, Outcome::Allow);
    }
}

/// What is attested of the nested index may be attached to the index around it: nothing is looked up by its own digest then.
#[tokio::test]
async fn a15_an_attestation_beside_the_outer_index_makes_no_manifest_of_an_index() {
    for subject in [SubjectRule::Platform, SubjectRule::Any] {
        let setup = setup_with(|policy| policy.subject = subject);
        let image = setup.world.image("x");
        let nested = setup.world.index(&[("amd64", image), ("arm64", image)]);
        for (listed, outcome) in [(image, Outcome::Allow), (nested, Outcome::Deny)] {
            let index = setup.world.index(&[("amd64", listed)]);
            setup.world.attest_with(index, listed);
            let review = setup.review(&[at(index)]).await;
            assert_eq!(review.outcome, outcome, "{subject:?}: {:?}", reasons(&review));
            if outcome == Outcome::Deny {
                assert_eq!(reasons(&review), [Reason::MalformedImage]);
            }
        }
    }
}

/// What is attested and not there yet may come as an index.
#[tokio::test]
async fn a15_what_the_registry_does_not_have_yet_covers_nothing() {
    for is_beside_the_outer_index in [true, false] {
        let setup = setup_with(|policy| policy.subject = SubjectRule::Platform);
        let image = setup.world.image("x");
        let nested = setup.world.index(&[("amd64", image)]);
        let index = setup.world.index(&[("amd64", nested)]);
        if is_beside_the_outer_index {
            setup.world.attest_with(index, nested);
        } else {
            setup.world.attest_by_referrer(nested);
        }
        let later = setup.world.content.lock().remove(&nested).unwrap();
        let review = setup.review(&[at(index)]).await;
        assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::ImageNotFound]));
        setup.world.content.lock().insert(nested, later);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let review = setup.review(&[at(index)]).await;
        assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::MalformedImage]));
    }
}

#[tokio::test]
async fn what_one_runtime_passes_over_and_another_takes_is_judged_in_full() {
    let setup = setup();
    let (good, other) = (setup.world.image("good"), setup.world.image("other"));
    setup.world.attest_by_tag(good);
    let amd64 = json!({"os": "linux", "architecture": "amd64"});
    let stating = |key: &str, value: Value| {
        let mut platform = amd64.clone();
        platform[key] = value;
        platform
    };
    for (platform, outcome) in [
        (amd64.clone(), Outcome::Allow),
        (stating("os.features", json!([])), Outcome::Allow),
        // A node that lacks the feature takes what has no platform.
        (stating("os.features", json!(["x"])), Outcome::Deny),
        (stating("features", json!(["sse4"])), Outcome::Deny),
        (stating("os.version", json!("10.0.20348.1")), Outcome::Deny),
        (stating("OS.features", json!([])), Outcome::Deny),
        (stating("os.features", json!("x")), Outcome::Deny),
    ] {
        let entries = json!([{"digest": good, "platform": platform}, {"digest": other}]);
        let index = setup.world.put(&json!({"mediaType": OCI_INDEX, "manifests": entries}));
        let mut snapshot = Snapshot::clone(&setup.snapshot);
        snapshot.platforms = vec!["linux/amd64".parse().unwrap()];
        let soon = Instant::now() + ROUND * 100;
        let review = setup.reviewer.review(&Arc::new(snapshot), &pod(&[at(index)]), Stage::Final, soon).await;
        assert_eq!(review.outcome, outcome, "{platform}: {:?}", reasons(&review));
    }
}

#[tokio::test]
async fn without_nodes_an_architecture_is_of_every_system_that_the_image_has() {
    let setup = setup();
    let mut snapshot = Snapshot::clone(&setup.snapshot);
    snapshot.platforms.clear();
    let snapshot = Arc::new(snapshot);
    let (linux, windows) = (setup.world.image("linux"), setup.world.image("windows"));
    setup.world.attest_by_tag(linux);
    let of =
        |os: &str, digest: Digest| json!({"digest": digest, "platform": {"os": os, "architecture": "amd64"}});
    let alone = json!([of("linux", linux)]);
    let both = json!([of("linux", linux), of("windows", windows)]);
    let selector = |pairs: &[(&str, &str)]| {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Placement { node_selector: pairs.iter().map(own).collect(), ..Placement::default() }
    };
    let (arch, os) = (("kubernetes.io/arch", "amd64"), ("kubernetes.io/os", "linux"));
    for (entries, placement, outcome) in [
        (&alone, selector(&[arch]), Outcome::Allow),
        (&both, selector(&[arch]), Outcome::Deny),
        (&both, selector(&[arch, os]), Outcome::Allow),
        (&both, selector(&[os]), Outcome::Allow),
        (&both, selector(&[]), Outcome::Deny),
    ] {
        let index = setup.world.put(&json!({"mediaType": OCI_INDEX, "manifests": entries}));
        let workload = Workload { placement: placement.clone(), ..pod(&[at(index)]) };
        let soon = Instant::now() + ROUND * 100;
        let review = setup.reviewer.review(&snapshot, &workload, Stage::Final, soon).await;
        assert_eq!(review.outcome, outcome, "{placement:?}: {:?}", reasons(&review));
    }
}

#[tokio::test]
async fn c1_the_layers_that_were_added_last_are_inspected_and_others_are_told() {
    for (before, after, outcome) in [
        (199, 0, Outcome::Allow),
        (299, 0, Outcome::Allow),
        (0, 255, Outcome::Allow),
        (0, 256, Outcome::Unverifiable),
    ] {
        let setup = setup();
        let image = setup.world.image("x");
        let signed = |subject: Digest| {
            let envelope = setup.world.put(&json!(format!("signed {subject}")));
            json!({"digest": envelope, "size": setup.world.content.lock()[&envelope].len()})
        };
        let others = |count: u32| (0..count).map(|n: u32| signed(Digest::of(&n.to_be_bytes())));
        let layers: Vec<Value> = others(before).chain([signed(image)]).chain(others(after)).collect();
        let holder = setup.world.put(&json!({"mediaType": OCI_MANIFEST, "layers": layers}));
        setup.world.tags.lock().insert(format!("sha256-{}.att", image.hex()), holder);
        let review = setup.review(&[at(image)]).await;
        assert_eq!(review.outcome, outcome, "{before} {after}");
        let told: Vec<_> =
            review.images[0].verdict.problems.iter().map(|one| (one.reason, one.found.as_str())).collect();
        let words = "not all attestations were inspected: more than 256 are attached";
        let expected =
            if outcome == Outcome::Allow { vec![] } else { vec![(Reason::NotAllInspected, words)] };
        assert_eq!(told, expected);
        // What is beyond the limit is there the next time too: it is not read again at once.
        let before = setup.world.requests();
        assert_eq!(setup.review(&[at(image)]).await.outcome, outcome);
        assert_eq!(setup.world.requests(), before);
    }
}

#[tokio::test]
async fn a6_what_is_not_utf8_or_nested_without_end_is_refused() {
    let setup = setup();
    let image = setup.world.image("x");
    let put = |bytes: Vec<u8>| {
        let (bytes, digest) = (bytes::Bytes::from(bytes.clone()), Digest::of(&bytes));
        setup.world.content.lock().insert(digest, bytes);
        setup.world.attest_by_tag(digest);
        digest
    };
    let index = |more: &[u8]| {
        let head = format!(
            r#"{{"mediaType":"{OCI_INDEX}","manifests":[{{"digest":"{image}","platform":{{"os":"linux","architecture":"amd64"}}}}]"#
        );
        put([head.as_bytes(), more, b"}"].concat())
    };
    let manifest = |more: &[u8]| {
        let config = setup.world.put(&json!({"os": "linux", "architecture": "amd64"}));
        let head = format!(r#"{{"mediaType":"{OCI_MANIFEST}","config":{{"digest":"{config}"}},"layers":[]"#);
        put([head.as_bytes(), more, b"}"].concat())
    };
    let deep = format!(r#","x":{}{}"#, "[".repeat(2000), "]".repeat(2000));
    let shallow = format!(r#","x":{}{}"#, "[".repeat(500), "]".repeat(500));
    for (more, outcome) in [
        (&b""[..], Outcome::Allow),
        (b",\"x\":\"\xc3\xa4\"", Outcome::Allow),
        (shallow.as_bytes(), Outcome::Allow),
        (br#","annotations":null,"subject":null,"schemaVersion":null,"artifactType":null"#, Outcome::Allow),
        (br#","annotations":{"a":null}"#, Outcome::Allow),
        (b",\"x\":\"\xff\"", Outcome::Deny),
        (b",\"x\":\"\xed\xa0\x80\"", Outcome::Deny),
        (b",\"\xc0\x80\":0", Outcome::Deny),
        (deep.as_bytes(), Outcome::Deny),
        (br#","schemaVersion":"2""#, Outcome::Deny),
        (br#","annotations":{"a":1}"#, Outcome::Deny),
    ] {
        for digest in [index(more), manifest(more)] {
            let review = setup.review(&[at(digest)]).await;
            assert_eq!(
                review.outcome,
                outcome,
                "{}: {:?}",
                more.escape_ascii(),
                review.images[0].verdict.problems
            );
            assert!(reasons(&review).iter().all(|reason| *reason == Reason::MalformedImage));
        }
    }
}

#[tokio::test]
async fn c8_null_is_nothing_as_go_reads_it() {
    let setup = setup();
    let amd64 = setup.world.image("x");
    let platform = json!({"os": "linux", "architecture": "amd64", "variant": null, "os.features": null});
    let entry = json!({"digest": amd64, "mediaType": null, "size": null, "annotations": null, "urls": null, "platform": platform});
    let index = setup
        .world
        .put(&json!({"mediaType": OCI_INDEX, "manifests": [entry], "config": null, "layers": null}));
    let config = setup.world.put(&json!({"os": "linux", "architecture": "amd64"}));
    let manifest = setup
        .world
        .put(&json!({"config": {"digest": config, "platform": null}, "layers": null, "manifests": null}));
    let empty = setup.world.put(&json!({"mediaType": OCI_INDEX, "manifests": null}));
    for (digest, outcome, reason) in [
        (index, Outcome::Allow, None),
        (manifest, Outcome::Allow, None),
        (empty, Outcome::Deny, Some(Reason::PlatformMissing)),
    ] {
        setup.world.attest_by_tag(digest);
        let review = setup.review(&[at(digest)]).await;
        assert_eq!((review.outcome, reasons(&review).first().copied()), (outcome, reason));
    }
    // An `.att` manifest, and one of a referrer.
    let image = setup.world.image("y");
    let holder = setup.world.put(&json!({"layers": null, "config": null, "artifactType": null}));
    setup.world.tags.lock().insert(format!("sha256-{}.att", image.hex()), holder);
    setup.world.referrers.lock().entry(image).or_default().push(holder);
    let review = setup.review(&[at(image)]).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::NoProvenance]));
}

/// What is denied, with its hint, and how many requests it took.
async fn hinted(setup: &Setup, image: String) -> (Outcome, String, usize) {
    let before = setup.world.requests();
    let review = setup.review(&[image]).await;
    let hints = review.images[0].verdict.problems.iter().filter_map(|problem| problem.hint.clone());
    (review.outcome, hints.collect::<Vec<_>>().join("\n"), setup.world.requests() - before)
}

#[tokio::test]
async fn c13_a_manifest_whose_index_alone_is_attested_is_denied_with_the_index_to_deploy() {
    let possible = "the index may have the provenance";
    let covered = |index: Digest| format!("deploy r.example/app:v1@{index}");
    let setup = setup();
    let (leaf, other) = (setup.world.image("leaf"), setup.world.image("other"));
    let index = setup.world.index(&[("amd64", leaf), ("arm64", other)]);
    setup.world.attest_by_referrer(index);
    setup.world.tags.lock().insert("v1".into(), index);
    let (outcome, hint, _) = hinted(&setup, format!("r.example/app:v1@{leaf}")).await;
    assert_eq!(outcome, Outcome::Deny);
    assert!(hint.contains(&covered(index)) && !hint.contains("may"), "{hint}");
    // Deployed so it is admitted.
    let (outcome, _, requests) = hinted(&setup, format!("r.example/app:v1@{index}")).await;
    assert_eq!((outcome, requests), (Outcome::Allow, 0));
    // Without a tag, or with one that names something else now, it is a possibility.
    let (_, hint, _) = hinted(&setup, at(leaf)).await;
    assert!(hint.contains(possible), "{hint}");
    setup.world.tags.lock().insert("v2".into(), setup.world.image("moved"));
    for tag in ["v2", "gone"] {
        let (_, hint, _) = hinted(&setup, format!("r.example/app:{tag}@{leaf}")).await;
        assert!(hint.contains(possible) && !hint.contains("deploy r.example"), "{tag}: {hint}");
    }
    // Where the index has none either, it helps nobody to deploy it.
    let bare = setup.world.index(&[("amd64", leaf)]);
    setup.world.tags.lock().insert("v3".into(), bare);
    let (outcome, hint, _) = hinted(&setup, format!("r.example/app:v3@{leaf}")).await;
    assert_eq!(outcome, Outcome::Deny);
    assert!(!hint.contains("index") && hint.contains("attest"), "{hint}");
}

#[tokio::test]
async fn c13_no_request_is_added_where_the_image_is_admitted_or_an_index_would_not_help() {
    let setup = setup();
    let leaf = setup.world.image("leaf");
    setup.world.attest_by_referrer(leaf);
    setup.world.tags.lock().insert("v1".into(), setup.world.index(&[("amd64", leaf)]));
    assert_eq!(setup.review(&[format!("r.example/app:v1@{leaf}")]).await.outcome, Outcome::Allow);
    assert!(!setup.world.log.lock().iter().any(|asked| asked.starts_with("HEAD")));

    let setup = setup_with(|policy| policy.subject = bonafide::domain::policy::SubjectRule::Platform);
    let leaf = setup.world.image("leaf");
    let index = setup.world.index(&[("amd64", leaf)]);
    setup.world.attest_by_referrer(index);
    setup.world.tags.lock().insert("v1".into(), index);
    let (outcome, hint, _) = hinted(&setup, format!("r.example/app:v1@{leaf}")).await;
    assert_eq!(outcome, Outcome::Deny);
    assert!(!hint.contains("index"), "{hint}");
    assert!(!setup.world.log.lock().iter().any(|asked| asked.starts_with("HEAD")));
}

#[tokio::test]
async fn policies_of_a_namespace_are_not_answered_from_anothers_cache() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    let mut snapshot = Snapshot::clone(&setup.snapshot);
    let PolicyEntry::Valid(policy) = &snapshot.policies.entries()[0] else { panic!("valid") };
    let mut own = Policy::clone(policy);
    own.id = PolicyId { namespace: Some("strict".into()), name: "own".into() };
    own.signers[0].trust_root = TrustRootName("other".into());
    snapshot.policies =
        PolicySet::new(vec![snapshot.policies.entries()[0].clone(), PolicyEntry::Valid(Arc::new(own))], 1);
    let snapshot = Arc::new(snapshot);
    let mut workload = pod(&[at(image)]);
    for (namespace, outcome) in [("n", Outcome::Allow), ("strict", Outcome::Deny), ("n", Outcome::Allow)] {
        namespace.clone_into(&mut workload.namespace);
        let review =
            setup.reviewer.review(&snapshot, &workload, Stage::Final, Instant::now() + ROUND * 20).await;
        assert_eq!(review.outcome, outcome, "{namespace}");
    }
}

/// A policy for the images of one repository.
fn policy_of(name: &str, repository: &str, mode: Mode) -> Policy {
    let images = ImageSelector { include: vec![Glob::new(repository).unwrap()], exclude: Vec::new() };
    Policy { id: PolicyId { namespace: None, name: name.into() }, images, mode, ..policy() }
}

#[tokio::test(start_paused = true)]
async fn b10_a_policy_that_denies_nothing_delays_nothing_for_a_registry_that_hangs() {
    for (mode, outcome, least, most) in [
        (Mode::Audit, Outcome::Allow, 0, 1000),
        (Mode::Warn, Outcome::Allow, 0, 1000),
        (Mode::Enforce, Outcome::Unverifiable, 10_000, 10_100),
    ] {
        for images in [1, 40] {
            let setup = setup_with(|policy| policy.mode = mode);
            *setup.world.hanging.lock() = Some("manifest".into());
            let images: Vec<String> =
                (0..images).map(|n| at(setup.world.image(&format!("{mode:?} {n}")))).collect();
            let begun = Instant::now();
            let review = setup.review(&images).await;
            let took = begun.elapsed().as_millis();
            assert_eq!(review.outcome, outcome, "{mode:?}");
            assert!((least..=most).contains(&took), "{mode:?}: {took} ms");
            for image in &review.images {
                let verdict = &image.verdict;
                let mut all = verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit);
                assert!(all.any(|problem| problem.reason == Reason::DeadlineExceeded), "{verdict:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b10_beside_such_an_image_one_that_may_be_denied_keeps_its_time() {
    for (mode, took_at_most) in [(Mode::Audit, 6500), (Mode::Enforce, 9700)] {
        let setup = setup_of(vec![
            policy_of("other", "r.example/other", mode),
            policy_of("app", "r.example/app", Mode::Enforce),
        ]);
        let slow = setup.world.image("slow");
        setup.world.attest_by_tag(slow);
        *setup.world.slow.lock() = Some((slow.hex(), Duration::from_secs(3)));
        let hanging = setup.world.image("hanging");
        *setup.world.hanging.lock() = Some(hanging.to_string());
        let begun = Instant::now();
        let images = [format!("r.example/other@{hanging}"), at(slow)];
        let review = setup.review_within(&images, Duration::from_millis(9500)).await;
        let took = begun.elapsed().as_millis();
        assert!((3000..=took_at_most).contains(&took), "{mode:?}: {took} ms");
        let outcomes: Vec<Outcome> = review.images.iter().map(|image| image.verdict.outcome).collect();
        let of_hanging = if mode == Mode::Audit { Outcome::Allow } else { Outcome::Unverifiable };
        assert_eq!(outcomes, [of_hanging, Outcome::Allow], "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn b10_a_repository_that_only_such_a_policy_names_delays_no_image_for_long() {
    for (mode, outcome, least, most) in [
        (Mode::Audit, Outcome::Allow, 0, 1150),
        (Mode::Warn, Outcome::Allow, 0, 1150),
        (Mode::Enforce, Outcome::Unverifiable, 9500, 9750),
    ] {
        let mut away = policy_of("away", "r.example/app", mode);
        away.attestation_repositories = vec!["r.example/away".parse().unwrap()];
        away.signers[0].trust_root = TrustRootName("other".into());
        let setup = setup_of(vec![policy_of("app", "r.example/app", Mode::Enforce), away]);
        let image = setup.world.image("x");
        setup.world.attest_by_tag(image);
        setup.world.tags.lock().insert("v1".into(), image);
        *setup.world.hanging.lock() = Some("of r.example/away".into());
        let review = async |image: String, outcome: Outcome| {
            let begun = Instant::now();
            let review = setup.review_within(&[image], Duration::from_millis(9500)).await;
            assert_eq!(review.outcome, outcome, "{mode:?}");
            begun.elapsed().as_millis()
        };
        // A pod that is admitted is pinned in between.
        let tag = "r.example/app:v1".to_owned();
        let second = if outcome == Outcome::Allow { at(image) } else { tag.clone() };
        let took = review(tag, outcome).await + review(second, outcome).await;
        assert!((least..=most).contains(&took), "{mode:?}: {took} ms");
        // What is denied for it keeps its time.
        *setup.world.slow.lock() = Some((setup.world.image("y").hex(), Duration::from_secs(3)));
        let other = setup.world.image("y");
        setup.world.attest_by_tag(other);
        review(at(other), outcome).await;
    }
}

#[tokio::test(start_paused = true)]
async fn b10_manifests_that_only_such_a_policy_asks_about_deny_and_delay_nothing() {
    for (mode, outcome, most) in [
        (Mode::Audit, Outcome::Allow, 1000),
        (Mode::Warn, Outcome::Allow, 1000),
        (Mode::Enforce, Outcome::Unverifiable, 9600),
    ] {
        let mut each = policy_of("each", "r.example/app", mode);
        each.subject = bonafide::domain::policy::SubjectRule::Platform;
        let setup = setup_of(vec![policy_of("app", "r.example/app", Mode::Enforce), each]);
        let leaf = setup.world.image("leaf");
        let index = setup.world.index(&[("amd64", leaf)]);
        setup.world.attest_by_tag(index);
        *setup.world.hanging.lock() = Some(leaf.hex());
        let begun = Instant::now();
        let review = setup.review_within(&[at(index)], Duration::from_millis(9500)).await;
        let took = begun.elapsed().as_millis();
        assert_eq!(review.outcome, outcome, "{mode:?}: {review:?}");
        assert!(took <= most, "{mode:?}: {took} ms");
        let verdict = &review.images[0].verdict;
        let mut all = verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit);
        assert!(all.any(|problem| problem.reason == Reason::DeadlineExceeded), "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn e5_what_mutate_waited_for_in_vain_validate_waits_for_no_more() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    setup.world.tags.lock().insert("v1".into(), image);
    let reference = "r.example/app:v1".to_owned();
    let review = async |namespace: &str, stage: Stage| {
        let begun = Instant::now();
        let workload = Workload { namespace: namespace.to_owned(), ..pod(std::slice::from_ref(&reference)) };
        let deadline = begun + Duration::from_millis(9500);
        let review = setup.reviewer.review(&setup.snapshot, &workload, stage, deadline).await;
        (review.outcome, begun.elapsed().as_millis())
    };
    *setup.world.hanging.lock() = Some("HEAD".into());
    let waited = |(outcome, took): (Outcome, u128)| outcome == Outcome::Unverifiable && took >= 9500;
    let at_once = |(outcome, took): (Outcome, u128)| outcome == Outcome::Unverifiable && took <= 300;
    assert!(waited(review("n", Stage::Draft).await));
    for stage in [Stage::Draft, Stage::Final] {
        assert!(at_once(review("n", stage).await), "{stage:?}");
    }
    // A later pod waits again, and what waited in vain is not remembered for longer because it was asked for meanwhile.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(at_once(review("n", Stage::Final).await));
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Nobody else is answered for it.
    let (later, other) = tokio::join!(review("n", Stage::Final), review("other", Stage::Final));
    assert!(waited(later) && waited(other), "{later:?} {other:?}");
}

#[tokio::test(start_paused = true)]
async fn e5_what_was_found_out_meanwhile_is_used_and_a_no_stays_a_no() {
    for (attested, outcome) in [(true, Outcome::Allow), (false, Outcome::Deny)] {
        let setup = setup();
        let image = setup.world.image("x");
        if attested {
            setup.world.attest_by_tag(image);
        }
        *setup.world.slow.lock() = Some((image.hex(), Duration::from_secs(10)));
        let first = setup.review_within(&[at(image)], Duration::from_millis(9500)).await;
        assert_eq!(first.outcome, Outcome::Unverifiable);
        *setup.world.slow.lock() = None;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(setup.review_within(&[at(image)], Duration::from_millis(9500)).await.outcome, outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn b5_one_verdict_about_a_digest_serves_all_its_tags_and_each_is_told_of_its_own() {
    let setup = setup_with(|policy| policy.tags = TagRule::Warn);
    let good = setup.world.image("good");
    setup.world.attest_by_tag(good);
    let bad = setup.world.image("bad");
    for (digest, letter) in [(good, "g"), (bad, "b")] {
        for n in 0..8 {
            setup.world.tags.lock().insert(format!("{letter}{n}"), digest);
        }
    }
    for (letter, outcome) in [("g", Outcome::Allow), ("b", Outcome::Deny)] {
        let images: Vec<String> = (0..8).map(|n| format!("r.example/app:{letter}{n}")).collect();
        for review in [setup.review(&images).await, setup.review(&images).await] {
            assert_eq!(review.outcome, outcome);
            for (image, written) in review.images.iter().zip(&images) {
                let verdict = &image.verdict;
                assert_eq!((&verdict.reference, verdict.outcome), (written, outcome));
                let is_of_tag = |problem: &&Problem| problem.reason == Reason::UnpinnedTag;
                let warnings: Vec<&Problem> = verdict.warnings.iter().filter(is_of_tag).collect();
                let [warning] = warnings.as_slice() else { panic!("{verdict:?}") };
                let tag = written.rsplit(':').next().unwrap();
                assert_eq!(warning.found, format!("the tag {tag} can be moved to another image"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c10_a_placeholder_of_a_template_is_a_warning_and_its_pods_are_judged() {
    let setup = setup();
    for image in ["auto", "", " "] {
        for (kind, outcome) in
            [("Deployment", Outcome::Allow), ("Pod", Outcome::Deny), ("Job", Outcome::Allow)]
        {
            let workload = Workload { kind: kind.to_owned(), ..pod(&[image.to_owned()]) };
            let policy = Policy { images: everything(), ..gather_support::policy() };
            let policies = PolicySet::new(vec![PolicyEntry::Valid(Arc::new(policy))], 2);
            let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
            let deadline = Instant::now() + Duration::from_secs(5);
            // Twice: nothing that was learnt of one is told to another.
            for _ in 0..2 {
                let review = setup.reviewer.review(&snapshot, &workload, Stage::Final, deadline).await;
                assert_eq!(review.outcome, outcome, "{kind} {image:?}");
                let warnings = &review.images[0].verdict.warnings;
                assert_eq!(
                    warnings.iter().any(|one| one.reason == Reason::InvalidReference),
                    outcome == Outcome::Allow
                );
            }
        }
    }
    let template = Workload { kind: "Deployment".to_owned(), ..pod(&["auto".to_owned()]) };
    let deadline = Instant::now() + Duration::from_secs(5);
    let review =
        setup.reviewer.review(&Arc::new(Snapshot::default()), &template, Stage::Final, deadline).await;
    assert!(review.images[0].verdict.warnings.is_empty(), "no policy could apply");
}

fn everything() -> ImageSelector {
    ImageSelector { include: vec![Glob::new("**").unwrap()], exclude: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn c9_manifests_of_platforms_without_a_node_are_looked_at_before_a_pod_is_kept_from_them() {
    let attested = |leaves: &'static [&'static str]| async move {
        let setup = setup_with(|policy| policy.uncovered = UncoveredRule::Constrain);
        let all = ["amd64", "arm64"].map(|arch| (arch, setup.world.image(arch)));
        let index = setup.world.index(&all);
        for (_, leaf) in all.iter().filter(|(arch, _)| leaves.contains(arch)) {
            setup.world.attest_by_referrer(*leaf);
        }
        let snapshot =
            Snapshot { platforms: vec!["linux/amd64".parse().unwrap()], ..Snapshot::clone(&setup.snapshot) };
        let deadline = Instant::now() + Duration::from_secs(5);
        let review =
            setup.reviewer.review(&Arc::new(snapshot), &pod(&[at(index)]), Stage::Draft, deadline).await;
        assert_eq!(review.outcome, Outcome::Allow);
        review.images[0].verdict.constrained.clone()
    };
    assert_eq!(attested(&["amd64", "arm64"]).await, None);
    assert_eq!(attested(&["amd64"]).await, Some(vec!["linux/amd64".parse().unwrap()]));
}

/// The author of a policy chooses its patterns, and the signer of an image chooses the text that is searched. A search must end in time.
#[tokio::test]
async fn b6_patterns_that_take_long_end_with_the_review() {
    let largest = (1..200).rev().find_map(|n| AnchoredRegex::new(&format!(r"(?:\pL?){{{n}}}z")).ok());
    let setup = setup_with(|policy| {
        let mut signer = policy.signers[0].clone();
        if let SignerIdentity::Certificate { subject, .. } = &mut signer.identity {
            *subject = SubjectMatcher::Regex(largest.clone().unwrap());
        }
        policy.signers = vec![signer; 64];
    });
    let image = setup.world.image("image");
    let bundle = setup.world.put(&json!(format!("signed {image}")));
    let layer =
        json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": bundle, "size": 80});
    for n in 0..240 {
        let holder =
            json!({"mediaType": OCI_MANIFEST, "layers": [layer], "annotations": {"n": n.to_string()}});
        let holder = setup.world.put(&holder);
        setup.world.referrers.lock().entry(image).or_default().push(holder);
    }
    let review = setup.review_within(&[at(image)], Duration::from_secs(1)).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Unverifiable, vec![Reason::DeadlineExceeded]));
}

/// Whoever writes policies chooses how many globs each of a pod's images is held against.
#[tokio::test]
async fn b6_globs_that_take_long_end_with_the_review() {
    let glob = |n: usize| Glob::new(&format!("r.example/{}{n}", "*a".repeat(300))).unwrap();
    let policies = (0..200).map(|at| Policy {
        id: PolicyId { namespace: Some("n".into()), name: format!("p{at}") },
        images: ImageSelector { include: (0..64).map(glob).collect(), exclude: Vec::new() },
        ..policy()
    });
    let setup = setup_of(policies.collect());
    let image = |n: usize| format!("r.example/{}{n}/b@{}", "a".repeat(200), Digest::of(b"x"));
    let images: Vec<String> = (0..20).map(image).collect();
    let review = setup.review_within(&images, Duration::from_millis(200)).await;
    assert_eq!(review.outcome, Outcome::Unverifiable);
    assert!(reasons(&review).iter().all(|reason| *reason == Reason::DeadlineExceeded), "{review:?}");
}
