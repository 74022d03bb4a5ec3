//! Exit codes, which are a contract, and the errors that end a command before it has an answer.

use std::{fmt, process::ExitCode};

use crate::domain::verdict::Outcome;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `verify` and `review`: admitted.
    Ok,
    /// A definite no.
    Denied,
    /// It could not be found out: the registry, or the time.
    Unverified,
    /// Bad usage, unreadable input or an invalid policy: nothing was judged.
    Usage,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Denied => 1,
            Self::Unverified => 2,
            Self::Usage => 64,
        }
    }

    /// The worse of two: one definite no decides, whatever else could not be found out.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Usage, _) | (_, Self::Usage) => Self::Usage,
            (Self::Denied, _) | (_, Self::Denied) => Self::Denied,
            (Self::Unverified, _) | (_, Self::Unverified) => Self::Unverified,
            (Self::Ok, Self::Ok) => Self::Ok,
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allow => Self::Ok,
            Outcome::Deny => Self::Denied,
            Outcome::Unverifiable => Self::Unverified,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command has no answer: it was asked in a way that has none. Always exit 64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure that names what was given and what is wrong with it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with what to do instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do instead, where that is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definite_no_beats_an_open_question_and_bad_usage_beats_both() {
        use Exit::{Denied, Ok, Unverified, Usage};
        assert_eq!(Ok.and(Ok), Ok);
        assert_eq!(Ok.and(Unverified), Unverified);
        assert_eq!(Unverified.and(Denied), Denied);
        assert_eq!(Denied.and(Unverified), Denied);
        assert_eq!(Denied.and(Usage), Usage);
        assert_eq!([Ok, Denied, Unverified, Usage].map(Exit::code), [0, 1, 2, 64]);
    }
}
