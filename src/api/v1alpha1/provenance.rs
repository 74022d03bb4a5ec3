//! What the verified statement must say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GLOB, MAX_LIST, MAX_PATTERN};

/// What the verified statement must say; all of it optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// Accepted predicate types; none: every version of SLSA provenance that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub types: Vec<PredicateType>,
    /// Accepted builder ids, as globs; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = GLOB)))]
    pub builder_ids: Vec<String>,
    /// Accepted build types, as globs; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = GLOB)))]
    pub build_types: Vec<String>,
    /// The claimed source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The least SLSA build level, from 1 to 3: signers of a lower level do not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub min_level: Option<i32>,
    /// How old the build may be, such as 2160h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[0-9]+ *[A-Za-z]+( *[0-9]+ *[A-Za-z]+)*$"))]
    pub max_age: Option<String>,
    /// Conditions in CEL over `provenance`, `certificate` and `image`; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// The predicate types that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PredicateType {
    /// SLSA provenance v0.2.
    #[serde(rename = "https://slsa.dev/provenance/v0.2")]
    SlsaV0_2,
    /// SLSA provenance v1.
    #[serde(rename = "https://slsa.dev/provenance/v1")]
    SlsaV1,
}

/// The claimed source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Its URI, such as `https://github.com/owner/repo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^.+://.+$"))]
    pub repository: Option<String>,
    /// Its refs, as globs; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = GLOB)))]
    pub refs: Vec<String>,
}

/// A condition in CEL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// What must be true.
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
    /// What is said where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub message: Option<String>,
}
