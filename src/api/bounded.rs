//! Lists and parts of an object that are read up to a bound: a pod's author chooses how many entries they have, and each takes more memory
//! than its text.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::json_limits::has_too_many_values;

/// The most entries of a list: more containers than the API server can store.
pub const LIST: usize = 16_384;
/// The most bytes of a selector or an affinity.
pub const TEXT: usize = 256 * 1024;

/// A list of at most [`LIST`] entries, or `null`.
///
/// # Errors
/// A longer list, or what is no list of these.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if list.len() >= LIST {
                    return Err(A::Error::custom(format_args!("a list has more than {LIST} entries")));
                }
                list.push(entry);
            }
            Ok(Some(list))
        }
    }

    from.deserialize_any(List(PhantomData))
}

/// A part whose text is of at most [`TEXT`] bytes, or `null`.
///
/// # Errors
/// A longer text, or another value.
pub fn part<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let Some(raw) = Option::<&RawValue>::deserialize(from)? else { return Ok(None) };
    let text = raw.get();
    if text.len() > TEXT || has_too_many_values(text.as_bytes()) {
        return Err(D::Error::custom(format_args!("a selector or an affinity is longer than {TEXT} bytes")));
    }
    serde_json::from_str(text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default, deserialize_with = "list")]
        list: Option<Vec<&'a str>>,
        #[serde(default, deserialize_with = "part")]
        part: Option<BTreeMap<String, String>>,
    }

    fn read(text: &str) -> Result<Object<'_>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn b7_lists_and_parts_are_read_up_to_their_bounds() {
        let list = |count: usize| format!("{{\"list\":[\"a\"{}]}}", ",\"a\"".repeat(count - 1));
        assert_eq!(read(&list(LIST)).unwrap().list.unwrap().len(), LIST);
        assert!(read(&list(LIST + 1)).unwrap_err().contains("more than 16384 entries"));
        let part = |length: usize| format!("{{\"part\":{{\"a\":\"{}\"}}}}", "x".repeat(length));
        assert!(read(&part(TEXT - 20)).unwrap().part.is_some());
        assert!(read(&part(TEXT)).unwrap_err().contains("longer than 262144 bytes"));
    }

    #[test]
    fn nothing_is_nothing_and_another_value_is_an_error() {
        for text in ["{}", "{\"list\":null,\"part\":null}"] {
            let object = read(text).unwrap();
            assert!(object.list.is_none() && object.part.is_none(), "{text}");
        }
        for text in ["{\"list\":{}}", "{\"list\":[1]}", "{\"part\":[]}", "{\"part\":{\"a\":1}}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
