//! Globs and regular expressions of policies: always anchored, never wider than they look.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// The longest pattern that is compiled.
const MAX_PATTERN: usize = 1024;
/// The largest compiled regular expression, in bytes.
const MAX_COMPILED: usize = 256 * 1024;

/// A glob over a `/`-separated name: `*` stays within a segment, `**` crosses segments, `?` is one character
/// of a segment. It matches the whole text or nothing.
#[derive(Clone)]
pub struct Glob {
    written: String,
    matcher: Matcher,
}

#[derive(Clone)]
enum Matcher {
    Literal,
    Pattern(Regex),
}

/// A regular expression that matches the whole text or nothing.
#[derive(Clone)]
pub struct AnchoredRegex {
    written: String,
    regex: Regex,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was written.
    #[error("the pattern is empty")]
    Empty,
    /// It is longer than is accepted.
    #[error("the pattern is longer than {MAX_PATTERN} characters")]
    TooLong,
    /// Syntax.
    #[error("{0}")]
    Syntax(String),
}

impl Glob {
    /// Compiles a glob.
    ///
    /// # Errors
    /// When the pattern is empty, too long, or has a character that a glob gives no meaning (`[ ] { } \`).
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        check_length(pattern)?;
        if let Some(bad) = pattern.chars().find(|c| "[]{}\\".contains(*c) || c.is_control()) {
            let message =
                format!("a glob has no {bad:?}; it has * (within a segment), ** (across segments) and ?");
            return Err(PatternError::Syntax(message));
        }
        let matcher = if pattern.contains(['*', '?']) {
            Matcher::Pattern(anchored(&glob_to_regex(pattern))?)
        } else {
            Matcher::Literal
        };
        Ok(Self { written: pattern.to_owned(), matcher })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.matcher {
            Matcher::Literal => self.written == text,
            Matcher::Pattern(regex) => regex.is_match(text),
        }
    }

    /// The glob as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl AnchoredRegex {
    /// Compiles a regular expression, anchored at both ends whatever it says itself.
    ///
    /// # Errors
    /// When it is empty, too long, too large once compiled, or malformed.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        check_length(pattern)?;
        // Compiled alone first: `a)(b` is malformed and must not become well formed in the group below.
        compile(pattern)?;
        Ok(Self { written: pattern.to_owned(), regex: anchored(pattern)? })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

fn check_length(pattern: &str) -> Result<(), PatternError> {
    match pattern.len() {
        0 => Err(PatternError::Empty),
        1..=MAX_PATTERN => Ok(()),
        _ => Err(PatternError::TooLong),
    }
}

fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    compile(&format!(r"\A(?:{pattern})\z"))
}

fn compile(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&text);
        PatternError::Syntax(reason.to_owned())
    })
}

fn glob_to_regex(pattern: &str) -> String {
    let mut regex = String::with_capacity(pattern.len().saturating_mul(2));
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let (translated, used) = match c {
            '*' if rest.starts_with("**") => {
                (".*".to_owned(), rest.bytes().take_while(|b| *b == b'*').count())
            }
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            other => (regex::escape(other.encode_utf8(&mut [0; 4])), other.len_utf8()),
        };
        regex.push_str(&translated);
        rest = rest.get(used..).unwrap_or_default();
    }
    regex
}

macro_rules! shown_as_written {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.written)
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.written)
            }
        }

        impl PartialEq for $kind {
            fn eq(&self, other: &Self) -> bool {
                self.written == other.written
            }
        }

        impl Eq for $kind {}
    )*};
}
shown_as_written!(Glob, AnchoredRegex);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_anchored_and_stay_in_their_segment() {
        for (glob, text, fits) in [
            ("refs/heads/main", "refs/heads/main", true),
            ("refs/heads/main", "refs/heads/main-x", false),
            ("refs/heads/main", "xrefs/heads/main", false),
            ("refs/tags/v*", "refs/tags/v1.2.0", true),
            ("refs/tags/v*", "refs/tags/v1/x", false),
            ("ghcr.io/org/*", "ghcr.io/org/app", true),
            ("ghcr.io/org/*", "ghcr.io/org/a/b", false),
            ("ghcr.io/org/**", "ghcr.io/org/a/b", true),
            ("ghcr.io/org/**", "ghcr.io/organisation/a", false),
            ("ghcr.io/org/**", "ghcrxio/org/a", false),
            ("**", "anything/at/all", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("v1.0", "v1x0", false),
            ("a*", "a\n", true),
            ("a", "a\n", false),
        ] {
            assert_eq!(Glob::new(glob).unwrap().matches(text), fits, "{glob} on {text:?}");
        }
        for bad in ["", "a[b]", "{a,b}", "a\\b", "a\nb"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
        assert!(Glob::new(&"a".repeat(2000)).is_err());
    }

    #[test]
    fn regular_expressions_are_anchored() {
        let one_of = AnchoredRegex::new("a|b").unwrap();
        assert!(one_of.matches("a") && one_of.matches("b") && !one_of.matches("ab") && !one_of.matches("xa"));
        assert!(!AnchoredRegex::new("main").unwrap().matches("main-x"));
        assert!(!AnchoredRegex::new("^main$").unwrap().matches("main\n"));
        for bad in ["", "(", "a)(b", "[", "(?<n"] {
            assert!(AnchoredRegex::new(bad).is_err(), "{bad}");
        }
    }
}
