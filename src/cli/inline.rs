//! The policy that `verify`'s own flags describe. It becomes the same object that a file holds and takes the same way into a policy:
//! there is no second set of rules.

mod slsa;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit::Failure;
use crate::{
    domain::{identity::SignerIdentity, policy::PolicyEntry, reference::Repository},
    server::files,
};

/// The longest key file that is read.
const MAX_KEY: usize = 64 << 10;

/// The name of the policy, where one is shown.
pub const NAME: &str = "command-line";

/// What `verify` asks of the signer without a policy file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Policy by flags (in place of --policy)")]
pub struct InlineArgs {
    /// The GitHub repository it must be built from; a glob, such as owner/*.
    #[arg(long, value_name = "OWNER/REPO")]
    repository: Option<String>,

    /// The signing workflow's path; of another repository: owner/repo/path [default: any of the repository's own].
    #[arg(long, value_name = "PATH", requires = "repository")]
    workflow: Option<String>,

    /// A ref or commit that the signing workflow may be called at; a glob, repeatable.
    #[arg(long, value_name = "GLOB", requires = "workflow")]
    workflow_ref: Vec<String>,

    /// A source ref that is accepted, such as refs/heads/main or refs/tags/${image.tag}; a glob, repeatable [default: every
    /// branch and tag, never a pull request].
    #[arg(long = "ref", value_name = "GLOB", requires = "repository")]
    git_ref: Vec<String>,

    /// An event that may set off the build, such as push; repeatable [default of GitHub Actions: push, workflow_dispatch,
    /// schedule, release, create, merge_group, repository_dispatch].
    #[arg(long, value_name = "EVENT", conflicts_with = "key")]
    #[allow(clippy::doc_markdown)]
    trigger: Vec<String>,

    /// The OIDC issuer of the signer's identity [default with --repository: GitHub Actions].
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,

    /// The certificate's subject, exactly; with --repository in place of --workflow.
    #[arg(long, value_name = "EXACT", conflicts_with_all = ["identity_regex", "workflow", "workflow_ref"])]
    identity: Option<String>,

    /// The certificate's subject as a regular expression, always anchored at both ends.
    #[arg(long, value_name = "RE", conflicts_with_all = ["workflow", "workflow_ref"])]
    identity_regex: Option<String>,

    /// The public key it must be signed with, PEM, in place of a certificate.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["repository", "issuer", "identity", "identity_regex"]
    )]
    key: Option<PathBuf>,

    /// Whether signatures with --key must be in the transparency log.
    #[arg(
        long,
        value_name = "RULE",
        value_enum,
        default_value = "required",
        requires = "key",
        conflicts_with_all = ["repository", "issuer", "identity", "identity_regex"]
    )]
    transparency_log: LogRule,

    /// Another repository to look in for the image's attestations, beside its own; repeatable.
    #[arg(long, value_name = "REPOSITORY")]
    attestation_repository: Vec<String>,

    /// The trust root that must vouch: sigstore, github (private repositories), or a name given to --trust-root
    /// [default: sigstore].
    #[arg(long, value_name = "NAME")]
    root: Option<String>,

    #[command(flatten)]
    slsa: slsa::SlsaArgs,
}

/// The values of `--transparency-log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogRule {
    /// They must.
    #[default]
    Required,
    /// They need not.
    Optional,
}

impl InlineArgs {
    /// Whether any of the flags is given.
    pub fn is_given(&self) -> bool {
        let single = [
            &self.repository,
            &self.workflow,
            &self.issuer,
            &self.identity,
            &self.identity_regex,
            &self.root,
        ];
        let lists = [&self.workflow_ref, &self.git_ref, &self.trigger];
        self.key.is_some()
            || self.slsa.is_given()
            || single.iter().any(|flag| flag.is_some())
            || lists.iter().any(|flag| !flag.is_empty())
    }

    /// Whether the subject is given beside the repository: both must hold for one and the same certificate.
    pub const fn narrows_subject(&self) -> bool {
        self.repository.is_some() && (self.identity.is_some() || self.identity_regex.is_some())
    }

    /// The policy object about `image` that asks for the repository, where one is given, else for the subject.
    ///
    /// # Errors
    /// Flags that do not say who must have signed.
    pub fn object(&self, image: &Repository) -> Result<Value, Failure> {
        let (kind, who) = match (&self.key, &self.repository, self.slsa.github(&self.trigger)?) {
            (Some(file), ..) => ("publicKey", self.public_key(file)?),
            (None, Some(repository), _) => ("github", self.github(repository)),
            (None, None, Some(github)) => ("github", github),
            (None, None, None) => ("certificate", self.certificate()?),
        };
        self.slsa.check(self.key.is_some())?;
        let mut object = self.object_of(image, kind, who);
        if let Some(provenance) = self.slsa.provenance(self.key.is_some())?
            && let Some(Value::Object(spec)) = object.get_mut("spec")
        {
            spec.insert("provenance".to_owned(), provenance);
        }
        Ok(object)
    }

    /// The predicate type that is asked for in place of provenance.
    ///
    /// # Errors
    /// A type that is none, or is judged in another way.
    pub fn in_place_of_provenance(&self) -> Result<Option<String>, Failure> {
        self.slsa.in_place_of_provenance()
    }

    /// The policy object about `image` that asks for the subject alone.
    ///
    /// # Errors
    /// As [`InlineArgs::object`].
    pub fn subject_object(&self, image: &Repository) -> Result<Value, Failure> {
        // The repository's issuer is checked by the other object; here it only has to be there.
        let issuer = self.issuer.as_deref().unwrap_or("https://token.actions.githubusercontent.com");
        Ok(self.object_of(image, "certificate", self.subject(issuer)))
    }

    fn object_of(&self, image: &Repository, kind: &str, who: Value) -> Value {
        let mut object = object(image, &self.signer(kind, who));
        if let (false, Some(spec)) = (self.attestation_repository.is_empty(), object.get_mut("spec")) {
            spec["attestations"] = json!({"repositories": self.attestation_repository});
        }
        object
    }

    fn signer(&self, kind: &str, who: Value) -> Value {
        let mut signer = Map::from_iter([("name".to_owned(), NAME.into()), (kind.to_owned(), who)]);
        if let Some(root) = &self.root {
            signer.insert("trustRoot".to_owned(), root.as_str().into());
        }
        Value::Object(signer)
    }

    fn public_key(&self, file: &Path) -> Result<Value, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("--key {}: {error}", file.display()))
                .hint("a public key in PEM, as `cosign public-key` or `openssl pkey -pubout` writes it")
        };
        let bytes = files::read(file, MAX_KEY).map_err(|error| failed(&error))?;
        let pem = String::from_utf8(bytes).map_err(|_| failed(&"it is not text"))?;
        let log = match self.transparency_log {
            LogRule::Required => "Required",
            LogRule::Optional => "Optional",
        };
        Ok(json!({"pem": pem, "transparencyLog": log}))
    }

    fn github(&self, repository: &str) -> Value {
        let mut github = Map::new();
        github.insert("repository".to_owned(), repository.into());
        for (field, value) in [("workflow", &self.workflow), ("issuer", &self.issuer)] {
            if let Some(value) = value {
                github.insert(field.to_owned(), value.as_str().into());
            }
        }
        for (field, values) in
            [("workflowRefs", &self.workflow_ref), ("refs", &self.git_ref), ("triggers", &self.trigger)]
        {
            if !values.is_empty() {
                github.insert(field.to_owned(), values.as_slice().into());
            }
        }
        Value::Object(github)
    }

    fn certificate(&self) -> Result<Value, Failure> {
        if self.identity.is_none() && self.identity_regex.is_none() {
            if let (None, Some(root)) = (&self.issuer, &self.root) {
                return Err(Failure::new(format!(
                    "--root {root} says who vouches for the signer, not who that is"
                ))
                .hint("add --repository owner/repo, --identity, or --key"));
            }
            let issuer = self.issuer.as_deref().unwrap_or_default();
            return Err(Failure::new(format!(
                "--issuer {issuer} says who vouches for the signer, not who that is"
            ))
            .hint("add --repository owner/repo, or --identity"));
        }
        let Some(issuer) = self.issuer.as_deref() else {
            let (flag, value) = self.identity_flag();
            return Err(Failure::new(format!(
                "{flag} {value} needs --issuer: the same name from another issuer is somebody else"
            ))
            .hint("for GitHub Actions: --issuer https://token.actions.githubusercontent.com, or give --repository"));
        };
        Ok(self.subject(issuer))
    }

    fn subject(&self, issuer: &str) -> Value {
        let mut certificate = Map::new();
        certificate.insert("issuer".to_owned(), issuer.into());
        for (field, value) in [("subject", &self.identity), ("subjectRegex", &self.identity_regex)] {
            if let Some(value) = value {
                certificate.insert(field.to_owned(), value.as_str().into());
            }
        }
        if !self.trigger.is_empty() {
            certificate.insert("triggers".to_owned(), self.trigger.as_slice().into());
        }
        Value::Object(certificate)
    }

    fn identity_flag(&self) -> (&'static str, &str) {
        match (&self.identity, &self.identity_regex) {
            (Some(exact), _) => ("--identity", exact),
            (None, regex) => ("--identity-regex", regex.as_deref().unwrap_or_default()),
        }
    }

    /// The flag and its value that a field of the policy object came from.
    pub fn flag_of(&self, field: &str) -> Option<(&'static str, String)> {
        let one = |value: &Option<String>| value.clone();
        // `…refs[1]` is the second `--ref`.
        let nth = |values: &[String]| {
            let at = field.rsplit_once('[').and_then(|(_, rest)| rest.trim_end_matches(']').parse().ok());
            values.get(at.unwrap_or(0_usize)).cloned()
        };
        let name = field.rsplit('.').next().unwrap_or(field);
        let name = name.split('[').next().unwrap_or(name);
        if let Some(flag) = self.slsa.flag_of(name) {
            return Some(flag);
        }
        let (flag, value) = match name {
            "repository" => ("--repository", one(&self.repository)),
            "workflow" => ("--workflow", one(&self.workflow)),
            "workflowRefs" => ("--workflow-ref", nth(&self.workflow_ref)),
            "refs" => ("--ref", nth(&self.git_ref)),
            "triggers" => ("--trigger", nth(&self.trigger)),
            "issuer" => ("--issuer", one(&self.issuer)),
            "subject" => ("--identity", one(&self.identity)),
            "subjectRegex" => ("--identity-regex", one(&self.identity_regex)),
            "repositories" => ("--attestation-repository", nth(&self.attestation_repository)),
            "pem" => ("--key", self.key.as_ref().map(|file| file.display().to_string())),
            "trustRoot" => ("--root", one(&self.root)),
            _ => return None,
        };
        // A list that is missing altogether has no value to show.
        Some((flag, value.unwrap_or_default()))
    }
}

/// The policy of the repository with the subject of the other: both must hold for one and the same certificate.
///
/// # Errors
/// Where one of them is not of the form that the flags give it.
pub fn with_subject(repository: PolicyEntry, subject: &PolicyEntry) -> Result<PolicyEntry, Failure> {
    let subject = match subject {
        PolicyEntry::Valid(policy) => policy.signers.iter().find_map(|signer| match &signer.identity {
            SignerIdentity::Certificate { subject, .. } => Some(subject.clone()),
            SignerIdentity::Github(_)
            | SignerIdentity::Gitlab(_)
            | SignerIdentity::Buildkite(_)
            | SignerIdentity::GoogleCloudBuild(_)
            | SignerIdentity::PublicKey(_) => None,
        }),
        PolicyEntry::Invalid(_) => None,
    };
    match (repository, subject) {
        (PolicyEntry::Valid(mut policy), Some(subject)) => {
            for signer in &mut Arc::make_mut(&mut policy).signers {
                if let SignerIdentity::Github(github) = &mut signer.identity {
                    github.subject = Some(subject.clone());
                }
            }
            Ok(PolicyEntry::Valid(policy))
        }
        _ => Err(Failure::new("--repository and --identity make no policy together")),
    }
}

fn object(image: &Repository, signer: &Value) -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1",
        "kind": "ClusterProvenancePolicy",
        "metadata": {"name": NAME},
        // The digest is printed with the answer: whoever verifies a tag is told what was verified.
        "spec": {"images": {"include": [image.as_str()]}, "tags": "Allow", "signers": [signer]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Repository {
        "ghcr.io/o/a".parse().unwrap()
    }

    #[allow(clippy::unnecessary_wraps)] // as the flags have it
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_repository_is_a_github_signer() {
        let flags = InlineArgs {
            repository: some("o/a"),
            git_ref: vec!["refs/heads/main".to_owned()],
            trigger: vec!["push".to_owned()],
            ..InlineArgs::default()
        };
        assert_eq!(
            flags.object(&image()).unwrap()["spec"],
            json!({
                "images": {"include": ["ghcr.io/o/a"]},
                "tags": "Allow",
                "signers": [{"name": NAME, "github": {"repository": "o/a", "refs": ["refs/heads/main"], "triggers": ["push"]}}],
            })
        );
    }

    #[test]
    fn an_identity_alone_needs_its_issuer_and_an_issuer_alone_is_nobody() {
        let identity = InlineArgs { identity: some("me@x"), ..InlineArgs::default() };
        assert!(
            identity.object(&image()).unwrap_err().to_string().contains("--identity me@x needs --issuer")
        );
        let issuer = InlineArgs { issuer: some("https://i"), ..InlineArgs::default() };
        assert!(issuer.object(&image()).unwrap_err().to_string().contains("--issuer https://i"));
        let both = InlineArgs { identity: some("me@x"), issuer: some("https://i"), ..InlineArgs::default() };
        let certificate = &both.object(&image()).unwrap()["spec"]["signers"][0]["certificate"];
        assert_eq!(*certificate, json!({"issuer": "https://i", "subject": "me@x"}));
    }

    #[test]
    fn an_error_in_a_field_names_the_flag_and_its_value() {
        let refs = vec!["a".to_owned(), "b[".to_owned()];
        let flags = InlineArgs { git_ref: refs, repository: some("o"), ..InlineArgs::default() };
        assert_eq!(flags.flag_of("spec.signers[0].github.refs[1]"), Some(("--ref", "b[".to_owned())));
        assert_eq!(
            flags.flag_of("spec.signers[0].github.repository"),
            Some(("--repository", "o".to_owned()))
        );
        assert_eq!(flags.flag_of("spec.images"), None);
    }
}
