//! Which keys are accepted, and what is said of the others. The keys were made with openssl for these tests.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::compile::{GivenKeys, NoKeys, compile},
    domain::{identity::SignerIdentity, key::TransparencyLog, policy::PolicyEntry},
};

const P256: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBj+VPsSk6BDIbeWNpzTOJzmMbF4E
ZxOUPNIU8vfPLNO6XjLYrniwWnhoohWYHGTkeqLO9K9vEKjo4I1bJ80ggw==
-----END PUBLIC KEY-----
";
const P384: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE8TzQivGsvHtq9bxVz6ZeB3OO9MWL9MVE
dcbLR0iB8v9wi99ykWTICx7a0yMjkf22KACPCd8qeASVhSDoniMTgqHXjHhmwxMw
YG9q2vqeJWbLkfoR4NRxpaMpbM/6Nkt+
-----END PUBLIC KEY-----
";
const P521: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAyQvzVnA37eiosOVd4CUd4Qu229d0
qWh/Dx9pEFgnjJ38KzCcTSIuOBWFkw/4hGCWUBJyKIQ3beIRLuc1UfKx2SwBVnry
Q8lGYgdBoFNWMNeEDAQZofiKEB9ko2awYiFO/4LPjW0tsA9KESL5/otRsLzEwz5z
6ujq0sDl+aL6F05Qwyk=
-----END PUBLIC KEY-----
";
const K1: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEZGNCt6lomXB+r6L0H+BFGomF6RS0EBcs
3CmJAQWPnb4f37Jp4G7cw9VvQFC685BRFQ5lB3MOSo8EmJlGvOcO9Q==
-----END PUBLIC KEY-----
";
const RSA_2048: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA05XRcCrdTD0Cu4rixXML
mmHvgoS1dRO0xyFW1MH5negqr/AVYqJ5jDS33DqfRAHubAdr6VwQi2LFf5KYvaT7
GFNDTy1MrlR7JVhynb4fwerKu1QuwAVkadZNrCPMpS5I8Rky0DPKIuKoR0vxtiRb
fI5lku8TP2dR3R2P32XX9YVQ2YSBwYxmSk+qeLoN58QUjgss+Ol0Mq20LpXEvYG5
JU9l1GeNnyqLIU6BAP1XSlMts5NQLc7VuHzHQXBzvmGfoAprTr7IiFDSi51mAPKT
Rp2tLlOm4UbLF0MX9Bd2dupSVCBUMMfba4LxcAWnAobTHdIjU5egDKBtOGivht0L
twIDAQAB
-----END PUBLIC KEY-----
";
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC4pMxWRmdJ2DI91Rh+2k7Byj5a
RF8n/dt+BFdcgGLtLeJzMMbe1x5HuGFdm7GTBFlPusij/gqwYp6Ir/dJlrMk0/SR
bUOtmn/pyB4WJop/uzXl6gkfPEXYX3ZZMYePeaaDLlVOSVfxcPYQCUc2AJ3+5sXX
4sfz5i557hckYdeyJwIDAQAB
-----END PUBLIC KEY-----
";
const RSA_1024_OLD: &str = "\
-----BEGIN RSA PUBLIC KEY-----
MIGJAoGBALikzFZGZ0nYMj3VGH7aTsHKPlpEXyf9234EV1yAYu0t4nMwxt7XHke4
YV2bsZMEWU+6yKP+CrBinoiv90mWsyTT9JFtQ62af+nIHhYmin+7NeXqCR88Rdhf
dlkxh495poMuVU5JV/Fw9hAJRzYAnf7mxdfix/PmLnnuFyRh17InAgMBAAE=
-----END RSA PUBLIC KEY-----
";
const ED25519: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAaZxO2mybXfe7kPNnlBZk87l9aNFWjvigrOk5nqyn4bw=
-----END PUBLIC KEY-----
";
const ED448: &str = "\
-----BEGIN PUBLIC KEY-----
MEMwBQYDK2VxAzoAtryvmtHKdHn0CjMl8Z0T5x0w7Oh37g/DEgXtN8eq2HGHIOv5
Ik9cwxzmhHRgzHTTomg9Ypx41/2A
-----END PUBLIC KEY-----
";
const X25519: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VuAyEA+qUiCyepSUsOQkBzPSirsVJdZKvawM7XOSOoRFIgjw4=
-----END PUBLIC KEY-----
";
const COMPRESSED: &str = "\
-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADBj+VPsSk6BDIbeWNpzTOJzmMbF4E
ZxOUPNIU8vfPLNM=
-----END PUBLIC KEY-----
";

#[track_caller]
fn refusal(pem: &str) -> String {
    public_key(pem).unwrap_err()
}

#[test]
fn c14_the_kinds_of_keys_that_are_accepted() {
    for (pem, kind) in [
        (P256, KeyKind::P256),
        (P384, KeyKind::P384),
        (P521, KeyKind::P521),
        (RSA_2048, KeyKind::Rsa(2048)),
        (ED25519, KeyKind::Ed25519),
    ] {
        let key = public_key(pem).unwrap();
        assert_eq!(key.kind(), kind);
        // How the text is laid out does not matter.
        assert_eq!(public_key(&format!("\n{}\n\n", pem.replace('\n', "\r\n"))).unwrap().id(), key.id());
    }
}

#[test]
fn other_keys_are_refused_by_name() {
    for (pem, expected) in [
        (K1, "is on the curve 1.3.132.0.10; P-256"),
        (RSA_1024, "is an RSA key of 1024 bits, which can be broken; 2048 are the least"),
        (ED448, "is a key of the kind 1.3.101.113; P-256"),
        (X25519, "is a key of the kind 1.3.101.110; P-256"),
        (COMPRESSED, "has its point in compressed form"),
        (RSA_1024_OLD, "is in the older form of RSA keys"),
    ] {
        assert!(refusal(pem).starts_with(expected), "{}", refusal(pem));
    }
}

#[test]
fn what_is_no_key_is_told_without_repeating_it() {
    let private = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----";
    assert!(refusal(private).starts_with("is a private key"));
    assert!(!refusal(private).contains("c2VjcmV0"));
    for (pem, expected) in [
        ("", "is no public key in PEM"),
        ("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "is no public key in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "is a certificate"),
        ("-----BEGIN PUBLIC KEY-----\nA*A\n-----END PUBLIC KEY-----", "is no public key in PEM: what stands"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "holds something else than a public key",
        ),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", "is no public key in PEM"),
    ] {
        assert!(refusal(pem).starts_with(expected), "{}", refusal(pem));
    }
    assert!(refusal(&format!("{P256}{P384}")).starts_with("holds more than one key"));
    assert!(refusal(&format!("{P256}and more")).starts_with("has something behind"));
    assert!(refusal(&"x".repeat(MAX_PEM + 1)).starts_with("is longer than"));
}

#[test]
fn a_point_that_is_on_no_curve_is_no_key() {
    // The key ends with the coordinates of its point.
    let mut der = contents(P256).unwrap();
    let last = der.last_mut().unwrap();
    *last ^= 1;
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der));
    assert_eq!(refusal(&pem), "is no valid P-256 key");
}

fn with(signer: &Value) -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
        "spec": {"images": {"include": ["ghcr.io/o/**"]}, "signers": [signer]},
    })
}

#[test]
fn keys_and_roots_are_taken_as_they_are_named() {
    let key = |log: &str| json!({"publicKey": {"pem": P256, "transparencyLog": log}});
    for (signer, log, root) in [
        (json!({"publicKey": {"pem": P256}}), TransparencyLog::Required, "sigstore"),
        (key("Required"), TransparencyLog::Required, "sigstore"),
        (key("Optional"), TransparencyLog::Optional, "sigstore"),
        (json!({"publicKey": {"pem": P256}, "trustRoot": "corp"}), TransparencyLog::Required, "corp"),
    ] {
        let PolicyEntry::Valid(policy) = compile(&with(&signer), &NoKeys).entry else { panic!("{signer}") };
        let SignerIdentity::PublicKey(identity) = &policy.signers[0].identity else { panic!("{signer}") };
        assert_eq!((identity.log, identity.key.kind()), (log, KeyKind::P256));
        assert_eq!(policy.signers[0].trust_root.0, root);
    }
    for root in ["sigstore", "github", "corp", "a.b-c"] {
        let signer = json!({"github": {"repository": "o/a"}, "trustRoot": root});
        let PolicyEntry::Valid(policy) = compile(&with(&signer), &NoKeys).entry else { panic!("{root}") };
        assert_eq!(policy.signers[0].trust_root.0, root);
    }
}

#[test]
fn a_private_key_in_a_policy_is_not_repeated() {
    let pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let errors = compile(&with(&json!({"publicKey": {"pem": pem}})), &NoKeys).errors;
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 1 && told[0].starts_with("spec.signers[0].publicKey.pem: is a private key"),
        "{told:?}"
    );
    assert!(!told[0].contains("c2VjcmV0"));
}

#[test]
fn a_log_that_cannot_be_or_need_not_be_is_told() {
    let told = |signer: &Value| {
        let compiled = compile(&with(signer), &NoKeys);
        compiled.errors.iter().chain(&compiled.warnings).map(ToString::to_string).collect::<Vec<_>>()
    };
    for (signer, expected) in [
        (
            json!({"publicKey": {"pem": P256, "transparencyLog": "Never"}}),
            r#"spec.signers[0].publicKey.transparencyLog: "Never" is not one of Required, Optional"#,
        ),
        (
            json!({"publicKey": {"pem": P256}, "trustRoot": "github"}),
            r#"spec.signers[0].trustRoot: "github" has no transparency log"#,
        ),
        (
            json!({"publicKey": {"pem": P256, "transparencyLog": "Optional"}, "trustRoot": "corp"}),
            r#"spec.signers[0].trustRoot: "corp" says nothing here"#,
        ),
    ] {
        let notes = told(&signer);
        assert!(notes.len() == 1 && notes[0].starts_with(expected), "{notes:?}");
    }
    for signer in [
        json!({"publicKey": {"pem": P256, "transparencyLog": "Optional"}}),
        json!({"publicKey": {"pem": P256, "transparencyLog": "Optional"}, "trustRoot": "sigstore"}),
        json!({"publicKey": {"pem": P256, "transparencyLog": "Required"}, "trustRoot": "sigstore"}),
    ] {
        assert_eq!(told(&signer), Vec::<String>::new(), "{signer}");
    }
}

fn given(objects: &[Value]) -> GivenKeys {
    let mut keys = GivenKeys::default();
    for object in objects {
        keys.add(object);
    }
    keys
}

fn secret(namespace: &str, entry: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign", "namespace": namespace},
        "data": {entry: STANDARD.encode(text)}})
}

fn in_team(signer: &Value) -> Value {
    let mut policy = with(signer);
    policy["kind"] = json!("ProvenancePolicy");
    policy["metadata"]["namespace"] = json!("team");
    policy
}

#[track_caller]
fn read(policy: &Value, keys: &GivenKeys) -> String {
    let compiled = compile(policy, keys);
    let PolicyEntry::Valid(valid) = compiled.entry else { panic!("{:?}", compiled.errors) };
    let SignerIdentity::PublicKey(identity) = &valid.signers[0].identity else { panic!("{policy}") };
    identity.key.id().to_string()
}

#[test]
fn a_key_is_read_from_what_is_referenced() {
    let expected = public_key(P256).unwrap().id().to_string();
    let of = |namespace: &str| {
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "keys", "namespace": namespace}, "data": {"p256.pem": P256}});
        let mut written = secret(namespace, "next.pub", P384);
        written["metadata"]["name"] = json!("written");
        written["stringData"] = json!({"next.pub": P256});
        map["metadata"]["labels"] = json!({"a": "b"});
        given(&[secret(namespace, "cosign.pub", P256), written, map])
    };
    for reference in [
        json!({"secretRef": {"name": "cosign"}}),
        json!({"secretRef": {"name": "cosign", "key": "cosign.pub"}}),
        json!({"secretRef": {"name": "written", "key": "next.pub"}}),
        json!({"configMapRef": {"name": "keys", "key": "p256.pem"}}),
    ] {
        let signer = json!({"publicKey": reference});
        assert_eq!(read(&in_team(&signer), &of("team")), expected, "{signer}");
        // A cluster policy reads where Bonafide is, and a policy of a namespace never does.
        assert_eq!(read(&with(&signer), &of("bonafide")), expected, "{signer}");
        for (policy, namespace) in [(in_team(&signer), "bonafide"), (with(&signer), "team")] {
            let compiled = compile(&policy, &of(namespace));
            assert!(matches!(compiled.entry, PolicyEntry::Invalid(_)), "{policy}");
            assert!(compiled.errors[0].message.ends_with(" is not there"), "{:?}", compiled.errors);
        }
    }
}

#[test]
fn a_reference_to_no_key_is_an_error_that_is_told_apart() {
    let mut without = secret("team", "cosign.pub", P256);
    without["data"]["cosign.pub"] = json!(STANDARD.encode([0xff]));
    let there = secret("team", "cosign.pub", P256);
    let key = json!({"publicKey": {"secretRef": {"name": "cosign"}}});
    let mut told = Vec::new();
    for objects in [
        vec![],
        vec![secret("other", "cosign.pub", P256)],
        vec![secret("team", "cosign.key", P256)],
        vec![without],
        vec![there.clone(), there.clone()],
        vec![secret("team", "cosign.pub", K1)],
        vec![secret("team", "cosign.pub", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0")],
    ] {
        let compiled = compile(&in_team(&key), &given(&objects));
        assert!(matches!(compiled.entry, PolicyEntry::Invalid(_)), "{objects:?}");
        assert_eq!(compiled.errors, compiled.unmet);
        told.extend(compiled.errors.iter().map(ToString::to_string));
    }
    assert_eq!(compile(&in_team(&key), &given(&[there])).errors, []);
    told.extend(compile(&in_team(&key), &NoKeys).errors.iter().map(ToString::to_string));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_referenced_is_known_whether_it_is_there_or_not() {
    let key = json!({"publicKey": {"configMapRef": {"name": "keys"}}});
    let known = |policy: &Value, keys: &GivenKeys| {
        compile(policy, keys).key_objects.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(known(&in_team(&key), &given(&[])), ["ConfigMap team/keys, key cosign.pub"]);
    assert_eq!(known(&with(&key), &given(&[])), ["ConfigMap bonafide/keys, key cosign.pub"]);
    assert_eq!(known(&with(&json!({"publicKey": {"pem": P256}})), &given(&[])), Vec::<String>::new());
}

#[test]
fn a_key_is_had_in_exactly_one_way() {
    let there = given(&[secret("bonafide", "cosign.pub", P256)]);
    let reference = json!({"name": "cosign"});
    for (key, errors) in [
        (json!({"pem": P256}), vec![]),
        (json!({"secretRef": reference}), vec![]),
        (json!({}), vec!["publicKey: has exactly one of pem, secretRef, configMapRef"]),
        (
            json!({"pem": P256, "secretRef": reference}),
            vec!["publicKey: has exactly one of pem, secretRef, configMapRef"],
        ),
        (
            json!({"secretRef": reference, "configMapRef": reference}),
            vec!["publicKey: has exactly one of pem, secretRef, configMapRef"],
        ),
        (json!({"secretRef": {}}), vec!["publicKey.secretRef.name: is missing"]),
    ] {
        let found = compile(&with(&json!({"publicKey": key})), &there).errors;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expected: Vec<String> = errors.iter().map(|error| format!("spec.signers[0].{error}")).collect();
        assert_eq!(found, expected, "{key}");
    }
    for bad in [json!({"name": "Cosign"}), json!({"name": "cosign", "key": "a/b"})] {
        let errors = compile(&with(&json!({"publicKey": {"secretRef": bad}})), &there).errors;
        assert!(errors.iter().any(|error| !error.message.ends_with("is not there")), "{errors:?}");
    }
}
