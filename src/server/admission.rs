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
    extract::{Request, State},
    http::Method,
    response::Response,
    routing::post,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    answer::{Answer, Refusal},
    binding,
    body::{Bodies, BodyError, ReadBody},
    caller::{Account, Sender},
    callers::Callers,
    health::Readiness,
    in_flight,
    metrics::Metrics,
    mutation, policy_review,
    pool::Pool,
    probe,
    refused::Refused,
    report::{self, About},
    wire,
};
use crate::{
    api::compile::Keys,
    cluster::{install::Probes, webhooks::PROBE_PATH},
    domain::{
        placement,
        plan::Stage,
        verdict::Outcome,
        workload::{Placement, Workload},
    },
    gather::{
        ports::{Findings, Incomplete, Inventory, Pods, RootKeeper, Snapshot, WebhookEntries},
        review::Review,
        reviewer::Reviewer,
    },
};

/// How long a judge that ignores its deadline is waited for.
const GRACE: Duration = Duration::from_millis(100);

/// The most nodes that are looked up for one workload.
const NODES: usize = 8;

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
    /// The trust roots that signers may name.
    pub roots: Arc<dyn RootKeeper>,
    /// What the API server sends for review.
    pub entries: Arc<dyn WebhookEntries>,
}

/// What admission needs.
pub struct Admission {
    judge: Arc<dyn Judge>,
    pub(super) inventory: Arc<dyn Inventory>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    /// Of a cluster alone: without one nothing is bound.
    pub(super) cluster: Option<InCluster>,
    pub(super) default_timeout: Duration,
    pub(super) bodies: Arc<Bodies>,
    /// What reviews take whose verdict is not at hand.
    in_flight: Arc<Pool>,
    /// Large reviews are parsed one at a time, off the threads that answer.
    pub(super) parsing: Arc<Semaphore>,
    pub(super) callers: Callers,
}

/// What is asked of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Validate,
    Mutate,
    Bind,
    ValidatePolicy,
    Probe,
    /// Nothing: the path or the method is another.
    Nowhere(Elsewhere),
}

/// Why a request is for no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elsewhere {
    Path,
    Method,
}

pub(super) const VALIDATE: &str = "validate";
const VALIDATE_PATH: &str = "/validate";

impl Endpoint {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => VALIDATE,
            Self::Mutate => mutation::MUTATE,
            Self::Bind => binding::BIND,
            Self::ValidatePolicy => policy_review::VALIDATE_POLICY,
            Self::Probe => probe::PROBE,
            Self::Nowhere(_) => "none",
        }
    }
}

/// One request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    /// Where it came from.
    pub(super) sender: Sender,
    /// On whose account it is judged.
    pub(super) account: Account,
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
        let callers = Callers::default();
        Self::called_by(callers, judge, inventory, metrics, readiness, cluster, default_timeout)
    }

    /// The same, where not everyone may call.
    pub fn called_by(
        callers: Callers,
        judge: Arc<dyn Judge>,
        inventory: Arc<dyn Inventory>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        cluster: Option<InCluster>,
        default_timeout: Duration,
    ) -> Arc<Self> {
        let (bodies, in_flight) = (Arc::<Bodies>::default(), in_flight::pool());
        let (shown_bodies, shown_reviews) = (Arc::clone(&bodies), Arc::clone(&in_flight));
        metrics.before_scrape(move |metrics| {
            for (pool, bytes) in shown_bodies.used().into_iter().chain([("reviews", shown_reviews.used())]) {
                metrics.set_pool_bytes(pool, bytes);
            }
        });
        Arc::new(Self {
            judge,
            inventory,
            metrics,
            readiness,
            cluster,
            default_timeout,
            bodies,
            in_flight,
            parsing: Arc::new(Semaphore::new(1)),
            callers,
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
        let nowhere = |why| {
            move |State(admission): State<Arc<Self>>, request: Request| async move {
                admission.respond(Endpoint::Nowhere(why), request).await
            }
        };
        router
            .method_not_allowed_fallback(nowhere(Elsewhere::Method))
            .fallback(nowhere(Elsewhere::Path))
            .with_state(Arc::clone(self))
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

impl Admission {
    pub(super) async fn answer(
        &self,
        endpoint: Endpoint,
        body: ReadBody,
        asked: Asked,
    ) -> Result<Bytes, Refused> {
        match endpoint {
            Endpoint::Bind => {
                let binding = binding::read(&body.bytes).map_err(Refused::unreadable)?.into_owned();
                drop(body);
                let answer = match self.listed(&binding.about()) {
                    Ok(snapshot) => Box::pin(self.bind(&binding, snapshot, asked)).await,
                    Err(refusal) => Answer::refused(refusal),
                };
                Ok(wire::write(&binding.uid, &answer))
            }
            Endpoint::ValidatePolicy => {
                let (policy, subject) = policy_review::read(&body.bytes).map_err(Refused::unreadable)?;
                drop(body);
                let answer = match self.listed(&policy.about()) {
                    Ok(snapshot) => Box::pin(self.validate_policy(&policy, subject, &snapshot)).await,
                    Err(refusal) => Answer::refused(refusal),
                };
                Ok(wire::write(&policy.uid, &answer))
            }
            Endpoint::Probe => {
                let probe = probe::read(&body.bytes).map_err(Refused::unreadable)?;
                Ok(wire::write(&probe.uid, &self.probed(&probe)))
            }
            Endpoint::Validate | Endpoint::Mutate => self.review(endpoint, body, asked).await,
            Endpoint::Nowhere(_) => Err(Refused::method()),
        }
    }

    /// The snapshot that a review is judged by. Until there is one, every review is denied: an empty list of policies would admit all.
    pub(super) fn listed(&self, about: &About<'_>) -> Result<Arc<Snapshot>, Refusal> {
        self.inventory.snapshot().map_err(|incomplete| {
            self.metrics.unlisted();
            report::failed(about, &incomplete.to_string());
            Refusal::unavailable(unlisted(&incomplete))
        })
    }

    /// Admitted without judging anything: `why` is a word of a fixed set.
    pub(super) fn skipped(&self, about: &About<'_>, why: &'static str) -> Answer {
        if about.dry_run {
            self.metrics.dry_run_skipped(why);
        } else {
            self.metrics.skipped(why);
        }
        report::skipped(about, why);
        Answer::allowed()
    }

    /// The snapshot, after the nodes that the placement names and that are not known have been looked up.
    pub(super) async fn surroundings(
        &self,
        snapshot: Arc<Snapshot>,
        placement: &Placement,
        asked: Asked,
    ) -> Arc<Snapshot> {
        let unknown = placement::unknown_nodes(placement, &snapshot.nodes);
        if unknown.is_empty() {
            return snapshot;
        }
        let looking = unknown.into_iter().take(NODES).map(|name| self.inventory.look_up_node(name));
        // What could not be looked up in time stays unknown.
        let _ = timeout_at(asked.deadline, futures::future::join_all(looking)).await;
        self.inventory.snapshot().unwrap_or(snapshot)
    }

    /// The answer where every verdict is at hand.
    pub(super) fn known(&self, judging: &Judging<'_>, answer: &Answering<'_>) -> Option<Answer> {
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
            None => Box::pin(self.judge(judging, answer)).await,
        }
    }

    /// The same where no verdict is at hand.
    pub(super) async fn judge(&self, judging: &Judging<'_>, answer: &Answering<'_>) -> Answer {
        let Judging { about, snapshot, workload, stage, asked } = judging;
        let reserved = self.in_flight.open(asked.sender.peer);
        reserved.assign(asked.account);
        if reserved.grow(in_flight::size(workload), asked.deadline).await.is_err() {
            return self.busy(about);
        }
        let finding_out = async {
            let review = self.judge.judge(snapshot, workload, *stage, asked.deadline).await;
            self.told(judging, &review, answer)
        };
        let judged = timeout_at(asked.deadline + GRACE, AssertUnwindSafe(finding_out).catch_unwind());
        let judged = tokio::select! {
            biased;
            judged = judged => judged,
            () = reserved.evicted() => return self.busy(about),
        };
        match judged {
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

    /// The answer to a review for which there is no room among others.
    fn busy(&self, about: &About<'_>) -> Answer {
        let busy = Refused::from(BodyError::Busy);
        self.metrics.denied_unread(true, busy.word);
        report::unread(about, busy.word, &busy.why);
        Answer::refused(busy.denial())
    }

    /// The answer to a review, which metrics, log and policies' owners are told of.
    fn told(&self, judging: &Judging<'_>, review: &Review, answer: &Answering<'_>) -> Answer {
        let about = &judging.about;
        let answer = answer(review);
        let took = judging.asked.begun.elapsed();
        // What is mutated is validated next.
        if about.webhook != mutation::MUTATE {
            // The verdict was not what decided.
            let is_other =
                |refusal: &&Refusal| refusal.code == 503 && review.outcome != Outcome::Unverifiable;
            if let Some(refusal) = answer.refusal.as_ref().filter(is_other) {
                report::failed(about, &refusal.message);
                self.metrics.unknown_node();
                return answer;
            }
            report::reviewed(about, review, took);
            // A dry run leaves nothing behind, no event either: the entries promise so.
            if about.dry_run {
                self.metrics.dry_run(review);
            } else {
                self.metrics.reviewed(review, took);
                if let Some(cluster) = &self.cluster {
                    report::found(about, review, cluster.findings.as_ref());
                }
            }
        }
        answer
    }

    fn failed(&self, judging: &Judging<'_>, panic: &(dyn Any + Send)) -> Answer {
        self.metrics.panicked();
        report::panicked(&judging.about, panic);
        Answer::refused(Refused::fault().denial())
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
