//! What an image costs whose registry means ill, and what pods cost whose authors do: an answer within the deadline, and so much memory.
//! The tests of this process run one after another, for they count what all of it allocates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod gather_support;
mod memory_support;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::response::IntoResponse as _;
use bonafide::{
    api::compile::{NoKeys, compile},
    cluster::{inventory::ClusterInventory, keys::KeyObjects, pods::PendingPods},
    domain::{
        digest::Digest,
        identity::{SignerIdentity, SubjectMatcher, TrustRootName},
        plan::Stage,
        policy::{PolicySet, Scope, TagRule},
        verdict::{Outcome, Problem, Reason},
        workload::{Platforms, Workload},
    },
    gather::{
        ports::{Pods as _, Snapshot, Unmatched, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    trust::Roots,
};
use bonafide_kit::scenario::{REF, SOURCE, WORKFLOW};
use memory_support::{ATTACKS, World};
use peak_alloc::PeakAlloc;
use serde_json::json;
use tokio::time::Instant;

/// Counts what is asked for, whatever an allocator makes of it and whatever else runs on the machine.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by the test that runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How much more memory a review may take than was taken before it, the registry's own buffers included: it is of this process too.
const MEMORY: usize = 64 << 20;
/// What the API server waits for, unless it is told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);
/// By how much the end of it may be noticed late, by a program that is not optimized on a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(5);

fn snapshot(key: &str) -> Arc<Snapshot> {
    let compiled = compile(
        &json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
            "spec": {"images": {"include": ["**"]}, "signers": [
                {"name": "w", "github": {"repository": SOURCE, "workflow": WORKFLOW, "refs": [REF], "triggers": ["push"]}},
                {"name": "k", "publicKey": {"pem": key, "transparencyLog": "Optional"}}]},
        }),
        &NoKeys,
    );
    assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
    Arc::new(Snapshot { policies: PolicySet::new(vec![compiled.entry], 1), ..Snapshot::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_takes_so_much_memory_and_time_whatever_it_is() {
    let _alone = ALONE.lock().await;
    let mut broken = String::new();
    for attack in ATTACKS {
        let world = World::new((attack.image)()).await;
        (attack.prepare)(&world);
        let roots = Roots::from_json(TrustRootName::default(), &world.sigstore.trusted_root_json()).unwrap();
        let client = Client::new(ClientConfig::default()).unwrap();
        let reviewer = Reviewer::new(Arc::new(client), Arc::new(roots), Arc::new(Unobserved));
        let image = world.registry.reference(memory_support::REPO, &world.image.digest);
        let snapshot = snapshot(&world.key.public_pem());

        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let begun = Instant::now();
        let deadline = begun + DEADLINE;
        let verdict =
            reviewer.verify_image(&snapshot, Scope::Everywhere, &image, &Platforms::Unknown, deadline).await;
        let took = begun.elapsed();
        let more = ALLOCATOR.peak_usage().saturating_sub(before);
        let left = ALLOCATOR.current_usage().saturating_sub(before);
        println!("{}: {took:?}, {} KiB more, {} KiB left", attack.name, more >> 10, left >> 10);

        let problems = verdict.problems.iter();
        let told: Vec<&str> = problems
            .flat_map(|problem| {
                let whys = problem.looked_at.iter().map(|one| one.why.as_str());
                std::iter::once(problem.found.as_str()).chain(whys)
            })
            .collect();
        // Where the machine is slow there may be no time left to find out more.
        let late = verdict.problems.iter().any(|problem| problem.reason == Reason::DeadlineExceeded);
        let says = told.iter().any(|text| text.contains(attack.says)) || late;
        if attack.admitted != (verdict.outcome == Outcome::Allow) || (!attack.admitted && !says) {
            writeln!(broken, "{}: {:?} {told:?}", attack.name, verdict.outcome).unwrap();
        }
        if took > DEADLINE + SLACK {
            writeln!(broken, "{} took {took:?}", attack.name).unwrap();
        }
        if more > MEMORY {
            writeln!(broken, "{} took {} MiB", attack.name, more >> 20).unwrap();
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// How many manifests an index has, at most.
const MANIFESTS: usize = 256;
/// How many images a pod may name.
const TAGS: usize = 128;
/// How much reviews of one index under many tags may take.
const MEMORY_OF_TAGS: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b5_an_index_under_many_tags_takes_so_much_memory_however_many_policies_name_it() {
    let _alone = ALONE.lock().await;
    for policies in [1, 10] {
        let other = |n: usize| {
            let subject = SubjectMatcher::Exact(format!("another builder, {}", "x".repeat(1000)));
            let mut policy = gather_support::policy();
            policy.id.name = format!("p{n}");
            policy.tags = TagRule::Warn;
            policy.signers[0].identity =
                SignerIdentity::Certificate { issuer: "https://other".into(), subject, triggers: Vec::new() };
            policy
        };
        let setup = gather_support::setup_of((0..policies).map(other).collect());
        let world = &setup.world;
        let leaves: Vec<(String, Digest)> =
            (0..MANIFESTS).map(|n| (format!("arch{n}"), world.image(&format!("{n}")))).collect();
        let entries: Vec<(&str, Digest)> =
            leaves.iter().map(|(architecture, digest)| (architecture.as_str(), *digest)).collect();
        let index = world.index(&entries);
        for n in 0..8_u8 {
            world.attest_with(index, Digest::of(&[n]));
        }
        let images: Vec<String> = (0..TAGS)
            .map(|n| {
                world.tags.lock().insert(format!("t{n}"), index);
                format!("r.example/app:t{n}")
            })
            .collect();
        let snapshot = Arc::new(Snapshot { platforms: Vec::new(), ..Snapshot::clone(&setup.snapshot) });

        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let reviews = (0..4).map(|n| {
            let workload = Workload { namespace: format!("n{n}"), ..gather_support::pod(&images) };
            let (reviewer, snapshot) = (Arc::clone(&setup.reviewer), Arc::clone(&snapshot));
            async move {
                let deadline = Instant::now() + Duration::from_mins(2);
                reviewer.review(&snapshot, &workload, Stage::Final, deadline).await
            }
        });
        let reviews = futures::future::join_all(reviews).await;
        let more = ALLOCATOR.peak_usage().saturating_sub(before);
        println!("{policies} policies: {} KiB more at the peak", more >> 10);
        for review in &reviews {
            assert_eq!((review.outcome, review.images.len()), (Outcome::Deny, TAGS));
            for image in &review.images {
                for n in 0..policies {
                    let of = |problem: &Problem| {
                        problem.policy.as_ref().is_some_and(|id| id.name == format!("p{n}"))
                    };
                    assert!(image.verdict.problems.iter().any(of), "a policy is not told of");
                }
            }
        }
        assert!(more <= MEMORY_OF_TAGS, "{policies} policies took {} MiB", more >> 20);
        let kept = setup.cache_bytes("verdicts");
        assert!(kept <= 4 * (3 << 20), "{kept} bytes of verdicts are kept for four namespaces");
    }
}

/// How much more memory a list of pods may take, whoever made them: one of them, and what is kept.
const PODS: usize = 40 << 20;
/// How many pods one tenant has pending.
const PENDING: usize = 12;
/// The most that an API server stores, each character of which is written as six.
const STORED: usize = 1_400_000;

/// An API server's list of pods of that size, made as it is read.
fn large_pods() -> axum::response::Response {
    let begin = r#"{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":["#.to_owned();
    let pods = (0..PENDING).flat_map(|n| {
        let comma = if n == 0 { "" } else { "," };
        let head = format!(
            r#"{comma}{{"metadata":{{"namespace":"loud","name":"p{n}","uid":"u{n}"}},"spec":{{"containers":[{{"name":"c","image":"i","env":[{{"name":"e","value":""#
        );
        let rest = std::iter::repeat_n(r"\u003c".repeat(1000), STORED / 1000);
        std::iter::once(head).chain(rest).chain([r#""}]}]}}"#.to_owned()])
    });
    let last = r#",{"metadata":{"namespace":"quiet","name":"last","uid":"last"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}"#;
    let chunks = std::iter::once(begin).chain(pods).chain([last.to_owned()]);
    let chunks = chunks.map(|text| Ok::<_, std::convert::Infallible>(bytes::Bytes::from(text)));
    axum::body::Body::from_stream(futures::stream::iter(chunks)).into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_pending_pods_take_so_much_memory_however_large_they_are() {
    let _alone = ALONE.lock().await;
    let list = async |axum::extract::RawQuery(query): axum::extract::RawQuery| {
        if query.unwrap_or_default().contains("watch=true") {
            std::future::pending().await
        } else {
            large_pods()
        }
    };
    let router = axum::Router::new().route("/api/v1/pods", axum::routing::get(list));
    let keys = KeyObjects::new("ns".to_owned(), false);
    let inventory = ClusterInventory::new(Vec::new(), Unmatched::Allow, false, keys);
    let pods = PendingPods::new(kube::Client::new(router, "ns"), Arc::clone(&inventory));
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let following = tokio::spawn(Arc::clone(&pods).run());
    while inventory.unlisted().iter().any(|one| one.resource == "pods") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let more = ALLOCATOR.peak_usage().saturating_sub(before);
    println!("{PENDING} pods: {} KiB more", more >> 10);
    assert!(more < PODS, "{} MiB", more >> 20);
    assert!(pods.bytes() < 1 << 20);
    for (namespace, name, uid) in [("loud", "p3", "u3"), ("quiet", "last", "last")] {
        let found = pods.find(namespace, name, uid).await.unwrap().unwrap();
        assert_eq!(found.images[0].image, "i");
    }
    following.abort();
}
