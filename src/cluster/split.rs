//! Reads a list or a watch of the API server object by object.
//!
//! A page of pods may be gigabytes of JSON, since each author of a pod chooses its size. So no page is held: bytes are scanned as
//! they arrive, and one object at a time is kept until it is complete.

use futures::AsyncBufReadExt as _;
use hyper::http::{HeaderValue, Request, header};
use kube::{Client, Error};

/// The largest object that is read, in bytes of JSON. An API server stores 1.5 MiB, which escapes make six times as long.
const LARGEST: usize = 16 << 20;
/// The longest key of the outermost object that is told apart.
const LONGEST_KEY: usize = 16;
/// The most bytes that are kept allocated between two objects.
const SPARE: usize = 256 << 10;

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object whose `items` are wanted (`PodList`).
    List,
    /// One object after another, as a watch has them.
    Events,
}

/// What is found in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The API server has begun to answer.
    Begun,
    /// The `metadata` of a list.
    Metadata(&'a [u8]),
    /// An item of a list, or an event of a watch.
    Object(&'a [u8]),
    /// The same, where it is larger than what is read.
    TooLarge,
}

/// What is being kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Metadata,
    Object,
}

/// Whether the next byte is of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

/// Scans JSON for the objects in it. What is no JSON yields no objects, or such as cannot be read.
#[derive(Debug)]
pub struct Splitter {
    form: Form,
    depth: usize,
    text: Text,
    /// Within the outermost object of a list: its current key, and whether the value has begun.
    key: Vec<u8>,
    after_colon: bool,
    in_items: bool,
    /// What is kept, and the depth at which it ends.
    keeping: Option<(Kept, usize)>,
    buffer: Vec<u8>,
    /// How long what is being kept is so far.
    length: usize,
    is_complete: bool,
}

impl Splitter {
    /// A splitter at the beginning of a stream.
    pub fn new(form: Form) -> Self {
        Self {
            form,
            depth: 0,
            text: Text::Outside,
            key: Vec::new(),
            after_colon: false,
            in_items: false,
            keeping: None,
            buffer: Vec::new(),
            length: 0,
            is_complete: false,
        }
    }

    /// Whether a list has come to its end; a watch may end after any event.
    pub fn is_complete(&self) -> bool {
        match self.form {
            Form::List => self.is_complete,
            Form::Events => self.depth == 0,
        }
    }

    /// Takes the next bytes in, and hands over what they complete.
    pub fn feed(&mut self, chunk: &[u8], found: &mut impl FnMut(Part<'_>)) {
        // Bytes are copied in runs: from here on they are not copied yet.
        let mut from = 0_usize;
        for (at, byte) in chunk.iter().copied().enumerate() {
            if self.text != Text::Outside {
                self.string_byte(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.text = Text::Inside;
                    if self.is_at_key() {
                        self.key.clear();
                    }
                }
                b':' if self.depth == 1 => self.after_colon = true,
                b',' if self.depth == 1 => self.after_colon = false,
                b'{' | b'[' => {
                    if self.keeping.is_none() {
                        self.keeping = self.wanted(byte).map(|kept| (kept, self.depth));
                        from = at;
                    }
                    self.in_items |= byte == b'[' && self.is_value_of(b"items");
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if let Some((kept, _)) = self.keeping.filter(|(_, until)| *until == self.depth) {
                        let end = at.saturating_add(1);
                        self.keep(chunk.get(from..end).unwrap_or_default());
                        self.hand_over(kept, found);
                    }
                    if self.depth == 1 {
                        self.in_items = false;
                    }
                    self.is_complete |= self.depth == 0;
                }
                _ => {}
            }
        }
        if self.keeping.is_some() {
            self.keep(chunk.get(from..).unwrap_or_default());
        }
    }

    fn string_byte(&mut self, byte: u8) {
        self.text = match (self.text, byte) {
            (Text::Inside, b'"') => {
                self.text = Text::Outside;
                return;
            }
            (Text::Inside, b'\\') => Text::Escaped,
            _ => Text::Inside,
        };
        if self.is_at_key() && self.key.len() < LONGEST_KEY {
            self.key.push(byte);
        }
    }

    fn is_at_key(&self) -> bool {
        self.form == Form::List && self.depth == 1 && !self.after_colon
    }

    fn is_value_of(&self, key: &[u8]) -> bool {
        self.form == Form::List && self.depth == 1 && self.after_colon && self.key == key
    }

    /// What the object that begins here is kept as.
    fn wanted(&self, byte: u8) -> Option<Kept> {
        let is_object = match self.form {
            Form::Events => self.depth == 0,
            Form::List => self.depth == 2 && self.in_items,
        };
        match byte {
            b'{' if is_object => Some(Kept::Object),
            b'{' if self.is_value_of(b"metadata") => Some(Kept::Metadata),
            _ => None,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        if self.length > LARGEST {
            self.buffer = Vec::new();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn hand_over(&mut self, kept: Kept, found: &mut impl FnMut(Part<'_>)) {
        match kept {
            _ if self.length > LARGEST => found(Part::TooLarge),
            Kept::Metadata => found(Part::Metadata(&self.buffer)),
            Kept::Object => found(Part::Object(&self.buffer)),
        }
        self.keeping = None;
        self.length = 0;
        self.buffer.clear();
        if self.buffer.capacity() > SPARE {
            self.buffer = Vec::new();
        }
    }
}

/// Sends a request, and hands over the parts of the answer as they arrive, until `found` fails.
///
/// # Errors
/// What the API server answers in place of it, where the answer breaks off, and what `found` fails with.
pub async fn read(
    client: &Client,
    mut request: Request<Vec<u8>>,
    form: Form,
    mut found: impl FnMut(Part<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    // Each event of a watch would be compressed by itself, which the client does not read.
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut body = std::pin::pin!(client.request_stream(request).await?);
    found(Part::Begun)?;
    let mut splitter = Splitter::new(form);
    loop {
        let chunk = body.fill_buf().await.map_err(Error::ReadEvents)?;
        if chunk.is_empty() {
            return if splitter.is_complete() { Ok(()) } else { Err(broken_off()) };
        }
        let (mut result, mut has_found) = (Ok(()), false);
        splitter.feed(chunk, &mut |part| {
            has_found = true;
            if result.is_ok() {
                result = found(part);
            }
        });
        result?;
        let length = chunk.len();
        body.consume_unpin(length);
        // Many objects may be there at once: reviews are answered between them.
        if has_found {
            tokio::task::yield_now().await;
        }
    }
}

fn broken_off() -> Error {
    Error::ReadEvents(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the answer broke off"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The parts as text, whatever the chunks they arrive in.
    fn parts(form: Form, text: &str, chunk: usize) -> (Vec<String>, bool) {
        let mut splitter = Splitter::new(form);
        let mut parts = Vec::new();
        let shown = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for bytes in text.as_bytes().chunks(chunk) {
            splitter.feed(bytes, &mut |part| {
                parts.push(match part {
                    Part::Begun => unreachable!("a splitter knows of no answer"),
                    Part::Metadata(bytes) => format!("metadata {}", shown(bytes)),
                    Part::Object(bytes) => shown(bytes),
                    Part::TooLarge => "too large".to_owned(),
                });
            });
        }
        (parts, splitter.is_complete())
    }

    #[test]
    fn items_and_metadata_are_cut_out_of_a_list_whatever_stands_beside_them() {
        let text = r#" {"kind":"PodList","items":[{"a":"}\"{"},{"items":[{"b":1}],"metadata":{}}], "x":{"items":[{}]},
            "metadata":{"continue":"c"},"y":[[{}]],"z":"items"} "#;
        let expected =
            [r#"{"a":"}\"{"}"#, r#"{"items":[{"b":1}],"metadata":{}}"#, r#"metadata {"continue":"c"}"#];
        for chunk in 1..text.len() {
            assert_eq!(
                parts(Form::List, text, chunk),
                (expected.map(ToOwned::to_owned).to_vec(), true),
                "{chunk}"
            );
        }
        assert_eq!(parts(Form::List, r#"{"items":null,"metadata":{}}"#, 3).0, ["metadata {}"]);
    }

    #[test]
    fn a_list_that_breaks_off_is_not_complete() {
        for text in ["", r#"{"metadata":{},"items":[{}"#, r#"{"items":[]"#, r#"{"items":[{"a":"}]}"#] {
            assert!(!parts(Form::List, text, 5).1, "{text}");
        }
    }

    #[test]
    fn events_are_cut_apart_wherever_lines_end() {
        let text = "{\"type\":\"ADDED\",\"object\":{}}\n{\"a\":[{}]}{}";
        let expected = ["{\"type\":\"ADDED\",\"object\":{}}", "{\"a\":[{}]}", "{}"];
        for chunk in 1..text.len() {
            assert_eq!(parts(Form::Events, text, chunk).0, expected);
        }
    }

    #[test]
    fn what_is_too_large_is_passed_over_and_hides_nothing_after_it() {
        let large = "x".repeat(LARGEST);
        let text = json!({"items": [{"a": 1}, {"a": large}, {"a": 2}], "metadata": {}}).to_string();
        assert_eq!(
            parts(Form::List, &text, 64 << 10),
            (
                vec![
                    r#"{"a":1}"#.to_owned(),
                    "too large".to_owned(),
                    r#"{"a":2}"#.to_owned(),
                    "metadata {}".to_owned()
                ],
                true
            )
        );
    }

    fn some_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let key = prop_oneof![Just("items".to_owned()), Just("metadata".to_owned()), ".{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..3).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        /// What a reader of the whole list finds, the splitter finds.
        #[test]
        fn it_finds_what_a_reader_of_the_whole_finds(items in prop::collection::vec(some_value(), 0..4), other in some_value(), chunk in 1_usize..40) {
            let items: Vec<Value> = items.into_iter().map(|item| json!({"item": item})).collect();
            let list = json!({"another": other, "items": items, "zzz": other});
            let (found, complete) = parts(Form::List, &list.to_string(), chunk);
            prop_assert!(complete);
            let found: Vec<Value> = found.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
            prop_assert_eq!(found, items);
        }
    }
}
