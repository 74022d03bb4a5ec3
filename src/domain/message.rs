//! The texts that people read: denials and warnings, from verdicts. Every one is snapshot-tested.
//!
//! The first line says image, container, policy and reason – an event may show no more than 120 characters – and the lines below
//! it what was found where, what was expected, and what to do next.

mod signer;

use std::{collections::BTreeSet, fmt::Write as _};

use signer::signed_by;

use super::{
    digest::Digest,
    identity::Signer,
    level::BuildLevel,
    looked_at,
    platform::Platform,
    policy::{Mode, Policy, PolicyId},
    reference::Reference,
    verdict::{ImageVerdict, Problem, Reason},
    workload::{ImageRole, WorkloadImage},
};

/// The most bytes of one line.
const LONGEST_LINE: usize = 2000;

/// The whole message about an image that is not admitted. `image` is `None` on the command line, where no workload names it.
pub fn denial(image: Option<&WorkloadImage>, verdict: &ImageVerdict) -> String {
    let mut groups: Vec<(Option<&PolicyId>, Vec<&Problem>)> = Vec::new();
    for problem in &verdict.problems {
        match groups.iter_mut().find(|(policy, _)| *policy == problem.policy.as_ref()) {
            Some((_, problems)) => problems.push(problem),
            None => groups.push((problem.policy.as_ref(), vec![problem])),
        }
    }
    groups
        .iter()
        .map(|(policy, problems)| group(image, verdict, *policy, problems))
        .collect::<Vec<_>>()
        .join("\n")
}

/// One warning, on one line.
pub fn warning(image: Option<&WorkloadImage>, verdict: &ImageVerdict, problem: &Problem) -> String {
    let mut text = named(image, verdict, false);
    match (problem.reason, &problem.policy) {
        (_, Some(policy)) if problem.avoided => {
            let platforms = kept_to(verdict);
            push(&mut text, format_args!(" is kept to {platforms} by {} {policy}", policy.kind()));
        }
        // These are worth knowing whatever the policy's mode; the others are a denial that the mode softens.
        (Reason::PlatformMissing | Reason::UnpinnedTag | Reason::UnmatchedImage, _) | (_, None) => {}
        (reason, Some(policy)) if reason.is_transient() => {
            push(&mut text, format_args!(" could not be verified for {} {policy}", policy.kind()));
        }
        (_, Some(policy)) if problem.mode == Mode::Enforce => {
            push(&mut text, format_args!(" is not admitted by {} {policy}", policy.kind()));
        }
        (_, Some(policy)) => {
            push(&mut text, format_args!(" would not be admitted by {} {policy}", policy.kind()));
        }
    }
    push(&mut text, format_args!(": {}", line(problem)));
    text
}

/// What a `DaemonSet` is told in place of that: each of its pods is made for one node, and cannot be kept to others.
pub fn daemon_set_warning(image: &WorkloadImage, verdict: &ImageVerdict, problem: &Problem) -> String {
    let mut text = named(Some(image), verdict, false);
    let policy = problem.policy.as_ref();
    let by = policy.map_or_else(String::new, |policy| format!(" by {} {policy}", policy.kind()));
    let of = |part: fn(&Platform) -> &str| {
        let values: BTreeSet<&str> = verdict.constrained.iter().flatten().map(part).collect();
        values.into_iter().collect::<Vec<_>>()
    };
    let advice = match (of(Platform::architecture).as_slice(), of(Platform::os).as_slice()) {
        ([architecture], [os]) => {
            format!("add the nodeSelector kubernetes.io/arch: {architecture}, kubernetes.io/os: {os}")
        }
        (architectures, _) => {
            format!("add a required node affinity: kubernetes.io/arch in {}", architectures.join(", "))
        }
    };
    let platforms = kept_to(verdict);
    push(&mut text, format_args!(" will be refused{by} on nodes other than {platforms}."));
    push(
        &mut text,
        format_args!(" A DaemonSet's pods cannot be kept off such nodes: {advice}. {}", line(problem)),
    );
    text
}

fn kept_to(verdict: &ImageVerdict) -> String {
    verdict.constrained.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The image, and where it is named; `field`: also by the field, where the name is not enough to find it.
fn named(image: Option<&WorkloadImage>, verdict: &ImageVerdict, field: bool) -> String {
    let shown = if verdict.reference.is_empty() { "\"\"" } else { &verdict.reference };
    let mut text = one_line(&format!("image {shown}"));
    if let Some(image) = image {
        let role = match image.role {
            ImageRole::Container => "container",
            ImageRole::InitContainer => "init container",
            ImageRole::EphemeralContainer => "ephemeral container",
            ImageRole::Volume => "volume",
        };
        push(&mut text, format_args!(" ({role} {:?}", image.name));
        // Of a pod the name is enough; what makes pods has it in a template, and somewhere deep.
        if field && image.field.contains("emplate.") {
            push(&mut text, format_args!(", {}", image.field));
        }
        text.push(')');
    }
    text
}

fn group(
    image: Option<&WorkloadImage>,
    verdict: &ImageVerdict,
    policy: Option<&PolicyId>,
    problems: &[&Problem],
) -> String {
    let mut text = named(image, verdict, true);
    let transient = problems.iter().all(|problem| problem.reason.is_transient());
    text.push_str(match (transient, policy) {
        (true, _) => " could not be verified",
        (false, Some(_)) => " is not admitted by",
        (false, None) => " is not admitted",
    });
    if let Some(policy) = policy {
        push(&mut text, format_args!("{} {} {policy}", if transient { " for" } else { "" }, policy.kind()));
    }
    let mut words: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
    words.dedup();
    push(&mut text, format_args!(": {}", words.join(", ")));
    for (at, problem) in problems.iter().enumerate() {
        push(&mut text, format_args!("\n  {}", line(problem)));
        // What the next line would repeat is said once, after the last of them.
        let next = problems.get(at.saturating_add(1));
        let repeated =
            |field: fn(&Problem) -> &Option<String>| next.is_some_and(|next| field(next) == field(problem));
        if let Some(expected) = problem.expected.as_ref().filter(|_| !repeated(|problem| &problem.expected)) {
            push(&mut text, format_args!("\n  expected: {expected}"));
        }
        if let Some(hint) = problem.hint.as_ref().filter(|_| !repeated(|problem| &problem.hint)) {
            push(&mut text, format_args!("\n  hint: {hint}"));
        }
    }
    // A registry that is asked earlier refuses again.
    if let Some(seconds) = problems.iter().filter_map(|problem| problem.retry_after).max() {
        push(
            &mut text,
            format_args!("\n  the registry asks clients to wait {seconds} s before the next request"),
        );
    }
    for line in looked_at::lines(problems) {
        push(&mut text, format_args!("\n  {line}"));
    }
    text
}

/// Text in which somebody else chose a part, for one line: printable, and not long. What is printable is ASCII, and what is ours: look-alikes,
/// ends of lines and marks that turn the direction of text have no business in a denial.
pub fn one_line(text: &str) -> String {
    let is_fine = |c: char| c.is_ascii_graphic() || matches!(c, ' ' | '–' | '…');
    if text.len() <= LONGEST_LINE && text.chars().all(is_fine) {
        return text.to_owned();
    }
    let mut safe = String::new();
    for character in text.chars() {
        if safe.len() > LONGEST_LINE {
            safe.push('…');
            break;
        }
        if is_fine(character) {
            safe.push(character);
        } else {
            safe.extend(character.escape_unicode());
        }
    }
    safe
}

/// Where, the reason's word, and what was found.
fn line(problem: &Problem) -> String {
    let mut text = String::new();
    if let Some(platform) = &problem.platform {
        push(&mut text, format_args!("{platform} "));
    }
    if let Some(digest) = &problem.digest {
        push(&mut text, format_args!("{digest}"));
    }
    let place = text.trim_end();
    let colon = if place.is_empty() { "" } else { ": " };
    one_line(&format!("{place}{colon}{} – {}", problem.reason, problem.found))
}

/// Writing to a string cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// What `policy` expected, as far as `reason` makes it matter.
pub fn expected(policy: &Policy, reference: &Reference, reason: Reason) -> String {
    let rules = &policy.provenance;
    match reason {
        Reason::WrongBuilder => claims(policy),
        Reason::ProvenanceTooOld => match rules.max_age {
            Some(age) => format!("built within the last {} hours", age.as_secs() / 3600),
            None => "a recent build".to_owned(),
        },
        Reason::WrongSummary => summaries(policy, reference),
        Reason::ConditionFailed => "every condition of the policy to hold".to_owned(),
        _ => {
            let signers: Vec<String> =
                policy.signers.iter().map(|signer| signed_by(signer, reference)).collect();
            let by = match signers.as_slice() {
                [] => summaries(policy, reference),
                [one] => format!("signed by {one}"),
                several => format!("signed by one of: {}", several.join("; ")),
            };
            let of_summaries = policy.summaries.iter().flat_map(|rules| &rules.signers);
            let of_summaries: Vec<String> = of_summaries.map(|signer| signed_by(signer, reference)).collect();
            match &policy.in_place_of_provenance {
                Some(wanted) => format!("an attestation of type {wanted}, {by}"),
                None if signers.is_empty() || of_summaries.is_empty() => by,
                None => format!("{by}; or a verification summary signed by {}", of_summaries.join(" or ")),
            }
        }
    }
}

fn summaries(policy: &Policy, reference: &Reference) -> String {
    let Some(rules) = &policy.summaries else { return "provenance".to_owned() };
    let by = rules.verifier_ids.join(" or ");
    let under = if rules.policy_uris.is_empty() {
        String::new()
    } else {
        format!(", by the policy {}", rules.policy_uris.join(" or "))
    };
    let signers: Vec<String> = rules.signers.iter().map(|signer| signed_by(signer, reference)).collect();
    let signed =
        if signers.is_empty() { String::new() } else { format!(", signed by {}", signers.join(" or ")) };
    let provenance = if policy.signers.is_empty() { "" } else { "provenance, or " };
    format!(
        "{provenance}a summary by {by} that this image passed at {} or above{under}{signed}",
        rules.min_level
    )
}

fn claims(policy: &Policy) -> String {
    let rules = &policy.provenance;
    let of_signer = |signer: &Signer| {
        let ids: Vec<&str> = signer.builder_ids.iter().map(super::glob::Glob::as_str).collect();
        (!ids.is_empty()).then(|| format!("of {} the builder {}", signer.name, ids.join(" or ")))
    };
    let one_of = |what: &str, values: Vec<&str>| match values.as_slice() {
        [] => None,
        values => Some(format!("{what} {}", values.join(" or "))),
    };
    let parts = [
        one_of("the builder", rules.builder_ids.iter().map(super::glob::Glob::as_str).collect()),
        one_of("the build type", rules.build_types.iter().map(super::glob::Glob::as_str).collect()),
    ];
    let level = (rules.min_level > BuildLevel::default()).then(|| format!("{} at least", rules.min_level));
    let parts = parts.into_iter().chain(policy.signers.iter().map(of_signer)).chain([level]);
    parts.flatten().collect::<Vec<_>>().join(", ")
}

/// What to do next under a policy that may ask for something else than provenance.
pub fn hint_under(policy: &Policy, reason: Reason, reference: &Reference) -> Option<String> {
    match (&policy.in_place_of_provenance, reason) {
        (Some(wanted), Reason::NoProvenance) => Some(one_line(&format!(
            "attestations arrive 10–30 s after the push; else attest it: cosign attest --type {wanted}"
        ))),
        _ => hint(reason, reference),
    }
}

/// What is known of an index that lists a manifest without provenance of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexHint {
    /// The reference's tag names this index, whose provenance covers the manifest.
    Covers(Digest),
    /// There may be one.
    Possible,
    /// The one that the tag names does not help.
    None,
}

/// Says of a manifest without provenance that the index that lists it may have it.
pub fn point_to_index(verdict: &mut ImageVerdict, reference: &Reference, digest: Digest, index: IndexHint) {
    let problems = verdict.problems.iter_mut();
    let lacking =
        problems.filter(|problem| problem.reason == Reason::NoProvenance && problem.digest == Some(digest));
    for problem in lacking {
        problem.hint = match (index, problem.hint.take()) {
            (IndexHint::Covers(index), _) => Some(format!(
                "this is one manifest of an index, and the index has the provenance: deploy {}",
                reference.with_digest(index)
            )),
            (IndexHint::Possible, Some(hint)) => Some(format!(
                "{hint}; if this is one platform's manifest of an index, the index may have the provenance: deploy the digest of the index"
            )),
            (_, hint) => hint,
        };
    }
}

/// What to do next.
pub fn hint(reason: Reason, reference: &Reference) -> Option<String> {
    let registry = reference.repository().registry();
    let text = match reason {
        Reason::NoProvenance => {
            "attestations arrive 10–30 s after the push: a fresh image may be admitted in a moment; \
             else attest in the workflow with actions/attest-build-provenance and push-to-registry: true; \
             see `bonafide explain NoProvenance`"
        }
        Reason::UnsignedProvenance => {
            "`provenance: mode=max` alone signs nothing: add `id-token: write` and `attestations: write` to the workflow's permissions \
             and a step with actions/attest-build-provenance (push-to-registry: true), or cosign attest; \
             see `bonafide explain UnsignedProvenance`"
        }
        Reason::UntrustedSignature => {
            "it may be signed under another trust root, or with another key; see `bonafide explain UntrustedSignature`"
        }
        Reason::WrongSigner | Reason::WrongSource => {
            "deploy an image built where the policy says, or have the policy name this build; `bonafide verify` shows who signed"
        }
        Reason::WrongBuilder => "build with the builder that the policy names",
        Reason::ProvenanceTooOld => "rebuild and deploy the new image",
        Reason::WrongSummary => {
            "have the image verified by the verifier that the policy names, or attest its provenance"
        }
        Reason::ConditionFailed => "see the condition's message",
        Reason::PlatformNotCovered => {
            "attest every platform's manifest, or the index; or keep the pod off these nodes with nodeSelector kubernetes.io/arch"
        }
        Reason::PlatformMissing => {
            "build the image for that platform, or keep the pod off these nodes with nodeSelector kubernetes.io/arch"
        }
        Reason::ImageNotFound => {
            return Some(format!("check the name and the tag or digest; {registry} does not have it"));
        }
        Reason::MalformedImage => {
            "build and push the image again; no supported builder writes such a manifest"
        }
        Reason::RegistryDenied => {
            return Some(format!("the webhook needs credentials that may pull from {registry}"));
        }
        Reason::RegistryUnavailable | Reason::RegistryThrottled | Reason::DeadlineExceeded => {
            "nothing is wrong with the image as far as is known: try again"
        }
        Reason::NotAllInspected => {
            "delete attestations of this digest that are no longer needed; another attestation adds to them and does not help; \
             see `bonafide explain NotAllInspected`"
        }
        Reason::MalformedAttestation => "attest the image again; see `bonafide explain MalformedAttestation`",
        Reason::InvalidReference
        | Reason::TooManyImages
        | Reason::InvalidPolicy
        | Reason::UnpinnedTag
        | Reason::UnmatchedImage => {
            return None;
        }
    };
    Some(text.to_owned())
}
