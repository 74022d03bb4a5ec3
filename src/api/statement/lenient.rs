//! Parts of a predicate that may hold anything: one of another type than expected says nothing.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize,
    de::{Deserializer, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// What a part says, where it is of that type.
pub(super) fn said<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

/// What an object says of which some fields are read. Anything else than an object says nothing.
///
/// # Errors
/// Where one of these fields occurs twice. It is the only error, as long as the type's fields take anything.
pub(super) fn part<'a, T: Deserialize<'a> + Default>(
    json: Option<&'a RawValue>,
) -> Result<T, serde_json::Error> {
    match json.map(RawValue::get) {
        Some(json) if json.starts_with('{') => serde_json::from_str(json),
        _ => Ok(T::default()),
    }
}

/// A text, or nothing where something else or an empty one stands.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?;
    Ok(said::<String>(json).filter(|text| !text.is_empty()))
}

/// When something happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Time {
    /// Nothing is stated.
    #[default]
    Absent,
    /// This is stated, and it is no time: it has no zone, or is of another format.
    Unreadable(String),
    /// At this time.
    At(Timestamp),
}

impl Time {
    pub(super) const fn at(&self) -> Option<Timestamp> {
        match self {
            Self::At(time) => Some(*time),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// How much of what is no time is repeated.
const QUOTED_CHARS: usize = 40;

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        let stated = said::<String>(json).unwrap_or_else(|| json.get().to_owned());
        Ok(match stated.parse() {
            _ if stated.is_empty() || json.get() == "null" => Self::Absent,
            Ok(time) => Self::At(time),
            Err(_) => Self::Unreadable(stated.chars().take(QUOTED_CHARS).collect()),
        })
    }
}

/// The first item of a list, in its order, for which `find` gives something. The list is passed over in its text: it may hold many
/// thousands of items.
pub(super) fn find_in_list<T>(
    list: Option<&RawValue>,
    find: impl FnMut(&RawValue) -> Option<T>,
) -> Option<T> {
    let mut deserializer = serde_json::Deserializer::from_str(list?.get());
    deserializer.deserialize_seq(Finder { find }).ok().flatten()
}

struct Finder<F> {
    find: F,
}

impl<'de, T, F: FnMut(&RawValue) -> Option<T>> Visitor<'de> for Finder<F> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            found = found.or_else(|| (self.find)(item));
        }
        Ok(found)
    }
}
