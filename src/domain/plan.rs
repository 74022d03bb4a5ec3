//! The plan: what must be found out about an image, before anything is asked.

use std::sync::OnceLock;

use super::{
    digest::Digest,
    evaluate::transient_reason,
    evidence::FetchError,
    identity::SignerIdentity,
    key::PublicKey,
    looked_at::LookedAt,
    policy::{Mode, Policy, PolicyEntry, PolicySet, Scope, SubjectRule, TagRule, UncoveredRule, Unmatched},
    reference::{Reference, ReferenceError, Repository},
    verdict::{ImageVerdict, Outcome, Problem, Reason},
};

/// What is to be done about an image.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Nothing needs to be asked.
    Settled(Box<ImageVerdict>),
    /// The registry must be asked.
    Ask(ImagePlan),
}

/// Whether what is judged can still be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    /// As it is judged it runs.
    #[default]
    Final,
    /// Its tags will be pinned and its placement may be constrained: a pod before the mutating webhook's answer, a template whose pods
    /// will go through it.
    Draft,
    /// Its tags will be pinned, but it stays where it is: a pod that is updated or names its node, before the mutating webhook's answer.
    Tied,
}

/// An image that policies name.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The image.
    pub reference: Reference,
    /// The policies that must all be satisfied; never empty.
    pub policies: Vec<PolicyEntry>,
    /// Whether it can still be changed.
    pub stage: Stage,
    /// What is said of policies that are too many to be evaluated.
    pub beyond: Option<Box<Problem>>,
}

/// How many policies of a namespace may name one image, and how many of the cluster.
const MAX_POLICIES: usize = 64;

impl ImagePlan {
    /// The valid policies among them.
    pub fn valid(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().filter_map(|entry| match entry {
            PolicyEntry::Valid(policy) => Some(policy.as_ref()),
            PolicyEntry::Invalid(_) => None,
        })
    }

    /// The policy whose verdict weighs most, to name where something fails for all of them.
    pub fn strictest(&self) -> Option<&Policy> {
        self.valid().max_by(|a, b| a.mode.cmp(&b.mode).then_with(|| b.id.cmp(&a.id)))
    }

    /// The policies for whose sake the pod may be kept to the platforms that are covered.
    pub fn constraining(&self) -> impl Iterator<Item = &Policy> {
        let is_draft = self.stage == Stage::Draft;
        self.valid().filter(move |policy| {
            is_draft && policy.mode == Mode::Enforce && policy.uncovered == UncoveredRule::Constrain
        })
    }

    /// Whether an attestation of an index can serve any of the policies.
    pub fn takes_index_subjects(&self) -> bool {
        self.valid().any(|policy| policy.subject == SubjectRule::Any)
    }

    /// Whether some policy asks for attestations of each manifest.
    pub fn wants_platform_subjects(&self) -> bool {
        self.valid().any(|policy| policy.subject == SubjectRule::Platform)
    }

    /// Whether some policy has conditions: these are evaluated for longer than everything else.
    pub fn has_conditions(&self) -> bool {
        self.valid().any(|policy| !policy.provenance.conditions.is_empty())
    }

    /// Whether anything that is found here denies. Otherwise policies warn or record at most.
    pub fn enforces(&self) -> bool {
        self.valid().any(|policy| policy.mode == Mode::Enforce)
            || self.known_problems().iter().any(|problem| problem.mode == Mode::Enforce)
    }

    /// Whether the verdict is another for another tag of the same digest, but for what is said of the tag itself.
    pub fn depends_on_tag(&self) -> bool {
        self.valid().any(|policy| {
            // Summaries may name a tag, conditions may read it.
            policy.summaries.is_some()
                || !policy.provenance.conditions.is_empty()
                || policy.all_signers().any(|signer| signer.identity.depends_on_tag())
        })
    }

    /// The same plan for the digest that the tag stands for: its verdict is the same for every tag.
    pub fn of_digest(&self, digest: Digest) -> Option<Self> {
        let written = format!("{}@{digest}", self.reference.repository());
        Some(Self { reference: written.parse().ok()?, ..self.clone() })
    }

    /// The verdict about the tag, from the one about its digest.
    pub fn for_tag(&self, of_digest: &ImageVerdict) -> ImageVerdict {
        let is_of_tag = |problem: &Problem| problem.reason == Reason::UnpinnedTag;
        let mut problems: Vec<Problem> = self.known_problems().into_iter().filter(is_of_tag).collect();
        let all = of_digest.problems.iter().chain(&of_digest.warnings).chain(&of_digest.audit);
        problems.extend(all.cloned());
        let told = ImageVerdict::of_problems(self.reference.written(), problems);
        ImageVerdict {
            reference: told.reference,
            outcome: told.outcome,
            problems: told.problems,
            warnings: told.warnings,
            audit: told.audit,
            told: OnceLock::new(),
            ..of_digest.clone()
        }
    }

    /// The repositories beside the image's own in which the policies have attestations looked for, each once.
    pub fn attestation_repositories(&self) -> Vec<&Repository> {
        let mut all: Vec<&Repository> = Vec::new();
        for repository in self.valid().flat_map(|policy| &policy.attestation_repositories) {
            if repository != self.reference.repository() && !all.contains(&repository) {
                all.push(repository);
            }
        }
        all
    }

    /// Whether a policy that denies has attestations looked for in a repository beside the image's own.
    pub fn enforces_with(&self, repository: &Repository) -> bool {
        let enforcing = self.valid().filter(|policy| policy.mode == Mode::Enforce);
        enforcing.flat_map(|policy| &policy.attestation_repositories).any(|named| named == repository)
    }

    /// The keys that the policies name, each once.
    pub fn keys(&self) -> Vec<&PublicKey> {
        let mut keys: Vec<&PublicKey> = Vec::new();
        for signer in self.valid().flat_map(super::policy::Policy::all_signers) {
            if let SignerIdentity::PublicKey(identity) = &signer.identity
                && !keys.contains(&&identity.key)
            {
                keys.push(&identity.key);
            }
        }
        keys
    }

    /// What can be said before anything is asked: invalid policies, tags.
    pub fn known_problems(&self) -> Vec<Problem> {
        let invalid = self.policies.iter().filter_map(|entry| match entry {
            PolicyEntry::Valid(_) => None,
            PolicyEntry::Invalid(policy) => Some(Problem {
                policy: Some(policy.id.clone()),
                hint: Some(
                    "whoever owns the policy sees every error with `bonafide policy check`".to_owned(),
                ),
                ..Problem::new(Reason::InvalidPolicy, policy.mode, policy.errors.join("; "))
            }),
        });
        let will_move = self.reference.digest().is_none() && self.stage == Stage::Final;
        let beyond = self.beyond.iter().map(|problem| problem.as_ref().clone());
        let tags = self.valid().filter(|_| will_move).filter_map(|policy| {
            let mode = match policy.tags {
                TagRule::Allow => return None,
                TagRule::Warn => policy.mode.min(Mode::Warn),
                TagRule::Deny => policy.mode,
            };
            let tag = self.reference.tag().unwrap_or_default();
            Some(Problem {
                policy: Some(policy.id.clone()),
                expected: (mode == Mode::Enforce).then(|| "a reference with a digest".to_owned()),
                hint: Some("name the image as name:tag@digest".to_owned()),
                ..Problem::new(
                    Reason::UnpinnedTag,
                    mode,
                    format!("the tag {tag} can be moved to another image"),
                )
            })
        });
        invalid.chain(beyond).chain(tags).collect()
    }
}

/// Whether an image of a template is one that somebody fills in when its pods are made, as `auto` is for Istio.
pub fn is_placeholder(image: &str) -> bool {
    matches!(image.trim(), "" | "auto")
}

/// The verdict about a placeholder of a template: its pods are judged. It is told only where a policy could apply.
pub fn placeholder(set: &PolicySet, scope: Scope<'_>, unmatched: Unmatched, image: &str) -> ImageVerdict {
    let policies = match image.parse::<Reference>() {
        Ok(reference) => set.matching(scope, reference.repository()).len(),
        Err(_) => set.in_scope(scope).count(),
    };
    let matched = policies > 0 || unmatched != Unmatched::Allow;
    let problem = matched.then(|| Problem {
        hint: Some("name the image, unless something fills it in when the pods are made".to_owned()),
        ..Problem::new(
            Reason::InvalidReference,
            Mode::Warn,
            format!("{image:?} stands in for an image that is named later; the pods are judged when they are created"),
        )
    });
    let mut verdict = ImageVerdict::of_problems(image, problem.into_iter().collect());
    verdict.matched = matched;
    verdict
}

/// Decides what must be asked about `image`, as it was written.
pub fn plan(set: &PolicySet, scope: Scope<'_>, unmatched: Unmatched, stage: Stage, image: &str) -> Plan {
    let reference: Reference = match image.parse() {
        Ok(reference) => reference,
        Err(error) => {
            let is_pulled_by_nobody = !matches!(error, ReferenceError::ImageId(_));
            let mode = if is_pulled_by_nobody && set.in_scope(scope).next().is_none() {
                // Where no policy could be about it, it is refused all the same.
                Some(Mode::Enforce)
            } else {
                strictest_in_scope(set, scope, unmatched)
            };
            let problem = mode.map(|mode| Problem {
                hint: Some("correct the container's image".to_owned()),
                ..Problem::new(Reason::InvalidReference, mode, format!("{error}"))
            });
            let mut verdict = ImageVerdict::of_problems(image, problem.into_iter().collect());
            verdict.matched = mode.is_some();
            return Plan::Settled(Box::new(verdict));
        }
    };
    let matching = set.matching(scope, reference.repository());
    if !matching.is_empty() {
        let (policies, beyond) = within_limits(scope, matching);
        let asked = ImagePlan { reference, policies, stage, beyond };
        // Invalid policies alone fail closed, whatever a registry would say.
        if asked.valid().next().is_none() {
            return Plan::Settled(Box::new(ImageVerdict::of_problems(image, asked.known_problems())));
        }
        return Plan::Ask(asked);
    }
    let problem = of_unmatched(unmatched).map(|mode| Problem {
        hint: Some("add a ProvenancePolicy whose images.include names it".to_owned()),
        ..Problem::new(Reason::UnmatchedImage, mode, format!("no policy names {}", reference.repository()))
    });
    let mut verdict = ImageVerdict::of_problems(image, problem.into_iter().collect());
    verdict.matched = false;
    verdict.digest = reference.digest().copied();
    Plan::Settled(Box::new(verdict))
}

/// The verdict about an image where not even the policies that name it could be found in time.
pub fn unplanned(
    set: &PolicySet,
    scope: Scope<'_>,
    unmatched: Unmatched,
    image: &str,
    error: &FetchError,
) -> ImageVerdict {
    let mode = strictest_in_scope(set, scope, unmatched).unwrap_or_default();
    let problem = Problem::new(transient_reason(error.kind), mode, error.detail.clone());
    ImageVerdict::of_problems(image, vec![problem])
}

/// What the strictest policy does with an image that could be one of its own; `None` where there is no policy.
fn strictest_in_scope(set: &PolicySet, scope: Scope<'_>, unmatched: Unmatched) -> Option<Mode> {
    set.in_scope(scope).map(PolicyEntry::mode).chain(of_unmatched(unmatched)).max()
}

/// What an image gets that no policy names; `None`: nothing.
const fn of_unmatched(unmatched: Unmatched) -> Option<Mode> {
    match unmatched {
        Unmatched::Allow => None,
        Unmatched::Warn => Some(Mode::Warn),
        Unmatched::Deny => Some(Mode::Enforce),
    }
}

/// The policies that are evaluated, and what is said of the others. The cluster's and the namespace's are counted apart: neither takes
/// the other's away.
fn within_limits(scope: Scope<'_>, matching: Vec<&PolicyEntry>) -> (Vec<PolicyEntry>, Option<Box<Problem>>) {
    let most = match scope {
        Scope::Everywhere => usize::MAX,
        Scope::Namespace { .. } => MAX_POLICIES,
    };
    let (of_cluster, of_namespace): (Vec<_>, Vec<_>) =
        matching.into_iter().partition(|entry| entry.id().namespace.is_none());
    let mut evaluated = Vec::with_capacity(of_cluster.len().saturating_add(of_namespace.len()).min(most));
    let mut beyond: Vec<&PolicyEntry> = Vec::new();
    for all in [of_cluster, of_namespace] {
        evaluated.extend(all.iter().take(most).map(|entry| (*entry).clone()));
        beyond.extend(all.into_iter().skip(most));
    }
    let strictest = beyond.iter().rev().max_by_key(|entry| entry.mode());
    let problem = strictest.map(|entry| {
        let found = format!(
            "{} more policies than the {most} that are evaluated of {} name this image",
            beyond.len(),
            if entry.id().namespace.is_some() { "a namespace" } else { "the cluster" }
        );
        Box::new(Problem {
            policy: Some(entry.id().clone()),
            hint: Some("put several signers into one policy, or have policies name fewer images".to_owned()),
            ..Problem::new(Reason::InvalidPolicy, entry.mode(), found)
        })
    });
    (evaluated, problem)
}

impl Problem {
    /// How many bytes its details take.
    pub fn detail_bytes(&self) -> usize {
        let texts = [Some(&self.found), self.expected.as_ref(), self.hint.as_ref()];
        let looked_at = self.looked_at.iter().map(|one| {
            let kind = one.predicate_type.as_ref().map_or(0, String::len);
            size_of::<LookedAt>().saturating_add(one.why.len()).saturating_add(kind)
        });
        let platform = self.platform.iter().flat_map(|platform| {
            [platform.os(), platform.architecture(), platform.variant().unwrap_or_default()].map(str::len)
        });
        let texts = texts.into_iter().flatten().map(String::len);
        texts.chain(looked_at).chain(platform).fold(0, usize::saturating_add)
    }

    /// Forgets its details and says why.
    pub fn leave_out_details(&mut self, why: &str) {
        why.clone_into(&mut self.found);
        self.looked_at_more = self.looked_at_more.saturating_add(self.looked_at.len());
        self.looked_at = Vec::new();
        (self.platform, self.expected, self.hint) = (None, None, None);
    }

    /// A problem of which only the reason and what was found are known.
    pub fn new(reason: Reason, mode: Mode, found: impl Into<String>) -> Self {
        Self {
            reason,
            policy: None,
            mode,
            platform: None,
            digest: None,
            found: found.into(),
            looked_at: Vec::new(),
            looked_at_more: 0,
            expected: None,
            hint: None,
            avoided: false,
            retry_after: None,
        }
    }
}

impl ImageVerdict {
    /// A verdict from problems alone: each goes where its mode puts it.
    pub fn of_problems(image: &str, problems: Vec<Problem>) -> Self {
        let mut verdict = Self {
            reference: image.to_owned(),
            digest: None,
            outcome: Outcome::Allow,
            platforms: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            audit: Vec::new(),
            proofs: Vec::new(),
            matched: true,
            valid_until: None,
            constrained: None,
            told: OnceLock::new(),
        };
        for problem in problems {
            match problem.mode {
                Mode::Enforce => verdict.problems.push(problem),
                Mode::Warn => verdict.warnings.push(problem),
                Mode::Audit => verdict.audit.push(problem),
            }
        }
        // One definite no is enough; only where every no may heal is it worth asking again.
        verdict.outcome = match verdict.problems.as_slice() {
            [] => Outcome::Allow,
            all if all.iter().all(|problem| problem.reason.is_transient()) => Outcome::Unverifiable,
            _ => Outcome::Deny,
        };
        verdict.problems.sort_by_key(|problem| problem.reason.is_transient());
        verdict
    }
}
