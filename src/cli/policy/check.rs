//! `bonafide policy check`: every error at once, as a compiler shows them, and patterns that are wider than they look.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::{
    cli::{
        Output,
        exit::{Exit, Failure},
        files::{self, Content, FileError, PolicyFile},
        terminal::{self, BAD, CAUTION, GOOD, TITLE, plain, styled},
    },
    cluster::{
        call, client,
        reach::{exempt::exempt_namespaces, needed},
    },
    domain::identity::TrustRootName,
    server::tls,
};

/// Shows every error in policy files at once.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Policy files, or folders of them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Takes warnings for errors.
    #[arg(long)]
    strict: bool,

    /// Namespace that Bonafide is in: like kube-system, it is exempt from review
    #[arg(long, value_name = "NAMESPACE", default_value = "bonafide")]
    namespace: String,

    /// Namespace that is exempt from review too. Can be repeated
    #[arg(long = "exempt-namespace", value_name = "NAMESPACE")]
    exempt_namespaces: Vec<String>,

    /// Looks at the cluster of the kubeconfig: names the namespaces that hold what nodes need to start, and that are not exempt
    #[arg(long)]
    cluster: bool,

    /// The form of the answer.
    #[arg(long, short, value_name = "FORM", value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong, or wide.
#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    file: String,
    line: Option<u64>,
    field: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    valid: bool,
    policies: usize,
    #[serde(rename = "trustRoots", skip_serializing_if = "is_none")]
    trust_roots: usize,
    problems: &'a [Finding],
}

/// Runs the command.
///
/// # Errors
/// Where there is nothing to check, or the cluster cannot be looked at.
pub async fn run(args: &Args) -> Result<Exit, Failure> {
    let loaded = files::load(&args.files)?;
    let known = known_roots(&loaded);
    let exempt = exempt_namespaces(&args.namespace, &args.exempt_namespaces);
    let mut findings: Vec<Finding> = loaded.iter().flat_map(|file| findings(file, &known, &exempt)).collect();
    if args.cluster {
        findings.extend(needed(&exempt).await?);
    }
    let count =
        |of: fn(&Content) -> usize| loaded.iter().map(|file| file.content.as_ref().map_or(0, of)).sum();
    let (policies, trust_roots) =
        (count(|content| content.policies.len()), count(|content| content.roots.len()));
    let is_error = |finding: &Finding| args.strict || finding.severity == Severity::Error;
    let valid = !findings.iter().any(is_error);
    let text = match args.output {
        Output::Json => {
            serde_json::to_string_pretty(&Document { valid, policies, trust_roots, problems: &findings })
                .unwrap_or_default()
        }
        Output::Text => text(&findings, policies, trust_roots, valid),
    };
    terminal::print(&text)?;
    if valid {
        return Ok(Exit::Ok);
    }
    if args.output == Output::Text {
        let count = findings.iter().filter(|finding| is_error(finding)).count();
        terminal::tell(&format!("{} {count} found; a cluster would fail closed", styled(BAD, "invalid:")));
    }
    Ok(Exit::Usage)
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_none(count: &usize) -> bool {
    *count == 0
}

/// The trust roots that signers may name: those that are built in, and those of the files.
fn known_roots(loaded: &[PolicyFile]) -> Vec<TrustRootName> {
    let given = loaded.iter().flat_map(|file| file.content.iter().flat_map(|content| &content.roots));
    let given = given.map(|(_, root)| root.name.clone());
    [TrustRootName::default(), TrustRootName::github()].into_iter().chain(given).collect()
}

/// What is wrong with a file, in the order of its lines.
fn findings(file: &PolicyFile, known: &[TrustRootName], exempt: &BTreeSet<String>) -> Vec<Finding> {
    let finding = |severity, FileError { line, field, message }| Finding {
        severity,
        file: file.path.display().to_string(),
        line,
        field,
        message,
    };
    let errors = file.errors().into_iter().map(|error| finding(Severity::Error, error));
    let warnings = file
        .warnings()
        .into_iter()
        .chain(file.unknown_roots(known))
        .chain(file.exempt(exempt))
        .map(|warning| finding(Severity::Warning, warning));
    let mut all: Vec<Finding> = errors.chain(warnings).collect();
    all.sort_by_key(|finding| finding.line);
    all
}

/// The namespaces of the cluster where a policy can keep nodes from starting.
async fn needed(exempt: &BTreeSet<String>) -> Result<Vec<Finding>, Failure> {
    let wrong = |problem: String| Failure::new(format!("--cluster: {problem}"));
    tls::install_crypto_provider();
    let client = client::infer().await.map_err(|error| wrong(error.to_string()))?;
    let found = needed::find(&client, exempt).await.map_err(|error| wrong(call::words(&error)))?;
    let told = |(namespace, all): (String, BTreeSet<String>)| {
        let what: Vec<String> = all.into_iter().collect();
        let message = format!(
            "holds what nodes need before other pods start: {}. If every node is replaced while Bonafide is down, a policy for this namespace \
             keeps both from starting; add it to exemptNamespaces",
            what.join(", ")
        );
        Finding {
            severity: Severity::Warning,
            file: format!("namespace {namespace}"),
            line: None,
            field: None,
            message,
        }
    };
    Ok(found.into_iter().map(told).collect())
}

fn text(findings: &[Finding], policies: usize, trust_roots: usize, valid: bool) -> String {
    let mut lines: Vec<String> = findings.iter().map(line).collect();
    if valid {
        let all = match (policies, trust_roots) {
            (1, 0) => "1 policy is".to_owned(),
            (_, 0) => format!("{policies} policies are"),
            (0, 1) => "1 trust root is".to_owned(),
            (0, _) => format!("{trust_roots} trust roots are"),
            _ => format!("{policies} policies and {trust_roots} trust roots are"),
        };
        lines.push(format!("{} {all} valid", styled(GOOD, "ok:")));
    }
    lines.join("\n")
}

fn line(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let word = match finding.severity {
        Severity::Error => styled(BAD, "error:"),
        Severity::Warning => styled(CAUTION, "warning:"),
    };
    let field = finding.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let place = styled(TITLE, &format!("{}{line}:", plain(&finding.file)));
    format!("{place} {word} {}", plain(&format!("{field}{}", finding.message)))
}
