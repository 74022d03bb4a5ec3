//! Images and what is attached to them, made up: small, valid in form, unique in content, and pushed to
//! the in-process [`Registry`]. Whether what is attached is signed, and well, is up to the caller.

mod attach;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::registry::{DOCKER_LIST, DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST, Registry, digest_of};

pub use attach::{BUNDLE_TYPE, EMPTY_TYPE, Referrer, attach_att, attach_bundle, attach_signature};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// What BuildKit annotates attestation manifests with.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION_ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// No two images of a process share content unless they are given the same seed.
static NEXT_SEED: AtomicU64 = AtomicU64::new(1);

/// How the manifests of an image hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Index,
    /// An index that names one index per platform.
    Nested,
}

/// An image to push.
#[derive(Clone)]
pub struct Image {
    platforms: Vec<String>,
    shape: Shape,
    seed: String,
    docker: bool,
    buildkit: Option<String>,
    about: Option<String>,
    artifacts: bool,
    bare: Vec<String>,
}

/// An image that was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The digest of the root: the index, or the only manifest.
    pub digest: String,
    /// The media type of the root.
    pub media_type: String,
    /// Each platform with the digest of its manifest, in order.
    pub platforms: Vec<(String, String)>,
    /// Each platform with the digest of its BuildKit attestation manifest, where there is one.
    pub attestations: Vec<(String, String)>,
}

impl Pushed {
    /// The digest of the manifest for a platform.
    ///
    /// # Panics
    /// Where the image has no such platform.
    pub fn platform(&self, platform: &str) -> &str {
        let found = self.platforms.iter().find(|(name, _)| name == platform);
        &found.unwrap_or_else(|| panic!("the image has no {platform}")).1
    }
}

impl Image {
    /// An image of one manifest.
    pub fn single(platform: &str) -> Self {
        Self::of(Shape::Single, &[platform])
    }

    /// An image of an index and one manifest per platform (`os/arch` or `os/arch/variant`).
    pub fn index(platforms: &[&str]) -> Self {
        Self::of(Shape::Index, platforms)
    }

    fn of(shape: Shape, platforms: &[&str]) -> Self {
        Self {
            platforms: platforms.iter().map(|&platform| platform.to_owned()).collect(),
            shape,
            seed: format!("image {}", NEXT_SEED.fetch_add(1, Ordering::Relaxed)),
            docker: false,
            buildkit: None,
            about: None,
            artifacts: false,
            bare: Vec::new(),
        }
    }

    /// Content that is the same each time, for digests that are.
    #[must_use]
    pub fn seed(mut self, seed: &str) -> Self {
        seed.clone_into(&mut self.seed);
        self
    }

    /// Docker schema 2 media types.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Unsigned provenance of this predicate type in the index, as BuildKit puts it there. Makes an index of a single manifest.
    #[must_use]
    pub fn buildkit(mut self, predicate_type: &str) -> Self {
        self.buildkit = Some(predicate_type.to_owned());
        if self.shape == Shape::Single {
            self.shape = Shape::Index;
        }
        self
    }

    /// What BuildKit's provenance names in place of the manifests that it is beside.
    #[must_use]
    pub fn buildkit_about(mut self, digest: &str) -> Self {
        self.about = Some(digest.to_owned());
        self
    }

    /// Attestation manifests as OCI artifacts that refer to their manifest, as Docker's builder makes them.
    #[must_use]
    pub fn attestation_artifacts(mut self) -> Self {
        self.artifacts = true;
        self
    }

    /// An index of indexes, one per platform.
    #[must_use]
    pub fn nested(mut self) -> Self {
        self.shape = Shape::Nested;
        self
    }

    /// Leaves the `platform` out of this platform's entry in the index; its config still says it.
    #[must_use]
    pub fn without_platform_in_index(mut self, platform: &str) -> Self {
        self.bare.push(platform.to_owned());
        self
    }

    /// Pushes the image under a tag, unless that is empty.
    pub fn push(&self, registry: &Registry, repo: &str, tag: &str) -> Pushed {
        let mut to = Push { image: self, registry, repo, platforms: Vec::new(), attestations: Vec::new() };
        let (digest, media_type) = to.push();
        if !tag.is_empty() {
            registry.tag(repo, tag, &digest);
        }
        Pushed { digest, media_type, platforms: to.platforms, attestations: to.attestations }
    }
}

/// A push under way.
struct Push<'a> {
    image: &'a Image,
    registry: &'a Registry,
    repo: &'a str,
    platforms: Vec<(String, String)>,
    attestations: Vec<(String, String)>,
}

impl Push<'_> {
    fn push(&mut self) -> (String, String) {
        let image = self.image;
        let entries: Vec<Value> =
            image.platforms.iter().map(|platform| self.push_platform(platform)).collect();
        if image.shape == Shape::Single {
            let digest = entries[0]["digest"].as_str().unwrap_or_default().to_owned();
            return (digest, self.manifest_type().to_owned());
        }
        let notes: Vec<Value> = match &image.buildkit {
            Some(predicate_type) => {
                self.platforms.clone().iter().map(|p| self.push_attestation(p, predicate_type)).collect()
            }
            None => Vec::new(),
        };
        let entries: Vec<Value> = match image.shape {
            Shape::Nested => {
                entries.into_iter().map(|entry| self.push_index(&[entry])).chain(notes).collect()
            }
            Shape::Single | Shape::Index => entries.into_iter().chain(notes).collect(),
        };
        let root = self.push_index(&entries);
        (root["digest"].as_str().unwrap_or_default().to_owned(), self.index_type().to_owned())
    }

    /// Pushes the manifest of a platform and returns its entry in an index.
    fn push_platform(&mut self, platform: &str) -> Value {
        let (config_type, layer_type) =
            if self.image.docker { (DOCKER_CONFIG, DOCKER_LAYER) } else { (OCI_CONFIG, OCI_LAYER) };
        let layer = format!("{} for {platform}\n", self.image.seed).into_bytes();
        let named = platform_object(platform);
        let mut config = named.clone();
        config["config"] = json!({"Entrypoint": ["/app"]});
        config["rootfs"] = json!({"type": "layers", "diff_ids": [digest_of(&layer)]});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.manifest_type(),
            "config": push_blob(self.registry, self.repo, config_type, config.to_string().into_bytes()),
            "layers": [push_blob(self.registry, self.repo, layer_type, layer)],
        });
        let mut entry = push_json(self.registry, self.repo, self.manifest_type(), &manifest);
        self.platforms.push((platform.to_owned(), entry["digest"].as_str().unwrap_or_default().to_owned()));
        if !self.image.bare.iter().any(|bare| bare == platform) {
            entry["platform"] = named;
        }
        entry
    }

    /// Pushes BuildKit's attestation manifest for a platform's manifest and returns its entry in the index.
    fn push_attestation(&mut self, (platform, subject): &(String, String), predicate_type: &str) -> Value {
        let hex = self.image.about.as_ref().unwrap_or(subject).trim_start_matches("sha256:");
        let v1 = predicate_type.ends_with("/v1");
        let build_type = "https://mobyproject.org/buildkit@v1";
        let predicate = if v1 {
            json!({"buildDefinition": {"buildType": build_type, "externalParameters": {}, "internalParameters": {"builderPlatform": platform}},
                "runDetails": {"builder": {"id": ""}, "metadata": {"invocationID": self.image.seed}}})
        } else {
            json!({"builder": {"id": ""}, "buildType": build_type,
                "invocation": {"parameters": {"frontend": "dockerfile.v0"}, "environment": {"platform": platform}},
                "metadata": {"buildInvocationID": self.image.seed}})
        };
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": predicate_type,
            "subject": [{"name": format!("pkg:docker/{}?platform={}", self.repo, platform.replace('/', "%2F")), "digest": {"sha256": hex}}],
            "predicate": predicate,
        });
        let statement = statement.to_string().into_bytes();
        let mut config = platform_object("unknown/unknown");
        config["config"] = json!({});
        config["rootfs"] = json!({"type": "layers", "diff_ids": [digest_of(&statement)]});
        let mut layer = push_blob(self.registry, self.repo, "application/vnd.in-toto+json", statement);
        layer["annotations"] = json!({"in-toto.io/predicate-type": predicate_type});
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": push_blob(self.registry, self.repo, OCI_CONFIG, config.to_string().into_bytes()),
            "layers": [layer],
        });
        if self.image.artifacts {
            let of = self.registry.manifest(self.repo, subject);
            manifest["config"] = push_blob(self.registry, self.repo, EMPTY_TYPE, b"{}".to_vec());
            manifest["artifactType"] = json!(ATTESTATION_ARTIFACT);
            manifest["subject"] = json!(of.map(|manifest| manifest.descriptor()));
        }
        let mut entry = push_json(self.registry, self.repo, OCI_MANIFEST, &manifest);
        self.attestations.push((platform.clone(), entry["digest"].as_str().unwrap_or_default().to_owned()));
        entry["annotations"] = json!({REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: subject});
        entry["platform"] = platform_object("unknown/unknown");
        entry
    }

    fn push_index(&self, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": self.index_type(), "manifests": entries});
        push_json(self.registry, self.repo, self.index_type(), &index)
    }

    fn manifest_type(&self) -> &'static str {
        if self.image.docker { DOCKER_MANIFEST } else { OCI_MANIFEST }
    }

    fn index_type(&self) -> &'static str {
        if self.image.docker { DOCKER_LIST } else { OCI_INDEX }
    }
}

/// `os/arch/variant` as the object that stands in indexes and configs.
fn platform_object(platform: &str) -> Value {
    let mut parts = platform.splitn(3, '/');
    let mut object = json!({});
    for key in ["os", "architecture", "variant"] {
        if let Some(part) = parts.next() {
            object[key] = json!(part);
        }
    }
    object
}

/// Pushes a blob and returns its descriptor.
fn push_blob(registry: &Registry, repo: &str, media_type: &str, bytes: Vec<u8>) -> Value {
    let size = bytes.len();
    json!({"mediaType": media_type, "digest": registry.push_blob(repo, bytes), "size": size})
}

/// Pushes a manifest and returns its descriptor.
fn push_json(registry: &Registry, repo: &str, media_type: &str, manifest: &Value) -> Value {
    let bytes = manifest.to_string();
    registry.push_manifest(repo, None, media_type, bytes.clone());
    Manifest { media_type: media_type.to_owned(), bytes: bytes.into() }.descriptor()
}
