//! The values: all are explained, and wrong ones are refused by name.

use std::{fs, path::Path};

use serde_json::Value;

use crate::helm::{Helm, chart};

/// A value: its path, its default as it is written, and what is said about it.
struct Explained {
    path: String,
    default: String,
    text: String,
}

fn read(name: &str) -> String {
    fs::read_to_string(chart().join(name)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).unwrap()
}

/// The schema of a value, by its path.
fn schema_of<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, key| schema["properties"].get(key))
}

/// Whether it is a group of values, each explained by itself.
fn is_group(schema: &Value, path: &str) -> bool {
    schema_of(schema, path).is_some_and(|schema| schema.get("properties").is_some())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What `values.yaml` says, in its order. A comment belongs to the key right below it.
fn explained() -> Vec<Explained> {
    let (text, schema) = (read("values.yaml"), schema());
    let defaults: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut found, mut groups, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    let mut inside_of_a_value = None;
    for line in text.lines() {
        let (deep, line) = (indent(line), line.trim());
        if inside_of_a_value.is_some_and(|of| deep > of && !line.is_empty()) {
            continue;
        }
        inside_of_a_value = None;
        if let Some(said) = line.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        if let Some((key, _)) = line.split_once(':') {
            groups.retain(|(of, _)| *of < deep);
            let path = groups.last().map_or(key.to_owned(), |(_, group)| format!("{group}.{key}"));
            if is_group(&schema, &path) {
                assert!(comment.is_empty(), "{path} is a group; explain what is in it");
                groups.push((deep, path));
            } else {
                inside_of_a_value = Some(deep);
                let pointer = format!("/{}", path.replace('.', "/"));
                let default = defaults.pointer(&pointer).unwrap().to_string();
                found.push(Explained { path, default, text: comment.join(" ") });
            }
        }
        comment.clear();
    }
    found
}

/// The paths of the schema's values.
fn in_schema(schema: &Value, at: &str, into: &mut Vec<String>) {
    for (key, inner) in schema["properties"].as_object().unwrap() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        if inner.get("properties").is_some() {
            assert_eq!(inner["additionalProperties"], false, "{path}");
            in_schema(inner, &path, into);
        } else if path != "global" {
            into.push(path);
        }
    }
}

#[test]
fn every_value_is_explained_and_has_a_schema() {
    let explained = explained();
    for value in &explained {
        assert!(value.text.len() > 10 && value.text.ends_with('.'), "{}: {:?}", value.path, value.text);
    }
    let mut there: Vec<String> = explained.into_iter().map(|value| value.path).collect();
    let mut meant = Vec::new();
    in_schema(&schema(), "", &mut meant);
    there.sort();
    meant.sort();
    assert_eq!(there, meant);
}

/// The table of `docs/install.md` is made from `values.yaml`.
#[test]
fn the_documented_values_are_these() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md");
    let text = fs::read_to_string(page).unwrap();
    let head = "| value | default | |\n|---|---|---|\n";
    let (before, rest) = text.split_once(head).expect("the table of values");
    let (_, after) = rest.split_once("\n\n").unwrap();
    let rows: Vec<String> = explained()
        .iter()
        .map(|value| {
            let said = value.text.replace('|', "\\|");
            format!("| `{}` | `{}` | {said} |", value.path, value.default)
        })
        .collect();
    let meant = format!("{before}{head}{}\n\n{after}", rows.join("\n"));
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(page, &meant).unwrap();
    }
    assert!(fs::read_to_string(page).unwrap() == meant, "docs/install.md: run `make manifests`");
}

/// Each with what it must differ in to be accepted.
#[test]
fn wrong_values_are_refused_by_name() {
    let Some(helm) = Helm::find() else { return };
    let render = |set: &[&str]| helm.run(&["template", "bonafide"], set);
    for (wrong, right, named) in [
        ("replicas=0", "replicas=1", "'/replicas': minimum"),
        ("replicas=two", "replicas=2", "'/replicas': got string, want integer"),
        (
            "failurePolicy=fail",
            "failurePolicy=Fail",
            "'/failurePolicy': value must be one of 'Fail', 'Ignore'",
        ),
        (
            "bindingFailurePolicy=fail",
            "bindingFailurePolicy=Fail",
            "'/bindingFailurePolicy': value must be one of",
        ),
        ("reach=all", "reach=everything", "'/reach': value must be one of"),
        ("timeoutSeconds=31", "timeoutSeconds=30", "'/timeoutSeconds': maximum"),
        ("exemptNamespaces={A}", "exemptNamespaces={a}", "'/exemptNamespaces/0': 'A' does not match pattern"),
        ("optOutLabel=a/b/c", "optOutLabel=a/b", "'/optOutLabel'"),
        ("unmatchedImages=Deny", "unmatchedImages=deny", "'/unmatchedImages': value must be one of"),
        ("platforms={arm64}", "platforms={linux/arm64}", "'/platforms/0'"),
        ("pinning.enabled=yes", "pinning.enabled=true", "'/pinning/enabled': got string, want boolean"),
        (
            "pinning.enable=true",
            "pinning.enabled=true",
            "'/pinning': additional properties 'enable' not allowed",
        ),
        ("pinned=true", "pinning.enabled=true", "'': additional properties 'pinned' not allowed"),
        ("image.digest=sha256:0", "image.digest=", "'/image/digest'"),
        ("image.repository=registry/a:v1", "image.repository=registry:5000/a", "'/image/repository'"),
        ("callers.cidrs={10.0.0.1}", "callers.cidrs={10.0.0.1/32}", "'/callers/cidrs/0'"),
        ("callers.clientCA=A_B", "callers.clientCA=a-b", "'/callers/clientCA'"),
        ("callers.requireToken=yes", "callers.requireToken=true", "'/callers/requireToken'"),
        ("service.port=65536", "service.port=65535", "'/service/port': maximum"),
        ("ports.webhook=443", "ports.webhook=4443", "'/ports/webhook': minimum"),
        (
            "service.type=LoadBalancer",
            "service.type=ClusterIP",
            "'/service/type': value must be one of 'ClusterIP', 'ExternalName'",
        ),
        (
            "service.type=ExternalName",
            "service.type=ExternalName,service.externalName=localhost",
            "'/service/externalName': minLength",
        ),
        (
            "certificates.mode=cert-manager",
            "certificates.mode=certManager",
            "'/certificates/mode': value must be one of 'selfManaged', 'certManager', 'provided'",
        ),
        (
            "certificates.mode=provided",
            "certificates.mode=provided,certificates.provided.secretName=mine",
            "'/certificates/provided/secretName': minLength",
        ),
        (
            "certificates.certManager.issuerRef.kind=Issuer",
            "certificates.certManager.issuerRef.kind=Issuer,certificates.certManager.issuerRef.name=a",
            "'/certificates/certManager/issuerRef'",
        ),
        (
            "certificates.certManager.duration=90d",
            "certificates.certManager.duration=2160h",
            "'/certificates/certManager/duration'",
        ),
        (
            "serviceAccount.create=false",
            "serviceAccount.create=false,serviceAccount.name=mine",
            "'/serviceAccount/name': minLength",
        ),
        ("registries.insecure={http://a}", "registries.insecure={a:80}", "'/registries/insecure/0'"),
        ("log.format=xml", "log.format=json", "'/log/format': value must be one of 'json', 'text'"),
        (
            "podDisruptionBudget.maxUnavailable=half",
            "podDisruptionBudget.maxUnavailable=50%",
            "'/podDisruptionBudget/maxUnavailable'",
        ),
        ("tests.repository=bonafide", "tests.repository=bonafide/bonafide", "'/tests/repository'"),
    ] {
        let error = render(&[wrong]).expect_err(wrong);
        assert!(error.contains(named), "{wrong}: {error}");
        render(&[right]).expect(right);
    }
}

/// `helm upgrade --reuse-values` takes the defaults of the chart before: values that are new are missing then.
#[test]
fn an_upgrade_that_reuses_values_renders_what_the_defaults_do() {
    let Some(helm) = Helm::find() else { return };
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/previous/values.yaml");
    // So that something is missing: none of these was a value before.
    let (then, now) = (fs::read_to_string(&before).unwrap(), read("values.yaml"));
    for added in ["reach", "bindingFailurePolicy", "callers", "updateStrategy", "prometheusRule", "notes"] {
        let key = format!("\n{added}:");
        assert!(now.contains(&key) && !then.contains(&key), "{added}");
    }
    assert_eq!(helm.render_reusing(&before), helm.render(&[]));
}
