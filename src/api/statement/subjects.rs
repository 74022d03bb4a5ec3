//! What a statement is about: of each subject the digests that can be checked here. Names are hints and not read.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{MAX_SUBJECTS, lenient::said};
use crate::domain::digest::Digest;

/// The subjects of a statement.
#[derive(Debug, Clone, Default)]
pub struct Subjects {
    /// How many there are.
    pub(super) count: usize,
    /// The digests of as many as may be there.
    pub(super) digests: Vec<Digest>,
}

/// A subject. One without a digest, or with something else in its place, names nothing.
#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow, default)]
    digest: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SubjectsVisitor)
    }
}

struct SubjectsVisitor;

impl<'de> Visitor<'de> for SubjectsVisitor {
    type Value = Subjects;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of subjects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Subjects, A::Error> {
        let mut subjects = Subjects::default();
        while subjects.count < MAX_SUBJECTS {
            let Some(subject) = items.next_element::<&RawValue>()? else { return Ok(subjects) };
            subjects.count += 1;
            if !subject.get().starts_with('{') {
                continue;
            }
            let Subject { digest } = serde_json::from_str(subject.get()).map_err(A::Error::custom)?;
            if let Some(digest) = digest.filter(|digest| digest.get().starts_with('{')) {
                let Digests(digests) = serde_json::from_str(digest.get()).map_err(A::Error::custom)?;
                subjects.digests.extend(digests);
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            subjects.count += 1;
        }
        Ok(subjects)
    }
}

/// The digests that can be checked here; other algorithms (`gitCommit`, `sha1`) say nothing of an image.
struct Digests(Vec<Digest>);

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DigestsVisitor)
    }
}

struct DigestsVisitor;

impl<'de> Visitor<'de> for DigestsVisitor {
    type Value = Digests;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hashes by algorithm")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Digests, A::Error> {
        let (mut seen, mut digests) = ([false; 2], Vec::new());
        while let Some(algorithm) = entries.next_key::<String>()? {
            let hash = entries.next_value::<&RawValue>()?;
            let Some(at) = ["sha256", "sha512"].iter().position(|known| *known == algorithm) else {
                continue;
            };
            match seen.get_mut(at) {
                Some(seen) if *seen => {
                    return Err(A::Error::custom(format!("duplicate field `{algorithm}`")));
                }
                Some(seen) => *seen = true,
                None => {}
            }
            let hash: Option<String> = said(hash);
            digests.extend(hash.and_then(|hash| {
                format!("{algorithm}:{}", hash.to_ascii_lowercase()).parse::<Digest>().ok()
            }));
        }
        Ok(Digests(digests))
    }
}
