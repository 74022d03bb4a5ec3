//! The attestations that were looked at: where each was found, and where none covers a manifest, why it did not serve.
//!
//! Whoever may push chooses how many there are and what they say: a few are told, the closest first, and each on one line.

use std::fmt;

use super::{
    authorize::Mismatch,
    digest::Digest,
    evidence::{Attestation, Finding, ImageFacts, Layout},
    message::one_line,
    policy::Policy,
    reference::Repository,
    verdict::{Problem, Reason},
};

/// How many are kept for one manifest.
const KEPT: usize = 8;
/// How many are told in one message.
const TOLD: usize = 12;
/// The most bytes of why one did not serve.
const LONGEST: usize = 300;
/// How many digits of the digest that it is attached to are told.
const DIGITS: usize = 12;

/// Where an attestation was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// In which layout.
    pub layout: Layout,
    /// In which other repository than the image's, where that is so.
    pub repository: Option<Repository>,
    /// The digest that it is attached to, or in whose index it is.
    pub of: Digest,
    /// The digest of what holds it.
    pub found_at: Digest,
}

impl Spot {
    /// Where an attestation of `of` was found that `policy` sees.
    pub fn new(facts: &ImageFacts, policy: &Policy, of: Digest, attestation: &Attestation) -> Self {
        Self {
            layout: attestation.layout,
            repository: facts.found_elsewhere(policy, &of, attestation).cloned(),
            of,
            found_at: attestation.found_at,
        }
    }
}

/// An attestation that did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAt {
    /// Where it was found.
    pub spot: Spot,
    /// The type of its predicate, where it could be read. Nothing in it is believed that the signature does not cover.
    pub predicate_type: Option<String>,
    /// Why it did not serve.
    pub reason: Reason,
    /// The same in a sentence.
    pub why: String,
}

/// Those that are worth keeping, and how many there are beside them.
pub fn kept(
    facts: &ImageFacts,
    policy: &Policy,
    mut all: Vec<(Digest, &Attestation, &Mismatch)>,
    closeness: fn(Reason) -> u8,
) -> (Vec<LookedAt>, usize) {
    all.sort_by_key(|(_, _, mismatch)| std::cmp::Reverse(closeness(mismatch.reason)));
    let more = all.len().saturating_sub(KEPT);
    let kept = all.into_iter().take(KEPT).map(|(of, attestation, mismatch)| LookedAt {
        spot: Spot::new(facts, policy, of, attestation),
        predicate_type: predicate_type(&attestation.finding).map(shortened),
        reason: mismatch.reason,
        why: shortened(&mismatch.found),
    });
    (kept.collect(), more)
}

fn predicate_type(finding: &Finding) -> Option<&str> {
    match finding {
        Finding::Verified(verified) => Some(&verified.statement.predicate_type),
        Finding::Keyed(keyed) => Some(&keyed.statement.predicate_type),
        Finding::Unsigned { predicate_type } => Some(predicate_type),
        Finding::Untrusted(_) | Finding::Malformed(_) => None,
    }
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    match text.get(..end) {
        Some(start) if end < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    }
}

/// The lines about those of several problems of one image, each attestation once.
pub fn lines(problems: &[&Problem]) -> Vec<String> {
    let mut all: Vec<&LookedAt> = Vec::new();
    for one in problems.iter().flat_map(|problem| &problem.looked_at) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    // How many more there are of each manifest, at least so many there are.
    let more = problems.iter().map(|problem| problem.looked_at_more).max().unwrap_or_default();
    let more = more.saturating_add(all.len().saturating_sub(TOLD));
    // What the message says above is not said again.
    let told = |one: &LookedAt| {
        if problems.iter().any(|problem| problem.found == one.why) {
            return one.spot.to_string();
        }
        one_line(&format!("{}: {} – {}", one.spot, one.reason, one.why))
    };
    let mut lines: Vec<String> = match all.as_slice() {
        [] => return Vec::new(),
        [one] if more == 0 => return vec![format!("looked at: {}", told(one))],
        several => several.iter().take(TOLD).map(|one| format!("  {}", told(one))).collect(),
    };
    lines.insert(0, "looked at:".to_owned());
    if more > 0 {
        lines.push(format!("  … and at least {more} more"));
    }
    lines
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.of.hex();
        let of = digits.get(..DIGITS).unwrap_or(&digits);
        match self.layout {
            Layout::Referrer => write!(f, "referrer of {of}…")?,
            Layout::AttTag => write!(f, ".att tag of {of}…")?,
            Layout::InIndex => write!(f, "in the index for {of}…")?,
            Layout::InIndexReferrer => write!(f, "referrer of what is in the index for {of}…")?,
        }
        match &self.repository {
            Some(repository) => write!(f, " in {repository}, {}", self.found_at),
            None => write!(f, ", {}", self.found_at),
        }
    }
}
