//! What is written in more than one place is the same in all of them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use bonafide::server::metrics::CATALOGUE;
use serde_json::Value;

use crate::helm::{Helm, chart, of_kind};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_plain_manifests_are_the_charts() {
    if Helm::find().is_none() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/generate");
    let run = Command::new(script).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
}

/// The release workflow refuses a tag that differs.
#[test]
fn chart_and_program_are_of_one_version() {
    let chart: Value = serde_saphyr::from_str(&read("charts/bonafide/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The image of the chart is one that the policy for Bonafide itself is about.
#[test]
fn the_own_policy_is_about_the_charts_image() {
    let values: Value = serde_saphyr::from_str(&read("charts/bonafide/values.yaml")).unwrap();
    let policy: Value = serde_saphyr::from_str(&read("policies/bonafide.yaml")).unwrap();
    let image = &values["image"]["repository"];
    let source = &values["tests"]["repository"];
    assert_eq!(policy["spec"]["images"]["include"], Value::Array(vec![image.clone()]));
    assert_eq!(policy["spec"]["signers"][0]["github"]["repository"], *source);
    // What the release workflow pushes to.
    assert_eq!(image.as_str().unwrap(), format!("ghcr.io/{}", source.as_str().unwrap()));
    assert!(read(".github/workflows/release.yaml").contains("IMAGE: ghcr.io/${{ github.repository }}"));
    let signer = policy["spec"]["signers"][0]["github"]["workflow"].as_str().unwrap();
    assert_eq!(signer, ".github/workflows/release.yaml");
}

/// Every query of the dashboard is about metrics, and labels of theirs, that there are.
#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(chart().join("dashboards/bonafide.json")).unwrap()).unwrap();
    let mut shown = BTreeSet::new();
    for target in
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array())
    {
        for query in target.iter().map(|target| target["expr"].as_str().unwrap()) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let names = query.split(|c| !is_name(c)).filter(|word| word.starts_with("bonafide_"));
            for name in names {
                let known = CATALOGUE.iter().find(|metric| {
                    metric.name == name
                        || metric.kind == "histogram" && name.strip_suffix("_bucket") == Some(metric.name)
                });
                assert!(known.is_some(), "{query}: there is no {name}");
                shown.insert(known.unwrap().name);
            }
            for (label, of) in selected(query) {
                let metric = CATALOGUE.iter().find(|metric| of.trim_end_matches("_bucket") == metric.name);
                assert!(metric.unwrap().labels.contains(&label), "{query}: {of} has no {label}");
            }
        }
    }
    let all: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let missing: Vec<&&str> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
}

/// Every alert is about metrics that there are, and is documented; one of them is for those who want to be closed alone.
#[test]
fn b9_the_alerts_are_about_what_there_is() {
    let Some(helm) = Helm::find() else { return };
    let alerts = |set: &[&str]| -> Vec<String> {
        let objects = helm.render(&[&["prometheusRule.enabled=true"], set].concat());
        let rules = of_kind(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
        let rules = rules.as_array().unwrap();
        for rule in rules {
            let query = rule["expr"].as_str().unwrap();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let names = query.split(|c| !is_name(c)).filter(|word| word.starts_with("bonafide_"));
            for name in names {
                assert!(CATALOGUE.iter().any(|metric| metric.name == name), "{query}: there is no {name}");
            }
            for (label, of) in selected(query).into_iter().filter(|(label, _)| *label != "namespace") {
                let metric = CATALOGUE.iter().find(|metric| of == metric.name).unwrap();
                assert!(metric.labels.contains(&label), "{query}: {of} has no {label}");
            }
        }
        rules.iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
    };
    let page = read("docs/metrics.md");
    for alert in alerts(&[]) {
        assert!(page.contains(&format!("alert: {alert}\n")), "{alert} is not documented");
    }
    assert!(alerts(&[]).contains(&"BonafideOpen".to_owned()));
    assert!(!alerts(&["failurePolicy=Ignore"]).contains(&"BonafideOpen".to_owned()));
}

/// The definitions are no part of what is applied and deleted as one, or everybody's policies would go with them.
#[test]
fn e8_the_definitions_are_apart_from_what_is_uninstalled() {
    let kustomization: Value = serde_saphyr::from_str(&read("deploy/kustomization.yaml")).unwrap();
    assert_eq!(kustomization["resources"], serde_json::json!(["namespace.yaml", "bonafide.yaml"]));
    assert!(!read("deploy/bonafide.yaml").contains("kind: CustomResourceDefinition"));
    assert!(read("deploy/crds.yaml").contains("kind: CustomResourceDefinition"));
}

/// The labels by which a query selects, besides Prometheus' own, each with its metric.
fn selected(query: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (start, _) in query.match_indices('{') {
        let of = query[..start].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let inside = query[start + 1..].split('}').next().unwrap();
        let labels = inside.split("\",").filter_map(|part| part.split(['=', '!']).next()).map(str::trim);
        found.extend(labels.filter(|label| *label != "job").map(|label| (label, of)));
    }
    found
}

#[test]
fn the_scan_of_queries_sees_labels() {
    let query = r#"sum(rate(a_total{job=~"$job",verdict!~"x|y"}[5m])) / b{kind="c"}"#;
    assert_eq!(selected(query), [("verdict", "a_total"), ("kind", "b")]);
}
