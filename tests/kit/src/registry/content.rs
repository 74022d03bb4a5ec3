//! What the registry holds: blobs, manifests and tags of each repository, all in memory. It serves
//! whatever it was given, valid or not: judging content is the business of the code under test.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::{Value, json};

/// The media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a Docker schema 2 image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a Docker schema 2 manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The SHA-256 digest of these bytes, as registries write it (`sha256:…`).
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, bytes)))
}

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What the registry says in `Content-Type`.
    pub media_type: String,
    /// The bytes, as pushed.
    pub bytes: Bytes,
}

impl Manifest {
    /// The bytes as JSON, `Null` where they are none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The descriptor that names this manifest.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": digest_of(&self.bytes), "size": self.bytes.len()})
    }

    /// The descriptor of this manifest in a list of referrers.
    fn referrer(&self) -> Value {
        let (mut descriptor, manifest) = (self.descriptor(), self.json());
        let artifact_type = match &manifest["artifactType"] {
            Value::Null => &manifest["config"]["mediaType"],
            given => given,
        };
        for (key, value) in [("artifactType", artifact_type), ("annotations", &manifest["annotations"])] {
            if !value.is_null() {
                descriptor[key] = value.clone();
            }
        }
        descriptor
    }
}

/// One repository.
#[derive(Default)]
pub(crate) struct Repo {
    manifests: HashMap<String, Manifest>,
    /// The order of pushes, which is the order of referrers.
    order: Vec<String>,
    blobs: HashMap<String, Bytes>,
    tags: BTreeMap<String, String>,
}

impl Repo {
    pub(crate) fn put_manifest(&mut self, manifest: Manifest) -> String {
        let digest = digest_of(&manifest.bytes);
        if self.manifests.insert(digest.clone(), manifest).is_none() {
            self.order.push(digest.clone());
        }
        digest
    }

    pub(crate) fn put_blob(&mut self, bytes: Bytes) -> String {
        let digest = digest_of(&bytes);
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    pub(crate) fn tag(&mut self, tag: &str, digest: &str) {
        self.tags.insert(tag.to_owned(), digest.to_owned());
    }

    /// The digest a tag or a digest stands for, whether or not the manifest is there.
    pub(crate) fn resolve(&self, reference: &str) -> Option<String> {
        if reference.contains(':') {
            return Some(reference.to_owned());
        }
        self.tags.get(reference).cloned()
    }

    pub(crate) fn manifest(&self, reference: &str) -> Option<&Manifest> {
        self.manifests.get(&self.resolve(reference)?)
    }

    pub(crate) fn blob(&self, digest: &str) -> Option<&Bytes> {
        self.blobs.get(digest)
    }

    pub(crate) fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// Forgets a tag, or (by digest) a manifest with its tags, or a blob.
    pub(crate) fn delete(&mut self, reference: &str) {
        self.tags.retain(|tag, digest| tag != reference && digest != reference);
        self.manifests.remove(reference);
        self.order.retain(|digest| digest != reference);
        self.blobs.remove(reference);
    }

    /// The descriptors of all manifests whose `subject` is this digest, in the order of their pushes.
    pub(crate) fn referrers(&self, subject: &str) -> Vec<Value> {
        let named = |manifest: &&Manifest| manifest.json()["subject"]["digest"] == subject;
        self.order
            .iter()
            .filter_map(|digest| self.manifests.get(digest))
            .filter(named)
            .map(Manifest::referrer)
            .collect()
    }
}

/// All repositories of a registry.
#[derive(Default)]
pub(crate) struct Content {
    repos: HashMap<String, Repo>,
}

impl Content {
    pub(crate) fn repo(&self, name: &str) -> Option<&Repo> {
        self.repos.get(name)
    }

    pub(crate) fn repo_mut(&mut self, name: &str) -> &mut Repo {
        self.repos.entry(name.to_owned()).or_default()
    }
}
