//! The kit's cosign `.att` layers, which `sigstore-verify` does not read: the log's signed entry
//! timestamp and the certificate's embedded timestamp checked by hand, and their form held against
//! real layers where those are at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bonafide_kit::sigstore::{Build, Defect, EntryKind, Identity, Sigstore, statement_v02};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode};

const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

type Layer = (Vec<u8>, BTreeMap<String, String>);

fn builder() -> Identity {
    Identity::github_legacy("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push")
}

fn layer(sigstore: &Sigstore, kind: EntryKind, defect: Option<Defect>) -> Layer {
    let statement = statement_v02(&[("ghcr.io/acme/app", &"ab".repeat(32))], &Build::of(&builder()));
    let mut signing = sigstore.signing(&builder()).entry(kind);
    if let Some(defect) = defect {
        signing = signing.defect(defect);
    }
    signing.sign(statement.to_string()).cosign_att_layer()
}

fn decode(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn verifies(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki).unwrap().verify_sig(message, signature).is_ok()
}

/// The signed entry timestamp holds under the root's log.
fn set_holds(root: &Value, (_, annotations): &Layer) -> bool {
    let Some(bundle) = annotations.get("dev.sigstore.cosign/bundle") else { return false };
    let bundle = json(bundle);
    let payload = &bundle["Payload"];
    let log = &root["tlogs"][0];
    if hex::encode(decode(&log["logId"]["keyId"])) != payload["logID"].as_str().unwrap() {
        return false;
    }
    let message = format!(
        r#"{{"body":{},"integratedTime":{},"logID":{},"logIndex":{}}}"#,
        payload["body"], payload["integratedTime"], payload["logID"], payload["logIndex"]
    );
    let set = decode(&bundle["SignedEntryTimestamp"]);
    verifies(&decode(&log["publicKey"]["rawBytes"]), message.as_bytes(), &set)
}

/// The certificate's embedded timestamp holds under the root's certificate-transparency log, for the
/// first certificate of the chain as its issuer.
fn sct_holds(root: &Value, (_, annotations): &Layer) -> bool {
    let leaf = Certificate::from_pem(&annotations["dev.sigstore.cosign/certificate"]).unwrap();
    let chain = Certificate::load_pem_chain(annotations["dev.sigstore.cosign/chain"].as_bytes()).unwrap();
    let mut tbs_der = leaf.tbs_certificate().to_der().unwrap();
    let extensions = leaf.tbs_certificate().extensions().unwrap();
    let Some(list) = extensions.iter().find(|extension| extension.extn_id.to_string() == SCT_LIST) else {
        return false;
    };
    // The list is the last extension: cut it off, and mend the three lengths above it.
    let tail = list.to_der().unwrap();
    assert!(tbs_der.ends_with(&tail));
    let removed: Vec<_> =
        extensions.iter().filter(|extension| extension.extn_id.to_string() != SCT_LIST).cloned().collect();
    let old = tlv(0xa3, &extensions.to_der().unwrap());
    let new = tlv(0xa3, &removed.to_der().unwrap());
    let contents = &tbs_der[tbs_der.len() - content_length(&tbs_der)..];
    tbs_der = tlv(0x30, &[&contents[..contents.len() - old.len()], &new].concat());

    let list = x509_cert::der::asn1::OctetString::from_der(list.extn_value.as_bytes()).unwrap();
    let sct = &list.as_bytes()[4..];
    let (log_id, timestamp, signature) = (&sct[1..33], &sct[33..41], &sct[47..]);
    let log = &root["ctlogs"][0];
    let issuer = chain[0].tbs_certificate().subject_public_key_info().to_der().unwrap();
    let length = u32::try_from(tbs_der.len()).unwrap().to_be_bytes();
    let message =
        [&[0, 0], timestamp, &[0, 1], digest(&SHA256, &issuer).as_ref(), &length[1..], &tbs_der, &[0, 0]]
            .concat();
    log_id == decode(&log["logId"]["keyId"])
        && verifies(&decode(&log["publicKey"]["rawBytes"]), &message, signature)
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(u8::try_from(length).unwrap()),
        0x80..0x100 => out.extend([0x81, u8::try_from(length).unwrap()]),
        _ => {
            out.push(0x82);
            out.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(contents);
    out
}

fn content_length(element: &[u8]) -> usize {
    match element[1] {
        0x82 => element.len() - 4,
        0x81 => element.len() - 3,
        _ => element.len() - 2,
    }
}

#[test]
fn timestamps_of_both_logs_hold() {
    let sigstore = Sigstore::new();
    let root = sigstore.trusted_root();
    for kind in [EntryKind::Intoto001, EntryKind::Dsse001] {
        let good = layer(&sigstore, kind, None);
        assert!(set_holds(&root, &good) && sct_holds(&root, &good), "{kind:?}");
    }
}

#[test]
fn each_defect_of_a_log_spoils_its_own_timestamp() {
    let sigstore = Sigstore::new();
    let root = sigstore.trusted_root();
    for (defect, set, sct) in [
        (Defect::SetInvalid, false, true),
        (Defect::IntegratedTimeChanged, false, true),
        (Defect::LogEntryByUnknownLog, false, true),
        (Defect::NoLogEntry, false, true),
        (Defect::SetMissing, false, true),
        (Defect::SctMissing, true, false),
        (Defect::SctByUnknownLog, true, false),
        (Defect::SctSignatureInvalid, true, false),
        (Defect::SctOfAnotherCertificate, true, false),
        (Defect::SctOfAnotherIssuer, true, false),
        (Defect::SignatureInvalid, true, true),
        (Defect::ChainOfAnotherAuthority, true, true),
        (Defect::LogEntryOfAnotherCertificate, true, true),
    ] {
        let spoiled = layer(&sigstore, EntryKind::Intoto001, Some(defect));
        assert!(defect.spoils_att_layer());
        assert_eq!((set_holds(&root, &spoiled), sct_holds(&root, &spoiled)), (set, sct), "{defect:?}");
    }
}

#[test]
fn an_intoto_entry_describes_its_envelope_and_certificate() {
    let sigstore = Sigstore::new();
    let body = |layer: &Layer| {
        let bundle = json(&layer.1["dev.sigstore.cosign/bundle"]);
        json(std::str::from_utf8(&decode(&bundle["Payload"]["body"])).unwrap())
    };
    let good = layer(&sigstore, EntryKind::Intoto001, None);
    let spec = &body(&good)["spec"];
    assert_eq!(spec["content"]["hash"]["value"], sha256_hex(&good.0));
    let payload = decode(&json(std::str::from_utf8(&good.0).unwrap())["payload"]);
    assert_eq!(spec["content"]["payloadHash"]["value"], sha256_hex(&payload));
    assert_eq!(decode(&spec["publicKey"]), good.1["dev.sigstore.cosign/certificate"].as_bytes());

    let other = layer(&sigstore, EntryKind::Intoto001, Some(Defect::LogEntryOfAnotherEnvelope));
    assert_ne!(body(&other)["spec"]["content"]["payloadHash"]["value"], sha256_hex(&payload));
    let other = layer(&sigstore, EntryKind::Intoto001, Some(Defect::LogEntryOfAnotherSignature));
    assert_ne!(body(&other)["spec"]["content"]["hash"]["value"], sha256_hex(&other.0));
    let other = layer(&sigstore, EntryKind::Intoto001, Some(Defect::LogEntryOfAnotherCertificate));
    assert_eq!(body(&other)["spec"]["content"]["hash"]["value"], sha256_hex(&other.0));
    assert_ne!(
        decode(&body(&other)["spec"]["publicKey"]),
        other.1["dev.sigstore.cosign/certificate"].as_bytes()
    );
}

/// The `.att` layer of a real image, in the layout that `cosign save` writes.
fn real_layer(image: &str) -> Option<Layer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/images").join(image);
    let blob = |digest: &Value| {
        std::fs::read(folder.join("blobs/sha256").join(&digest.as_str().unwrap()["sha256:".len()..])).unwrap()
    };
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).ok()?).unwrap();
    let attestations = index["manifests"].as_array().unwrap().iter();
    let attestations: Vec<_> = attestations
        .filter(|entry| entry["annotations"]["kind"] == "dev.cosignproject.cosign/atts")
        .collect();
    let manifest: Value = serde_json::from_slice(&blob(&attestations[0]["digest"])).unwrap();
    let layer = &manifest["layers"][0];
    let annotations = serde_json::from_value(layer["annotations"].clone()).unwrap();
    Some((blob(&layer["digest"]), annotations))
}

/// The names of every field, values left out.
fn shape(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| shape(field, &format!("{path}.{name}"), into));
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), into)),
        Value::String(_) => drop(into.insert(format!("{path}: text"))),
        _ => drop(into.insert(format!("{path}: other"))),
    }
}

fn layer_shape((bytes, annotations): &Layer) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = annotations.keys().cloned().collect();
    let bundle = json(&annotations["dev.sigstore.cosign/bundle"]);
    shape(&bundle, "bundle", &mut names);
    shape(&json(std::str::from_utf8(&decode(&bundle["Payload"]["body"])).unwrap()), "body", &mut names);
    shape(&json(std::str::from_utf8(bytes).unwrap()), "envelope", &mut names);
    names
}

#[test]
fn layers_have_the_form_of_real_ones() {
    let sigstore = Sigstore::new();
    for (image, kind) in [
        ("slsa-github-generator-v1.4.0", EntryKind::Intoto001),
        ("slsa-github-generator-v1.5.0", EntryKind::Intoto001),
        ("slsa-github-generator-v2.1.0", EntryKind::Dsse001),
    ] {
        let Some(real) = real_layer(image) else {
            println!("SKIPPED: no real image {image} at hand");
            continue;
        };
        assert_eq!(layer_shape(&real), layer_shape(&layer(&sigstore, kind, None)), "{image}");
        // What these tests check by hand holds for the real thing too.
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/roots/trusted_root.json");
        let mut root = json(&std::fs::read_to_string(root).unwrap());
        root["ctlogs"].as_array_mut().unwrap().remove(0);
        assert!(set_holds(&root, &real) && sct_holds(&root, &real), "{image}");
    }
}
