//! The real process in a cluster, under each attack and under all at once: its memory stays bounded, and reviews of another namespace
//! are answered as they should be.
#![cfg(target_os = "linux")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::flood_support::{self as flood, Attack, World, honest};

/// How much memory the process may have, whatever is done to it, in MiB.
const RESIDENT: u64 = 300;
/// How long it is attacked in one way, and in all ways.
const EACH: Duration = Duration::from_secs(3);
const ALL: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(20);

/// Held by the test that runs: each takes all processors.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn attacked(attacks: &[Attack], time: Duration) {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    for attack in attacks {
        (attack.prepare)(&world);
    }
    let process = tokio::task::block_in_place(|| world.start());
    let at_start = process.most_resident();
    // What was never looked up is, once, before others attack.
    honest(&world, &process, Duration::ZERO, PAUSE).await;
    let over = Arc::new(AtomicBool::new(false));
    for attack in attacks {
        (attack.run)(&world, &process.target, &over);
    }
    let took = honest(&world, &process, time, PAUSE).await;
    over.store(true, Ordering::Relaxed);
    let (most, ready) = (process.most_resident(), process.ready);
    println!(
        "ready after {ready:?} with {at_start} MiB, {most} MiB at most; {} admitted, the slowest in {:?}",
        took.len(),
        took.last()
    );
    assert!(most < RESIDENT, "{most} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_large_pods_that_are_denied_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::DENIED_PODS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b2_policies_of_large_patterns_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::LARGE_PATTERNS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_streams_that_send_nothing_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::SILENT_STREAMS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_large_pending_pods_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::PENDING_PODS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_large_objects_of_every_kind_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::LARGE_OBJECTS_OF_ALL_KINDS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_an_index_under_many_tags_takes_neither_memory_nor_others_reviews() {
    attacked(&[flood::MANY_TAGS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_large_attestations_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::LARGE_ATTESTATIONS], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_many_policies_for_one_image_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::MANY_POLICIES], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b7_reviews_in_flight_and_idle_connections_take_neither_memory_nor_others_reviews() {
    attacked(&[flood::IN_FLIGHT], EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_b7_all_attacks_at_once_take_neither_memory_nor_others_reviews() {
    attacked(&flood::ATTACKS, ALL).await;
}
