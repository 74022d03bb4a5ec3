//! Holds `docs/metrics.md` against the metrics that there are, both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};

use bonafide::{
    cluster::install::EntryState,
    domain::{
        policy::Mode,
        verdict::{ImageVerdict, Outcome, Problem, Reason},
        workload::{ImageRole, WorkloadImage},
    },
    gather::{
        ports::{Observer as _, Unobserved},
        review::{Phases, Review, ReviewedImage},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    server::metrics::{CATALOGUE, KIND_LIMIT, Metrics, OTHER, REGISTRY_LIMIT, Reload},
    trust::Roots,
};

/// name → (type, labels)
type Table = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented() -> (String, Table) {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let table = page
        .lines()
        .filter(|line| line.starts_with("| `bonafide_"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
        })
        .collect();
    (page, table)
}

fn catalogue() -> Table {
    CATALOGUE
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(ToString::to_string).collect();
            (metric.name.to_owned(), (metric.kind.to_owned(), labels))
        })
        .collect()
}

/// Metrics each of which has happened once.
fn touched() -> Arc<Metrics> {
    let metrics = Metrics::new("1.2.3");
    let problem = Problem {
        reason: Reason::NoProvenance,
        policy: None,
        mode: Mode::Enforce,
        platform: None,
        digest: None,
        found: "nothing".to_owned(),
        looked_at: Vec::new(),
        looked_at_more: 0,
        expected: None,
        hint: None,
        avoided: false,
        retry_after: None,
    };
    let verdict = ImageVerdict {
        reference: "image".to_owned(),
        digest: None,
        outcome: Outcome::Deny,
        platforms: Vec::new(),
        problems: vec![problem],
        warnings: Vec::new(),
        audit: Vec::new(),
        proofs: Vec::new(),
        matched: true,
        valid_until: None,
        constrained: None,
        told: std::sync::OnceLock::new(),
    };
    let image = Arc::new(WorkloadImage {
        name: "app".to_owned(),
        role: ImageRole::Container,
        field: "spec.containers[0].image".to_owned(),
        image: "image".to_owned(),
    });
    let review = Review {
        outcome: Outcome::Deny,
        images: vec![ReviewedImage { image, verdict: Arc::new(verdict) }],
        phases: Phases::default(),
    };
    metrics.reviewed(&review, Duration::from_micros(7));
    metrics.dry_run(&review);
    metrics.skipped("Deleted");
    metrics.panicked();
    drop(metrics.begin());
    metrics.refused(400);
    metrics.unknown_kind("apps", "Oddity");
    metrics.registry_request("ghcr.io", "ok", Duration::from_millis(3));
    metrics.cache("facts", true);
    metrics.set_cache_bytes("facts", 17);
    metrics.set_policies(2, 1);
    metrics.set_pool_bytes("bodies", 5);
    metrics.set_connections("reviews", 3, 1);
    metrics.policies_reloaded(Reload::Applied);
    metrics.set_watch_staleness("nodes", Duration::from_secs(3));
    metrics.set_trust_root_ages([("sigstore".to_owned(), Duration::from_mins(1))].into_iter());
    metrics.set_certificate_expiry(4_000_000_000);
    metrics.certificate_reloaded(Reload::Failed);
    metrics.set_webhook_entries(&[("workloads", EntryState::Fail)]);
    metrics.set_webhook_unreached(Duration::from_secs(2));
    metrics.set_leading(true);
    metrics.set_events_dropped(1);
    metrics.before_scrape(|metrics| metrics.set_log_dropped(3));
    metrics
}

/// What a scraped text holds.
fn scraped(text: &str) -> Table {
    let mut table = Table::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            current = format!("{name}{suffix}");
            table.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            assert!(line.starts_with(current.as_str()), "{line} under {current}");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let names = labels.split("\",").filter(|label| !label.is_empty());
            let names = names.map(|label| label.split_once('=').unwrap().0.to_owned());
            table.get_mut(&current).unwrap().1.extend(names.filter(|name| name != "le"));
        }
    }
    table
}

#[test]
fn every_metric_is_documented_and_nothing_else_is() {
    assert_eq!(documented().1, catalogue());
}

#[test]
fn every_metric_that_is_described_exists_and_no_other_does() {
    assert_eq!(scraped(&touched().encode()), catalogue());
}

#[test]
fn every_metric_has_a_section_with_an_alert() {
    let (page, _) = documented();
    for metric in CATALOGUE {
        let heading = format!("\n### `{}`\n", metric.name);
        let section = page.split_once(&heading).unwrap_or_else(|| panic!("no section for {}", metric.name)).1;
        let section = section.split("\n### ").next().unwrap();
        let alert =
            section.split_once("- alert: ").unwrap_or_else(|| panic!("no alert for {}", metric.name)).1;
        assert!(alert.contains(metric.name), "the alert of {} is about something else", metric.name);
    }
}

#[test]
fn the_text_is_the_same_for_the_same_events() {
    let text = touched().encode();
    for line in [
        r#"bonafide_reviews_total{verdict="denied",reason="NoProvenance"} 1"#,
        r#"bonafide_reviews_total{verdict="skipped",reason="Deleted"} 1"#,
        r#"bonafide_problems_total{reason="NoProvenance",effect="deny"} 1"#,
        r#"bonafide_registry_requests_total{registry="ghcr.io",outcome="ok"} 1"#,
        r#"bonafide_policies{state="invalid"} 1"#,
        "bonafide_log_lines_dropped_total 3",
        "bonafide_reviews_in_flight 0",
        r#"bonafide_build_info{version="1.2.3"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

/// The caches in the table of `bonafide_cache_bytes`, with what they hold at most.
#[test]
fn every_cache_is_documented_and_none_that_is_not_there() {
    let (page, _) = documented();
    let section = page.split("### `bonafide_cache_bytes`").nth(1).unwrap().split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = rows.filter(|name| *name != "cache").collect();
    let client = Arc::new(Client::new(ClientConfig::default()).unwrap());
    let reviewer = Reviewer::new(client, Arc::new(Roots::public_good().unwrap()), Arc::new(Unobserved));
    let mut there: BTreeSet<&str> = reviewer.cache_bytes().into_iter().map(|(cache, _)| cache).collect();
    // Only a cluster has these.
    there.extend(["keys", "labels", "pods", "pull_secrets"]);
    assert_eq!(there, documented);
}

#[test]
fn labels_that_people_choose_are_capped() {
    let metrics = Metrics::new("1");
    for n in 0..REGISTRY_LIMIT + 50 {
        metrics.registry_request(&format!("r{n}.example"), "ok", Duration::from_millis(1));
    }
    for n in 0..KIND_LIMIT + 20 {
        metrics.unknown_kind("example.com", &format!("Kind{n}"));
    }
    // One that is known keeps its label when the cap is reached.
    metrics.registry_request("r0.example", "ok", Duration::from_millis(1));
    let text = metrics.encode();
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines("bonafide_registry_requests_total{"), REGISTRY_LIMIT + 1);
    assert_eq!(lines("bonafide_unknown_kinds_total{"), KIND_LIMIT + 1);
    assert!(text.contains(&format!("registry=\"{OTHER}\",outcome=\"ok\"}} 50\n")), "{text}");
    assert!(text.contains("registry=\"r0.example\",outcome=\"ok\"} 2\n"), "{text}");
}

/// What limits a reader is sent to a metric for is shown by one.
#[test]
fn the_metrics_that_the_limits_name_are_there() {
    let limits = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md")).unwrap();
    let (page, table) = documented();
    let mut named = 0;
    for part in limits.split('`').filter(|part| part.starts_with("bonafide_")) {
        let (name, labels) = part.split_once('{').unwrap_or((part, ""));
        assert!(table.contains_key(name), "{name}");
        if let Some(cache) = labels.strip_prefix("cache=\"") {
            let row = format!("| `{}` |", cache.trim_end_matches("\"}"));
            assert!(page.contains(&row), "{row}");
        }
        named += 1;
    }
    assert!(named > 30, "{named}");
    for line in limits.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let cells = line.trim_matches('|').split(" | ").count();
        assert_eq!(cells, 4, "{line}");
    }
}
