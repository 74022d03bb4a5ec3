//! What the tests of `trust` share: the real vectors, and what becomes of an attestation.
#![allow(dead_code, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{Attestation, Finding, Layout, Verified},
        identity::TrustRootName,
    },
    gather::ports::{RawAttestation, RawContent},
    trust::Roots,
};
use bytes::Bytes;
use serde_json::Value;

pub const IMAGES: [&str; 3] =
    ["slsa-github-generator-v1.4.0", "slsa-github-generator-v1.5.0", "slsa-github-generator-v2.1.0"];

/// The folder of the vectors; `None`, said aloud, where it is not there.
pub fn vectors() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there, so nothing real was verified", folder.display());
        return None;
    }
    Some(folder)
}

pub fn public_good() -> Roots {
    Roots::public_good().unwrap()
}

pub fn root(file: &Path) -> Roots {
    Roots::from_json(TrustRootName::default(), &fs::read_to_string(file).unwrap()).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn raw(layout: Layout, bytes: &[u8], content: RawContent) -> RawAttestation {
    RawAttestation { layout, found_at: Digest::of(bytes), content }
}

pub fn bundle(bytes: Vec<u8>) -> RawAttestation {
    let bytes = Bytes::from(bytes);
    raw(Layout::Referrer, &bytes.clone(), RawContent::Bundle(bytes))
}

pub fn layer(envelope: Vec<u8>, annotations: BTreeMap<String, String>) -> RawAttestation {
    let envelope = Bytes::from(envelope);
    raw(Layout::AttTag, &envelope.clone(), RawContent::CosignLayer { envelope, annotations })
}

/// The one `.att` layer of an image in the layout of `cosign save`: its bytes and annotations, and the image's digest.
pub fn att_layer(image: &Path) -> (Vec<u8>, BTreeMap<String, String>, Digest) {
    let blob = |digest: &str| {
        fs::read(image.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap()
    };
    let index = json(&image.join("index.json"));
    let of_kind = |kind: &str| {
        let manifests = index["manifests"].as_array().unwrap();
        let found = manifests
            .iter()
            .find(|entry| entry["annotations"]["kind"].as_str().is_some_and(|text| text.starts_with(kind)));
        found.unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let image =
        ["dev.cosignproject.cosign/imageIndex", "dev.cosignproject.cosign/image"].iter().find_map(|kind| {
            let manifests = index["manifests"].as_array().unwrap();
            manifests
                .iter()
                .find(|entry| entry["annotations"]["kind"] == **kind)
                .map(|entry| entry["digest"].clone())
        });
    let manifest: Value = serde_json::from_slice(&blob(&of_kind("dev.cosignproject.cosign/atts"))).unwrap();
    let layer = &manifest["layers"][0];
    let annotations = serde_json::from_value(layer["annotations"].clone()).unwrap();
    (blob(layer["digest"].as_str().unwrap()), annotations, image.unwrap().as_str().unwrap().parse().unwrap())
}

#[track_caller]
pub fn verified(attestation: Attestation) -> Verified {
    match attestation.finding {
        Finding::Verified(verified) => *verified,
        other => panic!("not verified: {other:?}"),
    }
}

/// The kind and the text of what is not verified.
#[track_caller]
pub fn refused(attestation: &Attestation) -> (&'static str, String) {
    match &attestation.finding {
        Finding::Untrusted(reason) => ("untrusted", reason.clone()),
        Finding::Malformed(reason) => ("malformed", reason.clone()),
        other => panic!("not refused: {other:?}"),
    }
}
