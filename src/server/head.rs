//! The head of a review: what its first bytes tell. An answer needs the `uid`, also where the rest of the review is too long, too slow or
//! broken: with `failurePolicy: Ignore` the API server admits whatever gets an HTTP error.

/// How many bytes the head is. The API server writes `uid` and `namespace` before the object.
pub const HEAD: usize = 4096;

/// What the head of a review tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `request.uid`; `None` where it cannot be read, or is empty.
    pub uid: Option<String>,
    /// `request.namespace`, as far as it was read.
    pub namespace: Option<String>,
}

impl Head {
    /// Reads at most [`HEAD`] bytes. They may end anywhere, and anything may follow.
    pub fn read(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let mut scan = Scan(bytes.get(..HEAD).unwrap_or(bytes));
        // Where the text ends or is no JSON, what was found before counts.
        let _ = scan.object(&mut |scan, key| match key {
            b"\"request\"" => scan.object(&mut |scan, key| head.field(scan, key)),
            _ => scan.skip(),
        });
        head
    }

    fn field(&mut self, scan: &mut Scan<'_>, key: &[u8]) -> Option<()> {
        let place = match key {
            b"\"uid\"" if self.uid.is_none() => &mut self.uid,
            b"\"namespace\"" if self.namespace.is_none() => &mut self.namespace,
            _ => return scan.skip(),
        };
        let text: String = serde_json::from_slice(scan.string()?).ok()?;
        *place = Some(text).filter(|text| !text.is_empty());
        // Nothing else is looked for.
        (self.uid.is_none() || self.namespace.is_none()).then_some(())
    }
}

/// What is left of a JSON text. `None` is the end of it, or what is no JSON.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn advance(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.advance(1))?.map(drop)
    }

    /// A string with its quotes, as it is written.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b'"' {
            return None;
        }
        let mut escaped = false;
        let end = self.0.iter().skip(1).position(|&byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        self.advance(end.checked_add(2)?)
    }

    /// The fields of an object. `field` takes each value.
    fn object(&mut self, field: &mut dyn FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            field(self, key)?;
            if self.peek()? == b'}' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
        }
    }

    /// Any value. Brackets are counted and not matched: who decides by the review parses it.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth = depth.checked_add(1)?;
                    self.advance(1)?;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.advance(1)?;
                }
                b',' | b':' => {
                    self.advance(1)?;
                    continue;
                }
                _ => {
                    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b",:]}[{\"".contains(byte);
                    let end = self.0.iter().position(is_end)?;
                    self.advance(end.max(1))?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn uid(text: &str) -> Option<String> {
        Head::read(text.as_bytes()).uid
    }

    #[test]
    fn a2_a_uid_is_read_wherever_the_text_ends_behind_it() {
        let text = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {"kind": {"uid": "not this", "list": [1, {"a": null}, "]}"]}, "uid": "a\"b", "namespace": "team", "object": {}},
        })
        .to_string();
        // serde_json writes fields in order of their names.
        let behind = text.find(r#""uid":"a\"b""#).unwrap() + r#""uid":"a\"b""#.len();
        for end in behind..=text.len() {
            assert_eq!(uid(&text[..end]).as_deref(), Some("a\"b"), "{}", &text[..end]);
        }
        for end in 0..behind {
            assert_eq!(uid(&text[..end]), None, "{}", &text[..end]);
        }
        assert_eq!(Head::read(text.as_bytes()).namespace.as_deref(), Some("team"));
    }

    #[test]
    fn a2_what_is_not_the_uid_of_a_request_is_none() {
        for text in [
            "",
            "[]",
            "{\"uid\":\"1\"}",
            "{\"request\":[{\"uid\":\"1\"}]}",
            "{\"request\":{\"uid\":\"\"}}",
            "{\"request\":{\"uid\":1}}",
            "{\"request\":{\"object\":{\"uid\":\"1\"}}}",
            "{\"Request\":{\"uid\":\"1\"}}",
            "{\"request\":{\"a\":]\"uid\":\"1\"}}",
        ] {
            assert_eq!(uid(text), None, "{text}");
        }
        let late = format!("{{\"a\":\"{}\",\"request\":{{\"uid\":\"1\"}}}}", "x".repeat(HEAD));
        assert_eq!(uid(&late), None, "it is beyond the head");
        for text in [
            "{\"request\":{\"uid\":\"1\",nonsense",
            " {\n\"request\" : {\"uid\" :\t\"1\"",
            "{\"request\":{\"b\":[true,-1.5e3,null],\"uid\":\"1\"\u{1}",
        ] {
            assert_eq!(uid(text).as_deref(), Some("1"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(bytes in proptest::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'"'), Just(b':'), Just(b','), Just(b'['), Just(b']'), Just(b'\\'), any::<u8>(),
        ], 0..200)) {
            Head::read(&bytes);
            let mut text = b"{\"request\":{\"uid\":\"1\",".to_vec();
            text.extend(&bytes);
            let head = Head::read(&text);
            prop_assert_eq!(head.uid.as_deref(), Some("1"));
        }
    }
}
