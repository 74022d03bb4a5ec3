//! What a `TrustRoot` may say, and what is told of the rest.

use serde_json::json;

use super::*;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"}, "spec": spec})
}

/// What is told of a spec.
fn told(spec: &Value) -> Vec<String> {
    compile_root(&object(spec)).errors.iter().map(ToString::to_string).collect()
}

fn tuf(mirror: &str) -> Value {
    json!({"tuf": {"mirror": mirror, "root": "{}"}})
}

fn authority(certificates: &str, skip_log: bool, skip_time: bool) -> Value {
    json!({
        "certificateAuthority": {"certificates": certificates, "issuer": "https://pki.example"},
        "unsafeSkipTransparencyLog": skip_log, "unsafeSkipTimestamp": skip_time,
    })
}

fn stamped(skip_log: bool, skip_time: bool) -> Value {
    let mut spec = authority(CERTIFICATE, skip_log, skip_time);
    spec["certificateAuthority"]["timestampAuthority"] = CERTIFICATE.into();
    spec
}

#[test]
fn each_form_becomes_a_source() {
    let source = |spec: &Value| compile_root(&object(spec)).source.unwrap();
    assert_eq!(source(&json!({"trustedRoot": "{}"})), RootSource::TrustedRoot("{}".to_owned()));
    let RootSource::Tuf(fetched) = source(&tuf("https://tuf.example/repo")) else { panic!() };
    assert_eq!(
        (fetched.mirror.as_str(), fetched.target.as_str()),
        ("https://tuf.example/repo/", "trusted_root.json")
    );
    let der = vec![vec![0x30, 0]];
    let RootSource::Authority(timeless) = source(&authority(CERTIFICATE, true, true)) else { panic!() };
    assert_eq!((timeless.certificates, timeless.timestamp_authority), (der.clone(), None));
    let RootSource::Authority(dated) = source(&stamped(true, false)) else { panic!() };
    assert_eq!(dated.timestamp_authority, Some(der));
}

#[test]
fn it_is_exactly_one_of_three() {
    let both = json!({"trustedRoot": "{}", "tuf": {"mirror": "https://a.example", "root": "{}"}});
    for spec in [json!({}), both] {
        assert_eq!(told(&spec), ["spec: is exactly one of trustedRoot, tuf, certificateAuthority"]);
    }
}

/// Nobody asks a root that has a log for less than it has.
#[test]
fn what_is_unsafe_is_refused_where_there_is_a_log() {
    for flag in ["unsafeSkipTransparencyLog", "unsafeSkipTimestamp"] {
        for mut spec in [json!({"trustedRoot": "{}"}), tuf("https://a.example")] {
            spec[flag] = false.into();
            assert_eq!(told(&spec), [""; 0], "{flag}");
            spec[flag] = true.into();
            let [error] = told(&spec).try_into().unwrap();
            assert!(
                error.starts_with(&format!("spec.{flag}: \"true\" belongs to a certificateAuthority")),
                "{error}"
            );
        }
    }
}

#[test]
fn an_authority_says_what_it_does_without() {
    assert_eq!(told(&stamped(true, false)), [""; 0]);
    assert_eq!(told(&authority(CERTIFICATE, true, true)), [""; 0]);
    let key =
        format!("{CERTIFICATE}-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n{CERTIFICATE}");
    let errors: Vec<Vec<String>> = [
        stamped(false, false),
        authority(CERTIFICATE, true, false),
        stamped(true, true),
        authority("x", true, true),
        authority(&key, true, true),
        authority(&CERTIFICATE.repeat(17), true, true),
        authority(&CERTIFICATE.replace("MAA=", "?"), true, true),
    ]
    .iter()
    .map(told)
    .collect();
    insta::assert_debug_snapshot!(errors);
}

#[test]
fn a_mirror_is_an_https_folder() {
    for mirror in [
        "https://tuf.example",
        "https://tuf.example/a/b/",
        "http://127.0.0.1:8080",
        "http://localhost/x",
        "http://[::1]/x",
    ] {
        assert_eq!(told(&tuf(mirror)), [""; 0], "{mirror}");
    }
    let errors: Vec<Vec<String>> = [
        "http://tuf.example",
        "https://u:p@tuf.example",
        "https://tuf.example/?a",
        "https://tuf.example/#a",
        "https://:1",
        "ftp://127.0.0.1/a",
    ]
    .map(|mirror| told(&tuf(mirror)))
    .into();
    insta::assert_debug_snapshot!(errors);
}

/// What policies mean by `sigstore` is not for whoever makes objects to say.
#[test]
fn the_names_of_the_built_in_roots_are_taken() {
    for (name, taken) in [("corp", false), ("sigstore", true), ("github", true), ("sigstore-mirror", false)] {
        let mut object = object(&json!({"trustedRoot": "{}"}));
        object["metadata"]["name"] = name.into();
        let errors = compile_root(&object).errors;
        assert_eq!(!errors.is_empty(), taken, "{errors:?}");
        assert!(
            errors.iter().all(|error| error.to_string().contains("--trust-root replaces it")),
            "{errors:?}"
        );
    }
}

#[test]
fn slips_are_told_at_their_fields() {
    let errors: Vec<Vec<String>> = [
        json!({"trustedroot": "{}"}),
        json!({"trustedRoot": 1}),
        json!({"trustedRoot": "{"}),
        json!({"trustedRoot": "{\"a\": }"}),
        json!({"trustedRoot": "{}", "unsafeSkipTimestamp": "yes"}),
        json!({"tuf": {"mirror": "https://a.example"}}),
        json!({"tuf": {"mirror": "https://a.example", "root": "{}", "target": "../../x"}}),
        json!({"trustedRoot": format!("{{{}}}", " ".repeat(256 * 1024))}),
    ]
    .iter()
    .map(told)
    .collect();
    insta::assert_debug_snapshot!(errors);
    let mut odd = object(&json!({"trustedRoot": "{}"}));
    odd["metadata"]["namespace"] = "n".into();
    odd["data"] = json!({});
    odd["apiVersion"] = "bonafide.dev/v2".into();
    let errors = compile_root(&odd).errors;
    insta::assert_debug_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>());
}
