//! The real process in a cluster, under each attack and under all at once: its memory stays bounded, and reviews of another namespace
//! are answered as they should be.
#![cfg(target_os = "linux")]

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::flood_support::{ATTACKS, Attack, World, honest};

/// How much memory the process may have, whatever is done to it, in MiB.
const RESIDENT: u64 = 300;
/// How long it is attacked each time, and at last.
const EACH: Duration = Duration::from_secs(4);
const ALL: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// The most memory that the process has under these attacks.
async fn attacked(attacks: &[Attack], time: Duration) -> u64 {
    let world = World::new().await;
    for attack in attacks {
        (attack.prepare)(&world);
    }
    let process = tokio::task::block_in_place(|| world.start());
    let at_start = process.most_resident();
    // What was never asked for is fetched once.
    honest(&world, &process, Duration::ZERO, PAUSE).await;
    let over = Arc::new(AtomicBool::new(false));
    for attack in attacks {
        (attack.run)(&world, &process.target, &over);
    }
    let took = honest(&world, &process, time, PAUSE).await;
    over.store(true, Ordering::Relaxed);
    let most = process.most_resident();
    println!(
        "{}: ready after {:?} with {at_start} MiB, {most} MiB at most; {} admitted, the slowest in {:?}",
        attacks.iter().map(|attack| attack.name).collect::<Vec<_>>().join(" + "),
        process.ready,
        took.len(),
        took.last()
    );
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_b7_each_attack_and_all_at_once_take_neither_memory_nor_others_reviews() {
    let mut broken = String::new();
    let each = ATTACKS.iter().map(|attack| (std::slice::from_ref(attack), EACH));
    for (attacks, time) in each.chain([(ATTACKS.as_slice(), ALL)]) {
        let only = std::env::var("ONLY").unwrap_or_default();
        if attacks.iter().all(|attack| !attack.name.contains(&only)) {
            continue;
        }
        let most = attacked(attacks, time).await;
        if most >= RESIDENT {
            let names: Vec<&str> = attacks.iter().map(|attack| attack.name).collect();
            writeln!(broken, "{most} MiB under {}", names.join(" + ")).unwrap();
        }
    }
    assert!(broken.is_empty(), "{broken}");
}
