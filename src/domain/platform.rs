//! Platforms, and which manifests of an index a container runtime could pick for one.

use std::{fmt, str::FromStr};

use super::digest::Digest;

/// An operating system and a processor architecture (OCI image index, `platform`), normalised as
/// containerd does: `linux/arm64/v8` is `linux/arm64`, `linux/arm` is `linux/arm/v7`, `x86_64` is `amd64`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: os/architecture[/variant], such as linux/amd64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase() {
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(variant)) => ("amd64", Some(variant.to_owned())),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", None),
            ("aarch64" | "arm64", None | Some("8" | "v8" | "v8.0")) => ("arm64", None),
            ("aarch64" | "arm64", Some(variant)) => ("arm64", Some(variant.to_owned())),
            ("arm", None | Some("7" | "v7")) | ("armhf", _) => ("arm", Some("v7".to_owned())),
            ("armel", _) => ("arm", Some("v6".to_owned())),
            ("arm", Some(number @ ("5" | "6" | "8"))) => ("arm", Some(format!("v{number}"))),
            (other, variant) => {
                return Self { os, architecture: other.to_owned(), variant: variant.map(ToOwned::to_owned) };
            }
        };
        Self { os, architecture: architecture.to_owned(), variant }
    }

    /// The operating system, in Go's words: `linux`, `windows`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, in Go's words: `amd64`, `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, where it is not the architecture's usual one: `v7`, `v3`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// BuildKit's mark of an attestation manifest: `unknown/unknown`. No runtime ever picks it.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(PlatformError(text.to_owned()));
        }
        match *parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One entry of an image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The digest of the manifest or nested index.
    pub digest: Digest,
    /// The platform the index states, where it states one.
    pub platform: Option<Platform>,
    /// Whether it states features or a version of the system, for which some runtimes pass it over on some nodes.
    pub conditional: bool,
    /// What the entry is.
    pub kind: EntryKind,
}

/// What an entry of an index points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// An image manifest.
    Image,
    /// A BuildKit attestation manifest, for the manifest with this digest where the index says so.
    Attestation(Option<Digest>),
    /// A nested index with its entries.
    Index(Vec<IndexEntry>),
}

/// A manifest that a runtime could pick, and the indexes that lead to it, outermost first
/// (the root index itself is not repeated here).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The manifest's digest.
    pub digest: Digest,
    /// The platform the index states for it.
    pub platform: Option<Platform>,
    /// Nested indexes on the way.
    pub via: Vec<Digest>,
}

/// Every manifest that a supported runtime could pick from `entries` on a node of `wanted`.
///
/// containerd sorts the entries that fit and takes the best: the same architecture first (lower variants
/// after higher ones), then 386 on amd64 or 32-bit arm on arm64, entries without a platform last; it walks nested
/// indexes. CRI-O takes an exact match and knows no fallback. So where an entry is exactly what is wanted, it and its variants count (a
/// node's variant is often unknown); where none is, everything that some runtime could fall back to, and nested indexes that could be walked.
///
/// An entry with `os.version`, `os.features` or `features` is a candidate like any other, but keeps no runtime from a fallback: containerd
/// compares `os.version` on Windows, and newer versions the features everywhere, with what the node has, and CRI-O looks at neither.
pub fn candidates(wanted: &Platform, entries: &[IndexEntry]) -> Vec<Candidate> {
    let mut found = Vec::new();
    collect(wanted, entries, &[], &mut found);
    found
}

/// Every image manifest in the index, whatever its platform.
pub fn all_images(entries: &[IndexEntry]) -> Vec<Candidate> {
    fn walk(entries: &[IndexEntry], via: &[Digest], found: &mut Vec<Candidate>) {
        for entry in entries.iter().filter(|entry| !is_unknown(entry)) {
            match &entry.kind {
                EntryKind::Index(nested) => walk(nested, &[via, &[entry.digest]].concat(), found),
                EntryKind::Image | EntryKind::Attestation(_) => push(entry, via, found),
            }
        }
    }
    let mut found = Vec::new();
    walk(entries, &[], &mut found);
    found
}

fn is_unknown(entry: &IndexEntry) -> bool {
    entry.platform.as_ref().is_some_and(Platform::is_unknown)
}

fn push(entry: &IndexEntry, via: &[Digest], found: &mut Vec<Candidate>) {
    let candidate = Candidate { digest: entry.digest, platform: entry.platform.clone(), via: via.to_vec() };
    if !found.contains(&candidate) {
        found.push(candidate);
    }
}

fn collect(wanted: &Platform, entries: &[IndexEntry], via: &[Digest], found: &mut Vec<Candidate>) {
    // `unknown/unknown` alone says that no runtime picks an entry; an annotation that calls an entry an
    // attestation is a hint by whoever pushed the index, and hides nothing that has a platform or none.
    let pickable =
        || entries.iter().filter(|entry| !is_unknown(entry) && !matches!(entry.kind, EntryKind::Index(_)));
    let rank = |entry: &IndexEntry| tier(wanted, entry.platform.as_ref());
    // Only an exact match is taken by every runtime; where there is none, one may fall back to what another never takes.
    let exact = pickable()
        .filter(|entry| !entry.conditional)
        .any(|entry| entry.platform.as_ref().is_some_and(|platform| is_exact(wanted, platform)));
    let counts = |rank: u16| !exact || rank == 0;
    pickable().filter(|entry| rank(entry).is_some_and(counts)).for_each(|entry| push(entry, via, found));
    // CRI-O asks for the bare architecture where it knows of no variant.
    pickable()
        .filter(|entry| entry.platform.as_ref().is_some_and(|platform| is_bare_match(wanted, platform)))
        .for_each(|entry| push(entry, via, found));
    for entry in entries.iter().filter(|entry| rank(entry).is_some()) {
        if let EntryKind::Index(nested) = &entry.kind {
            collect(wanted, nested, &[via, &[entry.digest]].concat(), found);
        }
    }
}

/// What every runtime takes first: the architecture as such, or the very variant.
fn is_exact(wanted: &Platform, entry: &Platform) -> bool {
    wanted == entry
}

fn is_bare_match(wanted: &Platform, entry: &Platform) -> bool {
    (wanted.os == entry.os || entry.os.is_empty())
        && wanted.architecture == entry.architecture
        && entry.variant.is_none()
}

/// How good a match an entry's platform is for a node: 0 is best; `None` means that no runtime picks it.
fn tier(wanted: &Platform, entry: Option<&Platform>) -> Option<u16> {
    const FALLBACK: u16 = 1000;
    const NO_PLATFORM: u16 = 2000;
    let Some(entry) = entry else { return Some(NO_PLATFORM) };
    // containerd takes an entry that states no operating system for its own.
    if wanted.os != entry.os && !entry.os.is_empty() {
        return None;
    }
    let (have, given) = (level(wanted), level(entry));
    match (wanted.architecture.as_str(), entry.architecture.as_str()) {
        // Which arm a node is its labels do not say.
        ("arm", "arm") | (_, "") => Some(0),
        (a, b) if a == b => match (&wanted.variant, &entry.variant) {
            (None, _) => Some(0),
            (Some(w), Some(e)) if w == e => Some(0),
            _ => have.zip(given).and_then(|(have, given)| have.checked_sub(given)),
        },
        ("amd64", "386") => Some(FALLBACK),
        ("arm64", "arm") => given
            .filter(|given| (50..=89).contains(given))
            .map(|given| FALLBACK.saturating_add(90).saturating_sub(given)),
        _ => None,
    }
}

/// A variant as a number, `v8.1` as 81, so that lower ones can be told from higher ones.
fn level(platform: &Platform) -> Option<u16> {
    let default = match platform.architecture.as_str() {
        "amd64" => "v1",
        "arm64" => "v8",
        _ => "",
    };
    let text = platform.variant.as_deref().unwrap_or(default).strip_prefix('v')?;
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let (major, minor): (u16, u16) = (major.parse().ok()?, minor.parse().ok()?);
    (minor < 10).then_some(())?;
    major.checked_mul(10)?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn index(platforms: &[&str]) -> Vec<IndexEntry> {
        let entry = |(n, text): (usize, &&str)| IndexEntry {
            digest: Digest::of(&n.to_be_bytes()),
            platform: (!text.is_empty()).then(|| p(text)),
            conditional: false,
            kind: EntryKind::Image,
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    fn picked(wanted: &str, platforms: &[&str]) -> Vec<String> {
        candidates(&p(wanted), &index(platforms))
            .into_iter()
            .map(|c| c.platform.map_or("-".to_owned(), |p| p.to_string()))
            .collect()
    }

    #[test]
    fn spellings_are_normalised() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(p(text).to_string(), normal);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_best_tier_counts_and_all_of_it() {
        assert_eq!(picked("linux/amd64", &["linux/amd64", "linux/arm64"]), ["linux/amd64"]);
        assert_eq!(picked("linux/amd64", &["linux/amd64", "linux/amd64"]).len(), 2);
        assert_eq!(picked("linux/amd64", &["linux/386", "linux/arm64"]), ["linux/386"]);
        assert_eq!(picked("linux/amd64", &["linux/386", "linux/amd64"]), ["linux/amd64"]);
        assert_eq!(picked("linux/amd64", &["linux/amd64/v2", "linux/amd64"]).len(), 2);
        assert_eq!(
            picked("linux/amd64/v3", &["linux/amd64/v2", "linux/amd64/v4", "linux/amd64"]),
            ["linux/amd64/v2", "linux/amd64"]
        );
        assert_eq!(picked("linux/arm64", &["linux/arm/v6", "linux/arm/v7"]).len(), 2);
        assert_eq!(picked("linux/amd64", &["linux/amd64/v9", "linux/386", ""]).len(), 3);
        assert_eq!(picked("linux/amd64", &["linux/386", ""]).len(), 2);
        assert_eq!(
            picked("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"]),
            ["linux/arm/v5", "linux/arm/v6"]
        );
        assert_eq!(picked("linux/arm/v6", &["linux/arm/v7"]), ["linux/arm/v7"]);
        assert_eq!(picked("linux/s390x", &["linux/amd64", ""]), ["-"]);
        assert_eq!(picked("linux/amd64", &["linux/amd64", ""]), ["linux/amd64"]);
        assert_eq!(picked("linux/amd64", &["windows/amd64", "unknown/unknown"]), Vec::<String>::new());
    }

    #[test]
    fn nested_indexes_are_walked_beside_the_best_of_their_level() {
        let inner = index(&["linux/amd64"]);
        let mut outer = index(&["linux/386"]);
        outer.push(IndexEntry {
            digest: Digest::of(b"inner"),
            platform: None,
            conditional: false,
            kind: EntryKind::Index(inner),
        });
        let found = candidates(&p("linux/amd64"), &outer);
        assert_eq!(found.len(), 2);
        assert_eq!(found.iter().map(|c| c.via.len()).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_a_runtime_may_pass_over_hides_no_fallback() {
        let platforms = ["linux/amd64", "linux/amd64", "linux/386", ""];
        let mut entries = index(&platforms);
        assert_eq!(candidates(&p("linux/amd64"), &entries).len(), 2);
        entries[0].conditional = true;
        assert_eq!(candidates(&p("linux/amd64"), &entries).len(), 2, "the other is for every node");
        entries[1].conditional = true;
        assert_eq!(candidates(&p("linux/amd64"), &entries).len(), 4);
    }

    #[test]
    fn an_entry_without_a_system_is_for_every_system() {
        let entry = |os: &str, architecture: &str| IndexEntry {
            digest: Digest::of(format!("{os}/{architecture}").as_bytes()),
            platform: Some(Platform::new(os, architecture, None)),
            conditional: false,
            kind: EntryKind::Image,
        };
        let entries = [entry("", "amd64"), entry("", "arm64"), entry("linux", "amd64"), entry("", "")];
        for (wanted, expected) in
            [("linux/amd64", 3), ("windows/amd64", 2), ("linux/arm64", 2), ("linux/s390x", 1)]
        {
            assert_eq!(candidates(&p(wanted), &entries).len(), expected, "{wanted}");
        }
    }

    #[test]
    fn an_annotation_hides_no_manifest_that_a_runtime_would_pick() {
        let mut entries = index(&["linux/amd64"]);
        for entry in &mut entries {
            entry.kind = EntryKind::Attestation(None);
        }
        assert_eq!(candidates(&p("linux/amd64"), &entries).len(), 1);
    }
}
