//! The `matchConditions` of `reach: images`, evaluated by the API server's own code with its limits: nothing is left out that a review
//! would deny, nothing fails, and nothing costs more than half of what the API server allows.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    process::{Command, Stdio},
};

use bonafide::{
    api::{
        compile::{NoKeys, compile},
        workload,
    },
    cluster::{
        reach::{ReachMode, WebhookReach, exempt::exempt_namespaces},
        webhooks::validating,
    },
    domain::{
        plan::{Plan, Stage, plan},
        policy::{Labels, PolicyEntry, PolicySet, Scope, Unmatched},
        verdict::Outcome,
        workload::Workload,
    },
    gather::review::Review,
};
use bonafide_kit::plane::{Availability, Tools};
use serde_json::{Value, json};

use crate::objects::webhook_settings;

/// Half of what an entry's conditions may cost, and half of what one may cost.
const ENTRY_BUDGET: u64 = 1_250_000;
const EXPRESSION_BUDGET: u64 = 500_000;
const SETS: u64 = 400;
const OBJECTS: u64 = 25;

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const HOSTS: [&str; 12] = [
    "",
    "",
    "docker.io/",
    "index.docker.io/",
    "registry-1.docker.io/",
    "ghcr.io/",
    "GHCR.io/",
    "ghcr.io:443/",
    "registry.example:5000/",
    "registry:443/",
    "Registry/",
    "localhost/",
];
const PATHS: [&str; 12] = [
    "nginx",
    "library/nginx",
    "acme/app",
    "acme/app/web",
    "libacme/x",
    "a.b/c",
    "x_y/z--w",
    "library/acme",
    "nginx-ingress",
    "other/thing",
    "a..b",
    "é/x",
];
const TAGS: [&str; 10] = [
    "",
    "",
    ":1.2.3",
    ":V1",
    ":latest",
    "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ":1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "@sha256:00",
    ":",
    " ",
];
const ODD: [&str; 10] = [
    "",
    " ",
    "sha256:0123abcd",
    "sha512:00",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "cafe",
    "[::1]:5000/acme/app",
    "q_x.io/acme",
    "acme/app nginx",
    "ghcr.io/acme/\u{0}app",
];
const INCLUDES: [&str; 22] = [
    "ghcr.io/acme/**",
    "ghcr.io/acme/app",
    "ghcr.io/*/app",
    "ghcr.io/**/web",
    "docker.io/library/nginx",
    "docker.io/library/ngi*",
    "docker.io/acme/**",
    "docker.io/*/nginx",
    "docker.io/lib*/x",
    "docker.io/**/acme*",
    "registry.example:5000/**",
    "registry:443/acme/app",
    "localhost/nginx",
    "*/acme/app",
    "**/nginx",
    "**/library/nginx",
    "**nginx",
    "*.io/acme/*",
    "docker.io/a.b/*",
    "docker.io/x_y/z--w",
    "docker.io/library/*",
    "**",
];

fn image(numbers: &mut Numbers) -> String {
    match numbers.below(14) {
        0 => numbers.pick(&ODD).to_owned(),
        // Decoys: as long as is plainly written, and longer.
        1 => format!("decoy.example/{}", "d".repeat(numbers.below(400))),
        _ => [numbers.pick(&HOSTS), numbers.pick(&PATHS), numbers.pick(&TAGS)].concat(),
    }
}

fn containers(numbers: &mut Numbers) -> Value {
    let count = match numbers.below(30) {
        0 => return Value::Null,
        1 => 31 + numbers.below(4),
        2 => 140,
        3 => 0,
        _ => 1 + numbers.below(3),
    };
    let one = |numbers: &mut Numbers, at: usize| {
        let mut container = json!({"name": format!("c{at}"), "image": image(numbers)});
        if numbers.one_in(40) {
            container.as_object_mut().unwrap().remove("image");
        }
        container
    };
    (0..count).map(|at| one(numbers, at)).collect()
}

fn volumes(numbers: &mut Numbers) -> Value {
    let one = |numbers: &mut Numbers, at: usize| match numbers.below(4) {
        0 => json!({"name": format!("v{at}"), "emptyDir": {}}),
        1 if numbers.one_in(5) => json!({"name": format!("v{at}"), "image": {}}),
        2 if numbers.one_in(5) => json!({"name": format!("v{at}"), "image": null}),
        _ => json!({"name": format!("v{at}"), "image": {"reference": image(numbers)}}),
    };
    let count = if numbers.one_in(30) { 300 } else { numbers.below(3) };
    (0..count).map(|at| one(numbers, at)).collect()
}

fn pod_spec(numbers: &mut Numbers) -> Value {
    let mut spec =
        json!({"containers": containers(numbers), "nodeSelector": {"n": numbers.below(3).to_string()}});
    if numbers.one_in(3) {
        spec["initContainers"] = containers(numbers);
    }
    if numbers.one_in(4) {
        spec["ephemeralContainers"] = containers(numbers);
    }
    if numbers.one_in(3) {
        spec["volumes"] = volumes(numbers);
    }
    if numbers.one_in(200) {
        // About as large as a request may be.
        spec["containers"] = json!([{"name": "large", "image": "l".repeat(2_900_000)}]);
    }
    spec
}

/// An object of some kind, and its group.
fn object(numbers: &mut Numbers) -> (&'static str, Value) {
    let spec = pod_spec(numbers);
    let template = json!({"spec": spec});
    let templated = json!({"template": template});
    let (group, kind, version) = [
        ("", "Pod", "v1"),
        ("", "Pod", "v1"),
        ("", "Pod", "v1"),
        ("", "PodTemplate", "v1"),
        ("", "ReplicationController", "v1"),
        ("apps", "Deployment", "apps/v1"),
        ("apps", "ReplicaSet", "apps/v1"),
        ("apps", "StatefulSet", "apps/v1"),
        ("apps", "DaemonSet", "apps/v1"),
        ("batch", "Job", "batch/v1"),
        ("batch", "CronJob", "batch/v1"),
    ][numbers.below(11)];
    let mut object =
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}});
    match kind {
        "Pod" => object["spec"] = spec,
        "PodTemplate" => object["template"] = template,
        "CronJob" => object["spec"] = json!({"jobTemplate": {"spec": templated}}),
        _ => object["spec"] = templated,
    }
    if numbers.one_in(60) {
        object.as_object_mut().unwrap().remove("spec");
    }
    (group, object)
}

fn policies(numbers: &mut Numbers) -> Vec<PolicyEntry> {
    let one = |numbers: &mut Numbers, at: usize| {
        let wide = if numbers.one_in(10) { INCLUDES.len() } else { INCLUDES.len() - 2 };
        let count = 1 + numbers.below(2);
        let include: Vec<&str> = (0..count).map(|_| numbers.pick(&INCLUDES[..wide])).collect();
        let include = if numbers.one_in(40) { vec!["nginx"] } else { include };
        let mut images = json!({"include": include});
        if numbers.one_in(5) {
            images["exclude"] = json!(["ghcr.io/acme/app"]);
        }
        let spec = json!({"images": images, "signers": [{"github": {"repository": "acme/app"}}]});
        let metadata = json!({"name": format!("p{at}"), "namespace": "n"});
        let object = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": metadata, "spec": spec});
        compile(&object, &NoKeys).entry
    };
    let count = 1 + numbers.below(3);
    let mut all: Vec<PolicyEntry> = (0..count).map(|at| one(numbers, at)).collect();
    if numbers.one_in(20) {
        // As many as nearly fill the expression: the same policy about many repositories.
        if let Some(PolicyEntry::Valid(first)) = all.first().cloned() {
            let many = (0..40).map(|at| {
                let mut policy = first.as_ref().clone();
                let glob = |n: usize| {
                    bonafide::domain::glob::Glob::new(&format!("registry.example/team-{at}/app-{n}")).unwrap()
                };
                policy.id.name = format!("many{at}");
                policy.images.include = (0..20).map(glob).collect();
                PolicyEntry::Valid(policy.into())
            });
            all.extend(many);
        }
    }
    all
}

/// Whether a review of the workload would ask about an image, or deny one.
fn is_judged(set: &PolicySet, workload: &Workload) -> bool {
    let labels = [("kubernetes.io/metadata.name".to_owned(), "n".to_owned())].into();
    let scope = Scope::Namespace { name: "n", labels: Labels::All(&labels) };
    Review::of_too_many(workload).is_some()
        || workload.images.iter().any(|image| {
            match plan(set, scope, Unmatched::Allow, Stage::Final, &image.image) {
                Plan::Ask(_) => true,
                Plan::Settled(verdict) => verdict.outcome != Outcome::Allow || verdict.matched,
            }
        })
}

/// Runs the API server's evaluation over the questions in a file, one a line.
fn evaluate(tools: &Tools, questions: &std::path::Path) -> Option<Vec<Value>> {
    let Some(program) = tools.optional("match-conditions") else {
        assert!(
            std::env::var("BONAFIDE_PLANE").is_err(),
            "`tests/plane/build match-conditions` makes what is missing"
        );
        println!("skipped: `tests/plane/build match-conditions` makes what is missing");
        return None;
    };
    let ran = Command::new(program)
        .stdin(File::open(questions).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(ran.status.success());
    Some(
        ran.stdout
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect(),
    )
}

fn tools() -> Option<Tools> {
    match Tools::find() {
        Availability::Run(tools) => Some(tools),
        Availability::Skip(why) => {
            println!("skipped: {why}");
            None
        }
        Availability::Fail(why) => panic!("{why}"),
    }
}

/// What the API server is told to evaluate for these policies.
fn expressions(policies: &[PolicyEntry]) -> Vec<String> {
    let exempt: BTreeSet<String> = exempt_namespaces("bonafide", []);
    let mut settings = webhook_settings("bonafide", 443);
    settings.reach = WebhookReach::of(ReachMode::Images, Unmatched::Allow, &exempt, policies);
    let entry = validating(&settings).webhooks.unwrap().remove(0);
    entry.match_conditions.unwrap().into_iter().map(|condition| condition.expression).collect()
}

#[test]
fn b8_nothing_is_left_out_that_a_review_would_deny_and_nothing_fails_or_costs_too_much() {
    let Some(tools) = tools() else { return };
    let path = std::env::temp_dir().join(format!("bonafide-narrowing-{}.jsonl", std::process::id()));
    let mut questions = BufWriter::new(File::create(&path).unwrap());
    let mut expected: Vec<(bool, bool, String)> = Vec::new();
    let mut numbers = Numbers(8);
    for _ in 0..SETS {
        let entries = policies(&mut numbers);
        let expressions = expressions(&entries);
        let set = PolicySet::new(entries, 1);
        for _ in 0..OBJECTS {
            let (group, object) = object(&mut numbers);
            let kind = object["kind"].as_str().unwrap().to_owned();
            let read = workload::read(group, &kind, &object.to_string()).unwrap().unwrap();
            let mut old = Value::Null;
            if numbers.one_in(4) {
                old = object.clone();
                old["metadata"]["labels"] = json!({"before": "yes"});
                if numbers.one_in(2) && old.get("spec").is_some() {
                    old["spec"] = json!({});
                }
            }
            // What is left as it is is reviewed without a verdict.
            let is_same =
                old.get("spec") == object.get("spec") && old.get("template") == object.get("template");
            let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
            let judged = is_judged(&set, &read.workload) && (old.is_null() || !is_same);
            let question = json!({"expressions": expressions, "operation": operation, "object": object, "oldObject": old});
            writeln!(questions, "{question}").unwrap();
            let images: Vec<&str> =
                read.workload.images.iter().map(|image| image.image.as_str()).take(5).collect();
            expected.push((
                judged,
                expressions.len() > 1,
                format!("{operation} {kind} {images:?} {}", expressions.last().unwrap()),
            ));
        }
    }
    questions.flush().unwrap();
    let answers = evaluate(&tools, &path);
    fs::remove_file(&path).unwrap();
    let Some(answers) = answers else { return };
    assert_eq!(answers.len(), expected.len());
    assert_eq!(answers.len() as u64, SETS * OBJECTS);
    let (mut left_out, mut narrowed) = (0, 0);
    for (answer, (judged, is_narrowed, about)) in answers.iter().zip(&expected) {
        assert_eq!(answer["errors"], json!([]), "{about}");
        let costs: Vec<u64> =
            answer["costs"].as_array().unwrap().iter().map(|cost| cost.as_u64().unwrap()).collect();
        assert!(costs.iter().all(|cost| *cost <= EXPRESSION_BUDGET), "{costs:?} {about}");
        assert!(costs.iter().sum::<u64>() <= ENTRY_BUDGET, "{costs:?} {about}");
        assert!(answer["matches"] == true || !judged, "{about}");
        narrowed += usize::from(*is_narrowed);
        left_out += usize::from(answer["matches"] == false && *is_narrowed);
    }
    // Or it would hold of an expression that is always true.
    assert!(narrowed > 5000 && left_out > 300, "{left_out} of {narrowed}");
}

#[test]
fn b8_a_plain_image_is_left_out_unless_a_policy_names_it_in_any_spelling() {
    let Some(tools) = tools() else { return };
    let policy = |include: &[&str]| {
        let spec =
            json!({"images": {"include": include}, "signers": [{"github": {"repository": "acme/app"}}]});
        let metadata = json!({"name": "p", "namespace": "n"});
        compile(&json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": metadata, "spec": spec}), &NoKeys).entry
    };
    let expressions = expressions(&[policy(&["ghcr.io/acme/**", "docker.io/library/nginx"])]);
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let bad = [
        "ghcr.io/acme/app:1",
        "GHCR.io/acme/app",
        "ghcr.io:443/acme/app",
        "nginx",
        "docker.io/nginx:1",
        "index.docker.io/library/nginx",
        "sha256:0123",
        "sha512:0123",
        digest,
        "cafe:1",
        "quay.io/cafe/App",
        "quay.io/a b",
        "quay.io/a..b",
        "[::1]/x",
        " ",
        "",
        "quay.io./x",
        "q_x.io/x",
        "quay.io/x@sha256:00",
        "quay.io:443/x",
        "quay.io:99999/x",
    ];
    let long = format!("quay.io/{}", "x".repeat(230));
    let pinned = format!("quay.io/calico/node:v3.30.1@sha256:{digest}");
    let good = [
        "redis",
        "quay.io/calico/node:v3.30.1",
        &pinned,
        "registry.k8s.io/pause:3.10",
        "localhost:5000/x",
        "x_y/z--w",
        "cafe/x",
    ];
    let images: Vec<(&str, bool)> = bad
        .into_iter()
        .chain([long.as_str()])
        .map(|image| (image, true))
        .chain(good.map(|image| (image, false)))
        .collect();
    let pod = |image: &str| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "image": image}]}});
    let path = std::env::temp_dir().join(format!("bonafide-spellings-{}.jsonl", std::process::id()));
    let lines: Vec<String> = images
        .iter()
        .map(|(image, _)| {
            json!({"expressions": expressions, "operation": "CREATE", "object": pod(image)}).to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let answers = evaluate(&tools, &path);
    fs::remove_file(&path).unwrap();
    for ((image, is_sent), answer) in images.iter().zip(answers.unwrap_or_default()) {
        assert!(answer["matches"] == *is_sent && answer["errors"] == json!([]), "{image:?}: {answer}");
    }
}
