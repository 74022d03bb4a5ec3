//! The router with a stand-in for the judge, whose verdict is in the image's name.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, StatusCode},
};
use bonafide::{
    api::compile::{Keys, NoKeys},
    domain::{
        digest::Digest,
        evidence::{KnownRoots, Layout},
        identity::{Certificate, TrustRootName},
        level::BuildLevel,
        looked_at::Spot,
        plan::Stage,
        policy::{Mode, PolicyEntry, PolicyId},
        provenance::Provenance,
        verdict::{ImageVerdict, Outcome, Problem, Proof, Reason, SignedBy},
        workload::{Node, Workload},
    },
    gather::{
        ports::{
            Findings, Incomplete, Inventory, PodLookupError, Pods, PolicyFinding, RootKeeper, RootReport,
            Snapshot, Unlisted, WebhookEntries,
        },
        review::{Phases, Review, ReviewedImage},
    },
    server::{
        admission::{Admission, InCluster, Judge},
        callers::Callers,
        health::Readiness,
        metrics::Metrics,
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;

pub const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A judge whose verdict is in the image's name.
#[derive(Default)]
pub struct ByName {
    judged: AtomicUsize,
    pub time_left: Mutex<Option<Duration>>,
    /// What was judged last, and how.
    pub last: Mutex<Option<(Workload, Stage)>>,
}

impl Judge for ByName {
    fn known(&self, _: &Snapshot, workload: &Workload, _: Stage) -> Option<Review> {
        assert!(workload.images.iter().all(|image| image.image != "panic at once"), "a judge panics");
        None
    }

    fn judge<'a>(
        &'a self,
        _: &'a Arc<Snapshot>,
        workload: &'a Workload,
        stage: Stage,
        deadline: Instant,
    ) -> BoxFuture<'a, Review> {
        *self.last.lock() = Some((workload.clone(), stage));
        self.judged.fetch_add(1, Ordering::Relaxed);
        *self.time_left.lock() = Some(deadline - Instant::now());
        async move {
            let mut images = Vec::new();
            for image in &workload.images {
                images.push(ReviewedImage {
                    image: image.clone(),
                    verdict: Arc::new(verdict(&image.image).await),
                });
            }
            let outcome = images.iter().map(|image| image.verdict.outcome).max().unwrap_or(Outcome::Allow);
            Review { outcome, images, phases: Phases::default() }
        }
        .boxed()
    }
}

fn problem(reason: Reason, mode: Mode, found: &str) -> Problem {
    Problem {
        policy: Some(PolicyId { namespace: Some("team".to_owned()), name: "release".to_owned() }),
        retry_after: (reason == Reason::RegistryThrottled).then_some(17),
        ..Problem::new(reason, mode, found)
    }
}

pub async fn verdict(image: &str) -> ImageVerdict {
    let problems = match image {
        "unsigned" => vec![problem(Reason::NoProvenance, Mode::Enforce, "nothing is attached")],
        "throttled" => vec![problem(Reason::RegistryThrottled, Mode::Enforce, "429 from the registry")],
        "tagged" => vec![problem(Reason::UnpinnedTag, Mode::Warn, "the tag latest can be moved")],
        "noisy" => (0..40)
            .map(|n| {
                let found = format!("{n} {} {DIGEST}", "x".repeat(200));
                problem(Reason::PlatformMissing, Mode::Warn, &found)
            })
            .collect(),
        "audited" => vec![problem(Reason::WrongSigner, Mode::Audit, "signed by somebody else")],
        "endless" => (0..2000)
            .map(|n| problem(Reason::PlatformNotCovered, Mode::Enforce, &format!("linux/p{n} {DIGEST}")))
            .collect(),
        "panic" => panic!("a judge panics"),
        "stuck" => std::future::pending().await,
        "partly" => {
            let found = "no attestation is attached to it";
            vec![Problem { avoided: true, ..problem(Reason::PlatformNotCovered, Mode::Warn, found) }]
        }
        _ => Vec::new(),
    };
    let mut verdict = ImageVerdict::of_problems(image, problems);
    verdict.matched = image != "unmatched";
    if image == "partly" {
        verdict.constrained = Some(vec!["linux/amd64".parse().unwrap()]);
    }
    if image.starts_with("good") || image == "partly" {
        verdict.digest = Some(DIGEST.parse::<Digest>().unwrap());
        verdict.proofs = vec![Proof {
            policy: PolicyId { namespace: Some("team".to_owned()), name: "release".to_owned() },
            signer: "ci".to_owned(),
            subject: DIGEST.parse().unwrap(),
            spot: Spot {
                layout: Layout::Referrer,
                repository: None,
                of: DIGEST.parse().unwrap(),
                found_at: DIGEST.parse().unwrap(),
            },
            predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
            trust_root: Some(TrustRootName::default()),
            level: BuildLevel::default(),
            signed_by: SignedBy::Certificate(Box::new(Certificate {
                subject: "https://github.com/o/r/.github/workflows/b.yml@refs/heads/main".to_owned(),
                ..Certificate::default()
            })),
            provenance: Provenance::default(),
            summary: None,
            other: None,
        }];
    }
    verdict
}

/// What was listed; nothing at first, where it is `None`.
pub struct Known {
    pub snapshot: Mutex<Option<Arc<Snapshot>>>,
    /// Nodes that are there when they are looked up.
    pub coming: Mutex<Vec<Node>>,
    pub looked_up: Mutex<Vec<String>>,
}

impl Inventory for Known {
    fn snapshot(&self) -> Result<Arc<Snapshot>, Incomplete> {
        let unlisted = |resource| Unlisted { resource, error: None };
        let snapshot = self.snapshot.lock().clone();
        snapshot.ok_or_else(|| Incomplete(["provenancepolicies", "nodes"].map(unlisted).into()))
    }

    fn look_up_node<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        self.looked_up.lock().push(name.to_owned());
        let mut snapshot = self.snapshot.lock();
        let coming = self.coming.lock().iter().find(|node| node.name == name).cloned();
        if let (Some(known), Some(node)) = (snapshot.as_mut(), coming) {
            let nodes = known.nodes.iter().cloned().chain([Arc::new(node)]).collect();
            *known = Arc::new(Snapshot { nodes, ..Snapshot::clone(known) });
        }
        async {}.boxed()
    }
}

/// Pods by uid; one called `lost` nobody can tell of.
#[derive(Default)]
pub struct KnownPods(pub Mutex<HashMap<String, Arc<Workload>>>);

impl KnownPods {
    /// A pod is stored.
    pub fn put(&self, uid: &str, object: &Value) {
        let object = bonafide::api::workload::read("", "Pod", &object.to_string()).unwrap().unwrap();
        self.0.lock().insert(uid.to_owned(), Arc::new(object.workload));
    }
}

impl Pods for KnownPods {
    fn find<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Workload>>, PodLookupError>> {
        let found = match name {
            "lost" => Err(PodLookupError("nobody answers".to_owned())),
            _ => Ok(self.0.lock().get(uid).cloned()),
        };
        async move { found }.boxed()
    }
}

/// What the owners of policies are told.
#[derive(Default)]
pub struct Events(pub Mutex<Vec<String>>);

impl Findings for Events {
    fn found(&self, finding: &PolicyFinding<'_>, note: &dyn Fn() -> String) {
        self.0.lock().push(format!("{} {} {}", finding.policy, finding.reason, note()));
    }
}

/// The public instance of Sigstore is in force, and nothing else.
struct OnlyBuiltIn;

impl RootKeeper for OnlyBuiltIn {
    fn keep(&self, _: &[Value]) {}

    fn report(&self, _: &TrustRootName, _: jiff::Timestamp) -> Option<RootReport> {
        None
    }

    fn known(&self) -> Arc<KnownRoots> {
        Arc::new(KnownRoots { in_force: [TrustRootName::default()].into(), ..KnownRoots::default() })
    }
}

/// Records which policies the entries are widened for.
#[derive(Default)]
pub struct Selected {
    pub policies: Mutex<Vec<String>>,
    pub fails: AtomicBool,
    exempt: BTreeSet<String>,
}

impl WebhookEntries for Selected {
    fn widen<'a>(&'a self, policy: &'a PolicyEntry) -> BoxFuture<'a, Result<(), String>> {
        self.policies.lock().push(policy.id().to_string());
        let result = if self.fails.load(Ordering::Relaxed) { Err("forbidden".to_owned()) } else { Ok(()) };
        async { result }.boxed()
    }

    fn exempt(&self) -> &BTreeSet<String> {
        &self.exempt
    }
}

pub struct Server {
    pub router: Router,
    pub judge: Arc<ByName>,
    pub pods: Arc<KnownPods>,
    pub events: Arc<Events>,
    pub selected: Arc<Selected>,
    pub readiness: Arc<Readiness>,
    pub inventory: Arc<Known>,
    metrics: Arc<Metrics>,
}

impl Server {
    pub fn new() -> Self {
        Self::knowing(Snapshot::default())
    }

    pub fn knowing(snapshot: Snapshot) -> Self {
        Self::of(Some(snapshot), Arc::new(NoKeys))
    }

    /// Not everyone may call.
    pub fn called_by(callers: Callers) -> Self {
        Self::of_callers(callers, Some(Snapshot::default()), Arc::new(NoKeys))
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Policies reference what is among these keys.
    pub fn with_keys(keys: impl Keys + 'static) -> Self {
        Self::of(Some(Snapshot::default()), Arc::new(keys))
    }

    /// Nothing was listed yet.
    pub fn starting() -> Self {
        Self::of(None, Arc::new(NoKeys))
    }

    fn of(snapshot: Option<Snapshot>, keys: Arc<dyn Keys>) -> Self {
        Self::of_callers(Callers::default(), snapshot, keys)
    }

    fn of_callers(callers: Callers, snapshot: Option<Snapshot>, keys: Arc<dyn Keys>) -> Self {
        let judge = Arc::new(ByName::default());
        let pods = Arc::new(KnownPods::default());
        let metrics = Metrics::new("test");
        let shared: Arc<dyn Judge> = Arc::<ByName>::clone(&judge);
        let events = Arc::new(Events::default());
        let exempt = BTreeSet::from(["kube-system".to_owned()]);
        let selected = Arc::new(Selected { exempt, ..Selected::default() });
        let cluster = InCluster {
            pods: Arc::<KnownPods>::clone(&pods),
            findings: Arc::<Events>::clone(&events),
            keys,
            probes: Arc::default(),
            roots: Arc::new(OnlyBuiltIn),
            entries: Arc::<Selected>::clone(&selected),
        };
        let inventory = Arc::new(Known {
            snapshot: Mutex::new(snapshot.map(Arc::new)),
            coming: Mutex::default(),
            looked_up: Mutex::default(),
        });
        let known: Arc<dyn Inventory> = Arc::<Known>::clone(&inventory);
        let timeout = Duration::from_secs(10);
        let readiness = Arc::new(Readiness::default());
        let (counted, drained) = (Arc::clone(&metrics), Arc::clone(&readiness));
        let admission =
            Admission::called_by(callers, shared, known, counted, drained, Some(cluster), timeout);
        Self { router: admission.router(), judge, pods, events, selected, metrics, readiness, inventory }
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn post(&self, query: &str, review: &Value) -> Value {
        self.ask("validate", query, review).await
    }

    pub async fn ask(&self, webhook: &str, query: &str, review: &Value) -> Value {
        let request = to(webhook, query, review.to_string());
        let response = self.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/json");
        let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"], "the uid is echoed");
        answer["response"].clone()
    }

    pub async fn review(&self, review: &Value) -> Value {
        self.post("", review).await
    }

    pub fn judged(&self) -> usize {
        self.judge.judged.load(Ordering::Relaxed)
    }

    pub fn counted(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

pub fn post(query: &str, body: impl Into<Body>) -> Request<Body> {
    to("validate", query, body)
}

pub fn to(webhook: &str, query: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(format!("/{webhook}{query}"))
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

pub async fn body(response: Response<Body>) -> Bytes {
    to_bytes(response.into_body(), usize::MAX).await.unwrap()
}

pub fn pod(images: &[&str]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "team"},
        "spec": {"containers": containers},
    })
}

pub fn create(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": object["kind"]},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "team",
            "name": "web",
            "operation": "CREATE",
            "userInfo": {"username": "somebody"},
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

pub fn with(mut review: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        review["request"][key] = value.clone();
    }
    review
}
