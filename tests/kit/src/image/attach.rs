//! What tools attach to images: referrers with Sigstore bundles, the same under the fallback tag, and
//! cosign's `.att` tags. The bytes are the caller's, and may be anything.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{OCI_CONFIG, push_blob, push_json};
use crate::{
    registry::{OCI_INDEX, OCI_MANIFEST, Registry},
    sigstore::COSIGN_SIGN,
};

/// The artifact type of Sigstore bundles, version 0.3.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The media type of the empty config, and the artifact type that fallback indexes often state instead of the true one.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const DSSE_LAYER: &str = "application/vnd.dsse.envelope.v1+json";
const SLSA_V1: &str = "https://slsa.dev/provenance/v1";

/// A manifest whose subject is another.
#[derive(Clone)]
pub struct Referrer {
    artifact_type: String,
    layers: Vec<(String, Bytes)>,
    annotations: BTreeMap<String, String>,
    subject: Option<Value>,
    listed_as: Option<String>,
}

impl Referrer {
    /// A Sigstore bundle of SLSA provenance v1, as `actions/attest-build-provenance` and cosign attach it.
    pub fn bundle(bundle: impl Into<Bytes>) -> Self {
        Self::artifact(BUNDLE_TYPE, bundle)
            .annotation("dev.sigstore.bundle.content", "dsse-envelope")
            .annotation("dev.sigstore.bundle.predicateType", SLSA_V1)
    }

    /// One layer of any type.
    pub fn artifact(artifact_type: &str, layer: impl Into<Bytes>) -> Self {
        Self {
            artifact_type: artifact_type.to_owned(),
            layers: vec![(artifact_type.to_owned(), layer.into())],
            annotations: BTreeMap::new(),
            subject: None,
            listed_as: Some(EMPTY_TYPE.to_owned()),
        }
    }

    /// What the annotation says the predicate type is.
    #[must_use]
    pub fn predicate_type(self, predicate_type: &str) -> Self {
        self.annotation("dev.sigstore.bundle.predicateType", predicate_type)
    }

    /// An annotation of the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another artifact type of the manifest; its layers keep theirs.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        artifact_type.clone_into(&mut self.artifact_type);
        self
    }

    /// A further layer.
    #[must_use]
    pub fn layer(mut self, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        self.layers.push((media_type.to_owned(), bytes.into()));
        self
    }

    /// The descriptor of the subject as the manifest states it, in place of the true one (a size that lies, say).
    #[must_use]
    pub fn subject(mut self, descriptor: Value) -> Self {
        self.subject = Some(descriptor);
        self
    }

    /// The artifact type that the fallback index states; `None` leaves it out. By default it is wrong, as it often is.
    #[must_use]
    pub fn listed_as(mut self, artifact_type: Option<&str>) -> Self {
        self.listed_as = artifact_type.map(str::to_owned);
        self
    }

    /// Pushes the manifest, which the referrers API then lists for the subject, and returns its digest.
    pub fn attach(&self, registry: &Registry, repo: &str, subject: &str) -> String {
        let digest = self.push(registry, repo, subject)["digest"].clone();
        digest.as_str().unwrap_or_default().to_owned()
    }

    /// Pushes the manifest and lists it in the index under the fallback tag of the subject, as clients do where a
    /// registry has no referrers API ([`Registry::set_referrers_api`]). Returns the digest of the manifest.
    pub fn attach_by_fallback_tag(&self, registry: &Registry, repo: &str, subject: &str) -> String {
        let mut descriptor = self.push(registry, repo, subject);
        let digest = descriptor["digest"].as_str().unwrap_or_default().to_owned();
        if let Some(listed_as) = &self.listed_as {
            descriptor["artifactType"] = json!(listed_as);
        }
        descriptor["annotations"] = json!(self.annotations);
        let tag = subject.replacen(':', "-", 1);
        let mut index = registry.manifest(repo, &tag).map_or_else(
            || json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}),
            |m| m.json(),
        );
        index["manifests"].as_array_mut().expect("an index under the fallback tag").push(descriptor);
        registry.push_manifest(repo, Some(&tag), OCI_INDEX, index.to_string());
        digest
    }

    fn push(&self, registry: &Registry, repo: &str, subject: &str) -> Value {
        let layer =
            |(media_type, bytes): &(String, Bytes)| push_blob(registry, repo, media_type, bytes.to_vec());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": self.artifact_type,
            "config": push_blob(registry, repo, EMPTY_TYPE, b"{}".to_vec()),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "annotations": self.annotations,
            "subject": self.subject.clone().unwrap_or_else(|| descriptor_of(registry, repo, subject)),
        });
        push_json(registry, repo, OCI_MANIFEST, &manifest)
    }
}

/// The descriptor of a manifest; of one that was never pushed, what can be said of it.
fn descriptor_of(registry: &Registry, repo: &str, digest: &str) -> Value {
    registry
        .manifest(repo, digest)
        .map_or_else(|| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 0}), |m| m.descriptor())
}

/// Attaches a Sigstore bundle as a referrer and returns the digest of its manifest. See [`Referrer`] for variations.
pub fn attach_bundle(registry: &Registry, repo: &str, subject: &str, bundle: impl Into<Bytes>) -> String {
    Referrer::bundle(bundle).attach(registry, repo, subject)
}

/// Attaches a Sigstore bundle with a signature alone, as cosign 3 and Docker's builder do.
pub fn attach_signature(registry: &Registry, repo: &str, subject: &str, bundle: impl Into<Bytes>) -> String {
    Referrer::bundle(bundle).predicate_type(COSIGN_SIGN).attach(registry, repo, subject)
}

/// Attaches DSSE envelopes with their annotations under cosign's tag `sha256-<hex>.att`, behind those that are there
/// already, and returns the digest of the manifest.
pub fn attach_att(
    registry: &Registry,
    repo: &str,
    subject: &str,
    layers: &[(Vec<u8>, BTreeMap<String, String>)],
) -> String {
    let tag = format!("{}.att", subject.replacen(':', "-", 1));
    let old = registry.manifest(repo, &tag).map(|manifest| manifest.json()["layers"].clone());
    let mut all: Vec<Value> = old.and_then(|layers| layers.as_array().cloned()).unwrap_or_default();
    for (bytes, annotations) in layers {
        let mut layer = push_blob(registry, repo, DSSE_LAYER, bytes.clone());
        layer["annotations"] = json!(annotations);
        all.push(layer);
    }
    let contents: Vec<_> = all.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": contents}});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": push_blob(registry, repo, OCI_CONFIG, config.to_string().into_bytes()),
        "layers": all,
    });
    registry.push_manifest(repo, Some(&tag), OCI_MANIFEST, manifest.to_string())
}
