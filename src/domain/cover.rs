//! Whether an attestation covers a manifest under a policy; where none does, what comes closest.
//!
//! Whoever pushes an index and signs attestations chooses how many there are of each, and whoever writes policies how many of those: what
//! does not depend on the manifest is worked out once.

mod seen;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    authorize::{
        Mismatch, certificate_under, check_builder, check_consistency, check_provenance, check_signer, expiry,
    },
    condition::{
        Budget,
        asked::{Answers, Question},
    },
    digest::Digest,
    evaluate::{retry_after, transient_reason},
    evidence::{Attestation, FetchErrorKind, ImageFacts, SubjectEvidence},
    identity::{Certificate, Signer},
    keyed::match_key,
    looked_at::{self, Spot},
    message,
    plan::ImagePlan,
    platform::{Candidate, Platform},
    policy::{Policy, SubjectRule},
    provenance::Provenance,
    summary::check_summary,
    verdict::{Problem, Proof, Reason, SignedBy},
};
use seen::{Seen, Signed};

/// An attestation that covers a manifest, and until when.
pub struct Cover {
    /// What it proves.
    pub proof: Proof,
    /// When it ends to.
    pub until: Option<Timestamp>,
}

/// The attestations of one image, as far as no policy matters.
pub struct Judge<'a> {
    pub(super) plan: &'a ImagePlan,
    pub(super) facts: &'a ImageFacts,
    now: Timestamp,
    seen: HashMap<Digest, Vec<Seen<'a>>>,
    /// For the conditions of all policies about the image.
    pub(super) budget: Budget,
}

/// What a policy makes of an attestation.
enum Ruled<'a> {
    /// It is by this signer, and says what the policy asks.
    Fits(Fit<'a>),
    /// It differs from what the policy asks.
    Differs(Mismatch),
    /// It does not serve, whatever it is about.
    Unfit(Mismatch),
    /// It is not about the image.
    Elsewhere,
}

/// Who signed, as the policy knows them, and what proves it.
struct Fit<'a> {
    signer: &'a Signer,
    by: By<'a>,
}

/// What proves who signed. A certificate is written down only where it is told.
enum By<'a> {
    Certificate(&'a Certificate),
    Key(SignedBy),
}

impl<'a> Judge<'a> {
    /// Looks at what was found about an image of which these manifests are judged. The conditions of all policies have `budget`.
    pub fn new<'c>(
        plan: &'a ImagePlan,
        facts: &'a ImageFacts,
        candidates: impl Iterator<Item = &'c Candidate>,
        now: Timestamp,
        budget: Budget,
    ) -> Self {
        let ours: HashSet<Digest> = candidates.flat_map(|candidate| relevant(facts, candidate)).collect();
        let seen = |evidence: &'a Arc<SubjectEvidence>| {
            evidence.attestations.iter().map(|attestation| Seen::new(attestation, &ours)).collect()
        };
        let seen = facts.evidence.iter().map(|(digest, evidence)| (*digest, seen(evidence))).collect();
        Self { plan, facts, now, seen, budget }
    }

    /// What a policy makes of them; `None` where it does not go on: that is asked before each of them.
    pub fn under<'p>(&'p self, policy: &'p Policy, goes_on: &dyn Fn() -> bool) -> Option<Ruling<'p>> {
        let rule = |all: &'p Vec<Seen<'a>>| {
            all.iter().map(|seen| goes_on().then(|| self.rule(policy, seen))).collect::<Option<Vec<_>>>()
        };
        let ruled = self.seen.iter().map(|(digest, all)| Some((*digest, rule(all)?)));
        let ruled = ruled.collect::<Option<_>>()?;
        Some(Ruling { judge: self, policy, ruled, answers: Answers::default(), advice: HashMap::new() })
    }

    fn rule<'p>(&self, policy: &'p Policy, seen: &'p Seen<'a>) -> Ruled<'p> {
        let Some(signature) = &seen.signed else {
            return seen.unsigned(policy).map_or(Ruled::Elsewhere, Ruled::Unfit);
        };
        // Who may sign provenance may not for that reason sign summaries of it.
        let of_summary = policy.summaries.as_ref().filter(|_| policy.in_place_of_provenance.is_none());
        let of_summary = seen.summary.zip(of_summary);
        if of_summary.is_some() && policy.lacks_summary_signers() {
            let found = "a verification summary is attached, but the policy names nobody in vsa.signers who may sign summaries";
            return Ruled::Unfit(Mismatch::new(Reason::NoProvenance, found));
        }
        let signers = of_summary.map_or(&policy.signers, |(_, rules)| &rules.signers);
        // Of what is signed with a key, the first question is whose it is.
        let keys = match signature {
            Signed::Certificate(_) => Vec::new(),
            Signed::Key(keyed) => match match_key(signers, keyed, self.facts) {
                Ok(keys) => keys,
                Err(mismatch) => return Ruled::Unfit(mismatch),
            },
        };
        if let Some(wanted) = &policy.in_place_of_provenance {
            if let Some(mismatch) = seen.is_other_than(wanted, signature.statement()) {
                return Ruled::Unfit(mismatch);
            }
            return self.signer(signers, signature, keys).map_or_else(Ruled::Differs, Ruled::Fits);
        }
        if let Some((summary, rules)) = of_summary {
            let statement = signature.statement();
            if let Some(mismatch) = seen.is_other_than(&statement.predicate_type, statement) {
                return Ruled::Unfit(mismatch);
            }
            let fit = self.signer(signers, signature, keys);
            let (subjects, reference) = (&statement.subjects, &self.plan.reference);
            let ruled = fit
                .and_then(|fit| check_summary(rules, summary, subjects, reference, self.now).map(|()| fit));
            return ruled.map_or_else(Ruled::Differs, Ruled::Fits);
        }
        let Some(provenance) = seen.provenance.filter(|_| !seen.subjects.is_empty()) else {
            return Ruled::Elsewhere;
        };
        let fit = match signature {
            Signed::Certificate(verified) => best(policy.signers.iter().map(|signer| {
                let certificate = certificate_under(signer, verified)?;
                check_signer(signer, verified, self.plan.reference.tag())?;
                check_consistency(&signer.identity, certificate, provenance)?;
                check_builder(signer, &policy.provenance, provenance)?;
                Ok(Fit { signer, by: By::Certificate(certificate) })
            })),
            Signed::Key(_) => best(keys.into_iter().map(|(signer, key)| {
                check_builder(signer, &policy.provenance, provenance)?;
                Ok(Fit { signer, by: By::Key(key) })
            })),
        };
        let ruled = fit.and_then(|fit| {
            let (rules, statement) = (&policy.provenance, signature.statement());
            check_provenance(rules, statement, provenance, fit.proved_time(), fit.issuer(), self.now)
                .map(|()| fit)
        });
        ruled.map_or_else(Ruled::Differs, Ruled::Fits)
    }

    /// Who signed, where nothing is asked of what they say.
    fn signer<'p>(
        &self,
        signers: &'p [Signer],
        signature: &'p Signed<'a>,
        keys: Vec<(&'p Signer, SignedBy)>,
    ) -> Result<Fit<'p>, Mismatch> {
        match signature {
            Signed::Certificate(verified) => best(signers.iter().map(|signer| {
                let certificate = certificate_under(signer, verified)?;
                check_signer(signer, verified, self.plan.reference.tag())?;
                Ok(Fit { signer, by: By::Certificate(certificate) })
            })),
            Signed::Key(_) => {
                best(keys.into_iter().map(|(signer, key)| Ok(Fit { signer, by: By::Key(key) })))
            }
        }
    }
}

impl Fit<'_> {
    const fn certificate(&self) -> Option<&Certificate> {
        match &self.by {
            By::Certificate(certificate) => Some(certificate),
            By::Key(_) => None,
        }
    }

    fn issuer(&self) -> Option<&str> {
        self.certificate().map(|certificate| certificate.issuer.as_str())
    }

    fn proved_time(&self) -> Option<Timestamp> {
        match &self.by {
            By::Certificate(certificate) => Some(certificate.not_before),
            By::Key(key) => key.proved_time(),
        }
    }
}

/// What a policy makes of the attestations of an image.
pub struct Ruling<'a> {
    judge: &'a Judge<'a>,
    policy: &'a Policy,
    /// What it makes of each attestation.
    ruled: HashMap<Digest, Vec<Ruled<'a>>>,
    /// What became of the conditions.
    answers: Answers,
    /// What was expected, and the hint: the same for every manifest that fails for the same reason.
    advice: HashMap<Reason, (Option<String>, Option<String>)>,
}

impl Ruling<'_> {
    /// Looks for an attestation that covers `candidate` on each of the platforms that it would be picked for.
    ///
    /// # Errors
    /// What comes closest.
    pub fn cover(
        &mut self,
        candidate: &Candidate,
        platforms: &[Option<&Platform>],
    ) -> Result<Cover, Box<Problem>> {
        let digests = relevant(self.judge.facts, candidate);
        let accepted = match self.policy.subject {
            SubjectRule::Platform => digests.get(..1).unwrap_or_default(),
            SubjectRule::Any => digests.as_slice(),
        };
        let mut missed: Vec<(Digest, &Attestation, Cow<'_, Mismatch>)> = Vec::new();
        for digest in &digests {
            let seen = self.judge.seen.get(digest).into_iter().flatten();
            let seen = seen.zip(self.ruled.get(digest).into_iter().flatten());
            let attestations = self.judge.facts.evidence.get(digest).into_iter();
            let attestations = attestations.flat_map(|evidence| &evidence.attestations);
            for (at, ((seen, ruled), attestation)) in seen.zip(attestations).enumerate() {
                let subject = seen.subjects.iter().find(|subject| accepted.contains(subject));
                let mismatch = match (subject, ruled, &seen.signed, seen.provenance) {
                    (_, Ruled::Unfit(mismatch), ..) | (Some(_), Ruled::Differs(mismatch), ..) => {
                        Cow::Borrowed(mismatch)
                    }
                    (Some(subject), Ruled::Fits(fit), Some(signed), Some(provenance)) => {
                        let question = Question {
                            attestation: (*digest, at),
                            predicate_type: &signed.statement().predicate_type,
                            provenance,
                            certificate: fit.certificate(),
                            platforms,
                        };
                        match self.answers.all_hold(self.judge, self.policy, &question) {
                            Ok(()) => {
                                let spot = self.spot(*digest, attestation);
                                return Ok(self.covered(fit, *subject, signed, Some(provenance), spot));
                            }
                            Err(mismatch) => Cow::Owned(mismatch),
                        }
                    }
                    (Some(subject), Ruled::Fits(fit), Some(signed), None) => {
                        let spot = self.spot(*digest, attestation);
                        return Ok(self.covered(fit, *subject, signed, None, spot));
                    }
                    _ => Cow::Borrowed(&seen.otherwise),
                };
                missed.push((*digest, attestation, mismatch));
            }
        }
        // Of those that are as close, the first.
        let closest = missed.iter().map(|(_, _, mismatch)| mismatch.as_ref());
        let closest = closest.rev().max_by_key(|mismatch| closeness(mismatch.reason)).cloned();
        let missed =
            missed.iter().map(|(digest, attestation, mismatch)| (*digest, *attestation, mismatch.as_ref()));
        let (looked_at, looked_at_more) =
            looked_at::kept(self.judge.facts, self.policy, missed.collect(), closeness);
        Err(Box::new(Problem { looked_at, looked_at_more, ..self.uncovered(&digests, closest) }))
    }

    fn spot(&self, of: Digest, attestation: &Attestation) -> Spot {
        Spot::new(self.judge.facts, self.policy, of, attestation)
    }

    fn covered(
        &self,
        fit: &Fit<'_>,
        subject: Digest,
        signed: &Signed<'_>,
        provenance: Option<&Provenance>,
        spot: Spot,
    ) -> Cover {
        let signed_by = match &fit.by {
            By::Certificate(certificate) => SignedBy::Certificate(Box::new((*certificate).clone())),
            By::Key(key) => key.clone(),
        };
        let root = &fit.signer.trust_root;
        Cover {
            until: provenance
                .and_then(|provenance| expiry(&self.policy.provenance, provenance, fit.proved_time())),
            proof: Proof {
                policy: self.policy.id.clone(),
                signer: fit.signer.name.clone(),
                trust_root: signed_by.is_vouched_for().then(|| root.clone()),
                level: fit.signer.level,
                subject,
                spot,
                predicate_type: signed.statement().predicate_type.clone(),
                signed_by,
                provenance: provenance.cloned().unwrap_or_default(),
                summary: signed.statement().summary.clone(),
                other: self
                    .policy
                    .in_place_of_provenance
                    .is_some()
                    .then(|| signed.statement().other.clone().unwrap_or_default()),
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
        let lacking = lack(policy, self.judge.facts).filter(|_| !reason.is_transient());
        let (expected, hint) = self.advice.entry(reason).or_insert_with(|| {
            let expected = (!reason.is_transient()).then(|| message::expected(policy, reference, reason));
            (expected, lacking.or_else(|| message::hint_under(policy, reason, reference)))
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

/// What keeps a signer from being satisfied by anything: the trust root that it names is not in force.
fn lack(policy: &Policy, facts: &ImageFacts) -> Option<String> {
    let known = facts.trust_roots.as_ref()?;
    policy.all_signers().find_map(|signer| {
        let lack = known.lack(signer.root()?)?;
        Some(format!("nothing satisfies the signer {}: {lack}", signer.name))
    })
}

/// Of the signers that fit, the first of the highest level; else the mismatch of the one that comes closest.
fn best<'p>(signers: impl Iterator<Item = Result<Fit<'p>, Mismatch>>) -> Result<Fit<'p>, Mismatch> {
    let mut best: Result<Fit<'p>, Mismatch> =
        Err(Mismatch { reason: Reason::WrongSigner, found: "the policy names no signer".to_owned() });
    let mut first = true;
    for signer in signers {
        let is_better = match (&best, &signer) {
            (Err(_), Ok(_)) => true,
            (Ok(best), Ok(other)) => other.signer.level > best.signer.level,
            (Err(best), Err(other)) => first || closeness(other.reason) > closeness(best.reason),
            (Ok(_), Err(_)) => false,
        };
        first = false;
        if is_better {
            best = signer;
        }
    }
    best
}

/// The digests that lead to a manifest: its own, those of the indexes around it, the image's.
fn relevant(facts: &ImageFacts, candidate: &Candidate) -> Vec<Digest> {
    let around = candidate.via.iter().rev().copied().chain([facts.digest]);
    [candidate.digest].into_iter().chain(around.filter(|digest| *digest != candidate.digest)).collect()
}

/// How far an attestation got; the farthest is what the message tells.
const fn closeness(reason: Reason) -> u8 {
    match reason {
        Reason::ConditionFailed => 8,
        Reason::ProvenanceTooOld => 7,
        Reason::WrongBuilder | Reason::WrongSummary => 6,
        Reason::WrongSource => 5,
        Reason::WrongSigner => 4,
        Reason::UntrustedSignature => 3,
        Reason::MalformedAttestation => 2,
        Reason::UnsignedProvenance => 1,
        _ => 0,
    }
}
