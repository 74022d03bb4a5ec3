//! Manifests that runtimes would read differently than they are read here: Go folds the case of keys, and platforms have several
//! spellings. Read key by key: nothing of a large manifest is built up in memory for it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::platform::Platform;

/// The longest part of a platform.
const MAX_WORD: usize = 32;
/// The keys that runtimes look for.
const KEYS: [&str; 18] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "manifests",
    "config",
    "layers",
    "fsLayers",
    "subject",
    "digest",
    "size",
    "platform",
    "annotations",
    "os",
    "architecture",
    "variant",
    "os.version",
    "os.features",
    "features",
];

/// What in a manifest is disputable, if anything. What is no JSON, or not of the shape, is told elsewhere.
pub fn disputable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (mut layers, mut manifests) = (false, false);
    let found = each_key(text, |key, value| {
        layers |= key == "fsLayers";
        manifests |= key == "manifests";
        if key == "manifests" {
            each_item(value.get(), |entry| each_key(entry.get(), in_entry))
        } else {
            None
        }
    });
    found.or_else(|| (layers && manifests).then(|| "it has fsLayers beside manifests".to_owned()))
}

fn in_entry(key: &str, value: &RawValue) -> Option<String> {
    if key != "platform" {
        return None;
    }
    each_key(value.get(), |_, _| None).or_else(|| spelling(value.get()))
}

fn spelling(platform: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Stated<'a> {
        #[serde(borrow, default)]
        os: Cow<'a, str>,
        #[serde(borrow, default)]
        architecture: Cow<'a, str>,
        #[serde(borrow, default)]
        variant: Option<Cow<'a, str>>,
    }
    let Stated { os, architecture, variant } = serde_json::from_str(platform).ok()?;
    let normal = Platform::new(&os, &architecture, variant.as_deref());
    // It is shown to people, and no platform has other characters.
    let is_word = |part: &str| {
        part.len() <= MAX_WORD && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let words = [os.as_ref(), architecture.as_ref(), variant.as_deref().unwrap_or_default()];
    let is_canonical = normal.os() == os && normal.architecture() == architecture;
    (!is_canonical || !words.into_iter().all(is_word)).then(|| {
        let shown: String = words.join("/").chars().take(100).collect();
        format!("the platform {shown:?} is read differently by different runtimes")
    })
}

/// The first that `look` finds among the members of an object, whose keys are looked at too.
fn each_key<'a>(json: &'a str, look: impl FnMut(&str, &'a RawValue) -> Option<String>) -> Option<String> {
    let mut found = None;
    let keys = Keys { look, found: &mut found };
    // An early end is an error of ours, and any other is told by who reads the manifest in earnest.
    let _ = serde_json::Deserializer::from_str(json).deserialize_map(keys);
    found
}

fn each_item<'a>(json: &'a str, look: impl FnMut(&'a RawValue) -> Option<String>) -> Option<String> {
    let mut found = None;
    let _ = serde_json::Deserializer::from_str(json).deserialize_seq(Items { look, found: &mut found });
    found
}

struct Keys<'f, F> {
    look: F,
    found: &'f mut Option<String>,
}

impl<'de, F: FnMut(&str, &'de RawValue) -> Option<String>> Visitor<'de> for Keys<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let value = map.next_value()?;
            *self.found = folded(&key).or_else(|| (self.look)(&key, value));
            if self.found.is_some() {
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }
}

struct Items<'f, F> {
    look: F,
    found: &'f mut Option<String>,
}

impl<'de, F: FnMut(&'de RawValue) -> Option<String>> Visitor<'de> for Items<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            *self.found = (self.look)(item);
            if self.found.is_some() {
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }
}

/// A key that is another one to whoever folds case.
fn folded(key: &str) -> Option<String> {
    let is_other = |known: &str| key.eq_ignore_ascii_case(known) && key != known;
    let wrong = !key.is_ascii() || KEYS.iter().any(|known| is_other(known));
    let shown: String = key.chars().take(100).collect();
    wrong.then(|| format!("the key {shown:?} is read differently by different runtimes"))
}

#[cfg(test)]
mod tests {
    use super::disputable;

    #[test]
    fn what_go_reads_in_another_way_is_disputable() {
        for (text, is_fine) in [
            (
                r#"{"manifests": [{"digest": "x", "platform": {"os": "linux", "architecture": "amd64"}}], "x": {"Digest": 1}}"#,
                true,
            ),
            (
                r#"{"manifests": [{"digest": "x", "platform": {"os": "", "architecture": "arm", "variant": "v7"}}]}"#,
                true,
            ),
            (
                r#"{"manifests": [{"platform": {"os": "linux", "architecture": "arm64", "variant": null}}]}"#,
                true,
            ),
            (r#"{"config": {}, "fsLayers": []}"#, true),
            (r#"{"mediatype": "x"}"#, false),
            (r#"{"a": 1, "manife\u017fts": []}"#, false),
            (r#"{"manifests": [{"Digest": "x"}]}"#, false),
            (r#"{"manifests": [{}, {"platform": {"OS": "linux"}}]}"#, false),
            (r#"{"manifests": [{"platform": {"OS.Version": "1"}}]}"#, false),
            (r#"{"manifests": [{"platform": {"os": "Linux", "architecture": "amd64"}}]}"#, false),
            (r#"{"manifests": [{"platform": {"os": "linux", "architecture": "x86_64"}}]}"#, false),
            (r#"{"manifests": [], "fsLayers": []}"#, false),
            (r#"{"manifests": [{"platform": {"os": "linux\nallowed", "architecture": "amd64"}}]}"#, false),
            (
                r#"{"manifests": [{"platform": {"os": "linux", "architecture": "arm", "variant": "v7 x"}}]}"#,
                false,
            ),
            (r#"{"\u006dANIFESTS": []}"#, false),
        ] {
            assert_eq!(disputable(text.as_bytes()).is_none(), is_fine, "{text}");
        }
    }
}
