//! Files as people write them, and as nobody should.

use super::*;
use crate::domain::policy::PolicyEntry;

const TWO: &str = r#"# a comment
apiVersion: bonafide.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: a, namespace: n}
spec:
  images:
    include: ["ghcr.io/o/**"]
  signers:
    - name: x
      github:
        repository: o/a
        refs:
          - refs/heads/main
          - main
---
apiVersion: v1
kind: Service
---
---
apiVersion: bonafide.dev/v1alpha1
kind: List
items:
  - apiVersion: bonafide.dev/v1alpha1
    kind: ClusterProvenancePolicy
    metadata: {name: b}
    spec:
      signerz: []
"#;

#[test]
fn each_error_has_the_line_of_its_field() {
    let documents = policies(TWO).unwrap();
    let told: Vec<(u64, String)> = documents
        .iter()
        .flat_map(|document| document.compiled.errors.iter().map(|e| (document.line_of(e), e.field.clone())))
        .collect();
    let named: Vec<&str> = told.iter().map(|(_, field)| field.as_str()).collect();
    assert_eq!(named, ["spec.signers[0].github.refs[1]", "spec.signerz", "spec.images", "spec.signers"]);
    let lines: Vec<u64> = told.iter().map(|(line, _)| *line).collect();
    // What is missing is told at the field that should have it.
    assert_eq!(lines, [14, 27, 26, 26]);
}

#[test]
fn what_is_no_yaml_says_where() {
    let error = policies("a: [1\nb: 2\n").unwrap_err();
    assert!(error.line.is_some(), "{error:?}");
    let error = policies("a: 1\na: 2\n").unwrap_err();
    assert!(error.to_string().contains("twice") || error.to_string().contains("uplicate"), "{error}");
}

#[test]
fn a_bomb_is_refused() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, before) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g")]
    {
        let nine = vec![format!("*{before}"); 9].join(",");
        bomb.extend([name, ": &", name, " [", &nine, "]\n"]);
    }
    assert!(policies(&bomb).is_err());
    assert!(policies(&"[".repeat(10_000)).is_err());
}

#[test]
fn what_is_none_of_ours_is_noted_and_what_should_be_is_not_passed_over() {
    let file = read(TWO).unwrap();
    assert_eq!(file.passed_over, [PassedOver { line: 16, what: "v1 Service".to_owned() }]);
    for text in [
        "kind: ProvenancePolicy",
        "apiVersion: bonafide.dev/v2\nkind: Other",
        "{\n\t\"kind\":\t\"ClusterProvenancePolicy\"}",
    ] {
        assert!(!policies(text).unwrap()[0].compiled.errors.is_empty(), "{text}");
    }
}

#[test]
fn items_of_a_typed_list_have_its_kind() {
    let list = "apiVersion: bonafide.dev/v1alpha1\nkind: ClusterProvenancePolicyList\nitems:\n- metadata: {name: a}\n";
    let documents = policies(list).unwrap();
    let errors: Vec<&str> = documents[0].compiled.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(errors, ["spec"]);
}

#[test]
fn the_second_of_a_name_is_invalid() {
    let one = "apiVersion: bonafide.dev/v1alpha1\nkind: ProvenancePolicy\nmetadata: {name: a, namespace: n}\nspec:\n  images: {include: [ghcr.io/o/a]}\n  signers: [{name: s, github: {repository: o/a, refs: [refs/heads/main]}}]\n";
    let valid = |text: &str| -> Vec<bool> {
        let documents = policies(text).unwrap();
        documents.iter().map(|d| matches!(d.compiled.entry, PolicyEntry::Valid(_))).collect()
    };
    assert_eq!(valid(&format!("{one}---\n{one}")), [true, false]);
    assert_eq!(valid(&format!("{one}---\n{}", one.replace("namespace: n", "namespace: m"))), [true, true]);
}

proptest::proptest! {
    /// Whoever wrote the file: it is read or refused.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:{}\\[\\]&*!|>#'\", \\n\\t-]{0,80}") {
        let _ = read(&text);
    }
}
