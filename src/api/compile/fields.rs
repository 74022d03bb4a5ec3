//! What is said about a policy's fields while it is compiled.

use std::fmt;

use crate::domain::glob::Glob;

/// Something about a field: an error or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The field: `spec.signers[0].github.refs[0]`.
    pub field: String,
    /// Its value, where it has one that can be shown.
    pub value: Option<String>,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.told())
    }
}

impl Note {
    /// What is said of the field, without its name.
    pub fn told(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.value {
            Some(value) => write!(f, "{value:?} {}", self.message),
            None => f.write_str(&self.message),
        })
    }
}

/// Collects notes, so that every error is found at once.
#[derive(Debug, Default)]
pub struct Fields {
    errors: Vec<Note>,
    warnings: Vec<Note>,
    /// How many bytes the patterns take that were compiled so far.
    pattern_bytes: usize,
}

/// How many bytes the patterns of one policy may take once they are compiled.
const MAX_PATTERNS: usize = 6 << 20;

impl Fields {
    /// Something that makes the policy invalid.
    pub fn error(&mut self, field: &str, value: Option<&str>, message: impl Into<String>) {
        self.errors.push(note(field, value, message));
    }

    /// Something that is wider than it looks.
    pub fn warn(&mut self, field: &str, value: Option<&str>, message: impl Into<String>) {
        self.warnings.push(note(field, value, message));
    }

    /// Compiles a list of globs.
    pub fn globs(&mut self, field: &str, patterns: &[String]) -> Vec<Glob> {
        let compiled = patterns
            .iter()
            .enumerate()
            .filter_map(|(at, pattern)| self.glob(&format!("{field}[{at}]"), pattern));
        compiled.collect()
    }

    /// Compiles one glob.
    pub fn glob(&mut self, field: &str, pattern: &str) -> Option<Glob> {
        Glob::new(pattern)
            .map_err(|error| self.error(field, Some(pattern), format!("is no glob: {error}")))
            .ok()
    }

    /// Counts what a pattern takes. Whether the policy may have it; the first one that it may not have is told.
    pub fn takes_pattern(&mut self, field: &str, bytes: usize) -> bool {
        let before = self.pattern_bytes;
        self.pattern_bytes = before.saturating_add(bytes);
        if before <= MAX_PATTERNS && self.pattern_bytes > MAX_PATTERNS {
            let message = format!(
                "is too much: the policy's patterns take more than {} MiB once they are compiled; write shorter ones, without Unicode classes and repetition counts",
                MAX_PATTERNS >> 20
            );
            self.error(field, None, message);
        }
        self.pattern_bytes <= MAX_PATTERNS
    }

    /// How many bytes the patterns take.
    pub const fn pattern_bytes(&self) -> usize {
        self.pattern_bytes
    }

    /// An error that is told only where nothing else is wrong with the field or within it: something says it better then.
    pub fn error_unless_told(&mut self, error: Note) {
        if !self.errors.iter().any(|told| is_within(&error.field, &told.field)) {
            self.errors.push(error);
        }
    }

    /// Takes over the notes of `other` that are worth telling.
    pub fn append(&mut self, other: Self, is_telling: impl Fn(&Note) -> bool) {
        self.pattern_bytes = self.pattern_bytes.saturating_add(other.pattern_bytes);
        self.errors.extend(other.errors.into_iter().filter(&is_telling));
        self.warnings.extend(other.warnings.into_iter().filter(&is_telling));
    }

    /// Errors, then warnings.
    pub fn into_notes(self) -> (Vec<Note>, Vec<Note>) {
        (self.errors, self.warnings)
    }
}

/// Whether a field is another one, or within it.
pub fn is_within(outer: &str, field: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Something about a field.
pub fn note(field: &str, value: Option<&str>, message: impl Into<String>) -> Note {
    Note { field: field.to_owned(), value: value.map(ToOwned::to_owned), message: message.into() }
}
