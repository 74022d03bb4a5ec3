//! The JSON of `verify` and `review`: the fields and their names are a contract. What is absent is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{
    evidence::Layout,
    identity::{Certificate, TrustRootName},
    looked_at::Spot,
    policy::PolicyId,
    provenance::Provenance,
    reference::Repository,
    verdict::{ImageVerdict, Outcome, PlatformCoverage, Problem, Proof, SignedBy},
};

/// What the webhook would answer about one object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Where it was read.
    pub file: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; `None` for what has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether it would be admitted.
    pub allowed: bool,
    /// The HTTP status of a refusal: 403 or 503.
    pub code: Option<u16>,
    /// The message of a refusal.
    pub message: Option<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// The images it names.
    pub images: Vec<String>,
    /// What would stand in the audit log.
    pub audit_annotations: BTreeMap<String, String>,
    /// Why it was not judged; `None`: it was.
    pub skipped: Option<String>,
}

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    allowed: bool,
    images: Vec<Image<'a>>,
    /// `review` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<&'a [&'a Object]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image<'a> {
    reference: &'a str,
    digest: Option<String>,
    allowed: bool,
    platforms: Vec<PlatformJson>,
    reasons: Vec<ReasonJson>,
    proofs: Vec<ProofJson<'a>>,
    looked_at: Vec<LookedAtJson<'a>>,
    /// How many there are beside these for one manifest, at least.
    looked_at_more: usize,
}

/// An attestation that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LookedAtJson<'a> {
    policy: Option<String>,
    digest: String,
    of: String,
    layout: &'static str,
    /// Another repository than the image's.
    repository: Option<&'a str>,
    predicate_type: Option<&'a str>,
    /// `ok`, or a reason.
    outcome: &'static str,
    message: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PlatformJson {
    #[serde(rename = "platform")]
    name: Option<String>,
    digest: String,
    covered: bool,
}

#[derive(Debug, Serialize)]
struct ReasonJson {
    reason: &'static str,
    policy: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProofJson<'a> {
    policy: String,
    signer: &'a str,
    /// Of another root than the usual one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_root: Option<&'a str>,
    predicate_type: &'a str,
    /// The SLSA build level, by the policy.
    level: u8,
    certificate: Option<CertificateJson<'a>>,
    /// Of what is signed with a key alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyJson>,
    provenance: Option<ProvenanceJson<'a>>,
    /// In place of provenance alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<SummaryJson<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateJson<'a> {
    subject: &'a str,
    issuer: &'a str,
    source_repository: Option<&'a str>,
    source_ref: Option<&'a str>,
    source_digest: Option<&'a str>,
    source_repository_id: Option<&'a str>,
    source_owner: Option<&'a str>,
    source_owner_id: Option<&'a str>,
    source_visibility: Option<&'a str>,
    build_signer_uri: Option<&'a str>,
    build_signer_digest: Option<&'a str>,
    build_config_uri: Option<&'a str>,
    build_config_digest: Option<&'a str>,
    workflow_name: Option<&'a str>,
    trigger: Option<&'a str>,
    runner: Option<&'a str>,
    run_uri: Option<&'a str>,
    environment: Option<&'a str>,
    token_subject: Option<&'a str>,
}

/// `id` is the SHA-256 of the key's `SubjectPublicKeyInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson {
    id: String,
    kind: String,
    logged: bool,
    logged_at: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryJson<'a> {
    verifier_id: &'a str,
    result: &'a str,
    levels: &'a [String],
    resource_uri: &'a str,
    policy_uri: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProvenanceJson<'a> {
    builder_id: &'a str,
    build_type: &'a str,
    source: Option<&'a str>,
    commit: Option<&'a str>,
    workflow: Option<&'a str>,
    started_on: Option<String>,
    finished_on: Option<String>,
}

impl<'a> Document<'a> {
    /// What `verify` prints.
    pub fn of_image(verdict: &'a ImageVerdict) -> Self {
        let image = Image::from(verdict);
        Self { allowed: image.allowed, images: vec![image], objects: None }
    }

    /// What `review` prints: the distinct images of all objects, and the answer per object.
    pub fn of_objects(allowed: bool, images: &[&'a ImageVerdict], objects: &'a [&'a Object]) -> Self {
        let images = images.iter().map(|verdict| Image::from(*verdict)).collect();
        Self { allowed, images, objects: Some(objects) }
    }

    /// The text of the document.
    pub fn render(&self) -> String {
        // Strings, numbers and lists under string keys: there is nothing that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl<'a> From<&'a ImageVerdict> for Image<'a> {
    fn from(verdict: &'a ImageVerdict) -> Self {
        Self {
            reference: &verdict.reference,
            digest: verdict.digest.map(|digest| digest.to_string()),
            allowed: verdict.outcome == Outcome::Allow,
            platforms: verdict.platforms.iter().map(PlatformJson::from).collect(),
            reasons: verdict.problems.iter().map(ReasonJson::from).collect(),
            proofs: verdict.proofs.iter().map(ProofJson::from).collect(),
            looked_at: looked_at(verdict),
            looked_at_more: problems(verdict).map(|problem| problem.looked_at_more).max().unwrap_or_default(),
        }
    }
}

/// What speaks against it under any policy, whatever the policy's mode makes of it.
fn problems(verdict: &ImageVerdict) -> impl Iterator<Item = &Problem> {
    verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit)
}

/// What serves, then what does not; each once, although it may be about several manifests.
fn looked_at(verdict: &ImageVerdict) -> Vec<LookedAtJson<'_>> {
    let served = verdict.proofs.iter().map(|proof| LookedAtJson {
        predicate_type: Some(&proof.predicate_type),
        ..LookedAtJson::at(&proof.spot, Some(&proof.policy))
    });
    let not = problems(verdict).flat_map(|problem| {
        problem.looked_at.iter().map(|one| LookedAtJson {
            predicate_type: one.predicate_type.as_deref(),
            outcome: one.reason.as_str(),
            message: Some(&one.why),
            ..LookedAtJson::at(&one.spot, problem.policy.as_ref())
        })
    });
    let mut all: Vec<LookedAtJson<'_>> = Vec::new();
    for one in served.chain(not) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

impl<'a> LookedAtJson<'a> {
    /// One that serves.
    fn at(spot: &'a Spot, policy: Option<&PolicyId>) -> Self {
        Self {
            policy: policy.map(ToString::to_string),
            digest: spot.found_at.to_string(),
            of: spot.of.to_string(),
            layout: match spot.layout {
                Layout::Referrer => "referrer",
                Layout::AttTag => "attTag",
                Layout::InIndex => "inIndex",
                Layout::InIndexReferrer => "inIndexReferrer",
            },
            repository: spot.repository.as_ref().map(Repository::as_str),
            predicate_type: None,
            outcome: "ok",
            message: None,
        }
    }
}

impl From<&PlatformCoverage> for PlatformJson {
    fn from(coverage: &PlatformCoverage) -> Self {
        Self {
            name: coverage.platform.as_ref().map(ToString::to_string),
            digest: coverage.digest.to_string(),
            covered: coverage.covered,
        }
    }
}

impl From<&Problem> for ReasonJson {
    fn from(problem: &Problem) -> Self {
        let place = [
            problem.platform.as_ref().map(ToString::to_string),
            problem.digest.map(|digest| digest.to_string()),
        ];
        let place = place.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut message =
            if place.is_empty() { problem.found.clone() } else { format!("{place}: {}", problem.found) };
        for (word, text) in [("expected", &problem.expected), ("hint", &problem.hint)] {
            if let Some(text) = text {
                message = format!("{message}; {word}: {text}");
            }
        }
        Self {
            reason: problem.reason.as_str(),
            policy: problem.policy.as_ref().map(ToString::to_string),
            message,
        }
    }
}

impl<'a> From<&'a Proof> for ProofJson<'a> {
    fn from(proof: &'a Proof) -> Self {
        let (certificate, public_key) = match &proof.signed_by {
            SignedBy::Certificate(certificate) => (Some(CertificateJson::from(certificate.as_ref())), None),
            SignedBy::Key { id, kind, logged, at } => {
                let key = KeyJson {
                    id: id.to_string(),
                    kind: kind.to_string(),
                    logged: *logged,
                    logged_at: at.map(|time| time.to_string()),
                };
                (None, Some(key))
            }
        };
        Self {
            policy: proof.policy.to_string(),
            signer: &proof.signer,
            trust_root: proof
                .trust_root
                .as_ref()
                .filter(|root| **root != TrustRootName::default())
                .map(|root| root.0.as_str()),
            predicate_type: &proof.predicate_type,
            level: proof.level.number(),
            certificate,
            public_key,
            provenance: (proof.summary.is_none() && proof.other.is_none())
                .then(|| ProvenanceJson::from(&proof.provenance)),
            summary: proof.summary.as_ref().map(|summary| SummaryJson {
                verifier_id: &summary.verifier_id,
                result: &summary.result,
                levels: &summary.levels,
                resource_uri: &summary.resource_uri,
                policy_uri: summary.policy_uri.as_deref(),
            }),
        }
    }
}

impl<'a> From<&'a Certificate> for CertificateJson<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self {
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            source_repository: certificate.source_repository.as_deref(),
            source_ref: certificate.source_ref.as_deref(),
            source_digest: certificate.source_digest.as_deref(),
            source_repository_id: certificate.source_repository_id.as_deref(),
            source_owner: certificate.source_owner.as_deref(),
            source_owner_id: certificate.source_owner_id.as_deref(),
            source_visibility: certificate.source_visibility.as_deref(),
            build_signer_uri: certificate.build_signer_uri.as_deref(),
            build_signer_digest: certificate.build_signer_digest.as_deref(),
            build_config_uri: certificate.build_config_uri.as_deref(),
            build_config_digest: certificate.build_config_digest.as_deref(),
            workflow_name: certificate.workflow_name.as_deref(),
            trigger: certificate.trigger.as_deref(),
            runner: certificate.runner.as_deref(),
            run_uri: certificate.run_uri.as_deref(),
            environment: certificate.environment.as_deref(),
            token_subject: certificate.token_subject.as_deref(),
        }
    }
}

impl<'a> From<&'a Provenance> for ProvenanceJson<'a> {
    fn from(provenance: &'a Provenance) -> Self {
        Self {
            builder_id: &provenance.builder_id,
            build_type: &provenance.build_type,
            source: provenance.source.as_deref(),
            commit: provenance.commit.as_deref(),
            workflow: provenance.workflow.as_deref(),
            started_on: provenance.started_on.map(|time| time.to_string()),
            finished_on: provenance.finished_on.map(|time| time.to_string()),
        }
    }
}
