//! Whether an attestation that is by a signer and says what the policy asks also meets the policy's conditions.

use std::collections::HashMap;

use super::{Condition, Given};
use crate::domain::{
    authorize::Mismatch,
    cover::Judge,
    digest::Digest,
    identity::Certificate,
    platform::{Candidate, Platform},
    policy::Policy,
    provenance::Provenance,
    verdict::Reason,
};

/// An attestation, and the manifest that it would cover.
pub struct Question<'a> {
    /// Which attestation it is.
    pub attestation: (Digest, usize),
    /// The type of its predicate.
    pub predicate_type: &'a str,
    /// What it claims.
    pub provenance: &'a Provenance,
    /// Who signed it; nobody, where that is a key.
    pub certificate: Option<&'a Certificate>,
    /// The manifest.
    pub candidate: &'a Candidate,
}

/// What became of a policy's conditions: they are asked once for each attestation, and for each platform only where they ask for it.
#[derive(Default)]
pub struct Answers(HashMap<Asked, Result<(), Mismatch>>);

/// The attestation, and the platform where it matters.
type Asked = ((Digest, usize), Option<Platform>);

impl Answers {
    /// Whether all conditions of the policy hold.
    ///
    /// # Errors
    /// `ConditionFailed`: the first that does not, or that cannot be answered.
    pub fn all_hold(
        &mut self,
        judge: &Judge<'_>,
        policy: &Policy,
        question: &Question<'_>,
    ) -> Result<(), Mismatch> {
        let conditions = &policy.provenance.conditions;
        if conditions.is_empty() {
            return Ok(());
        }
        let by_platform = conditions.iter().any(Condition::is_of_platform);
        let platform = question.candidate.platform.as_ref();
        let key = (question.attestation, platform.filter(|_| by_platform).cloned());
        let given = Given {
            predicate_type: question.predicate_type,
            provenance: question.provenance,
            certificate: question.certificate,
            reference: &judge.plan.reference,
            digest: judge.facts.digest,
            platform,
        };
        let answer = || conditions.iter().try_for_each(|condition| ask(condition, &given, judge));
        self.0.entry(key).or_insert_with(answer).clone()
    }
}

fn ask(condition: &Condition, given: &Given<'_>, judge: &Judge<'_>) -> Result<(), Mismatch> {
    let expression = condition.expression();
    let why = match condition.holds(given, &judge.budget) {
        Ok(true) => return Ok(()),
        Ok(false) => "does not hold".to_owned(),
        Err(error) => format!("cannot be answered ({error})"),
    };
    let message = condition.message().map(|message| format!(": {message}")).unwrap_or_default();
    Err(Mismatch::new(Reason::ConditionFailed, format!("the condition `{expression}` {why}{message}")))
}
