//! What an image costs whose registry means ill: an answer within the deadline, and so much memory. The only test of its process, for it
//! counts what all of it allocates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod memory_support;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bonafide::{
    api::compile::{NoKeys, compile},
    domain::{
        identity::TrustRootName,
        policy::{PolicySet, Scope},
        verdict::{Outcome, Reason},
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, Unobserved},
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
