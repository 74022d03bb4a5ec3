//! Which verification summaries suffice in place of provenance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_LIST, Signer};

/// SLSA Verification Summaries that suffice in place of provenance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vsa {
    /// Who may sign summaries; any one suffices. Names must differ. Without it no summary suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_LIST),
        extend("x-kubernetes-validations" = [{
            "rule": "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))",
            "message": "two signers have the same name",
        }])
    )]
    pub signers: Vec<Signer>,
    /// The verifiers that are believed, exactly as they name themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(required, length(min = 1, max = MAX_LIST), inner(length(min = 1, max = 1024)))]
    pub verifier_ids: Vec<String>,
    /// The SLSA build level that must have been verified, or a higher one: 1, 2 or 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub min_level: Option<i32>,
    /// The policies that it may have been verified by, exactly; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 1024)))]
    pub policy_uris: Vec<String>,
}
