//! An OCI layout folder in place of a registry: plain, or as `cosign save` writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Deserializer};

use super::referrers::{self, Ranked, Ranking};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::ports::{Attestations, Images, Manifest, Referrer, ReferrerList},
};

/// The largest manifest.
const MAX_MANIFEST: usize = 4 << 20;
/// How many manifests are looked at that the folder's index leads to.
const MAX_ENTRIES: usize = 1000;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;
/// Where `cosign save` says what an entry is.
const COSIGN_KIND: &str = "kind";
const COSIGN_ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout folder.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    images: Vec<Digest>,
    tags: BTreeMap<String, Digest>,
    /// What `cosign save` calls the attestations of its one image.
    attestations: Option<Digest>,
    referrers: BTreeMap<Digest, Vec<Ranked>>,
    unusable: Vec<Unusable>,
}

/// An entry of the folder's index that names nothing.
#[derive(Debug)]
struct Unusable {
    /// Its tag.
    name: Option<String>,
    /// What `cosign save` calls it.
    kind: Option<String>,
    /// What stands for its digest.
    digest: String,
}

impl Unusable {
    fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

/// Why a folder cannot stand for a registry.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// It is no layout.
    #[error("{0} is no OCI layout: {1}")]
    Parse(PathBuf, String),
    /// It has no image, or several.
    #[error("{0}")]
    NotOne(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// `null` is an empty list, as a Go program writes it.
    #[serde(default, deserialize_with = "null_is_empty")]
    manifests: Option<Vec<Entry>>,
    subject: Option<Entry>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Entry>>, D::Error> {
    Option::<Vec<Entry>>::deserialize(deserializer).map(|list| Some(list.unwrap_or_default()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// Parsed by itself: a wrong one spoils no other entry.
    digest: Option<String>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

impl Entry {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)?.as_deref()
    }

    fn digest(&self) -> Option<Digest> {
        self.digest.as_ref()?.parse().ok()
    }
}

impl Layout {
    /// Opens a folder and finds out what is in it.
    ///
    /// # Errors
    /// A folder that is no layout.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let folder = folder.into();
        let path = folder.join("index.json");
        let bytes =
            read_limited(&path, MAX_MANIFEST).map_err(|error| LayoutError::Read(path.clone(), error))?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| LayoutError::Parse(path.clone(), format!("it is not UTF-8: {error}")))?;
        let index: Body = serde_json::from_str(text)
            .map_err(|error| LayoutError::Parse(path.clone(), error.to_string()))?;
        let Some(entries) = index.manifests else {
            return Err(LayoutError::Parse(path, "it has no list `manifests`".to_owned()));
        };
        let mut layout = Self {
            folder,
            images: Vec::new(),
            tags: BTreeMap::new(),
            attestations: None,
            referrers: BTreeMap::new(),
            unusable: Vec::new(),
        };
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut below: BTreeSet<Digest> = BTreeSet::new();
        for entry in &entries {
            layout.take_in(entry, &mut seen, &mut below);
            if seen.len() > MAX_ENTRIES {
                return Err(LayoutError::Parse(
                    path,
                    format!("it leads to more than {MAX_ENTRIES} manifests"),
                ));
            }
        }
        // An index's own manifests may be listed beside it.
        layout.images.retain(|image| !below.contains(image));
        Ok(layout)
    }

    /// Takes in an entry of the folder's index.
    fn take_in(&mut self, entry: &Entry, seen: &mut BTreeSet<Digest>, below: &mut BTreeSet<Digest>) {
        let Some(digest) = entry.digest() else {
            self.unusable.push(Unusable {
                name: entry.annotation(REF_NAME).map(ToOwned::to_owned),
                kind: entry.annotation(COSIGN_KIND).map(ToOwned::to_owned),
                digest: entry.digest.iter().flat_map(|digest| digest.chars()).take(200).collect(),
            });
            return;
        };
        if let Some(name) = entry.annotation(REF_NAME) {
            self.tags.insert(name.to_owned(), digest);
            if is_attached(name) {
                return;
            }
        }
        match entry.annotation(COSIGN_KIND) {
            Some(COSIGN_ATTESTATIONS) => {
                self.attestations = Some(digest);
                return;
            }
            Some("dev.cosignproject.cosign/sigs" | "dev.cosignproject.cosign/sboms") => return,
            _ => {}
        }
        let is_referrer = self.look_into(digest, MAX_DEPTH, seen, below);
        if !is_referrer && !self.images.contains(&digest) {
            self.images.push(digest);
        }
    }

    /// Notes what a manifest refers to, and what those do that it lists; whether it is a referrer itself. What cannot be read is told
    /// when it is asked for.
    fn look_into(
        &mut self,
        digest: Digest,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        below: &mut BTreeSet<Digest>,
    ) -> bool {
        if seen.len() > MAX_ENTRIES || !seen.insert(digest) {
            return self.referrers.values().flatten().any(|known| known.digest() == digest);
        }
        let bytes = read_limited(&self.path(&digest), MAX_MANIFEST).unwrap_or_default();
        let Some(body) = Some(bytes)
            .filter(|bytes| digest.is_of(bytes))
            .and_then(|bytes| serde_json::from_str::<Body>(std::str::from_utf8(&bytes).ok()?).ok())
        else {
            return false;
        };
        for listed in body.manifests.iter().flatten().filter_map(Entry::digest) {
            below.insert(listed);
            if let Some(depth) = depth.checked_sub(1) {
                self.look_into(listed, depth, seen, below);
            }
        }
        let Some(subject) = body.subject.as_ref().and_then(Entry::digest) else { return false };
        // The type of an artifact that states none is that of its configuration (image specification, "Artifact usage").
        let configured = || body.config.as_ref().and_then(|config| config.media_type.clone());
        let referrer = Referrer { digest, artifact_type: body.artifact_type.clone().or_else(configured) };
        let annotation = |key: &str| body.annotations.as_ref()?.get(key)?.as_deref();
        self.referrers.entry(subject).or_default().push(Ranked::new(referrer, annotation));
        true
    }

    /// An entry of the folder's index that cannot be used and might be what is looked for, as an error.
    fn doubt(&self, is_it: impl Fn(&Unusable) -> bool) -> Option<FetchError> {
        let Unusable { name, digest, .. } = self.unusable.iter().find(|entry| is_it(entry))?;
        let named = name.as_ref().map_or_else(|| "an entry".to_owned(), |name| format!("the entry {name}"));
        let shown = self.folder.display();
        Some(FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("{named} of the index of {shown} cannot be used: {digest:?} is no digest"),
        })
    }

    /// The layout's one image.
    ///
    /// # Errors
    /// A layout with no image or with several, which it then names.
    pub fn image(&self) -> Result<Digest, LayoutError> {
        match self.images.as_slice() {
            [image] => Ok(*image),
            [] => Err(LayoutError::NotOne(match self.doubt(|entry| entry.kind.is_none()) {
                Some(doubt) => doubt.detail,
                None => format!("{} has no image", self.folder.display()),
            })),
            several => {
                let digests: Vec<String> = several.iter().map(ToString::to_string).collect();
                let shown = self.folder.display();
                Err(LayoutError::NotOne(format!(
                    "{shown} has several images, name one by its digest: {}",
                    digests.join(", ")
                )))
            }
        }
    }

    /// A digest that was parsed names a file below `blobs`, and nothing else.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    async fn read(&self, digest: &Digest, limit: usize) -> Result<Bytes, FetchError> {
        let path = self.path(digest);
        let read = tokio::task::spawn_blocking(move || read_limited(&path, limit)).await;
        let bytes = match read {
            Ok(Ok(bytes)) => Bytes::from(bytes),
            Ok(Err(error)) => {
                let kind = match error.kind() {
                    io::ErrorKind::NotFound => FetchErrorKind::NotFound,
                    io::ErrorKind::FileTooLarge => FetchErrorKind::Malformed,
                    _ => FetchErrorKind::Unavailable,
                };
                return Err(FetchError {
                    kind,
                    detail: format!("the layout's {digest} cannot be read: {error}"),
                });
            }
            Err(_) => {
                return Err(FetchError {
                    kind: FetchErrorKind::Unavailable,
                    detail: "reading the layout failed".to_owned(),
                });
            }
        };
        if digest.is_of(&bytes) {
            return Ok(bytes);
        }
        Err(FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("the layout's file for {digest} holds other bytes than its digest says"),
        })
    }

    /// The referrers of a digest: the manifests that name it, and those that a fallback tag lists.
    async fn find_referrers(&self, subject: &Digest) -> Result<ReferrerList, FetchError> {
        let mut all = Ranking::default();
        self.referrers.get(subject).into_iter().flatten().for_each(|ranked| all.add(ranked.clone()));
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        if let Some(list) = self.tags.get(&tag) {
            let manifest = self.read_manifest(list).await?;
            referrers::read(&manifest.bytes, &mut all).ok_or_else(|| FetchError {
                kind: FetchErrorKind::Malformed,
                detail: format!("what the layout has under {tag} is no list of referrers"),
            })?;
        }
        let mut list = all.finish(&format!("the referrers of {subject} in the layout"));
        // "There is none" can be said only where nothing is in doubt.
        if list.referrers.is_empty() {
            let is_it =
                |entry: &Unusable| entry.is_named(&tag) || (entry.name.is_none() && entry.kind.is_none());
            list.unlisted.extend(self.doubt(is_it));
        }
        Ok(list)
    }

    async fn read_manifest(&self, digest: &Digest) -> Result<Manifest, FetchError> {
        let bytes = self.read(digest, MAX_MANIFEST).await?;
        Ok(Manifest { digest: *digest, media_type: String::new(), bytes })
    }
}

/// Tags that attach something to a digest: `sha256-<hex>`, `sha256-<hex>.att`.
fn is_attached(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    stem.strip_prefix("sha256-")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn read_limited(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let limit_plus = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit_plus).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than the {limit} bytes that are read"),
        ));
    }
    Ok(bytes)
}

impl Images for Layout {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, FetchError>> {
        async move {
            let tag = reference.tag().unwrap_or_default();
            let full = reference.to_string();
            let named = self.tags.get(tag).or_else(|| self.tags.get(&full));
            match (self.doubt(|entry| entry.is_named(tag) || entry.is_named(&full)), named) {
                (Some(doubt), _) => Err(doubt),
                (None, Some(digest)) => Ok(*digest),
                (None, None) => self.image().map_err(|error| FetchError {
                    kind: FetchErrorKind::NotFound,
                    detail: error.to_string(),
                }),
            }
        }
        .boxed()
    }

    fn manifest<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, FetchError>> {
        self.read_manifest(digest).boxed()
    }

    fn blob<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
        limit: usize,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        self.read(digest, limit).boxed()
    }
}

impl Attestations for Layout {
    fn referrers<'a>(
        &'a self,
        _: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>> {
        async move { self.find_referrers(subject).await?.complete() }.boxed()
    }

    fn list_referrers<'a>(&'a self, _: &'a Repository, subject: &'a Digest) -> BoxFuture<'a, ReferrerList> {
        let failed = |error| ReferrerList { referrers: Vec::new(), unlisted: vec![error] };
        async move { self.find_referrers(subject).await.unwrap_or_else(failed) }.boxed()
    }

    fn tagged<'a>(
        &'a self,
        _: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>> {
        async move {
            let of_the_image = || {
                let image = self.image().ok()?;
                (tag == format!("{}-{}.att", image.algorithm(), image.hex())).then_some(self.attestations)?
            };
            if let Some(digest) = self.tags.get(tag).copied().or_else(of_the_image) {
                return self.read_manifest(&digest).await.map(Some);
            }
            let is_att = tag.strip_suffix(".att").is_some();
            let doubt = self.doubt(|entry| {
                entry.is_named(tag) || (is_att && entry.kind.as_deref() == Some(COSIGN_ATTESTATIONS))
            });
            doubt.map_or(Ok(None), Err)
        }
        .boxed()
    }
}
