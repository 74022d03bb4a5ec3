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
const KEYS: [&str; 20] = [
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
    "urls",
    "data",
    "platform",
    "annotations",
    "os",
    "architecture",
    "variant",
    "os.version",
    "os.features",
    "features",
];

/// How deep the values of a manifest may be nested. Go reads 10,000 levels; manifests have about five.
pub const MAX_NESTING: usize = 1_000;

/// Whether values are nested deeper than they are read.
pub fn is_nested_too_deep(json: &str) -> bool {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth = depth.saturating_add(1),
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_NESTING
    })
}

/// What in a manifest is disputable, if anything. What is no JSON, or not of the shape, is told elsewhere.
pub fn disputable(text: &str) -> Option<String> {
    let (mut layers, mut manifests) = (false, false);
    let found = each_key(text, |key, value| {
        layers |= key == "fsLayers";
        manifests |= key == "manifests";
        match key {
            "manifests" => each_item(value.get(), |entry| each_key(entry.get(), in_entry)),
            "layers" => each_item(value.get(), |entry| each_key(entry.get(), |_, _| None)),
            "config" | "subject" => each_key(value.get(), |_, _| None),
            _ => None,
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
        #[serde(borrow)]
        os: Option<Cow<'a, str>>,
        #[serde(borrow)]
        architecture: Option<Cow<'a, str>>,
        #[serde(borrow)]
        variant: Option<Cow<'a, str>>,
    }
    let Stated { os, architecture, variant } = serde_json::from_str(platform).ok()?;
    let (os, architecture) = (os.unwrap_or_default(), architecture.unwrap_or_default());
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
    use super::{MAX_NESTING, disputable, is_nested_too_deep};

    #[test]
    fn what_go_does_not_read_for_its_depth_is_too_deep() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_nested_too_deep(&nested(MAX_NESTING)));
        assert!(is_nested_too_deep(&nested(MAX_NESTING + 1)));
        let quoted = format!(r#"{{"a": "\"{}", "b": []}}"#, nested(MAX_NESTING + 1));
        assert!(!is_nested_too_deep(&quoted));
    }

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
            (r#"{"config": {"Digest": "x"}}"#, false),
            (r#"{"config": {"digest": "x"}, "layers": [{"digest": "x", "Urls": []}]}"#, false),
            (
                r#"{"config": {"digest": "x"}, "layers": [{"digest": "x", "annotations": {"Urls": ""}}]}"#,
                true,
            ),
        ] {
            assert_eq!(disputable(text).is_none(), is_fine, "{text}");
        }
    }
}
