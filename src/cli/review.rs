//! `bonafide review`: manifests, or an `AdmissionReview`, judged by the same code that answers the API server.
//!
//! A manifest becomes the review that the API server would send on its creation; nothing about it is decided here.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json, value::RawValue};

use super::{
    Output,
    exit::{Exit, Failure},
    files,
    json::{Document, Object},
    objects::{self, Found},
    roots,
    serve::UnmatchedRule,
    sources::SourceArgs,
    terminal, text,
};
use crate::{
    domain::{
        plan::Stage,
        platform::Platform,
        policy::NAME_LABEL,
        verdict::{ImageVerdict, Outcome},
        workload::Node,
    },
    gather::{
        ports::{LabelMap, Snapshot},
        review::Review,
        reviewer::Reviewer,
    },
    server::{
        answer::{Answer, Refusal},
        wire::{self, Subject},
    },
};

/// How many objects are judged at a time.
const AT_A_TIME: usize = 8;
/// Judges manifests.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Manifests (YAML or JSON, several documents, lists) or an admission review; - is standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The policies: a folder or a file; repeatable.
    #[arg(long, value_name = "DIR", required = true)]
    policies: Vec<PathBuf>,

    /// The namespace of objects that name none.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,

    /// A platform that pods can land on; repeatable [default: every one an image has].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Vec<Platform>,

    /// The cluster's nodes, as `kubectl get nodes -o yaml` writes them: pods land where their constraints allow.
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,

    /// What images get that no policy names.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "allow")]
    unmatched_images: UnmatchedRule,

    /// The form of the answer.
    #[arg(long, short, value_name = "FORM", value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    sources: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  bonafide review -f deployment.yaml --policies policies/
  kustomize build . | bonafide review -f - --policies policies/ --namespace payments
  kubectl get nodes -o yaml > nodes.yaml && bonafide review -f pod.yaml --policies policies/ --nodes nodes.yaml

Exit codes: 0 all admitted, 1 one denied, 2 one could not be verified and none denied, 64 bad usage or invalid policy.";

/// An object with the webhook's answer about it.
struct Answered {
    object: Object,
    review: Option<Review>,
    outcome: Outcome,
}

/// Runs the command.
///
/// # Errors
/// Where nothing can be judged: bad usage, unreadable input, an invalid policy.
pub async fn run(args: &Args) -> Result<Exit, Failure> {
    let found = objects::read_all(&args.files)?;
    let given = files::valid(&args.policies)?;
    let snapshot = Arc::new(Snapshot {
        policies: given.policies,
        nodes: args.nodes.as_deref().map(nodes).transpose()?.unwrap_or_default().into(),
        platforms: args.platform.clone(),
        namespaces: Arc::new(namespaces(&found)),
        unmatched: args.unmatched_images.into(),
        ..Snapshot::default()
    });
    let sources = args.sources.open(&given.roots)?;
    sources.fetch().await?;
    roots::check(&snapshot.policies, &sources.trust)?;
    let reviewer = sources.reviewer();
    // Whatever is malformed is told before anything is asked of a registry.
    let requests = found
        .iter()
        .map(|found| Ok((found, request(found, &args.namespace)?)))
        .collect::<Result<Vec<(&Found, Vec<u8>)>, Failure>>()?;
    let answering = requests
        .iter()
        .map(|(found, request)| answer(&reviewer, &snapshot, found, request, args.sources.timeout));
    let answered: Vec<Result<Answered, Failure>> =
        stream::iter(answering).buffered(AT_A_TIME).collect().await;
    let answered = answered.into_iter().collect::<Result<Vec<Answered>, Failure>>()?;
    report(args.output, &answered)?;
    Ok(answered.iter().fold(Exit::Ok, |exit, one| exit.and(one.outcome.into())))
}

/// The `AdmissionReview` that the API server would send.
fn request(found: &Found, namespace: &str) -> Result<Vec<u8>, Failure> {
    let object = &found.object;
    let review = if found.text("/kind") == "AdmissionReview" {
        object.clone()
    } else {
        let (group, version) =
            found.text("/apiVersion").split_once('/').unwrap_or(("", found.text("/apiVersion")));
        let kind = json!({"group": group, "version": version, "kind": found.text("/kind")});
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "command-line",
                "kind": kind,
                "name": name(found),
                "namespace": namespace_of(found, namespace),
                "operation": "CREATE",
                "object": object,
            },
        })
    };
    serde_json::to_vec(&review).map_err(|error| Failure::new(format!("{}: {error}", found.origin)))
}

fn name(found: &Found) -> &str {
    match found.text("/metadata/name") {
        "" => found.text("/metadata/generateName"),
        name => name,
    }
}

fn namespace_of<'a>(found: &'a Found, default: &'a str) -> &'a str {
    match found.text("/metadata/namespace") {
        "" => default,
        namespace => namespace,
    }
}

async fn answer(
    reviewer: &Reviewer,
    snapshot: &Arc<Snapshot>,
    found: &Found,
    request: &[u8],
    timeout: Duration,
) -> Result<Answered, Failure> {
    let incoming = wire::read(request).map_err(|error| Failure::new(format!("{}: {error}", found.origin)))?;
    let (answer, review, skipped) = match &incoming.subject {
        Subject::Judge(workload) => {
            let deadline = Instant::now() + timeout;
            let review = reviewer.review(snapshot, workload, Stage::Final, deadline.into()).await;
            (Answer::from(&review), Some(review), None)
        }
        Subject::Malformed(why) => (Answer::refused(Refusal::bad_request(why.clone())), None, None),
        Subject::Skip(why) => (Answer::allowed(), None, Some((*why).to_owned())),
        Subject::Unknown { .. } => (Answer::allowed(), None, Some("names no images".to_owned())),
    };
    let outcome = match (&review, &answer.refusal) {
        (Some(review), _) => review.outcome,
        (None, None) => Outcome::Allow,
        (None, Some(_)) => Outcome::Deny,
    };
    let images = review.iter().flat_map(|review| &review.images).map(|image| image.image.image.clone());
    let object = Object {
        file: found.origin.clone(),
        kind: incoming.kind.to_string(),
        namespace: (!incoming.namespace.is_empty()).then(|| incoming.namespace.to_string()),
        name: incoming.name.to_string(),
        allowed: answer.refusal.is_none(),
        code: answer.refusal.as_ref().map(|refusal| refusal.code),
        message: answer.refusal.map(|refusal| refusal.message),
        warnings: answer.warnings,
        images: images.collect(),
        audit_annotations: answer.audit.into_iter().map(|(key, value)| (key, said(&value))).collect(),
        skipped,
    };
    Ok(Answered { object, review, outcome })
}

/// The labels of the namespaces that the manifests bring.
fn namespaces(found: &[Found]) -> BTreeMap<String, LabelMap> {
    let brought = found.iter().filter(|found| found.text("/kind") == "Namespace");
    let labelled = brought.map(|found| {
        let name = found.text("/metadata/name");
        let mut labels = labels(&found.object);
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        (name.to_owned(), labels)
    });
    labelled.collect()
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

fn nodes(path: &std::path::Path) -> Result<Vec<Arc<Node>>, Failure> {
    // A cluster without nodes has a list without items.
    let found = objects::read_list(path)?;
    if let Some(other) = found.iter().find(|found| found.text("/kind") != "Node") {
        return Err(Failure::new(format!("--nodes {}: it holds a {}", path.display(), other.text("/kind")))
            .hint("write it with kubectl get nodes -o yaml"));
    }
    let node = |found: &Found| {
        let (os, architecture) =
            (found.text("/status/nodeInfo/operatingSystem"), found.text("/status/nodeInfo/architecture"));
        let platform =
            (!os.is_empty() && !architecture.is_empty()).then(|| Platform::new(os, architecture, None));
        Arc::new(Node { name: name(found).to_owned(), labels: labels(&found.object), platform })
    };
    Ok(found.iter().map(node).collect())
}

fn report(output: Output, answered: &[Answered]) -> Result<(), Failure> {
    match output {
        Output::Text => {
            let texts: Vec<String> =
                answered.iter().map(|one| text::object(&one.object, one.outcome)).collect();
            terminal::print(&texts.join(
                "
",
            ))
        }
        Output::Json => {
            let mut images: Vec<&ImageVerdict> = Vec::new();
            let reviewed = answered.iter().filter_map(|one| one.review.as_ref());
            for image in reviewed.flat_map(|review| &review.images) {
                // Containers of one image share one verdict.
                if !images.iter().any(|known| std::ptr::eq(*known, image.verdict.as_ref())) {
                    images.push(&image.verdict);
                }
            }
            let allowed = answered.iter().all(|one| one.object.allowed);
            let objects: Vec<&Object> = answered.iter().map(|one| &one.object).collect();
            terminal::print(&Document::of_objects(allowed, &images, &objects).render())
        }
    }
}

/// The string that an annotation says, which is kept as JSON.
fn said(json: &RawValue) -> String {
    serde_json::from_str(json.get()).unwrap_or_default()
}
