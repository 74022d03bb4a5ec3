//! `policy check`.

use crate::{bonafide, file, generator_policy, scratch};

const GOOD: &str = "
apiVersion: bonafide.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: api, namespace: payments}
spec:
  images:
    include: [ghcr.io/example/api]
  signers:
    - name: release
      github:
        repository: example/api
        refs: [refs/heads/main]
        triggers: [push]
";

#[test]
fn a_policy_that_compiles_is_0() {
    let ran = bonafide(&["policy", "check", file("good.yaml", GOOD).to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = bonafide(&["policy", "check", generator_policy("\n", "\n").to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn every_error_is_told_at_once_with_file_line_and_field() {
    let bad =
        GOOD.replace("refs/heads/main", "'refs/heads/a[b]'").replace("ghcr.io/example/api", "'ghcr.io/{a}'");
    let (first, second) = (file("first.yaml", &bad), file("second.yaml", &bad));
    let ran = bonafide(&["policy", "check", first.to_str().unwrap(), second.to_str().unwrap()]);
    assert_eq!(ran.code, 64, "{ran:?}");
    let all = format!("{}{}", ran.out, ran.err);
    for path in [&first, &second] {
        for (line, field) in [(7, "spec.images.include[0]"), (12, "spec.signers[0].github.refs[0]")] {
            let start = format!("{}:{line}", path.display());
            assert!(
                all.lines().any(|text| text.starts_with(&start) && text.contains(field)),
                "{start} {field}: {ran:?}"
            );
        }
    }
}

#[test]
fn a_misspelt_field_is_an_error() {
    let bad = GOOD.replace("        refs:", "        ref:");
    let ran = bonafide(&["policy", "check", file("bad.yaml", &bad).to_str().unwrap()]);
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("ref"), "{ran:?}");
}

#[test]
fn a_wide_pattern_is_a_warning_and_with_strict_an_error() {
    let wide = GOOD.replace("refs/heads/main", "refs/**").replace("example/api]", "example/api*]");
    let path = file("wide.yaml", &wide);
    let ran = bonafide(&["policy", "check", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let all = format!("{}{}", ran.out, ran.err);
    assert!(all.contains(":7: warning: spec.images.include[0]"), "{ran:?}");
    assert!(all.contains(":12: warning: spec.signers[0].github.refs[0]"), "{ran:?}");
    assert_eq!(bonafide(&["policy", "check", "--strict", path.to_str().unwrap()]).code, 64);
}

#[test]
fn a_folder_is_checked_with_all_its_files_and_an_empty_one_is_bad_usage() {
    let folder = scratch("policies");
    std::fs::create_dir_all(folder.join("team")).unwrap();
    std::fs::write(folder.join("a.yaml"), GOOD).unwrap();
    std::fs::write(folder.join("team/b.yml"), GOOD.replace("main", "a[b]")).unwrap();
    std::fs::write(folder.join("README.md"), "not a policy").unwrap();
    let ran = bonafide(&["policy", "check", folder.to_str().unwrap()]);
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("b.yml"), "{ran:?}");
    let empty = scratch("empty");
    std::fs::create_dir_all(&empty).unwrap();
    assert_eq!(bonafide(&["policy", "check", empty.to_str().unwrap()]).code, 64);
}

#[test]
fn json_lists_what_was_found() {
    let bad = GOOD.replace("refs/heads/main", "'refs/heads/a[b]'");
    let ran = bonafide(&["policy", "check", "--output", "json", file("bad.yaml", &bad).to_str().unwrap()]);
    assert_eq!(ran.code, 64, "{ran:?}");
    let found = &ran.json()["problems"][0];
    assert_eq!(found["field"], "spec.signers[0].github.refs[0]");
    assert_eq!((found["line"].as_u64(), found["severity"].as_str()), (Some(12), Some("error")));
}

const ROOT: &str = "
apiVersion: bonafide.dev/v1alpha1
kind: TrustRoot
metadata: {name: corp}
spec:
";

/// The root that signers name is among the files, or there is a warning; where it is wrong, that is an error at its line.
#[test]
fn trust_roots_are_checked_beside_the_policies_that_name_them() {
    let naming =
        file("naming.yaml", &GOOD.replace("- name: release", "- trustRoot: corp\n      name: release"));
    let naming = naming.to_str().unwrap();
    let ran = bonafide(&["policy", "check", naming]);
    let warning =
        "warning: spec.signers[0].trustRoot: \"corp\" is neither built in nor a TrustRoot in these files";
    assert!(ran.code == 0 && ran.out.contains(warning), "{ran:?}");

    let root = bonafide_kit::sigstore::Sigstore::new().trusted_root_json();
    let good = file("root.yaml", &format!("{ROOT}  trustedRoot: '{root}'\n"));
    let ran = bonafide(&["policy", "check", naming, good.to_str().unwrap()]);
    assert!(ran.code == 0 && !ran.out.contains("warning"), "{ran:?}");
    let ran = bonafide(&["policy", "check", good.to_str().unwrap()]);
    assert!(ran.code == 0 && ran.out.contains("1 trust root is valid"), "{ran:?}");

    let bad = file("bad-root.yaml", &format!("{ROOT}  trustedRoot: '{{}}'\n  unsafeSkipTimestamp: true\n"));
    let ran = bonafide(&["policy", "check", bad.to_str().unwrap()]);
    let error = ":7: error: spec.unsafeSkipTimestamp: \"true\" belongs to a certificateAuthority";
    assert!(ran.code == 64 && format!("{}{}", ran.out, ran.err).contains(error), "{ran:?}");
    let twice = format!("{ROOT}  trustedRoot: '{root}'\n---{ROOT}  trustedRoot: '{root}'\n");
    let ran = bonafide(&["policy", "check", file("twice.yaml", &twice).to_str().unwrap()]);
    assert!(ran.code == 64 && ran.out.contains("is there twice in this file"), "{ran:?}");
}

#[test]
fn a_key_is_read_from_an_object_of_another_file() {
    const KEY: &str = "
    -----BEGIN PUBLIC KEY-----
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBj+VPsSk6BDIbeWNpzTOJzmMbF4E
    ZxOUPNIU8vfPLNO6XjLYrniwWnhoohWYHGTkeqLO9K9vEKjo4I1bJ80ggw==
    -----END PUBLIC KEY-----
";
    let (before, _) = GOOD.split_once("      github:").unwrap();
    let policy =
        format!("{before}      publicKey:\n        configMapRef: {{name: keys, key: release.pub}}\n");
    let object = |namespace| {
        let head =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: keys, namespace: {namespace}}}");
        format!("{head}\ndata:\n  release.pub: |{KEY}")
    };
    let policy = file("by-reference.yaml", &policy);
    for (namespace, code) in [("payments", 0), ("elsewhere", 64)] {
        let keys = file("keys.yaml", &object(namespace));
        let ran = bonafide(&["policy", "check", policy.to_str().unwrap(), keys.to_str().unwrap()]);
        assert_eq!(ran.code, code, "{ran:?}");
        let told = format!(
            "{}:11: error: spec.signers[0].publicKey.configMapRef: ConfigMap payments/keys is not there",
            policy.display()
        );
        assert_eq!(format!("{}{}", ran.out, ran.err).contains(&told), code != 0, "{told}\n{ran:?}");
    }
}

#[test]
fn b8_a_policy_for_an_exempt_namespace_is_told() {
    let policy = |namespace: &str| {
        let good = GOOD.replace("payments", namespace);
        file(&format!("{namespace}.yaml"), &good)
    };
    let warned = |flags: &[&str], namespace: &str| {
        let path = policy(namespace);
        let ran = bonafide(&[&["policy", "check", path.to_str().unwrap()], flags].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
            .contains(&format!("the policy has no effect: the namespace {namespace} is exempt from review"))
    };
    assert!(warned(&[], "kube-system") && warned(&[], "bonafide"));
    assert!(!warned(&["--namespace=gate"], "bonafide") && warned(&["--namespace=gate"], "gate"));
    assert!(!warned(&[], "calico") && warned(&["--exempt-namespace=calico"], "calico"));
}
