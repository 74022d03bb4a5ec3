//! SLSA Verification Summaries v0.2 and v1 on the wire, into one view.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient::{part, text};
use crate::domain::{predicate::Predicate, summary::Summary};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1<'a> {
    verifier: Named,
    #[serde(default)]
    time_verified: Option<Timestamp>,
    resource_uri: String,
    #[serde(borrow, default)]
    policy: Option<&'a RawValue>,
    verification_result: String,
    verified_levels: Vec<String>,
}

/// Named as its specification has it; some verifiers write the names as v1 does.
#[derive(Deserialize)]
struct V0_2<'a> {
    verifier: Named,
    #[serde(default, alias = "timeVerified")]
    time_verified: Option<Timestamp>,
    #[serde(alias = "resourceUri")]
    resource_uri: String,
    #[serde(borrow, default)]
    policy: Option<&'a RawValue>,
    #[serde(alias = "verificationResult")]
    verification_result: String,
    #[serde(alias = "policyLevel")]
    policy_level: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize, Default)]
struct Policy {
    #[serde(default, deserialize_with = "text")]
    uri: Option<String>,
}

/// Reads a predicate of the type [`crate::domain::summary::VSA_V1`].
pub(super) fn v1(predicate: &str) -> Result<Summary, serde_json::Error> {
    let V1 { verifier, time_verified, resource_uri, policy, verification_result, verified_levels } =
        serde_json::from_str(predicate)?;
    Ok(Summary {
        verifier_id: verifier.id,
        verified_at: time_verified,
        result: verification_result,
        levels: verified_levels,
        resource_uri,
        policy_uri: part::<Policy>(policy)?.uri,
        predicate: Predicate::of_text(predicate),
    })
}

/// Reads a predicate of the type [`crate::domain::summary::VSA_V0_2`].
pub(super) fn v0_2(predicate: &str) -> Result<Summary, serde_json::Error> {
    let V0_2 { verifier, time_verified, resource_uri, policy, verification_result, policy_level } =
        serde_json::from_str(predicate)?;
    Ok(Summary {
        verifier_id: verifier.id,
        verified_at: time_verified,
        result: verification_result,
        levels: vec![policy_level],
        resource_uri,
        policy_uri: part::<Policy>(policy)?.uri,
        predicate: Predicate::of_text(predicate),
    })
}
