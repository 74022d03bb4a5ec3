//! `spec.attestations`: where an image's attestations are looked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAX_REPOSITORY;

/// How many other repositories are looked in. Each is asked for every image of the policy.
const MAX_REPOSITORIES: usize = 8;
/// What a repository's name is made of.
const REPOSITORY: &str = "^[A-Za-z0-9][A-Za-z0-9._:/-]*$";

/// Where attestations are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestations {
    /// Repositories in which an image's attestations are looked for beside its own: the one it is a mirror of, or one that is for attestations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_REPOSITORIES), inner(length(min = 1, max = MAX_REPOSITORY), regex(pattern = REPOSITORY)))]
    pub repositories: Vec<String>,
}
