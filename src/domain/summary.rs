//! SLSA Verification Summaries: what a verifier says of an image that it has judged already, in place of the provenance itself.
//! All of it is **claimed**: as trustworthy as its signer.

use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::{
    authorize::Mismatch, digest::Digest, identity::Signer, level::BuildLevel, predicate::Predicate,
    reference::Reference, verdict::Reason,
};

/// The predicate type of verification summaries v0.2.
pub const VSA_V0_2: &str = "https://slsa.dev/verification_summary/v0.2";
/// How far the clock of whoever verified may be ahead.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// The predicate type of verification summaries v1.
pub const VSA_V1: &str = "https://slsa.dev/verification_summary/v1";

/// What a verification summary claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Who verified: `verifier.id`.
    pub verifier_id: String,
    /// When: `timeVerified`.
    pub verified_at: Option<Timestamp>,
    /// What came of it: `verificationResult`.
    pub result: String,
    /// The levels that were verified: `verifiedLevels`; of v0.2 its one `policy_level`.
    pub levels: Vec<String>,
    /// What was verified: `resourceUri`.
    pub resource_uri: String,
    /// By which policy: `policy.uri`.
    pub policy_uri: Option<String>,
    /// The whole predicate, unknown fields included.
    pub predicate: Predicate,
}

/// Which verification summaries suffice in place of provenance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SummaryRules {
    /// Who may sign summaries; any one suffices. Where nobody may, no summary suffices.
    pub signers: Vec<Signer>,
    /// The verifiers that are believed, exactly.
    pub verifier_ids: Vec<String>,
    /// The least build level that must have been verified.
    pub min_level: BuildLevel,
    /// The policies it may have been verified by, exactly; empty: any.
    pub policy_uris: Vec<String>,
}

impl Summary {
    /// The highest build level among those that were verified. The levels of v0.2 are those of SLSA v0.1, of which the fourth asks for
    /// no more of a build than the third does today.
    fn build_level(&self) -> Option<BuildLevel> {
        let level = |text: &String| {
            let number =
                text.strip_prefix("SLSA_BUILD_LEVEL_").or_else(|| text.strip_prefix("SLSA_LEVEL_"))?;
            BuildLevel::new(number.parse::<i32>().ok()?.min(3))
        };
        self.levels.iter().filter_map(level).max()
    }
}

/// Whether a summary suffices. `subjects` are what its statement is about.
///
/// # Errors
/// `WrongSummary`: the first thing that differs.
pub fn check_summary(
    rules: &SummaryRules,
    summary: &Summary,
    subjects: &[Digest],
    reference: &Reference,
    now: Timestamp,
) -> Result<(), Mismatch> {
    let wrong = |found: String| Err(Mismatch::new(Reason::WrongSummary, found));
    if !rules.verifier_ids.contains(&summary.verifier_id) {
        return wrong(format!(
            "a verification summary is there, but by the verifier {}",
            summary.verifier_id
        ));
    }
    if summary.result != "PASSED" {
        return wrong(format!(
            "the verification summary says that the image did not pass: {}",
            summary.result
        ));
    }
    if summary.build_level().is_none_or(|level| level < rules.min_level) {
        let levels = if summary.levels.is_empty() { "(none)".to_owned() } else { summary.levels.join(", ") };
        return wrong(format!("the verification summary is of the levels {levels}"));
    }
    if let Some(at) = summary.verified_at.filter(|at| at.duration_since(now) > CLOCK_SKEW) {
        return wrong(format!(
            "the verification summary says that the image was verified at {at}, which is yet to come"
        ));
    }
    if !is_about(&summary.resource_uri, subjects, reference) {
        return wrong(format!("the verification summary is about {}", summary.resource_uri));
    }
    if !rules.policy_uris.is_empty()
        && !summary.policy_uri.as_ref().is_some_and(|uri| rules.policy_uris.contains(uri))
    {
        let policy = summary.policy_uri.as_deref().unwrap_or("(none)");
        return wrong(format!("the verification summary is by the policy {policy}"));
    }
    Ok(())
}

/// Whether a resource is the image: its repository, and where it says so its tag and one of the digests.
fn is_about(resource: &str, subjects: &[Digest], reference: &Reference) -> bool {
    let named = if resource.starts_with("pkg:") { of_package(resource) } else { plain(resource) };
    let Some(named) = named.and_then(|text| text.parse::<Reference>().ok()) else { return false };
    // A reference without a tag is the tag `latest` only where nobody wrote another.
    let tag_fits = match (named.digest(), named.tag(), reference.tag()) {
        (None, Some(tag), Some(asked)) => {
            tag == asked || !named.written().rsplit('/').next().is_some_and(|name| name.contains(':'))
        }
        _ => true,
    };
    named.repository() == reference.repository()
        && tag_fits
        && named.digest().is_none_or(|digest| subjects.contains(digest))
}

/// An image as it is written everywhere, with a scheme before it or without.
fn plain(resource: &str) -> Option<String> {
    match resource.split_once("://") {
        None => Some(resource.to_owned()),
        Some(("oci" | "docker" | "https", rest)) => Some(rest.to_owned()),
        Some(_) => None,
    }
}

/// A package URL: `pkg:oci/NAME@DIGEST?repository_url=REGISTRY/PATH/NAME&tag=TAG`.
fn of_package(resource: &str) -> Option<String> {
    let url = Url::parse(resource).ok()?;
    let name = url.path().strip_prefix("oci/").or_else(|| url.path().strip_prefix("docker/"))?;
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest.replace("%3A", ":").replace("%3a", ":"))),
        None => (name, None),
    };
    let query =
        |wanted: &str| url.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned());
    let repository = query("repository_url").unwrap_or_else(|| name.to_owned());
    let tag = query("tag").map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    Some(format!("{repository}{tag}{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_714_521_600, 0);

    fn summary() -> Summary {
        Summary {
            verifier_id: "https://verifier.example".to_owned(),
            verified_at: Some(NOW),
            result: "PASSED".to_owned(),
            levels: vec!["OTHER".to_owned(), "SLSA_BUILD_LEVEL_2".to_owned()],
            resource_uri: "ghcr.io/o/a:v1".to_owned(),
            policy_uri: Some("https://policy.example".to_owned()),
            predicate: Predicate::default(),
        }
    }

    fn check(change: impl FnOnce(&mut Summary, &mut SummaryRules)) -> Result<(), Mismatch> {
        let mut rules = SummaryRules {
            signers: Vec::new(),
            verifier_ids: vec!["https://verifier.example".to_owned()],
            min_level: BuildLevel::Two,
            policy_uris: Vec::new(),
        };
        let mut summary = summary();
        change(&mut summary, &mut rules);
        check_summary(&rules, &summary, &[Digest::of(b"a")], &"ghcr.io/o/a:v1".parse().unwrap(), NOW)
    }

    type Change = fn(&mut Summary, &mut SummaryRules);

    #[test]
    fn each_difference_is_told() {
        assert_eq!(check(|_, _| {}), Ok(()));
        assert_eq!(check(|summary, _| summary.verified_at = None), Ok(()));
        assert_eq!(check(|summary, _| summary.verified_at = Some(NOW + CLOCK_SKEW)), Ok(()));
        assert_eq!(check(|_, rules| rules.policy_uris = vec!["https://policy.example".to_owned()]), Ok(()));
        let differences: [Change; 8] = [
            |summary, _| summary.verifier_id = "https://other.example".to_owned(),
            |summary, _| summary.result = "FAILED".to_owned(),
            |summary, _| summary.levels = vec!["SLSA_BUILD_LEVEL_1".to_owned(), "BCID_L1".to_owned()],
            |summary, _| summary.levels.clear(),
            |summary, _| summary.resource_uri = "ghcr.io/o/b:v1".to_owned(),
            |_, rules| rules.policy_uris = vec!["https://other.example".to_owned()],
            |_, rules| rules.min_level = BuildLevel::Three,
            |summary, _| summary.verified_at = Some(NOW + SignedDuration::from_secs(61)),
        ];
        let told: Vec<String> = differences
            .into_iter()
            .map(|change| {
                let mismatch = check(change).unwrap_err();
                format!("{}: {}", mismatch.reason, mismatch.found)
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_resource_is_the_image_in_every_spelling() {
        let (ours, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let about = |resource: &str| check(|summary, _| summary.resource_uri = resource.to_owned()).is_ok();
        for resource in [
            "ghcr.io/o/a",
            "ghcr.io/o/a:v1",
            "oci://ghcr.io/o/a:v1",
            "docker://ghcr.io/o/a",
            "https://ghcr.io/o/a:v1",
            &format!("ghcr.io/o/a@{ours}"),
            &format!("pkg:oci/a@{}?repository_url=ghcr.io%2Fo%2Fa", ours.to_string().replace(':', "%3A")),
            &format!("pkg:oci/a@{ours}?repository_url=ghcr.io/o/a&tag=v1"),
        ] {
            assert!(about(resource), "{resource}");
        }
        for resource in [
            "",
            "ghcr.io/o/b",
            "ghcr.io/o/a:v2",
            "ftp://ghcr.io/o/a",
            "gce_image://ghcr.io/o/a",
            &format!("ghcr.io/o/a@{other}"),
            &format!("pkg:oci/a@{other}?repository_url=ghcr.io/o/a"),
            &format!("pkg:oci/a@{ours}?repository_url=ghcr.io/o/b"),
            &format!("pkg:oci/a@{ours}"),
            &format!("pkg:npm/a@{ours}?repository_url=ghcr.io/o/a"),
        ] {
            assert!(!about(resource), "{resource}");
        }
    }
}
