//! Globs and regular expressions of policies: always anchored, never wider than they look.

use std::fmt;

use super::compiled_pattern::{CompiledPattern, PatternError};

/// The longest pattern that is compiled.
const MAX_PATTERN: usize = 1024;
/// The longest text that a glob with wildcards matches. No name is longer, and comparing takes time with its length.
const MAX_TEXT: usize = 4096;

/// A glob over a `/`-separated name: `*` stays within a segment, `**` crosses segments, `?` is one character
/// of a segment. It matches the whole text or nothing. It holds no more than its own text.
#[derive(Clone)]
pub struct Glob {
    written: Box<str>,
}

/// A regular expression that matches the whole text or nothing.
#[derive(Clone)]
pub struct AnchoredRegex {
    written: Box<str>,
    compiled: CompiledPattern,
}

/// What a search follows at each character of a text, at worst: states of a regular expression, words of a glob.
pub type SearchCost = usize;

impl Glob {
    /// Reads a glob.
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
        Ok(Self { written: pattern.into() })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        fits(&self.written, text, |a, b| a == b)
    }

    /// Whether the whole of `text` matches, where upper and lower case of ASCII letters are the same.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        fits(&self.written, text, |a, b| a.eq_ignore_ascii_case(&b))
    }

    /// What comparing it costs at each character of a text, in [`SearchCost`]s.
    pub fn cost(&self) -> SearchCost {
        self.written.len().div_ceil(64)
    }

    /// Whether it matches one text alone.
    pub fn is_literal(&self) -> bool {
        !self.written.contains(WILDCARDS)
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
        // Parsed alone first: `a)(b` is malformed and must not become well formed in the group below.
        CompiledPattern::check(pattern)?;
        let compiled = CompiledPattern::new(&format!(r"\A(?:{pattern})\z"))?;
        Ok(Self { written: pattern.into(), compiled })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What a search for it costs.
    pub fn cost(&self) -> SearchCost {
        self.compiled.states()
    }

    /// How many bytes it takes once it is compiled.
    pub fn bytes(&self) -> usize {
        self.compiled.bytes()
    }
}

fn check_length(pattern: &str) -> Result<(), PatternError> {
    match pattern.len() {
        0 => Err(PatternError::Empty),
        1..=MAX_PATTERN => Ok(()),
        _ => Err(PatternError::TooLong(MAX_PATTERN)),
    }
}

const WILDCARDS: [char; 2] = ['*', '?'];

/// Whether the whole of `text` fits `pattern`. What stands before the first wildcard and behind the last decides nearly always.
fn fits(pattern: &str, text: &str, same: fn(char, char) -> bool) -> bool {
    let equal = |a: &str, b: &str| a.len() == b.len() && a.chars().zip(b.chars()).all(|(a, b)| same(a, b));
    let (Some(first), Some(last)) = (pattern.find(WILDCARDS), pattern.rfind(WILDCARDS)) else {
        return equal(pattern, text);
    };
    let (head, rest) = pattern.split_at(first);
    let (wild, tail) = rest.split_at(last.saturating_sub(first).saturating_add(1));
    let Some((before, rest)) = text.split_at_checked(head.len()) else { return false };
    let Some(end) = rest.len().checked_sub(tail.len()) else { return false };
    let Some((between, after)) = rest.split_at_checked(end) else { return false };
    if text.len() > MAX_TEXT || !equal(head, before) || !equal(tail, after) {
        return false;
    }
    match wild {
        "**" => true,
        "*" => !between.contains('/'),
        _ => Steps::of(wild).lead_through(between, same),
    }
}

/// The part of a glob from its first wildcard to its last: what consumes one character each, and where any number may come between.
/// Every place that the text could have led to so far is kept as one bit, so that no text and no pattern takes long.
struct Steps {
    /// `None`: any character of a segment.
    takes: Vec<Option<char>>,
    /// The places at which characters of a segment may be passed over.
    stars: Bits,
    /// The places at which any character may be.
    globstars: Bits,
}

/// One bit for each place in a pattern.
type Bits = [u64; MAX_PATTERN / 64 + 1];

impl Steps {
    fn of(wild: &str) -> Self {
        let mut this = Self { takes: Vec::new(), stars: EMPTY, globstars: EMPTY };
        let mut rest = wild;
        while let Some(c) = rest.chars().next() {
            let used = match c {
                '*' => {
                    let stars = rest.bytes().take_while(|b| *b == b'*').count();
                    let loops = if stars > 1 { &mut this.globstars } else { &mut this.stars };
                    set(loops, this.takes.len());
                    stars
                }
                other => {
                    this.takes.push((other != '?').then_some(other));
                    other.len_utf8()
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        this
    }

    fn lead_through(&self, text: &str, same: fn(char, char) -> bool) -> bool {
        let mut at = EMPTY;
        set(&mut at, 0);
        let mut taken_by: Vec<(char, Bits)> = Vec::new();
        let words = self.takes.len().div_euclid(64).saturating_add(1);
        for c in text.chars() {
            let known = taken_by.iter().find(|(known, _)| *known == c).map(|(_, taken)| *taken);
            let taken = known.unwrap_or_else(|| {
                let taken = self.taking(c, same);
                taken_by.push((c, taken));
                taken
            });
            let in_segment = if c == '/' { 0 } else { u64::MAX };
            let mut carry = 0;
            let loops = self.stars.iter().zip(&self.globstars);
            for ((word, taken), (star, globstar)) in at.iter_mut().zip(&taken).zip(loops).take(words) {
                let moved = *word & taken;
                *word = (moved << 1) | carry | (*word & ((star & in_segment) | globstar));
                carry = moved >> 63;
            }
        }
        is_set(&at, self.takes.len())
    }

    /// The places from which this character leads on.
    fn taking(&self, c: char, same: fn(char, char) -> bool) -> Bits {
        let mut bits = EMPTY;
        for (at, step) in self.takes.iter().enumerate() {
            if step.map_or(c != '/', |wanted| same(wanted, c)) {
                set(&mut bits, at);
            }
        }
        bits
    }
}

const EMPTY: Bits = [0; MAX_PATTERN / 64 + 1];

fn set(bits: &mut Bits, at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

fn is_set(bits: &Bits, at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
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
            ("a**b*c", "a/x/b/b1c", true),
            ("a**b*c", "a/x/b1/c", false),
            ("*a/b*c", "xa/bya/bc", false),
            ("**/a?*", "x/y/a1", true),
            ("**/a?*", "x/y/a", false),
            ("é*é?", "éxéü", true),
            ("***", "", true),
        ] {
            assert_eq!(Glob::new(glob).unwrap().matches(text), fits, "{glob} on {text:?}");
        }
        for bad in ["", "a[b]", "{a,b}", "a\\b", "a\nb"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
        assert!(Glob::new(&"a".repeat(2000)).is_err());
    }

    /// What a glob means is what this regular expression means.
    fn as_regex(glob: &str) -> regex::Regex {
        let escaped = regex::escape(glob).replace(r"\?", "[^/]");
        let marked = escaped.replace(r"\*\*\*", r"\*\*").replace(r"\*\*", "\u{0}").replace(r"\*", "[^/]*");
        regex::Regex::new(&format!(r"(?s)\A(?:{})\z", marked.replace('\u{0}', ".*"))).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn a_glob_matches_what_its_regular_expression_does(
            glob in "[aB/*?é]{1,9}", text in "[abB/é]{0,9}", long in "[a/]{60,70}"
        ) {
            let (parsed, regex) = (Glob::new(&glob).unwrap(), as_regex(&glob));
            for text in [text.clone(), format!("{text}{long}")] {
                proptest::prop_assert_eq!(parsed.matches(&text), regex.is_match(&text));
                let folded = as_regex(&glob.to_ascii_lowercase()).is_match(&text.to_ascii_lowercase());
                proptest::prop_assert_eq!(parsed.matches_ignoring_case(&text), folded);
            }
        }
    }

    #[test]
    fn a_glob_over_more_than_any_name_has_takes_no_time_and_matches_nothing() {
        let hostile = Glob::new(&"*a".repeat(512)).unwrap();
        assert!(hostile.matches(&"a".repeat(512)) && !hostile.matches(&"a".repeat(511)));
        assert!(!Glob::new("a**").unwrap().matches(&"a".repeat(MAX_TEXT + 1)));
        assert!(Glob::new("a**").unwrap().matches(&"a".repeat(MAX_TEXT)));
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
