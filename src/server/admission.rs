//! One `AdmissionReview` in, one answer out: `/validate` here, `/mutate` and `/bind` beside it.
//!
//! Nothing here decides about images. It reads the review, lets it be judged within the time the API server grants, and sees to it
//! that there is an answer whatever happens: a panic, a judge that does not come back, a body that is none.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{Answer, Refusal},
    binding,
    body::{BodyError, Room},
    deadline,
    health::Readiness,
    metrics::Metrics,
    mutation, policy_review, probe,
    report::{self, About},
    wire::{self, Incoming, Subject},
};
use crate::{
    api::compile::Keys,
    cluster::{install::Probes, webhooks::PROBE_PATH},
    domain::{plan::Stage, workload::Workload},
    gather::{
        ports::{Findings, Incomplete, Inventory, Pods, Snapshot},
        review::Review,
        reviewer::Reviewer,
    },
};

/// How long a judge that ignores its deadline is waited for.
const GRACE: Duration = Duration::from_millis(100);

/// Who judges workloads: the [`Reviewer`], or a test's stand-in.
pub trait Judge: Send + Sync {
    /// Judges every image of a workload; never fails.
    fn judge<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        workload: &'a Workload,
        stage: Stage,
        deadline: Instant,
    ) -> BoxFuture<'a, Review>;

    /// What is known already of every image of a workload; `None` where somebody has to be asked.
    fn known(&self, _snapshot: &Snapshot, _workload: &Workload, _stage: Stage) -> Option<Review> {
        None
    }
}

impl Judge for Reviewer {
    fn judge<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        workload: &'a Workload,
        stage: Stage,
        deadline: Instant,
    ) -> BoxFuture<'a, Review> {
        Box::pin(self.review(snapshot, workload, stage, deadline))
    }

    fn known(&self, snapshot: &Snapshot, workload: &Workload, stage: Stage) -> Option<Review> {
        Self::known(self, snapshot, workload, stage)
    }
}

/// What a cluster has beside policies.
#[derive(Clone)]
pub struct InCluster {
    /// The pods on their way to a node.
    pub pods: Arc<dyn Pods>,
    /// Who is told what was found.
    pub findings: Arc<dyn Findings>,
    /// What policies reference.
    pub keys: Arc<dyn Keys>,
    /// Which probes arrived at this process.
    pub probes: Arc<Probes>,
}

/// What admission needs.
pub struct Admission {
    judge: Arc<dyn Judge>,
    pub(super) inventory: Arc<dyn Inventory>,
    pub(super) metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// Of a cluster alone: without one nothing is bound.
    pub(super) cluster: Option<InCluster>,
    default_timeout: Duration,
    room: Room,
}

/// What is asked of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Validate,
    Mutate,
    Bind,
    ValidatePolicy,
    Probe,
}

const VALIDATE: &str = "validate";
const VALIDATE_PATH: &str = "/validate";
const JSON: &str = "application/json";

impl Endpoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => VALIDATE,
            Self::Mutate => mutation::MUTATE,
            Self::Bind => binding::BIND,
            Self::ValidatePolicy => policy_review::VALIDATE_POLICY,
            Self::Probe => probe::PROBE,
        }
    }
}

/// One request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
}

/// What is to be judged.
pub(super) struct Judging<'a> {
    pub(super) about: About<'a>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) workload: &'a Workload,
    pub(super) stage: Stage,
    pub(super) asked: Asked,
}

/// How a review is answered.
pub(super) type Answering<'a> = dyn Fn(&Review) -> Answer + Send + Sync + 'a;

impl Admission {
    /// `default_timeout` is for requests that do not say how long they wait.
    pub fn new(
        judge: Arc<dyn Judge>,
        inventory: Arc<dyn Inventory>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        cluster: Option<InCluster>,
        default_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            judge,
            inventory,
            metrics,
            readiness,
            cluster,
            default_timeout,
            room: Room::default(),
        })
    }

    /// The routes of the webhook.
    pub fn router(self: &Arc<Self>) -> Router {
        let to = |endpoint| {
            post(move |State(admission): State<Arc<Self>>, request: Request| async move {
                admission.respond(endpoint, request).await
            })
        };
        let mut router = Router::new()
            .route(VALIDATE_PATH, to(Endpoint::Validate))
            .route("/mutate", to(Endpoint::Mutate))
            .route("/validate-policy", to(Endpoint::ValidatePolicy));
        if self.cluster.is_some() {
            router = router.route("/bind", to(Endpoint::Bind)).route(PROBE_PATH, to(Endpoint::Probe));
        }
        router.with_state(Arc::clone(self))
    }
}

impl Admission {
    /// Whether a request is for [`Admission::validated`].
    pub fn is_validation<B>(request: &axum::http::Request<B>) -> bool {
        request.method() == Method::POST && request.uri().path() == VALIDATE_PATH
    }

    /// The answer to a request to `/validate`.
    pub async fn validated(&self, request: Request) -> Response {
        self.respond(Endpoint::Validate, request).await
    }
}

/// A request that is no review.
struct Refused(StatusCode, String);

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

impl Admission {
    async fn respond(&self, endpoint: Endpoint, request: Request) -> Response {
        let begun = Instant::now();
        let deadline = begun + deadline::budget(request.uri().query(), self.default_timeout);
        let keeps_alive = request.version() < Version::HTTP_2;
        let mut response = match self.answer(endpoint, request, Asked { begun, deadline }).await {
            Ok(body) => json(body),
            Err(Refused(status, why)) => {
                self.metrics.refused(status.as_u16());
                tracing::warn!(status = status.as_u16(), error = why, "a request was refused");
                (status, format!("{why}\n")).into_response()
            }
        };
        // The API server keeps its connections for the next review. One that is closed between two, as all are in the end, may be closed
        // while the next is on its way; so each is ended by an answer.
        if keeps_alive && self.readiness.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(&self, endpoint: Endpoint, request: Request, asked: Asked) -> Result<Bytes, Refused> {
        let _in_flight = self.metrics.begin();
        if !is_json(&request) {
            let why = "the content type of a review is application/json".to_owned();
            return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let stated = content_length(&request);
        let (body, _room) = self.room.read(request.into_body(), stated, asked.deadline).await?;
        let unreadable = |why| Refused(StatusCode::BAD_REQUEST, why);
        if endpoint == Endpoint::Bind {
            let binding = binding::read(&body).map_err(unreadable)?;
            let answer = match self.listed(&binding.about()) {
                Ok(snapshot) => Box::pin(self.bind(&binding, snapshot, asked)).await,
                Err(refusal) => Answer::refused(refusal),
            };
            return Ok(wire::write(&binding.uid, &answer));
        }
        if endpoint == Endpoint::Probe {
            let probe = probe::read(&body).map_err(unreadable)?;
            return Ok(wire::write(&probe.uid, &self.probed(&probe)));
        }
        if endpoint == Endpoint::ValidatePolicy {
            let (policy, subject) = policy_review::read(&body).map_err(unreadable)?;
            let answer = match self.listed(&policy.about()) {
                Ok(snapshot) => Box::pin(self.validate_policy(&policy, subject, &snapshot)).await,
                Err(refusal) => Answer::refused(refusal),
            };
            return Ok(wire::write(&policy.uid, &answer));
        }
        let incoming = wire::read(&body).map_err(unreadable)?;
        let about = || incoming.about(endpoint.as_str());
        let snapshot = match self.listed(&about()) {
            Ok(snapshot) => snapshot,
            Err(refusal) => return Ok(wire::write(&incoming.uid, &Answer::refused(refusal))),
        };
        let answer = match &incoming.subject {
            Subject::Judge(workload) if endpoint == Endpoint::Mutate => {
                Box::pin(self.mutate(&incoming, workload, snapshot, &body, asked)).await
            }
            Subject::Judge(workload) => self.validate(&incoming, workload, snapshot, asked).await,
            Subject::Skip(why) => self.skipped(&about(), why),
            Subject::Unknown { group, kind } => {
                self.metrics.unknown_kind(group, kind);
                self.skipped(&about(), "UnknownKind")
            }
            Subject::Malformed(why) => {
                self.metrics.malformed();
                report::malformed(&about(), why);
                Answer::refused(Refusal::bad_request(why.clone()))
            }
        };
        Ok(wire::write(&incoming.uid, &answer))
    }

    /// The snapshot that a review is judged by. Until there is one, every review is denied: an empty list of policies would admit all.
    fn listed(&self, about: &About<'_>) -> Result<Arc<Snapshot>, Refusal> {
        self.inventory.snapshot().map_err(|incomplete| {
            self.metrics.unlisted();
            report::failed(about, &incomplete.to_string());
            Refusal::unavailable(unlisted(&incomplete))
        })
    }

    /// Admitted without judging anything: `why` is a word of a fixed set.
    pub(super) fn skipped(&self, about: &About<'_>, why: &'static str) -> Answer {
        self.metrics.skipped(why);
        report::skipped(about, why);
        Answer::allowed()
    }

    async fn validate(
        &self,
        incoming: &Incoming<'_>,
        workload: &Workload,
        snapshot: Arc<Snapshot>,
        asked: Asked,
    ) -> Answer {
        // The pods of a template go through the mutating webhook, where there is one.
        let is_template = incoming.kind != "Pod";
        let stage = if is_template && snapshot.pinning { Stage::Draft } else { Stage::Final };
        let judging = Judging { about: incoming.about(VALIDATE), snapshot, workload, stage, asked };
        let answer = self.judged(&judging, &|review| review.into()).await;
        self.follow(incoming, workload);
        answer
    }

    /// Remembers what a pod runs for the time when it is bound to a node.
    fn follow(&self, incoming: &Incoming<'_>, workload: &Workload) {
        if let (Some(cluster), Some(uid), false) = (&self.cluster, &incoming.pod_uid, incoming.dry_run) {
            if incoming.is_new {
                cluster.pods.made(uid, workload);
            } else {
                cluster.pods.changed(uid);
            }
        }
    }

    /// The answer where every verdict is at hand.
    fn known(&self, judging: &Judging<'_>, answer: &Answering<'_>) -> Option<Answer> {
        let known = || {
            let review = self.judge.known(&judging.snapshot, judging.workload, judging.stage)?;
            Some(self.told(judging, &review, answer))
        };
        // Nothing of ours that a panic could leave half-changed is looked at afterwards: caches insert whole values, locks do not poison.
        catch_unwind(AssertUnwindSafe(known)).unwrap_or_else(|panic| Some(self.failed(judging, &*panic)))
    }

    /// An answer, whatever the judge does.
    pub(super) async fn judged(&self, judging: &Judging<'_>, answer: &Answering<'_>) -> Answer {
        match self.known(judging, answer) {
            Some(answer) => answer,
            // In a box, which nearly no review needs.
            None => Box::pin(self.find_out(judging, answer)).await,
        }
    }

    async fn find_out(&self, judging: &Judging<'_>, answer: &Answering<'_>) -> Answer {
        let Judging { about, snapshot, workload, stage, asked } = judging;
        let finding_out = async {
            let review = self.judge.judge(snapshot, workload, *stage, asked.deadline).await;
            self.told(judging, &review, answer)
        };
        match timeout_at(asked.deadline + GRACE, AssertUnwindSafe(finding_out).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => self.failed(judging, &*panic),
            Err(_) => {
                self.metrics.overdue();
                report::overdue(about, asked.begun.elapsed());
                Answer::refused(Refusal::unavailable(
                    "DeadlineExceeded: this could not be reviewed in time".to_owned(),
                ))
            }
        }
    }

    /// The answer to a review, which metrics, log and policies' owners are told of.
    fn told(&self, judging: &Judging<'_>, review: &Review, answer: &Answering<'_>) -> Answer {
        let about = &judging.about;
        let answer = answer(review);
        let took = judging.asked.begun.elapsed();
        // What is mutated is validated next.
        if about.webhook != mutation::MUTATE {
            self.metrics.reviewed(review, took);
            report::reviewed(about, review, took);
            if let Some(cluster) = &self.cluster {
                report::found(about, review, cluster.findings.as_ref());
            }
        }
        answer
    }

    fn failed(&self, judging: &Judging<'_>, panic: &(dyn Any + Send)) -> Answer {
        self.metrics.panicked();
        report::panicked(&judging.about, panic);
        Answer::refused(Refusal::internal(
            "this could not be reviewed because of a fault in bonafide; it is in bonafide's log".to_owned(),
        ))
    }
}

/// What is said until there is a snapshot. The API server's own words stay in the log and on `/readyz`.
fn unlisted(incomplete: &Incomplete) -> String {
    let (failed, pending): (Vec<_>, Vec<_>) =
        incomplete.0.iter().partition(|unlisted| unlisted.error.is_some());
    let mut message = format!("Unlisted: this cannot be reviewed yet: {incomplete}");
    if !failed.is_empty() && pending.is_empty() {
        message.push_str("\n  hint: the API server refuses the list; bonafide's log and /readyz say why");
    } else {
        message.push_str("\n  hint: try again in a few seconds");
    }
    message
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE);
    if value.is_some_and(|value| value == JSON) {
        return true;
    }
    let value = value.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(JSON))
}

fn content_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            BodyError::Broken => StatusCode::BAD_REQUEST,
        };
        Self(status, error.to_string())
    }
}
