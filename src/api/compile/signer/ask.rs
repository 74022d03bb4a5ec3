//! What several kinds of signers ask for, held against slips.

use super::super::fields::Fields;

/// An OIDC issuer: it is compared as a whole.
pub fn check_issuer(fields: &mut Fields, field: &str, issuer: &str) {
    if !issuer.starts_with("https://") || issuer.len() <= "https://".len() {
        fields.error(field, Some(issuer), "is not an https URL");
    } else if issuer.ends_with('/') {
        fields.warn(field, Some(issuer), "ends with a slash, which is compared too; few issuers have one");
    }
}

/// Immutable ids: numbers.
pub fn check_ids(fields: &mut Fields, field: &str, ids: [(&str, Option<&String>); 2], message: &str) {
    for (name, id) in ids {
        if let Some(id) = id.filter(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit())) {
            fields.error(&format!("{field}.{name}"), Some(id), message);
        }
    }
}

/// What sets off builds.
pub struct Triggers {
    /// Whose they are: `event of GitHub Actions, such as push`.
    pub kind: &'static str,
    /// Those that are known to build images; another one may be a slip.
    pub known: &'static [&'static str],
    /// How those begin that a stranger sets off.
    pub strangers: &'static [&'static str],
    /// What strangers do to set them off.
    pub by: &'static str,
}

impl Triggers {
    /// Holds what a policy accepts against them.
    pub fn check(&self, fields: &mut Fields, field: &str, accepted: &[String]) {
        for (at, trigger) in accepted.iter().enumerate() {
            let field = format!("{field}[{at}]");
            let word = !trigger.is_empty() && trigger.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !word {
                fields.error(&field, Some(trigger), format!("is no {}", self.kind));
            } else if !self.known.contains(&trigger.as_str()) {
                fields.warn(&field, Some(trigger), "is no event that is known to build images");
            } else if self.strangers.iter().any(|stranger| trigger.starts_with(stranger)) {
                let message = format!("lets anyone set off the build, by {}", self.by);
                fields.warn(&field, Some(trigger), message);
            }
        }
    }
}

/// The environments of a deployment: each is one, by its whole name.
pub fn check_environments(fields: &mut Fields, field: &str, environments: &[String]) {
    for (at, environment) in environments.iter().enumerate() {
        if environment.contains(['*', '?']) {
            let message = "is compared as it is, without wildcards: write each environment";
            fields.error(&format!("{field}[{at}]"), Some(environment), message);
        }
    }
}

/// A last part of a name that goes on: `app*` is also `app-other`.
pub fn check_stem(fields: &mut Fields, field: &str, whole: &str) {
    let Some(stem) = whole.strip_suffix('*') else { return };
    let ends = |end: char| matches!(end, '/' | '-' | '.' | '_');
    if stem.chars().next_back().is_some_and(|end| !ends(end)) {
        fields.warn(field, Some(whole), format!("also accepts names that go on: {stem}other"));
    }
}
