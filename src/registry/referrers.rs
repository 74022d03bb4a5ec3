//! Lists of referrers: the pages of the referrers API, and the fallback tag (distribution specification 1.1, "Listing Referrers").

use std::{cmp::Reverse, collections::HashSet, fmt};

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use crate::{
    domain::{digest::Digest, evidence::FetchError},
    gather::ports::{Referrer, ReferrerList},
};

/// How many pages are read.
pub const MAX_PAGES: usize = 10;
/// How many entries of a list are kept, the likeliest to hold provenance first.
const MAX_KEPT: usize = 1_000;
/// The longest artifact type that is kept.
const MAX_TYPE: usize = 255;

/// What the list says of a referrer: a hint, by which the likeliest are inspected first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likelihood {
    /// A bundle with SLSA provenance or a verification summary.
    Provenance,
    /// A bundle, or another form of attestation.
    Attestation,
    /// Nothing that tells what it is.
    Unknown,
    /// Something else: a signature, an SBOM.
    Other,
}

/// Where the list says so (Sigstore's bundle specification, "OCI").
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const CREATED: &str = "org.opencontainers.image.created";

/// A referrer as it is ranked.
#[derive(Debug, Clone)]
pub struct Ranked {
    likelihood: Likelihood,
    /// When it was made, as it is written: those made last first.
    created: Reverse<String>,
    referrer: Referrer,
}

impl Ranked {
    /// A referrer, with the annotations that the list or its manifest shows.
    pub fn new<'a>(referrer: Referrer, annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        let predicate = annotation(PREDICATE_TYPE).unwrap_or_default();
        let kind = referrer.artifact_type.as_deref().unwrap_or_default();
        let likelihood = if predicate.starts_with("https://slsa.dev/") {
            Likelihood::Provenance
        } else if kind.contains("sigstore.bundle") || kind.contains("in-toto") || kind.contains("dsse") {
            Likelihood::Attestation
        } else if kind.is_empty() || kind.contains(".empty.") || kind.ends_with(".config.v1+json") {
            Likelihood::Unknown
        } else {
            Likelihood::Other
        };
        let created: String = annotation(CREATED).unwrap_or_default().chars().take(40).collect();
        Self { likelihood, created: Reverse(created), referrer }
    }
}

impl Ranked {
    /// The digest of its manifest.
    pub const fn digest(&self) -> Digest {
        self.referrer.digest
    }
}

/// Referrers, the likeliest to hold provenance first, as many as are kept.
#[derive(Debug, Default)]
pub struct Ranking {
    all: Vec<Ranked>,
    known: HashSet<Digest>,
    /// Whether some were not kept.
    is_cut: bool,
}

impl Ranking {
    /// Adds one that follows those before it in its list; each once.
    pub fn add(&mut self, ranked: Ranked) {
        if self.known.insert(ranked.referrer.digest) {
            self.all.push(ranked);
        }
        if self.all.len() >= MAX_KEPT.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        // What was added to a list last is at its end.
        self.all.reverse();
        self.all.sort_by(|a, b| (a.likelihood, &a.created).cmp(&(b.likelihood, &b.created)));
        self.is_cut |= self.all.len() > MAX_KEPT;
        self.all.truncate(MAX_KEPT);
        self.known = self.all.iter().map(|ranked| ranked.referrer.digest).collect();
        self.all.reverse();
    }

    /// Those that are kept, and whether there were others.
    pub fn finish(mut self, what: &str) -> ReferrerList {
        self.cut();
        let unlisted =
            self.is_cut.then(|| FetchError::not_inspected(format!("{what} are more than {MAX_KEPT}")));
        let referrers = self.all.into_iter().rev().map(|ranked| ranked.referrer);
        ReferrerList { referrers: referrers.collect(), unlisted: unlisted.into_iter().collect() }
    }
}

/// An index of referrers, as far as it is needed.
#[derive(Deserialize)]
struct List {
    #[serde(deserialize_with = "entries")]
    manifests: Ranking,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Option<String>,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "dev.sigstore.bundle.predicateType")]
    predicate_type: Option<String>,
    #[serde(rename = "org.opencontainers.image.created")]
    created: Option<String>,
}

impl Entry {
    /// An entry whose digest cannot be checked here (another algorithm, say) cannot be used either, and hides none of the others.
    fn ranked(self) -> Option<Ranked> {
        let digest: Digest = self.digest?.parse().ok()?;
        let artifact_type = self.artifact_type.filter(|kind| kind.len() <= MAX_TYPE);
        let annotations = self.annotations.unwrap_or_default();
        let annotation = |key: &str| match key {
            PREDICATE_TYPE => annotations.predicate_type.as_deref(),
            CREATED => annotations.created.as_deref(),
            _ => None,
        };
        Some(Ranked::new(Referrer { digest, artifact_type }, annotation))
    }
}

/// Reads entry by entry: nothing of a long list is built up in memory. A list that is `null` is empty, as a Go server writes it.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ranking, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Ranking;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of descriptors")
        }

        fn visit_unit<E>(self) -> Result<Ranking, E> {
            Ok(Ranking::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ranking, A::Error> {
            let mut ranking = Ranking::default();
            while let Some(entry) = items.next_element::<Option<Entry>>()? {
                if let Some(ranked) = entry.and_then(Entry::ranked) {
                    ranking.add(ranked);
                }
            }
            Ok(ranking)
        }
    }

    deserializer.deserialize_any(Entries)
}

/// Adds the referrers in the body of an answer; `None` for what is no list of referrers.
pub fn read(body: &[u8], all: &mut Ranking) -> Option<()> {
    let list: List = serde_json::from_str(std::str::from_utf8(body).ok()?).ok()?;
    all.is_cut |= list.manifests.is_cut;
    list.manifests.all.into_iter().for_each(|ranked| all.add(ranked));
    Some(())
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nowhere: this was all of it.
    End,
    /// At this page.
    Page(Url),
    /// At a place that is not followed.
    Elsewhere,
}

/// The next page of the list that begins at `first`. Registries behind a proxy write their own host, scheme or path prefix into the link, or
/// encode its path: what counts is that it leads to the same list. The page is requested where the first one was, so no credential goes
/// elsewhere.
pub fn next_page(current: &Url, first: &Url, headers: &HeaderMap) -> Next {
    let mut links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.find_map(next_link) else { return Next::End };
    let Ok(stated) = current.join(&target) else { return Next::Elsewhere };
    if !percent_decoded(stated.path()).ends_with(&percent_decoded(first.path())) {
        return Next::Elsewhere;
    }
    let mut next = first.clone();
    next.set_query(stated.query());
    // A page that leads to itself has no end.
    if next == *current || stated.query().is_none() { Next::Elsewhere } else { Next::Page(next) }
}

/// The bytes of a path; a percent sign that begins no two digits stands for itself.
fn percent_decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(b'%'));
        rest = byte.and(after.get(2..)).unwrap_or(after);
    }
    decoded.extend_from_slice(rest.as_bytes());
    decoded
}

/// `</v2/…?n=10&last=…>; rel="next"`: the target of the first link that is one (RFC 8288). Targets may have commas in them.
fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, following) = split_unquoted(after);
        let is_next = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('=')).any(
            |(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|rel| rel.eq_ignore_ascii_case("next"))
            },
        );
        if is_next {
            return Some(target.trim().to_owned());
        }
        rest = following;
    }
    None
}

/// The text before and behind the first comma that is in no quotes.
fn split_unquoted(text: &str) -> (&str, &str) {
    let mut in_quotes = false;
    let comma = text.find(|c| {
        in_quotes ^= c == '"';
        c == ',' && !in_quotes
    });
    comma.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const FIRST: &str = "https://r.example/v2/a/referrers/sha256:00";

    fn next(link: &str) -> Next {
        let first: Url = FIRST.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(link).unwrap());
        next_page(&first, &first, &headers)
    }

    #[test]
    fn c7_the_same_list_is_followed_at_its_own_host_however_the_link_is_written() {
        let page = |query: &str| Next::Page(format!("{FIRST}?{query}").parse().unwrap());
        for (link, expected) in [
            (r#"</v2/a/referrers/sha256:00?last=x>; rel="next""#, page("last=x")),
            ("<?last=x>;rel=next", page("last=x")),
            (
                r#"</other>; rel="first", <https://r.example/v2/a/referrers/sha256:00?last=x>; rel="next""#,
                page("last=x"),
            ),
            ("<http://backend:8080/v2/a/referrers/sha256:00?last=x>; rel=next", page("last=x")),
            ("<https://evil.example/v2/a/referrers/sha256:00?last=x>; rel=next", page("last=x")),
            ("</v2/a/referrers/sha256%3A00?last=x%2By>; rel=next", page("last=x%2By")),
            ("</v2%2Fa%2Freferrers%2Fsha256%3A00?last=x>; rel=next", page("last=x")),
            ("<http://backend/internal/v2/a/referrers/sha256:00?last=x>; rel=next", page("last=x")),
            (r#"</v2/a/referrers/sha256:00?last=x,y>; title="a, b"; rel="next""#, page("last=x,y")),
            (r#"</x>; rel="prev""#, Next::End),
            ("</v2/b/referrers/sha256:00?last=x>; rel=next", Next::Elsewhere),
            ("<//evil.example/>; rel=next", Next::Elsewhere),
            ("</v2/a/referrers/sha256:00>; rel=next", Next::Elsewhere),
        ] {
            assert_eq!(next(link), expected, "{link}");
        }
    }

    fn digests(list: ReferrerList) -> Vec<Digest> {
        list.referrers.into_iter().map(|referrer| referrer.digest).collect()
    }

    #[test]
    fn c1_the_likeliest_are_first_and_of_the_rest_the_last() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let entry = |name: &str, more: &str| format!(r#"{{"digest": "{}"{more}}}"#, digest(name));
        let bundle = r#", "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json""#;
        let provenance = |day: u32| {
            format!(
                r#"{bundle}, "annotations": {{"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1", "org.opencontainers.image.created": "2026-01-0{day}"}}"#
            )
        };
        let list = [
            entry("unknown", ""),
            entry("later unknown", r#", "artifactType": null, "annotations": null"#),
            entry("sbom", r#", "artifactType": "application/spdx+json""#),
            entry("bundle", bundle),
            entry("newer", &provenance(2)),
            entry("older", &provenance(1)),
            "null".to_owned(),
            entry("bundle", bundle),
        ];
        let body = format!(r#"{{"manifests": [{}]}}"#, list.join(","));
        let mut ranking = Ranking::default();
        read(body.as_bytes(), &mut ranking).unwrap();
        let expected = ["newer", "older", "bundle", "later unknown", "unknown", "sbom"].map(digest);
        assert_eq!(digests(ranking.finish("they")), expected);
    }

    #[test]
    fn c1_so_many_are_kept_and_it_is_said_that_there_are_others() {
        for (count, is_whole) in [(MAX_KEPT, true), (MAX_KEPT + 1, false), (MAX_KEPT * 5, false)] {
            let mut ranking = Ranking::default();
            for n in 0..count {
                let referrer = Referrer { digest: Digest::of(&n.to_be_bytes()), artifact_type: None };
                ranking.add(Ranked::new(referrer, |_| None));
            }
            let list = ranking.finish("they");
            assert_eq!((list.referrers.len(), list.unlisted.is_empty()), (MAX_KEPT, is_whole));
            assert_eq!(list.referrers[0].digest, Digest::of(&(count - 1).to_be_bytes()));
        }
    }

    #[test]
    fn c8_a_list_that_is_null_is_empty_and_what_is_none_is_none() {
        for (body, is_list) in [
            (&br#"{"manifests": null}"#[..], true),
            (br#"{"manifests": []}"#, true),
            (b"{}", false),
            (br#"{"manifests": {}}"#, false),
            (br#"{"manifests": "null"}"#, false),
            (b"null", false),
            (b"{\"manifests\": null, \"x\": \"\xff\"}", false),
        ] {
            let mut all = Ranking::default();
            let read = read(body, &mut all);
            assert_eq!(read.is_some(), is_list, "{}", body.escape_ascii());
            assert!(all.finish("they").referrers.is_empty());
        }
    }
}
