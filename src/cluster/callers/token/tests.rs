//! Tokens as an API server issues them, and each in one thing as it does not.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    },
};
use serde_json::{Value, json};

use super::*;

const AUDIENCE: &str = "https://bonafide.ns.svc:443/validate";
const NOW: i64 = 1_000_000;

/// The keys of an API server, one of each kind.
pub struct Issuer {
    /// What the RSA key is called; the other is `p256`.
    name: &'static str,
    rsa: aws_lc_rs::rsa::KeyPair,
    p256: EcdsaKeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub fn new() -> Self {
        Self::named("rsa")
    }

    pub fn named(name: &'static str) -> Self {
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { name, rsa, p256 }
    }

    pub fn key_set(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.rsa.public_key().into();
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"use": "sig", "kty": "RSA", "kid": self.name, "alg": "RS256", "n": encode(public.n), "e": encode(public.e)},
            {"use": "sig", "kty": "EC", "kid": "p256", "alg": "ES256", "crv": "P-256",
                "x": encode(&point[1..33]), "y": encode(&point[33..])},
        ]})
    }

    fn keys(&self) -> Vec<SigningKey> {
        read_keys(&self.key_set().to_string()).unwrap()
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = if header["kid"] == "p256" {
            self.p256.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
            signature
        };
        format!("{message}.{}", encode(signature))
    }
}

pub fn header(key: &str) -> Value {
    json!({"alg": if key == "p256" { "ES256" } else { "RS256" }, "kid": key})
}

/// As an API server of 1.37 issues it for an audience, bound to a configuration.
pub fn claims_for(audience: &str, kind: &str, uid: &str, now: i64) -> Value {
    json!({
        "iss": "https://issuer", "sub": "system:serviceaccount:kube-system:webhook-auth", "aud": [audience],
        "exp": now + 600, "nbf": now, "iat": now, "jti": "1",
        "kubernetes.io": {
            "namespace": "kube-system", "serviceaccount": {"name": "webhook-auth", "uid": "1"},
            kind: {"name": "bonafide", "uid": uid},
            "attestations": {"admissionReviewAPIGroups": ["*"]},
        },
    })
}

fn claims() -> Value {
    claims_for(AUDIENCE, "validatingwebhookconfiguration", "u", NOW)
}

fn expected(subjects: &[String]) -> Expected<'_> {
    Expected {
        issuer: "https://issuer",
        audience: AUDIENCE,
        name: "bonafide",
        configurations: &[(ConfigurationKind::Validating, Some("u"))],
        subjects,
        now: NOW,
    }
}

#[test]
fn d_a_token_that_the_api_server_issued_for_this_entry_counts() {
    let issuer = Issuer::new();
    for key in ["rsa", "p256"] {
        let token = issuer.sign(&header(key), &claims());
        assert_eq!(verify(&token, &issuer.keys(), &expected(&[])), Ok(NOW + 600), "{key}");
    }
    let mut one = claims();
    one["aud"] = json!(AUDIENCE);
    assert!(verify(&issuer.sign(&header("rsa"), &one), &issuer.keys(), &expected(&[])).is_ok());
}

/// API servers sign with the key that they are given, on any of three curves.
#[test]
fn d_tokens_on_every_curve_of_api_servers_count() {
    for (curve, alg, size, scheme) in [
        ("P-256", "ES256", 32, &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", "ES384", 48, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", "ES512", 66, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        let pair = EcdsaKeyPair::generate(scheme).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(size);
        let key = json!({"use": "sig", "kty": "EC", "kid": "k", "alg": alg, "crv": curve, "x": encode(x), "y": encode(y)});
        let keys = read_keys(&json!({"keys": [key]}).to_string()).unwrap();
        let sign = |alg: &str| {
            let header = json!({"alg": alg, "kid": "k"}).to_string();
            let message = format!("{}.{}", encode(header), encode(claims().to_string()));
            let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", encode(signature))
        };
        assert_eq!(verify(&sign(alg), &keys, &expected(&[])), Ok(NOW + 600), "{alg}");
        for other in ["ES256", "ES384", "ES512", "RS256", "none"].into_iter().filter(|other| *other != alg) {
            assert!(matches!(verify(&sign(other), &keys, &expected(&[])), Err(TokenError::Malformed(_))));
        }
    }
}

#[test]
fn d_each_claim_that_differs_is_refused_and_named() {
    let issuer = Issuer::new();
    let bound = "/kubernetes.io/validatingwebhookconfiguration";
    let flips: [(&str, Value); 15] = [
        ("/iss", json!("https://other")),
        ("/aud", json!(["https://bonafide.ns.svc:443/mutate"])),
        ("/aud", json!(["https://bonafide.ns.svc/validate"])),
        ("/aud", json!([])),
        ("/exp", json!(NOW - 60)),
        ("/exp", json!("soon")),
        ("/nbf", json!(NOW + 60)),
        (bound, Value::Null),
        (bound, json!({"name": "other", "uid": "u"})),
        (bound, json!({"name": "bonafide", "uid": "other"})),
        (bound, json!({"name": "bonafide"})),
        ("/kubernetes.io/attestations", json!({})),
        ("/kubernetes.io/attestations", json!({"admissionReviewAPIGroups": ["apps"]})),
        // What any pod may mount: the audience is right, and it is bound to the pod.
        (
            "/kubernetes.io",
            json!({"namespace": "n", "pod": {"name": "p", "uid": "1"}, "serviceaccount": {"name": "default", "uid": "1"}}),
        ),
        ("/kubernetes.io", Value::Null),
    ];
    let mut told = Vec::new();
    for (at, value) in flips {
        let mut claims = claims();
        *claims.pointer_mut(at).unwrap() = value.clone();
        let refused = verify(&issuer.sign(&header("rsa"), &claims), &issuer.keys(), &expected(&[]));
        told.push(format!("{at} {value}\n  {}", refused.unwrap_err()));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn d_a_subject_that_the_operator_names_needs_no_binding_and_everything_else() {
    let issuer = Issuer::new();
    let mut unbound = claims();
    unbound["kubernetes.io"] = Value::Null;
    let token = issuer.sign(&header("rsa"), &unbound);
    let named = ["system:serviceaccount:kube-system:webhook-auth".to_owned()];
    assert!(verify(&token, &issuer.keys(), &expected(&named)).is_ok());
    assert!(verify(&token, &issuer.keys(), &expected(&["someone-else".to_owned()])).is_err());
    unbound["aud"] = json!("https://kubernetes.default.svc");
    let token = issuer.sign(&header("rsa"), &unbound);
    assert!(verify(&token, &issuer.keys(), &expected(&named)).is_err());
}

#[test]
fn d_a_token_is_signed_with_the_key_that_it_names_by_its_own_algorithm() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let check = |token: &str| verify(token, &issuer.keys(), &expected(&[]));
    let malformed = |token: &str| matches!(check(token), Err(TokenError::Malformed(_)));
    assert_eq!(check(&other.sign(&header("rsa"), &claims())), Err(TokenError::Signature));
    assert_eq!(check(&other.sign(&header("p256"), &claims())), Err(TokenError::Signature));
    assert_eq!(
        check(&issuer.sign(&json!({"alg": "RS256", "kid": "next"}), &claims())),
        Err(TokenError::UnknownKey)
    );
    for header in [
        json!({"alg": "none", "kid": "rsa"}),
        json!({"alg": "HS256", "kid": "rsa"}),
        json!({"alg": "RS256", "kid": "p256"}),
        json!({"alg": "RS512", "kid": "rsa"}),
        json!({"alg": "RS256"}),
        json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"]}),
    ] {
        assert!(malformed(&issuer.sign(&header, &claims())), "{header}");
    }
    let good = issuer.sign(&header("rsa"), &claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let mut more = claims();
    more["sub"] = json!("other");
    let changed = format!("{head}.{}.{signature}", encode(more.to_string()));
    assert_eq!(check(&changed), Err(TokenError::Signature));
    let unsigned = format!("{head}.{}.", encode(claims().to_string()));
    assert_eq!(check(&unsigned), Err(TokenError::Signature));
    for text in ["", ".", "..", "a.b.c", head, &"x".repeat(LONGEST + 1)] {
        assert!(malformed(text), "{text}");
    }
    // A claim that is there twice is read by nobody.
    let twice = claims().to_string().replacen('{', r#"{"sub":"a","#, 1);
    let message = format!("{head}.{}", encode(twice));
    let mut signature = vec![0; issuer.rsa.public_modulus_len()];
    issuer.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    assert!(malformed(&format!("{message}.{}", encode(signature))));
}

#[test]
fn keys_of_other_kinds_are_passed_over() {
    let issuer = Issuer::new();
    let mut set = issuer.key_set();
    let keys = set["keys"].as_array_mut().unwrap();
    for (field, value) in [("use", "enc"), ("alg", "RS512"), ("kty", "oct"), ("n", "!")] {
        let mut key = keys[0].clone();
        key[field] = json!(value);
        keys.push(key);
    }
    assert_eq!(read_keys(&set.to_string()).unwrap().len(), 2);
    assert!(read_keys("{}").is_err());
}
