//! What warm reviews of one namespace take while others attack, next to what they take in peace, measured in the same run.
//!
//! Whoever attacks runs on the same machine, so what is measured is rather too much. `cargo bench --bench under_attack` runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]
#![allow(missing_docs)]

#[path = "../../tests/flood_support/mod.rs"]
mod flood_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flood_support::{ATTACKS, Attack, World, honest};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);
/// How long it is attacked before anything is measured.
const BEFORE: Duration = Duration::from_secs(2);

fn main() {
    // `cargo test --benches` only wants to know that it is well.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("warm reviews of one namespace, medians and ranges of {ROUNDS} rounds");
    println!(
        "{:<48}{:>20}{:>22}{:>10}{:>10}{:>10}",
        "attack", "p50 in ms", "p99 in ms", "slowest", "ready", "MiB"
    );
    // Those whose names have this in them, or all.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let each = ATTACKS.iter().map(|attack| (attack.name, std::slice::from_ref(attack)));
    let all = [("none", ATTACKS.get(..0).unwrap_or_default())].into_iter().chain(each);
    for (name, attacks) in all.chain([("all at once", ATTACKS.as_slice())]) {
        if name.contains(&filter) {
            measure(name, attacks);
        }
    }
}

fn measure(name: &str, attacks: &[Attack]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    for attack in attacks {
        (attack.prepare)(&world);
    }
    let process = runtime.block_on(async { tokio::task::block_in_place(|| world.start()) });
    // The honest user does not wait for whoever attacks.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    own.block_on(honest(&world, &process, Duration::ZERO, PAUSE));
    let over = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        for attack in attacks {
            (attack.run)(&world, &process.target, &over);
        }
    });
    own.block_on(honest(&world, &process, BEFORE, PAUSE));
    let (mut medians, mut tails, mut slowest) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..ROUNDS {
        let took = own.block_on(honest(&world, &process, ROUND, PAUSE));
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        medians.push(at(50));
        tails.push(at(99));
        slowest = slowest.max(at(100));
    }
    over.store(true, Ordering::Relaxed);
    println!(
        "{name:<48}{:>20}{:>22}{slowest:>10.1}{:>9.1}s{:>10}",
        range(medians),
        range(tails),
        process.ready.as_secs_f64(),
        process.most_resident(),
    );
    drop(process);
    runtime.shutdown_background();
}

/// The median, and from where to where.
fn range(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1}–{:.1})", values[values.len() / 2], values[0], values[values.len() - 1])
}
