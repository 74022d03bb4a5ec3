//! SLSA build levels: how hard it is to tamper with a build, as whoever writes a policy knows of a signer and its builders. No
//! certificate proves a level, and what a predicate says of its own is worth nothing.

use std::fmt;

/// A level of SLSA's build track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum BuildLevel {
    /// There is provenance.
    #[default]
    One,
    /// A hosted platform signs it.
    Two,
    /// The platform keeps builds, and the signing key, out of reach of each other.
    Three,
}

impl BuildLevel {
    /// The level of this number.
    pub const fn new(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            _ => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

impl fmt::Display for BuildLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SLSA build level {}", self.number())
    }
}
