//! Whether an attestation covers a manifest under a policy; where none does, what comes closest.
//!
//! Whoever pushes an index and signs attestations chooses how many there are of each, and whoever writes policies how many of those: what
//! does not depend on the manifest is worked out once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    authorize::{Mismatch, check_provenance, check_signer, expiry},
    digest::Digest,
    evaluate::{retry_after, transient_reason},
    evidence::{Attestation, FetchErrorKind, Finding, ImageFacts, SubjectEvidence, Verified},
    landing::Landing,
    message,
    plan::ImagePlan,
    platform::Candidate,
    policy::{Policy, SubjectRule},
    provenance::Provenance,
    verdict::{Problem, Proof, Reason},
};

/// An attestation that covers a manifest, and until when.
pub struct Cover {
    /// What it proves.
    pub proof: Proof,
    /// When it ends to.
    pub until: Option<Timestamp>,
}

/// The attestations of one image, as far as no policy matters.
pub struct Judge<'a> {
    plan: &'a ImagePlan,
    facts: &'a ImageFacts,
    now: Timestamp,
    seen: HashMap<Digest, Vec<Seen<'a>>>,
}

/// An attestation, as far as no policy matters.
struct Seen<'a> {
    /// Verified provenance.
    provenance: Option<(&'a Verified, &'a Provenance)>,
    /// Which digests of the image it names.
    subjects: Vec<Digest>,
    /// What there is to say of it where it is no provenance of the manifest in question.
    otherwise: Mismatch,
}

impl<'a> Judge<'a> {
    /// Looks at what was found about an image that lands so.
    pub fn new(plan: &'a ImagePlan, facts: &'a ImageFacts, landing: &Landing, now: Timestamp) -> Self {
        let candidates = landing.candidates.iter();
        let ours: HashSet<Digest> =
            candidates.flat_map(|(_, candidate)| relevant(facts, candidate)).collect();
        let seen = |evidence: &'a Arc<SubjectEvidence>| {
            evidence.attestations.iter().map(|attestation| Seen::new(attestation, &ours)).collect()
        };
        let seen = facts.evidence.iter().map(|(digest, evidence)| (*digest, seen(evidence))).collect();
        Self { plan, facts, now, seen }
    }

    /// What a policy makes of them.
    pub fn under<'p>(&'p self, policy: &'p Policy) -> Ruling<'p> {
        let signer = |seen: &Seen<'_>| {
            let (verified, provenance) = seen.provenance.filter(|_| !seen.subjects.is_empty())?;
            let signer = match_signer(self.plan, policy, verified).and_then(|signer| {
                check_provenance(&policy.provenance, verified, provenance, self.now).map(|()| signer)
            });
            Some(signer)
        };
        let signers = |all: &Vec<Seen<'_>>| all.iter().map(signer).collect();
        let signers = self.seen.iter().map(|(digest, all)| (*digest, signers(all))).collect();
        Ruling { judge: self, policy, signers, advice: HashMap::new() }
    }
}

impl<'a> Seen<'a> {
    fn new(attestation: &'a Attestation, ours: &HashSet<Digest>) -> Self {
        let other = |reason, found: String| Self {
            provenance: None,
            subjects: Vec::new(),
            otherwise: Mismatch { reason, found },
        };
        let verified = match &attestation.finding {
            Finding::Verified(verified) => verified,
            Finding::Unsigned { predicate_type } => {
                let found =
                    format!("BuildKit provenance ({predicate_type}) is in the index, but nobody signed it");
                return other(Reason::UnsignedProvenance, found);
            }
            Finding::Untrusted(why) => return other(Reason::UntrustedSignature, why.clone()),
            Finding::Malformed(why) => return other(Reason::MalformedAttestation, why.clone()),
        };
        let statement = &verified.statement;
        let Some(provenance) = &statement.provenance else {
            let found = format!("a signed attestation is there, but of type {}", statement.predicate_type);
            return other(Reason::NoProvenance, found);
        };
        let found = match statement.subjects.first() {
            Some(other) => format!("signed provenance is attached, but it is about another digest, {other}"),
            None => "signed provenance is attached, but it names no digest".to_owned(),
        };
        Self {
            provenance: Some((verified, provenance)),
            subjects: statement.subjects.iter().filter(|subject| ours.contains(subject)).copied().collect(),
            otherwise: Mismatch { reason: Reason::NoProvenance, found },
        }
    }
}

/// What a policy makes of the attestations of an image.
pub struct Ruling<'a> {
    judge: &'a Judge<'a>,
    policy: &'a Policy,
    /// For each attestation the signer that it fits; `None` where it is not about the image.
    signers: HashMap<Digest, Vec<Option<Result<&'a str, Mismatch>>>>,
    /// What was expected, and the hint: the same for every manifest that fails for the same reason.
    advice: HashMap<Reason, (Option<String>, Option<String>)>,
}

impl Ruling<'_> {
    /// Looks for an attestation that covers `candidate`.
    ///
    /// # Errors
    /// What comes closest.
    pub fn cover(&mut self, candidate: &Candidate) -> Result<Cover, Box<Problem>> {
        let digests = relevant(self.judge.facts, candidate);
        let accepted = match self.policy.subject {
            SubjectRule::Platform => digests.get(..1).unwrap_or_default(),
            SubjectRule::Any => digests.as_slice(),
        };
        let mut closest: Option<&Mismatch> = None;
        for digest in &digests {
            let seen = self.judge.seen.get(digest).into_iter().flatten();
            for (seen, signer) in seen.zip(self.signers.get(digest).into_iter().flatten()) {
                let subject = seen.subjects.iter().find(|subject| accepted.contains(subject));
                let mismatch = match (subject, signer, seen.provenance) {
                    (Some(subject), Some(Ok(signer)), Some((verified, provenance))) => {
                        return Ok(self.covered(signer, *subject, verified, provenance));
                    }
                    (Some(_), Some(Err(mismatch)), _) => mismatch,
                    _ => &seen.otherwise,
                };
                if closest.is_none_or(|best| closeness(mismatch.reason) > closeness(best.reason)) {
                    closest = Some(mismatch);
                }
            }
        }
        let closest = closest.cloned();
        Err(Box::new(self.uncovered(&digests, closest)))
    }

    fn covered(&self, signer: &str, subject: Digest, verified: &Verified, provenance: &Provenance) -> Cover {
        Cover {
            until: expiry(&self.policy.provenance, verified, provenance),
            proof: Proof {
                policy: self.policy.id.clone(),
                signer: signer.to_owned(),
                subject,
                predicate_type: verified.statement.predicate_type.clone(),
                certificate: verified.certificate.clone(),
                provenance: provenance.clone(),
            },
        }
    }

    fn uncovered(&mut self, digests: &[Digest], closest: Option<Mismatch>) -> Problem {
        // "There is none" can be said only when everything was asked.
        let gap = digests
            .iter()
            .filter_map(|digest| self.judge.facts.evidence.get(digest))
            .flat_map(|evidence| &evidence.gaps)
            .max_by_key(|gap| matches!(gap.kind, FetchErrorKind::Throttled(_)));
        let (reason, found, retry) = match (gap, closest) {
            (Some(gap), _) => (transient_reason(gap.kind), gap.detail.clone(), retry_after(gap.kind)),
            (None, Some(mismatch)) => (mismatch.reason, mismatch.found, None),
            (None, None) => (Reason::NoProvenance, "no attestation is attached to it".to_owned(), None),
        };
        let (policy, reference) = (self.policy, &self.judge.plan.reference);
        let (expected, hint) = self.advice.entry(reason).or_insert_with(|| {
            let expected = (!reason.is_transient()).then(|| message::expected(policy, reference, reason));
            (expected, message::hint(reason, reference))
        });
        Problem {
            policy: Some(policy.id.clone()),
            expected: expected.clone(),
            hint: hint.clone(),
            retry_after: retry,
            ..Problem::new(reason, policy.mode, found)
        }
    }
}

/// The name of a signer that fits; else the mismatch of the one that comes closest.
fn match_signer<'p>(plan: &ImagePlan, policy: &'p Policy, verified: &Verified) -> Result<&'p str, Mismatch> {
    let mut closest: Option<Mismatch> = None;
    for signer in &policy.signers {
        match check_signer(signer, verified, plan.reference.tag()) {
            Ok(()) => return Ok(&signer.name),
            Err(mismatch) => {
                if closest.as_ref().is_none_or(|best| closeness(mismatch.reason) > closeness(best.reason)) {
                    closest = Some(mismatch);
                }
            }
        }
    }
    Err(closest
        .unwrap_or(Mismatch { reason: Reason::WrongSigner, found: "the policy names no signer".to_owned() }))
}

/// The digests that lead to a manifest: its own, those of the indexes around it, the image's.
fn relevant(facts: &ImageFacts, candidate: &Candidate) -> Vec<Digest> {
    let around = candidate.via.iter().rev().copied().chain([facts.digest]);
    [candidate.digest].into_iter().chain(around.filter(|digest| *digest != candidate.digest)).collect()
}

/// How far an attestation got; the farthest is what the message tells.
const fn closeness(reason: Reason) -> u8 {
    match reason {
        Reason::ProvenanceTooOld | Reason::ConditionFailed => 7,
        Reason::WrongBuilder => 6,
        Reason::WrongSource => 5,
        Reason::WrongSigner => 4,
        Reason::UntrustedSignature => 3,
        Reason::MalformedAttestation => 2,
        Reason::UnsignedProvenance => 1,
        _ => 0,
    }
}
