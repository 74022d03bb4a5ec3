//! The flags of `slsa-verifier verify-image` and `cosign verify-attestation`, as far as they differ from our own, and what they ask for in
//! the words of a policy.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    cli::exit::Failure,
    domain::{
        provenance::{SLSA_V0_2, SLSA_V1},
        summary::{VSA_V0_2, VSA_V1},
    },
};

/// Where the workflows of GitHub are.
const GITHUB: &str = "https://github.com/";
/// The tags that a builder is called at where nothing else is said: its releases.
const RELEASES: &str = "refs/tags/v*";

/// What is asked in the words of other tools.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Policy in the words of slsa-verifier and cosign")]
pub struct SlsaArgs {
    /// The source repository: github.com/owner/repo.
    #[arg(long, value_name = "URI", conflicts_with_all = ["repository", "issuer", "identity", "identity_regex"])]
    source_uri: Option<String>,

    /// The branch it must be built from.
    #[arg(long, value_name = "BRANCH", requires = "source_uri", conflicts_with_all = ["git_ref", "source_tag", "source_versioned_tag"])]
    source_branch: Option<String>,

    /// The tag it must be built from.
    #[arg(long, value_name = "TAG", requires = "source_uri", conflicts_with_all = ["git_ref", "source_versioned_tag"])]
    source_tag: Option<String>,

    /// The version it must be built from, or its beginning: v1.2 takes the tags v1.2 and v1.2.3.
    #[arg(long, value_name = "VERSION", requires = "source_uri", conflicts_with = "git_ref")]
    source_versioned_tag: Option<String>,

    /// The builder: its id, with a ref or without. A workflow of GitHub's must have signed, too.
    #[arg(long, value_name = "ID")]
    builder_id: Option<String>,

    /// An input that the workflow must have been started with by hand; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input)]
    build_workflow_input: Vec<(String, String)>,

    /// The type of the predicate: slsaprovenance (either version), slsaprovenance02, slsaprovenance1, spdx, spdxjson, cyclonedx, link,
    /// vuln, openvex, custom, or its URI [default: slsaprovenance].
    #[arg(long = "type", value_name = "TYPE")]
    predicate_type: Option<String>,
}

fn input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("an input is KEY=VALUE".to_owned()),
    }
}

impl SlsaArgs {
    /// Whether the source repository is given in these words.
    pub const fn is_given(&self) -> bool {
        self.source_uri.is_some()
    }

    /// The GitHub signer that is asked for.
    ///
    /// # Errors
    /// A source that is no repository of GitHub's.
    pub fn github(&self, triggers: &[String]) -> Result<Option<Value>, Failure> {
        let Some(uri) = &self.source_uri else { return Ok(None) };
        let (repository, _) = source(uri)?;
        let mut github = Map::from_iter([("repository".to_owned(), Value::from(repository))]);
        if let Some(refs) = self.refs()? {
            github.insert("refs".to_owned(), refs.into());
        }
        if !triggers.is_empty() {
            github.insert("triggers".to_owned(), triggers.into());
        }
        if let Some((workflow, git_ref)) = self.builder_id.as_deref().and_then(workflow) {
            github.insert("workflow".to_owned(), workflow.into());
            github.insert("workflowRefs".to_owned(), json!([git_ref.unwrap_or(RELEASES)]));
        }
        Ok(Some(Value::Object(github)))
    }

    /// What the predicate must claim; the source, where no certificate says it.
    ///
    /// # Errors
    /// What cannot be asked for.
    pub fn provenance(&self, keyed: bool) -> Result<Option<Value>, Failure> {
        let mut asked = Map::new();
        if let Some(id) = &self.builder_id {
            let any_ref = format!("{id}@**");
            asked.insert(
                "builderIds".to_owned(),
                if id.contains('@') { json!([id]) } else { json!([id, any_ref]) },
            );
        }
        if let Some(kind) = &self.predicate_type {
            let types = match wanted(kind)? {
                Wanted::Provenance(types) => types,
                Wanted::Other(_) => return Ok(None),
            };
            asked.insert("types".to_owned(), types.into());
        }
        if let (true, Some(uri)) = (keyed, &self.source_uri) {
            let mut claimed = Map::from_iter([("repository".to_owned(), Value::from(source(uri)?.1))]);
            if let Some(refs) = self.refs()? {
                claimed.insert("refs".to_owned(), refs.into());
            }
            asked.insert("source".to_owned(), claimed.into());
        }
        if !self.build_workflow_input.is_empty() {
            let conditions = self.build_workflow_input.iter().map(|(key, value)| condition(key, value));
            asked.insert("conditions".to_owned(), conditions.collect());
        }
        Ok((!asked.is_empty()).then_some(Value::Object(asked)))
    }

    /// The type that is asked for in place of provenance.
    ///
    /// # Errors
    /// A type that is none, or is judged in another way.
    pub fn in_place_of_provenance(&self) -> Result<Option<String>, Failure> {
        match self.predicate_type.as_deref().map(wanted).transpose()? {
            Some(Wanted::Other(kind)) => Ok(Some(kind)),
            Some(Wanted::Provenance(_)) | None => Ok(None),
        }
    }

    /// Whether all of it can be asked of the type of predicate that is wanted.
    ///
    /// # Errors
    /// The first flag that cannot.
    pub fn check(&self, keyed: bool) -> Result<(), Failure> {
        let (Some(kind), Some(_)) = (&self.predicate_type, self.in_place_of_provenance()?) else {
            return Ok(());
        };
        let flag = match (&self.builder_id, self.build_workflow_input.is_empty(), &self.source_uri) {
            (Some(_), ..) => "--builder-id",
            (None, false, _) => "--build-workflow-input",
            (None, true, Some(_)) if keyed => "--source-uri",
            (None, true, _) => return Ok(()),
        };
        Err(Failure::new(format!("{flag} asks what SLSA provenance claims, and --type {kind} is none"))
            .hint("leave one of the two out, or verify twice"))
    }

    fn refs(&self) -> Result<Option<Vec<String>>, Failure> {
        let (branch, tag) = (&self.source_branch, &self.source_tag);
        if let Some(name) = branch.as_ref().or(tag.as_ref()) {
            let kind = if branch.is_some() { "heads" } else { "tags" };
            plain(name)?;
            return Ok(Some(vec![format!("refs/{kind}/{name}")]));
        }
        let Some(version) = &self.source_versioned_tag else { return Ok(None) };
        let numbers: Vec<&str> = version.strip_prefix('v').unwrap_or_default().split('.').collect();
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if numbers.len() > 3 || !numbers.iter().all(is_number) {
            return Err(Failure::new(format!("--source-versioned-tag {version} is no version"))
                .hint("v1, v1.2 or v1.2.3; for any other tag: --source-tag"));
        }
        let exact = format!("refs/tags/{version}");
        Ok(Some(if numbers.len() == 3 { vec![exact] } else { vec![format!("{exact}.*"), exact] }))
    }

    /// The flag and its value that a field of the policy object came from.
    pub fn flag_of(&self, name: &str) -> Option<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Some(match name {
            "repository" if self.is_given() => ("--source-uri", text(&self.source_uri)),
            "refs" if self.source_branch.is_some() => ("--source-branch", text(&self.source_branch)),
            "refs" if self.source_tag.is_some() => ("--source-tag", text(&self.source_tag)),
            "workflow" | "workflowRefs" | "builderIds" if self.builder_id.is_some() => {
                ("--builder-id", text(&self.builder_id))
            }
            "expression" => {
                let first = self.build_workflow_input.first()?;
                ("--build-workflow-input", format!("{}={}", first.0, first.1))
            }
            _ => return None,
        })
    }
}

/// A name is itself, and no pattern.
fn plain(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.contains(['*', '?', '$']) || name.starts_with("refs/") {
        return Err(Failure::new(format!("{name:?} is no name of a branch or tag"))
            .hint("the name alone, without refs/; for patterns: --repository with --ref"));
    }
    Ok(())
}

/// `owner/repo`, and the URI that a predicate claims.
fn source(uri: &str) -> Result<(String, String), Failure> {
    let rest = uri.strip_prefix("git+").unwrap_or(uri);
    let rest = rest.strip_prefix("https://").unwrap_or(rest);
    let name = rest.strip_prefix("github.com/").map(|name| name.trim_end_matches('/'));
    match name.map(|name| name.strip_suffix(".git").unwrap_or(name)) {
        Some(name) if name.split('/').count() == 2 && !name.contains(['*', '?', '@', '#']) => {
            Ok((name.to_owned(), format!("{GITHUB}{name}")))
        }
        _ => Err(Failure::new(format!("--source-uri {uri} is no repository of GitHub's"))
            .hint("github.com/owner/repo; for other hosts write a policy")),
    }
}

/// The workflow that a builder's id names, and the ref it is called at.
fn workflow(id: &str) -> Option<(&str, Option<&str>)> {
    let (path, git_ref) = match id.split_once('@') {
        Some((path, git_ref)) => (path, Some(git_ref)),
        None => (id, None),
    };
    let path = path.strip_prefix(GITHUB)?;
    path.contains("/.github/workflows/").then_some((path, git_ref))
}

/// What `--type` asks for.
enum Wanted {
    /// SLSA provenance, of these versions.
    Provenance(Vec<&'static str>),
    /// A predicate of this type.
    Other(String),
}

/// Reads cosign's names of predicate types, and URIs.
fn wanted(kind: &str) -> Result<Wanted, Failure> {
    Ok(match kind {
        "slsaprovenance" => Wanted::Provenance(vec![SLSA_V0_2, SLSA_V1]),
        "slsaprovenance02" | SLSA_V0_2 => Wanted::Provenance(vec![SLSA_V0_2]),
        "slsaprovenance1" | SLSA_V1 => Wanted::Provenance(vec![SLSA_V1]),
        "spdx" | "spdxjson" => Wanted::Other("https://spdx.dev/Document".to_owned()),
        "cyclonedx" => Wanted::Other("https://cyclonedx.org/bom".to_owned()),
        "link" => Wanted::Other("https://in-toto.io/Link/v1".to_owned()),
        "vuln" => Wanted::Other("https://cosign.sigstore.dev/attestation/vuln/v1".to_owned()),
        "openvex" => Wanted::Other("https://openvex.dev/ns".to_owned()),
        "custom" => Wanted::Other("https://cosign.sigstore.dev/attestation/v1".to_owned()),
        // Somebody else's judgement, which may be that the image failed: its type alone must not admit.
        VSA_V0_2 | VSA_V1 => {
            return Err(Failure::new(format!(
                "--type {kind}: a verification summary says more than its type"
            ))
            .hint("a policy's vsa says which verifier is believed, and what must have been verified"));
        }
        uri if url::Url::parse(uri).is_ok() => Wanted::Other(uri.to_owned()),
        other => {
            return Err(Failure::new(format!("--type {other} is neither a known type nor a URI")).hint(
                "slsaprovenance, slsaprovenance02, slsaprovenance1, spdx, spdxjson, cyclonedx, link, vuln, openvex, custom",
            ));
        }
    })
}

/// The build types of a workflow of GitHub Actions as a whole.
const WORKFLOWS: [&str; 2] = [
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
];

/// Where the builders of GitHub Actions write a workflow's inputs: slsa-github-generator into the event (v0.2, v1), what describes the
/// workflow as a whole into the parameters.
fn condition(key: &str, value: &str) -> Value {
    let (name, wanted) = (Value::from(key), Value::from(value));
    let v0_2 = format!("provenance.predicate.invocation.environment.github_event_payload.inputs[{name}]");
    let event = "provenance.predicate.buildDefinition.internalParameters.GITHUB_EVENT_PAYLOAD";
    let of_event = format!("{event}.inputs[{name}]");
    let parameter = format!("provenance.predicate.buildDefinition.externalParameters.inputs[{name}]");
    let [own, community] = WORKFLOWS;
    let is_workflow = format!("provenance.buildType in ['{own}', '{community}']");
    let v1 = format!("({is_workflow} ? {parameter} : {of_event})");
    let expression = format!("(provenance.predicateType == '{SLSA_V0_2}' ? {v0_2} : {v1}) == {wanted}");
    json!({
        "expression": format!("certificate.trigger == 'workflow_dispatch' && {expression}"),
        "message": format!("the workflow must have been started with the input {key}={value}"),
    })
}
