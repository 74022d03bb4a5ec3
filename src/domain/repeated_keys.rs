//! JSON in which no key occurs twice. Readers differ on which of two equal keys counts; here neither does.

use std::{borrow::Cow, collections::HashSet};

/// How deep JSON may be nested.
pub const MAX_DEPTH: usize = 128;

/// Whether brackets are nested deeper than [`MAX_DEPTH`]. It must be JSON.
pub fn is_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for byte in json {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'{' | b'[') => depth = depth.saturating_add(1),
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Whether a key occurs twice in one object, at any depth, in whatever spelling. It must be JSON.
pub fn has_repeated_key(json: &str) -> bool {
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let (mut is_key, mut rest) = (false, json);
    while let Some(at) = rest.find(['{', '[', '}', ']', ',', '"']) {
        let (token, behind) = rest.split_at(at).1.split_at(1);
        rest = behind;
        match token {
            "{" => open.push(Some(HashSet::new())),
            "[" => open.push(None),
            "}" | "]" => drop(open.pop()),
            "\"" => {
                let end = end_of_text(rest);
                let (text, behind) = rest.split_at(end);
                rest = behind.get(1..).unwrap_or_default();
                if let Some(Some(keys)) = open.last_mut().filter(|_| is_key)
                    && !keys.insert(unescaped(text))
                {
                    return true;
                }
            }
            _ => {}
        }
        is_key = matches!(token, "{" | ",") && matches!(open.last(), Some(Some(_)));
    }
    false
}

/// Where the text ends that begins here: at a quotation mark that no backslash escapes.
fn end_of_text(rest: &str) -> usize {
    let mut is_escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    };
    rest.bytes().position(ends).unwrap_or(rest.len())
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let whole = format!("\"{text}\"");
    serde_json::from_str::<String>(&whole).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_is_found_wherever_it_is() {
        for (json, repeated) in [
            ("null", false),
            (r#""{\"a\":1,\"a\":2}""#, false),
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}"#, false),
            (r#"{"a":"a","b":"a","c":["a","a"],"":"\\"}"#, false),
            (r#"{"a":1,"a":2}"#, true),
            (r#"[0,{"x":[],"a":{"b":1,"b":2}}]"#, true),
            (r#"{"a":[1,2],"a":2}"#, true),
            (r#"{"b":1,"\u0062":2}"#, true),
            (r#"{"a\"":1,"b":"}","a\"":2}"#, true),
        ] {
            assert_eq!(has_repeated_key(json), repeated, "{json}");
        }
    }

    #[test]
    fn depth_is_of_brackets_and_not_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_too_deep(format!("\"\\\"{}\"", "[".repeat(500)).as_bytes()));
        assert!(!is_too_deep(format!("[{}0]", "[],".repeat(500)).as_bytes()));
    }
}
