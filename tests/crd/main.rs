//! The custom resource definitions: what the chart holds is what the program makes, the API server can take them, and whatever they
//! refuse, `policy check` refuses too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bounds;
#[path = "../crd_support/mod.rs"]
mod crd_support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use bonafide::api::crd;
use crd_support::{all_of, spec_schema};
use serde_json::Value;

/// What `bonafide manifests crd` prints, by the name of each object.
fn printed() -> BTreeMap<String, String> {
    let run = Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["manifests", "crd"]).output().unwrap();
    assert!(run.status.success());
    let stream = String::from_utf8(run.stdout).unwrap();
    let documents = stream.split("---\n").skip(1).map(|text| {
        let object: Value = serde_saphyr::from_str(text).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let (plural, group) = name.split_once('.').unwrap();
        (format!("{group}_{plural}.yaml"), format!("---\n{text}"))
    });
    documents.collect()
}

#[test]
fn the_chart_has_what_the_program_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/bonafide/crds");
    let printed = printed();
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &printed {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeMap<String, String> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(there == printed, "charts/bonafide/crds is not what the program makes: run `make manifests`");
}

#[test]
fn what_is_printed_is_what_was_meant() {
    let printed = printed();
    assert_eq!(printed.len(), 3);
    for definition in crd::definitions() {
        let name = definition.metadata.name.clone().unwrap();
        let text = printed.values().find(|text| text.contains(&format!("name: {name}\n"))).unwrap();
        let read: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(read, serde_json::to_value(&definition).unwrap());
    }
}

#[test]
fn the_schema_is_structural_and_bounded() {
    for kind in ["ProvenancePolicy", "ClusterProvenancePolicy", "TrustRoot"] {
        for (field, schema) in all_of(kind) {
            for forbidden in [
                "x-kubernetes-preserve-unknown-fields",
                "nullable",
                "anyOf",
                "oneOf",
                "allOf",
                "$ref",
                "title",
            ] {
                assert_eq!(schema.get(forbidden), None, "{kind} {field}: {forbidden}");
            }
            // What the API server checks with CEL must have an end, and so must what anybody stores.
            let bound = match schema["type"].as_str().unwrap() {
                "string" if schema.get("enum").is_some() => "enum",
                "string" => "maxLength",
                "array" => "maxItems",
                "boolean" => "type",
                "object" if schema.get("additionalProperties").is_some() => "maxProperties",
                "object" => "properties",
                "integer" => "maximum",
                other => panic!("{kind} {field} is a {other}"),
            };
            assert!(schema.get(bound).is_some(), "{kind} {field} has no {bound}");
            if let Some(pattern) = schema["pattern"].as_str() {
                assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{field}: {pattern}");
                assert!(regex::Regex::new(pattern).is_ok(), "{field}: {pattern}");
            }
            let is_element = field.ends_with(['[', ']', '{', '}']) || field.is_empty();
            assert!(is_element || schema.get("description").is_some(), "{kind} {field} has no description");
            if let Some(default) = schema.get("default") {
                assert!(schema.get("minItems").is_none() && !default.is_null(), "{field}: {default}");
            }
        }
    }
}

/// The definitions are no part of `deploy/kustomization.yaml` any more.
#[test]
fn no_controller_prunes_a_definition() {
    for definition in crd::definitions() {
        let annotations = definition.metadata.annotations.unwrap();
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    }
}

#[test]
fn a_cluster_policy_is_the_same_and_a_selector() {
    let (own, mut cluster) = (spec_schema("ProvenancePolicy"), spec_schema("ClusterProvenancePolicy"));
    let selector = cluster["properties"].as_object_mut().unwrap().remove("namespaceSelector");
    assert!(selector.is_some());
    assert_eq!(own["properties"], cluster["properties"]);
    assert_eq!(own["required"], cluster["required"]);
}
