//! Keys that a policy does not hold but references: what is looked for, and who finds it.

mod given;

use std::fmt;

pub use given::{GivenKeys, entries, is_key_object};

/// The entry that is read where a reference names none: `cosign generate-key-pair k8s://…` writes it.
pub const DEFAULT_KEY: &str = "cosign.pub";

/// What a key can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKeeper {
    /// `Secret`
    Secret,
    /// `ConfigMap`
    ConfigMap,
}

/// An object that keys can be in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHolder {
    /// Of which kind.
    pub kind: KeyKeeper,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An entry of an object, which a policy references.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyObject {
    /// The object.
    pub holder: KeyHolder,
    /// The entry of its data.
    pub key: String,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfound {
    /// There is no such object.
    Object,
    /// It has no such entry.
    Entry,
    /// Its entry is no text.
    NoText,
    /// There are several of its name.
    Ambiguous,
    /// Nobody has looked yet.
    NotYet,
    /// It could not be read, and never was; why.
    Failed(String),
    /// Nobody looks; why, to stand behind "is not read:".
    Unread(String),
}

/// Finds what policies reference.
pub trait Keys: Send + Sync {
    /// The namespace that the references of cluster policies are read from.
    fn home(&self) -> &str;

    /// The text of an entry.
    ///
    /// # Errors
    /// Why there is none.
    fn find(&self, wanted: &KeyObject) -> Result<String, Unfound>;
}

/// Where no object can be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn home(&self) -> &str {
        HOME
    }

    fn find(&self, _: &KeyObject) -> Result<String, Unfound> {
        let why = "it is read in a cluster, or from the files that are given; write the key as pem";
        Err(Unfound::Unread(why.to_owned()))
    }
}

/// The namespace that Bonafide is in where nobody says another.
pub const HOME: &str = "bonafide";

impl KeyKeeper {
    /// As objects name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

impl fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

impl fmt::Display for KeyObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, key {}", self.holder, self.key)
    }
}

impl Unfound {
    /// What is said of a reference, behind its field.
    pub fn told(&self, wanted: &KeyObject) -> String {
        let (holder, key) = (&wanted.holder, &wanted.key);
        match self {
            Self::Object => format!("{holder} is not there"),
            Self::Entry => format!("{holder} has no key {key}"),
            Self::NoText => format!("{wanted}, is no text"),
            Self::Ambiguous => format!("{holder} is there twice"),
            Self::NotYet => format!("{holder} is not read yet"),
            Self::Failed(why) => format!("{holder} cannot be read: {why}"),
            Self::Unread(why) => format!("{holder} is not read: {why}"),
        }
    }
}
