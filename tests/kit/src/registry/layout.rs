//! OCI layout folders: read into the registry, and written from it in the two forms that are around,
//! plain and as `cosign save` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::content::{DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, digest_of};
use super::{Manifest, Registry};

/// The annotation by which `cosign save` says what an entry is.
const KIND: &str = "kind";
const KIND_PREFIX: &str = "dev.cosignproject.cosign/";
/// The annotation by which an entry of a plain layout carries its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The form of a layout folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `index.json` names the image, its attestations under their tags, and its referrers.
    Plain,
    /// `index.json` names the image and its `.att` and `.sig` manifests, told apart by the annotation `kind`;
    /// referrers are left out, as `cosign save` does.
    Cosign,
}

/// What a layout folder was found to hold.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The digests of the images that the folder names, attestations and other referrers left out.
    pub images: Vec<String>,
    /// The tags that were set, with their digests.
    pub tags: BTreeMap<String, String>,
    /// The number of files read.
    pub blobs: usize,
}

impl Registry {
    /// Loads a layout folder, or a folder of raw manifests and blobs without `index.json`, into a repository.
    ///
    /// # Panics
    /// Where the folder cannot be read.
    pub fn load_layout(&self, repo: &str, dir: impl AsRef<Path>) -> Loaded {
        let dir = dir.as_ref();
        let mut loaded = Loaded::default();
        let index = fs::read(dir.join("index.json")).ok();
        let blobs = if index.is_some() { dir.join("blobs/sha256") } else { dir.to_owned() };
        let mut read: Vec<_> =
            fs::read_dir(&blobs).expect("a folder of blobs").map(|file| file.unwrap().path()).collect();
        read.sort();
        for file in read {
            let bytes = Bytes::from(fs::read(file).expect("a readable blob"));
            loaded.blobs += 1;
            if index.is_none()
                && let Some(media_type) = media_type_of(&bytes)
            {
                loaded.images.push(self.push_manifest(repo, None, &media_type, bytes.clone()));
            }
            self.push_blob(repo, bytes);
        }
        let index: Value =
            index.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("index.json"));
        for entry in entries(&index) {
            self.load_manifest(repo, entry);
        }
        self.load_names(repo, &index, &mut loaded);
        loaded
    }

    /// Makes a manifest of the blob that a descriptor names, and of those that it names in turn.
    fn load_manifest(&self, repo: &str, descriptor: &Value) {
        let Some(bytes) = descriptor["digest"].as_str().and_then(|digest| self.blob(repo, digest)) else {
            return;
        };
        let manifest = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let media_type =
            [&descriptor["mediaType"], &manifest["mediaType"]].into_iter().find_map(Value::as_str);
        for child in entries(&manifest) {
            self.load_manifest(repo, child);
        }
        self.push_manifest(repo, None, media_type.unwrap_or(OCI_MANIFEST), bytes);
    }

    /// Sets the tags that the entries of `index.json` carry or imply.
    fn load_names(&self, repo: &str, index: &Value, loaded: &mut Loaded) {
        let kind = |entry: &Value| {
            let kind = entry["annotations"][KIND].as_str().and_then(|kind| kind.strip_prefix(KIND_PREFIX));
            kind.map(str::to_owned)
        };
        let mut subject: Option<String> = None;
        for entry in entries(index) {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let name = entry["annotations"][REF_NAME].as_str().map(str::to_owned);
            let suffix = match kind(entry).as_deref() {
                Some("atts") => Some("att"),
                Some("sigs") => Some("sig"),
                Some("sboms") => Some("sbom"),
                _ => None,
            };
            if let (Some(suffix), Some(subject)) = (suffix, &subject) {
                loaded.tags.insert(format!("{}.{suffix}", fallback_tag(subject)), digest.to_owned());
                continue;
            }
            let refers = self.manifest(repo, digest).is_some_and(|m| !m.json()["subject"].is_null());
            let attests = name.as_ref().is_some_and(|name| name.starts_with("sha256-"));
            if !refers && !attests {
                loaded.images.push(digest.to_owned());
                subject = Some(digest.to_owned());
            }
            if let Some(name) = name {
                // The name may be a whole reference; the tag is what follows its last colon.
                let tag = name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag);
                loaded.tags.insert(tag.to_owned(), digest.to_owned());
            }
        }
        for (tag, digest) in &loaded.tags {
            self.tag(repo, tag, digest);
        }
    }

    /// Writes an image (by tag or digest) and its attestations as a layout folder.
    ///
    /// # Panics
    /// Where the image is not there or the folder cannot be written.
    pub fn write_layout(&self, dir: impl AsRef<Path>, repo: &str, reference: &str, form: Layout) {
        let dir = dir.as_ref();
        fs::create_dir_all(dir.join("blobs/sha256")).expect("a folder to write to");
        let root = self.manifest(repo, reference).expect("the image");
        let mut written = BTreeSet::new();
        self.write_manifest(dir, repo, &root, &mut written);
        let mut index = vec![Self::root_entry(&root, reference, form)];
        let subjects: Vec<String> = match form {
            Layout::Plain => written.iter().cloned().collect(),
            Layout::Cosign => vec![digest_of(&root.bytes)],
        };
        for subject in &subjects {
            for (suffix, kind) in [("att", "atts"), ("sig", "sigs"), ("", "")] {
                let tag = if suffix.is_empty() {
                    fallback_tag(subject)
                } else {
                    format!("{}.{suffix}", fallback_tag(subject))
                };
                let Some(manifest) = self.manifest(repo, &tag) else { continue };
                let annotations = match form {
                    Layout::Plain => json!({REF_NAME: tag}),
                    Layout::Cosign if kind.is_empty() => continue,
                    Layout::Cosign => json!({KIND: format!("{KIND_PREFIX}{kind}")}),
                };
                self.write_manifest(dir, repo, &manifest, &mut written);
                index.push(annotated(&manifest, &annotations));
            }
        }
        if form == Layout::Plain {
            index.extend(self.write_referrers(dir, repo, &mut written));
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index});
        fs::write(dir.join("index.json"), index.to_string()).expect("index.json");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("oci-layout");
    }

    fn root_entry(root: &Manifest, reference: &str, form: Layout) -> Value {
        match form {
            Layout::Plain if reference.contains(':') => root.descriptor(),
            Layout::Plain => annotated(root, &json!({REF_NAME: reference})),
            Layout::Cosign => {
                let index = root.media_type == OCI_INDEX || root.media_type == DOCKER_LIST;
                let kind = if index { "imageIndex" } else { "image" };
                annotated(root, &json!({KIND: format!("{KIND_PREFIX}{kind}")}))
            }
        }
    }

    /// Writes the referrers of all that was written, and theirs in turn.
    fn write_referrers(&self, dir: &Path, repo: &str, written: &mut BTreeSet<String>) -> Vec<Value> {
        let mut found = Vec::new();
        let mut todo: Vec<String> = written.iter().cloned().collect();
        while let Some(subject) = todo.pop() {
            let referrers =
                self.state.content.lock().repo(repo).map(|r| r.referrers(&subject)).unwrap_or_default();
            for descriptor in referrers {
                let digest = descriptor["digest"].as_str().unwrap_or_default().to_owned();
                if let Some(manifest) = self.manifest(repo, &digest)
                    && !written.contains(&digest)
                {
                    self.write_manifest(dir, repo, &manifest, written);
                    todo.push(digest);
                    found.push(descriptor);
                }
            }
        }
        found
    }

    /// Writes a manifest and everything it names. Blobs that were never pushed are left out.
    fn write_manifest(&self, dir: &Path, repo: &str, manifest: &Manifest, written: &mut BTreeSet<String>) {
        let digest = digest_of(&manifest.bytes);
        write_blob(dir, &digest, &manifest.bytes);
        if !written.insert(digest) {
            return;
        }
        let content = manifest.json();
        for child in entries(&content) {
            if let Some(child) = child["digest"].as_str().and_then(|digest| self.manifest(repo, digest)) {
                self.write_manifest(dir, repo, &child, written);
            }
        }
        let layers = content["layers"].as_array().into_iter().flatten();
        for digest in layers.chain([&content["config"]]).filter_map(|blob| blob["digest"].as_str()) {
            if let Some(bytes) = self.blob(repo, digest) {
                write_blob(dir, digest, &bytes);
            }
        }
    }
}

/// The tag that stands for a digest where the referrers API is not served.
pub(crate) fn fallback_tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

fn write_blob(dir: &Path, digest: &str, bytes: &[u8]) {
    fs::write(dir.join("blobs").join(digest.replacen(':', "/", 1)), bytes).expect("a blob");
}

fn annotated(manifest: &Manifest, annotations: &Value) -> Value {
    let mut descriptor = manifest.descriptor();
    descriptor["annotations"] = annotations.clone();
    descriptor
}

fn entries(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

/// The media type of bytes that look like a manifest.
fn media_type_of(bytes: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let shape = if json["manifests"].is_array() { OCI_INDEX } else { OCI_MANIFEST };
    let manifest = json["manifests"].is_array() || json["layers"].is_array();
    manifest.then(|| json["mediaType"].as_str().unwrap_or(shape).to_owned())
}
