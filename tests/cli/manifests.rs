//! `bonafide manifests`: what is printed, and what is no setting.

use crate::{bonafide, file};

#[test]
fn flags_reach_the_webhook_configurations() {
    let certificate = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap().cert.pem();
    let bundle = file("ca.crt", &certificate);
    let line = [
        "manifests",
        "webhook",
        "--name=gate",
        "--namespace=security",
        "--service-port=8443",
        "--failure-policy=Ignore",
        "--binding-failure-policy=Fail",
        "--webhook-timeout=7s",
        "--exempt-namespace=kube-system",
        "--exempt-namespace=security",
        "--opt-out-label=example.com/review",
        "--pinning",
        "--ca-bundle",
        bundle.to_str().unwrap(),
    ];
    let printed = bonafide(&line).out.replace(&base64(&certificate), "(the bundle)");
    insta::assert_snapshot!(printed);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn what_would_select_nothing_is_no_setting() {
    let no_certificate = file("ca.crt", "not PEM");
    for (good, bad) in [
        ("--name=gate", "--name=Gate"),
        ("--namespace=security", "--namespace=a.b"),
        ("--service-port=1", "--service-port=0"),
        ("--failure-policy=Fail", "--failure-policy=fail"),
        ("--webhook-timeout=30s", "--webhook-timeout=31s"),
        ("--webhook-timeout=1s", "--webhook-timeout=1500ms"),
        ("--exempt-namespace=kube-system", "--exempt-namespace=kube*"),
        ("--opt-out-label=a/b", "--opt-out-label=a/b/c"),
        ("--pinning", &format!("--ca-bundle={}", no_certificate.display())),
    ] {
        assert_eq!(bonafide(&["manifests", "webhook", good]).code, 0, "{good}");
        let ran = bonafide(&["manifests", "webhook", bad]);
        let flag = bad.split('=').next().unwrap();
        assert!(ran.code == 64 && ran.err.contains(flag), "{bad}: {ran:?}");
    }
}
