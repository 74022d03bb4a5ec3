//! What a digest is: a manifest with its platform, or an index with everything nested in it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    disputable::{MAX_NESTING, disputable, is_nested_too_deep},
    lanes::{Room, Stop},
    ports::{Attestations, Manifest},
};
use crate::{
    domain::json_limits::{MAX_JSON_VALUES, has_too_many_values},
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind, Root},
        platform::{EntryKind, IndexEntry, Platform},
        reference::Repository,
    },
};

/// The largest image configuration that is read for its platform.
const MAX_CONFIG: usize = 4 << 20;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 3;
/// How many entries an index may have, nested ones included.
const MAX_ENTRIES: usize = 256;
/// How many indexes may be nested in one: each is one more round trip.
const MAX_NESTED: usize = 16;

/// What a key-value list of annotations may hold: Go reads `null` as an empty text.
type Annotations = BTreeMap<String, Option<String>>;

/// A descriptor with all fields that Go reads and with their types, so that a runtime refuses what is refused here (OCI content
/// descriptor; Docker manifest list entry). `null` is the same as an absent field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "the types are checked")]
struct Descriptor<D = Digest> {
    media_type: Option<String>,
    artifact_type: Option<String>,
    digest: D,
    size: Option<i64>,
    urls: Option<Vec<Option<String>>>,
    annotations: Option<Annotations>,
    data: Option<Base64>,
    platform: Option<WirePlatform>,
}

/// A descriptor whose digest nobody needs.
type AnyDescriptor = Descriptor<Option<String>>;

/// Bytes that are written as base64.
#[derive(Debug)]
struct Base64;

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        // Go passes over ends of lines.
        text.retain(|c| !matches!(c, '\r' | '\n'));
        STANDARD.decode(text).map(|_| Self).map_err(D::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
struct WirePlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Vec<Option<String>>>,
    features: Option<Vec<Option<String>>>,
}

impl WirePlatform {
    fn is_conditional(&self) -> bool {
        let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
        some(&self.os_features)
            || some(&self.features)
            || self.os_version.as_ref().is_some_and(|version| !version.is_empty())
    }
}

/// A manifest or an index; which of them is told by what it has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "the types are checked")]
struct Body {
    schema_version: Option<i64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    #[serde(default)]
    manifests: Manifests,
    config: Option<Descriptor>,
    layers: Option<Vec<AnyDescriptor>>,
    subject: Option<AnyDescriptor>,
    annotations: Option<Annotations>,
}

/// The list of an index.
#[derive(Debug, Default)]
enum Manifests {
    /// There is none.
    #[default]
    Absent,
    /// It is `null`: a Go server writes an empty list so.
    Null,
    /// These.
    Listed(Vec<Descriptor>),
}

impl<'de> Deserialize<'de> for Manifests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Listed))
    }
}

impl Body {
    /// The manifests of an index. In an image manifest Go passes over a list that is `null`.
    fn take_manifests(&mut self) -> Option<Vec<Descriptor>> {
        let is_image = self.config.is_some() || self.layers.is_some();
        match std::mem::take(&mut self.manifests) {
            Manifests::Absent => None,
            Manifests::Null => (!is_image).then(Vec::new),
            Manifests::Listed(all) => Some(all),
        }
    }
}

/// What a digest names, as far as it is needed.
struct Parsed {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
}

impl From<WirePlatform> for Platform {
    fn from(wire: WirePlatform) -> Self {
        let text = |part: Option<String>| part.unwrap_or_default();
        Self::new(&text(wire.os), &text(wire.architecture), wire.variant.as_deref())
    }
}

/// Reads what `digest` is.
///
/// # Errors
/// A room that is too small; what the registry failed with; `Malformed` for what is neither manifest nor index.
pub async fn root(
    source: &dyn Attestations,
    repository: &Repository,
    digest: Digest,
    room: Room,
) -> Result<Root, Stop> {
    let mut walk = Walk {
        source,
        repository,
        bytes_left: room.bytes,
        entries_left: MAX_ENTRIES,
        nested_left: MAX_NESTED,
    };
    let body = walk.fetch(&digest).await?;
    if let Some(entries) = body.manifests {
        return Ok(Root::Index(walk.entries(entries, MAX_DEPTH).await?));
    }
    let Some(config) = body.config else {
        return Err(malformed(&digest, "it is neither an image manifest nor an index").into());
    };
    // Its platform is for telling a person that an image cannot run somewhere; one that states none hides nothing.
    let limit = MAX_CONFIG.min(room.bytes);
    let config = source.blob(repository, &config.digest, limit).await.map_err(|error| {
        let is_too_large = error.kind == FetchErrorKind::Malformed && !room.is_largest;
        if is_too_large { Stop::TooSmall } else { source.tell(repository, error).into() }
    })?;
    Ok(Root::Manifest(serde_json::from_slice::<WirePlatform>(&config).ok().and_then(stated)))
}

/// Whether what an index lists as an image manifest is an index. Runtimes differ in what they make of one, and what is attested of an
/// index is said of no single manifest.
///
/// # Errors
/// What the registry failed with; `Malformed` where it can be read as both.
pub async fn is_index(
    source: &dyn Attestations,
    repository: &Repository,
    digest: Digest,
    room: Room,
) -> Result<bool, Stop> {
    let manifest = source.manifest(repository, &digest).await;
    let manifest = manifest.map_err(|error| match error.kind {
        // Whether it matters that there is none is for the caller to say.
        FetchErrorKind::NotFound => error,
        _ => source.tell(repository, error),
    })?;
    if manifest.bytes.len() > room.bytes && !room.is_largest {
        return Err(Stop::TooSmall);
    }
    Ok(parse(&manifest)?.manifests.is_some())
}

fn stated(wire: WirePlatform) -> Option<Platform> {
    let is_stated = |part: &Option<String>| part.as_ref().is_some_and(|part| !part.is_empty());
    (is_stated(&wire.os) && is_stated(&wire.architecture)).then(|| wire.into())
}

/// A body that could be read as a manifest by one runtime and as an index by another is refused: which images it has would be a matter of opinion.
fn parse(manifest: &Manifest) -> Result<Parsed, FetchError> {
    if has_too_many_values(&manifest.bytes) {
        let why = format!("it holds more than {MAX_JSON_VALUES} values");
        return Err(malformed(&manifest.digest, &why));
    }
    let text = std::str::from_utf8(&manifest.bytes)
        .map_err(|error| malformed(&manifest.digest, &format!("it is not UTF-8: {error}")))?;
    if is_nested_too_deep(text) {
        return Err(malformed(&manifest.digest, &format!("its values are nested deeper than {MAX_NESTING}")));
    }
    let mut body: Body = serde_json::from_str(text)
        .map_err(|error| malformed(&manifest.digest, &format!("it is no manifest: {error}")))?;
    let is_index_type =
        |kind: &str| kind.ends_with(".index.v1+json") || kind.ends_with(".manifest.list.v2+json");
    let is_manifest_type = |kind: &str| kind.contains(".manifest.v");
    let declared = body.media_type.as_deref().filter(|stated| !stated.is_empty());
    let declared = declared.unwrap_or(&manifest.media_type);
    if let Some(why) = disputable(text) {
        return Err(malformed(&manifest.digest, &why));
    }
    let (is_typed_as_manifest, is_typed_as_index) = (is_manifest_type(declared), is_index_type(declared));
    let manifests = body.take_manifests();
    let ambiguous = manifests.is_some() && (body.config.is_some() || body.layers.is_some());
    let contradicts = if manifests.is_some() { is_typed_as_manifest } else { is_typed_as_index };
    if ambiguous || contradicts {
        return Err(malformed(&manifest.digest, "it can be read both as an image manifest and as an index"));
    }
    Ok(Parsed { manifests, config: body.config })
}

fn malformed(digest: &Digest, why: &str) -> FetchError {
    FetchError { kind: FetchErrorKind::Malformed, detail: format!("{digest} cannot be read: {why}") }
}

/// The way through an index and what is nested in it.
struct Walk<'a> {
    source: &'a dyn Attestations,
    repository: &'a Repository,
    /// How many bytes of manifests may still be read.
    bytes_left: usize,
    /// How many entries may still come.
    entries_left: usize,
    /// How many nested indexes may still come.
    nested_left: usize,
}

impl Walk<'_> {
    async fn fetch(&mut self, digest: &Digest) -> Result<Parsed, Stop> {
        let manifest = self.source.manifest(self.repository, digest).await;
        let manifest = manifest.map_err(|error| self.source.tell(self.repository, error))?;
        self.bytes_left = self.bytes_left.checked_sub(manifest.bytes.len()).ok_or(Stop::TooSmall)?;
        Ok(parse(&manifest)?)
    }

    fn entries(
        &mut self,
        descriptors: Vec<Descriptor>,
        depth: usize,
    ) -> BoxFuture<'_, Result<Vec<IndexEntry>, Stop>> {
        Box::pin(async move {
            let mut entries = Vec::with_capacity(descriptors.len().min(MAX_ENTRIES));
            for descriptor in descriptors {
                let refused = |why: &str| malformed(&descriptor.digest, why);
                self.entries_left = self
                    .entries_left
                    .checked_sub(1)
                    .ok_or_else(|| refused(&format!("the index has more than {MAX_ENTRIES} entries")))?;
                let kind = match entry_kind(&descriptor) {
                    Kind::Index => {
                        let depth =
                            depth.checked_sub(1).ok_or_else(|| refused("indexes are nested too deep"))?;
                        self.nested_left = self.nested_left.checked_sub(1).ok_or_else(|| {
                            refused(&format!("more than {MAX_NESTED} indexes are nested in it"))
                        })?;
                        let nested = self.fetch(&descriptor.digest).await?.manifests;
                        let nested = nested.ok_or_else(|| refused("it is listed as an index and is none"))?;
                        EntryKind::Index(self.entries(nested, depth).await?)
                    }
                    Kind::Attestation(subject) => EntryKind::Attestation(subject),
                    Kind::Image => EntryKind::Image,
                };
                entries.push(IndexEntry {
                    digest: descriptor.digest,
                    conditional: descriptor.platform.as_ref().is_some_and(WirePlatform::is_conditional),
                    platform: descriptor.platform.map(Into::into),
                    kind,
                });
            }
            Ok(entries)
        })
    }
}

enum Kind {
    Image,
    Index,
    Attestation(Option<Digest>),
}

fn entry_kind(descriptor: &Descriptor) -> Kind {
    let media_type = descriptor.media_type.as_deref().unwrap_or_default();
    if media_type.ends_with(".index.v1+json") || media_type.ends_with(".manifest.list.v2+json") {
        return Kind::Index;
    }
    let annotation = |key: &str| descriptor.annotations.as_ref()?.get(key)?.as_deref();
    match annotation("vnd.docker.reference.type") {
        Some("attestation-manifest") => Kind::Attestation(
            annotation("vnd.docker.reference.digest").and_then(|digest| digest.parse().ok()),
        ),
        _ => Kind::Image,
    }
}
