//! Verdicts as people read them in a terminal. What is proved and what is claimed are kept apart.

use super::json::Object;
use super::terminal::{BAD, CAUTION, GOOD, LABEL, TITLE, plain, styled};
use crate::domain::{
    identity::{Certificate, TrustRootName},
    message,
    verdict::{ImageVerdict, Outcome, Proof, SignedBy},
    workload::WorkloadImage,
};

/// A verdict about one image, without its warnings.
pub fn verdict(image: Option<&WorkloadImage>, verdict: &ImageVerdict) -> String {
    match verdict.outcome {
        Outcome::Allow => admitted(verdict),
        Outcome::Deny => refused(&styled(BAD, "denied"), image, verdict),
        Outcome::Unverifiable => refused(&styled(CAUTION, "not verified"), image, verdict),
    }
}

/// What the webhook would answer about an object.
pub fn object(object: &Object, outcome: Outcome) -> String {
    let word = match (&object.skipped, outcome) {
        (Some(why), _) => styled(LABEL, &format!("not judged ({why})")),
        (None, Outcome::Allow) => styled(GOOD, "admitted"),
        (None, Outcome::Deny) => styled(BAD, "denied"),
        (None, Outcome::Unverifiable) => styled(CAUTION, "not verified"),
    };
    let namespace = object.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
    let code = object.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let what = styled(TITLE, &plain(&format!("{} {namespace}{}", object.kind, object.name)));
    let mut lines = vec![format!("{word}{code}  {what}")];
    lines.extend(
        object.message.iter().flat_map(|message| message.lines()).map(|line| format!("  {}", plain(line))),
    );
    for (key, value) in &object.audit_annotations {
        lines.push(format!("  {} {}", styled(LABEL, &format!("{}:", plain(key))), plain(value)));
    }
    for warning in &object.warnings {
        lines.push(format!("  {} {}", styled(CAUTION, "warning:"), plain(warning)));
    }
    lines.join("\n")
}

/// The warnings of a verdict, one line each.
pub fn warnings(image: Option<&WorkloadImage>, verdict: &ImageVerdict) -> Vec<String> {
    let line = |problem| plain(&message::warning(image, verdict, problem));
    verdict.warnings.iter().map(line).collect()
}

fn refused(word: &str, image: Option<&WorkloadImage>, verdict: &ImageVerdict) -> String {
    format!("{word}  {}", plain(&message::denial(image, verdict)))
}

fn admitted(verdict: &ImageVerdict) -> String {
    let mut page = Page(vec![format!("{}  {}", styled(GOOD, "admitted"), plain(&verdict.reference))]);
    page.row(2, "digest", verdict.digest.map(|digest| digest.to_string()).as_deref());
    for (at, coverage) in verdict.platforms.iter().enumerate() {
        let platform = coverage.platform.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string);
        let note = if coverage.covered { "" } else { "  not covered" };
        let label = if at == 0 { "platforms" } else { "" };
        page.row(2, label, Some(&format!("{platform}  {}{note}", coverage.digest)));
    }
    if !verdict.matched {
        page.row(2, "policies", Some("none names this image"));
    }
    for proof in &verdict.proofs {
        page.proof(proof);
    }
    page.0.join("\n")
}

/// Rows of label and value.
struct Page(Vec<String>);

impl Page {
    fn row(&mut self, indent: usize, label: &str, value: Option<&str>) {
        if let Some(value) = value {
            let label = styled(LABEL, &format!("{label:<12}"));
            // A value is one line, whoever wrote it.
            self.0.push(format!("{:indent$}{label}{}", "", plain(value).replace('\n', "\u{fffd}")));
        }
    }

    fn title(&mut self, text: &str) {
        self.0.push(format!("  {}", styled(TITLE, &plain(text))));
    }

    fn proof(&mut self, proof: &Proof) {
        self.title(&format!("{} {}, signer {}", proof.policy.kind(), proof.policy, proof.signer));
        self.row(4, "subject", Some(&proof.subject.to_string()));
        self.row(4, "predicate", Some(&proof.predicate_type));
        // What is no provenance says nothing of a build.
        let level = proof.other.is_none().then(|| format!("{}, by the policy", proof.level));
        self.row(4, "level", level.as_deref());
        match &proof.signed_by {
            SignedBy::Certificate(certificate) => self.certificate(certificate),
            SignedBy::Key { id, kind, logged, at } => {
                self.title("  proved by the key");
                self.row(6, "key", Some(&format!("{id} ({kind})")));
                let at = at.map(|time| format!(" at {time}")).unwrap_or_default();
                self.row(6, "logged", Some(&if *logged { format!("yes{at}") } else { "no".to_owned() }));
            }
        }
        // The usual one goes without saying.
        let root = proof.trust_root.as_ref().filter(|root| **root != TrustRootName::default());
        self.row(6, "trust root", root.map(|root| root.0.as_str()));
        if proof.other.is_some() {
            return;
        }
        if let Some(summary) = &proof.summary {
            self.title("  claimed by the verification summary");
            self.row(6, "verifier", Some(&summary.verifier_id));
            self.row(6, "levels", Some(&summary.levels.join(", ")));
            self.row(6, "resource", Some(&summary.resource_uri));
            self.row(6, "policy", summary.policy_uri.as_deref());
            return;
        }
        let provenance = &proof.provenance;
        self.title("  claimed by the provenance");
        self.row(6, "builder", Some(&provenance.builder_id));
        self.row(6, "build type", Some(&provenance.build_type));
        self.row(
            6,
            "source",
            with(provenance.source.as_ref(), "at", provenance.source_ref.as_ref()).as_deref(),
        );
        self.row(6, "commit", provenance.commit.as_deref());
        self.row(6, "workflow", provenance.workflow.as_deref());
        let finished = provenance.finished_on.or(provenance.started_on).map(|time| time.to_string());
        self.row(6, "built", finished.as_deref());
    }

    fn certificate(&mut self, certificate: &Certificate) {
        self.title("  proved by the certificate");
        self.row(6, "signer", Some(&certificate.subject));
        self.row(6, "issuer", Some(&certificate.issuer));
        let source = with(certificate.source_repository.as_ref(), "at", certificate.source_ref.as_ref());
        self.row(6, "source", source.as_deref());
        self.row(6, "commit", certificate.source_digest.as_deref());
        self.row(
            6,
            "trigger",
            with(certificate.trigger.as_ref(), "on", certificate.runner.as_ref()).as_deref(),
        );
        self.row(6, "environment", certificate.environment.as_deref());
        self.row(6, "run", certificate.run_uri.as_deref());
    }
}

/// A value and what goes with it.
fn with(value: Option<&String>, word: &str, more: Option<&String>) -> Option<String> {
    let more = more.map(|more| format!(" {word} {more}")).unwrap_or_default();
    value.map(|value| format!("{value}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line() {
        let mut page = Page(Vec::new());
        page.row(2, "builder", Some("x\n  builder  y"));
        assert_eq!(page.0.len(), 1);
        assert!(!page.0[0].contains('\n') && page.0[0].contains("builder  y"));
    }
}
