//! Regular expressions of policies, compiled to what can be counted: whoever writes a policy chooses its patterns, and all of them
//! stay in memory for as long as the policy does.
//!
//! A pattern is compiled to one automaton and no more. The usual engine makes several of each pattern, and tables for each thread
//! that searches; how much memory these take is not known before.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
};

use parking_lot::Mutex;
use regex_automata::{
    Input,
    nfa::thompson::{self, WhichCaptures, pikevm::PikeVM},
    util::syntax,
};

/// The largest compiled pattern, in bytes.
pub const MAX_COMPILED: usize = 256 << 10;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was written.
    #[error("the pattern is empty")]
    Empty,
    /// It is longer than is accepted.
    #[error("the pattern is longer than {0} characters")]
    TooLong(usize),
    /// It takes more memory than is given to one pattern.
    #[error("the pattern is too large: compiled it takes more than {} KiB", MAX_COMPILED >> 10)]
    TooLarge,
    /// Syntax.
    #[error("{0}")]
    Syntax(String),
}

/// A compiled regular expression. Equal patterns share one.
#[derive(Debug, Clone)]
pub struct CompiledPattern(Arc<PikeVM>);

/// What is compiled at the moment, by what was written.
static SHARED: LazyLock<Mutex<HashMap<String, Weak<PikeVM>>>> = LazyLock::new(Mutex::default);

impl CompiledPattern {
    /// Compiles a pattern, or takes the one that is there already.
    ///
    /// # Errors
    /// When it is malformed, or too large once compiled.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        if let Some(shared) = SHARED.lock().get(pattern).and_then(Weak::upgrade) {
            return Ok(Self(shared));
        }
        let configuration = thompson::Config::new()
            .nfa_size_limit(Some(MAX_COMPILED))
            .which_captures(WhichCaptures::Implicit);
        let compiled = thompson::Compiler::new()
            .configure(configuration)
            .build(pattern)
            .and_then(PikeVM::new_from_nfa)
            .map_err(|error| told(&error))?;
        let compiled = Arc::new(compiled);
        let mut shared = SHARED.lock();
        if shared.len() == shared.capacity() {
            shared.retain(|_, known| known.strong_count() > 0);
        }
        shared.insert(pattern.to_owned(), Arc::downgrade(&compiled));
        Ok(Self(compiled))
    }

    /// How many bytes all patterns take that are in use.
    pub fn bytes_in_use() -> usize {
        let shared = SHARED.lock();
        let in_use = shared.values().filter_map(Weak::upgrade);
        in_use.map(|compiled| Self(compiled).bytes()).fold(0, usize::saturating_add)
    }

    /// Whether a pattern is well formed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(pattern: &str) -> Result<(), PatternError> {
        syntax::parse(pattern).map(drop).map_err(|error| syntax_error(&error.to_string()))
    }

    /// Whether it matches somewhere in `text`. What the search needs is freed with its end.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(&mut self.0.create_cache(), Input::new(text))
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.0.get_nfa().memory_usage().saturating_add(size_of::<PikeVM>())
    }

    /// How many states a search may have to follow at each byte of a text.
    pub fn states(&self) -> usize {
        self.0.get_nfa().states().len()
    }
}

fn told(error: &thompson::BuildError) -> PatternError {
    match (error.size_limit(), std::error::Error::source(error)) {
        (Some(_), _) => PatternError::TooLarge,
        (None, Some(source)) => syntax_error(&source.to_string()),
        (None, None) => syntax_error(&error.to_string()),
    }
}

/// The parser's message in one line.
fn syntax_error(text: &str) -> PatternError {
    let reason = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(text);
    PatternError::Syntax(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_a_compiled_pattern_is_bounded_counted_and_shared() {
        let large = CompiledPattern::new(r"\pL{5}x1").unwrap();
        assert!((10_000..MAX_COMPILED).contains(&large.bytes()), "{}", large.bytes());
        let again = CompiledPattern::new(r"\pL{5}x1").unwrap();
        assert!(Arc::ptr_eq(&large.0, &again.0));
        assert!(large.is_match("-éabcdx1-") && !large.is_match("abcdx1"));
        assert_eq!(CompiledPattern::new(r"\pL{500}").err(), Some(PatternError::TooLarge));
        assert!(
            matches!(CompiledPattern::new("a("), Err(PatternError::Syntax(why)) if why == "unclosed group")
        );
    }

    #[test]
    fn b2_what_nobody_uses_any_more_is_freed() {
        let alone = CompiledPattern::new("used by this test alone").unwrap();
        let weak = Arc::downgrade(&alone.0);
        drop(alone);
        assert!(weak.upgrade().is_none());
    }
}
