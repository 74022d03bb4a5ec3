//! First reviews: how long, how many requests, in how many rounds; with and without latency and tokens.

use std::time::{Duration, Instant};

use bonafide_kit::{
    image::{Image, attach_att, attach_bundle},
    registry::TokenAuth,
    scenario::{Scenario, bundle, signer},
    sigstore::{Build, EntryKind, statement_v02},
};

use crate::{load::Target, median, review};

const IMAGES: usize = 9;

/// Where the provenance of an image is.
#[derive(Clone, Copy)]
enum Layout {
    AttTag,
    Referrer,
    Leaves,
}

pub async fn measure(scenario: &Scenario, webhook: &Target) {
    println!("first reviews by digest, {IMAGES} images each, medians; three containers of the image");
    println!(
        "{:<34}{:>10}{:>12}{:>12}{:>10}{:>10}",
        "layout", "latency", "token", "review", "requests", "rounds"
    );
    for (name, layout) in [
        (".att tag of the index", Layout::AttTag),
        ("referrer of the index", Layout::Referrer),
        ("referrers of the leaves alone", Layout::Leaves),
    ] {
        for latency in [0, 20] {
            for token in [false, true] {
                row(scenario, webhook, name, layout, Duration::from_millis(latency), token).await;
            }
        }
    }
    scenario.registry.set_latency(Duration::ZERO);
    scenario.registry.require_nothing();
    println!();
}

async fn row(
    scenario: &Scenario,
    webhook: &Target,
    name: &str,
    layout: Layout,
    latency: Duration,
    token: bool,
) {
    let registry = &scenario.registry;
    let mut connection = webhook.connect().await;
    let (mut times, mut requests, mut rounds, mut tokens) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for n in 0..IMAGES {
        registry.set_latency(Duration::ZERO);
        registry.require_nothing();
        let repo = format!(
            "acme/cold-{}-{}-{token}",
            name.replace(|c: char| !c.is_ascii_lowercase(), ""),
            latency.as_millis()
        );
        let image = push(scenario, &repo, &format!("{n}"), layout);
        registry.set_latency(latency);
        if token {
            registry.require_token(TokenAuth::anonymous().lifetime(Duration::from_mins(5)));
        }
        registry.clear_requests();
        let request = review(&image, 3);
        let start = Instant::now();
        assert!(connection.ask(&request).await, "{name}");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        requests.push(registry.count() as f64);
        rounds.push(registry.sequential_rounds() as f64);
        tokens += registry.token_count();
    }
    let asked = if token { format!("{tokens} asked") } else { "–".to_owned() };
    println!(
        "{name:<34}{:>7} ms{asked:>12}{:>9.1} ms{:>10.0}{:>10}",
        latency.as_millis(),
        median(times.into_iter()),
        median(requests.into_iter()),
        // Without latency requests do not overlap, and rounds mean nothing.
        if latency.is_zero() { "–".to_owned() } else { median(rounds.into_iter()).to_string() },
    );
}

fn push(scenario: &Scenario, repo: &str, seed: &str, layout: Layout) -> String {
    let registry = &scenario.registry;
    let pushed =
        Image::index(&["linux/amd64", "linux/arm64"]).seed(&format!("{repo}{seed}")).push(registry, repo, "");
    match layout {
        Layout::AttTag => {
            let hex = pushed.digest.trim_start_matches("sha256:");
            let statement = statement_v02(&[(repo, hex)], &Build::of(&signer())).to_string();
            let signed = scenario.sigstore.signing(&signer()).entry(EntryKind::Dsse001).sign(statement);
            attach_att(registry, repo, &pushed.digest, &[signed.cosign_att_layer()]);
        }
        Layout::Referrer => {
            attach_bundle(
                registry,
                repo,
                &pushed.digest,
                bundle(&scenario.sigstore, &signer(), repo, &pushed.digest),
            );
        }
        Layout::Leaves => {
            for (_, leaf) in &pushed.platforms {
                attach_bundle(registry, repo, leaf, bundle(&scenario.sigstore, &signer(), repo, leaf));
            }
        }
    }
    registry.reference(repo, &pushed.digest)
}
