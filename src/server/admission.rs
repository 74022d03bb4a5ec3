//! `POST /validate`: one `AdmissionReview` in, one answer out.
//!
//! Nothing here decides about images. It reads the review, lets it be judged within the time the API server grants, and sees to it
//! that there is an answer whatever happens: a panic, a judge that does not come back, a body that is none.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{Answer, Refusal},
    body::{BodyError, Room},
    deadline,
    metrics::Metrics,
    report,
    wire::{self, Incoming, Subject},
};
use crate::{
    domain::workload::Workload,
    gather::{
        ports::{Inventory, Snapshot},
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
        deadline: Instant,
    ) -> BoxFuture<'a, Review>;
}

impl Judge for Reviewer {
    fn judge<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        workload: &'a Workload,
        deadline: Instant,
    ) -> BoxFuture<'a, Review> {
        Box::pin(self.review(snapshot, workload, deadline))
    }
}

/// What admission needs.
pub struct Admission {
    judge: Arc<dyn Judge>,
    inventory: Arc<dyn Inventory>,
    metrics: Arc<Metrics>,
    default_timeout: Duration,
    room: Room,
}

impl Admission {
    /// `default_timeout` is for requests that do not say how long they wait.
    pub fn new(
        judge: Arc<dyn Judge>,
        inventory: Arc<dyn Inventory>,
        metrics: Arc<Metrics>,
        default_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { judge, inventory, metrics, default_timeout, room: Room::default() })
    }

    /// The routes of the webhook.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/validate", post(validate)).with_state(Arc::clone(self))
    }
}

/// A request that is no review.
struct Refused(StatusCode, String);

async fn validate(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    let begun = Instant::now();
    let deadline = begun + deadline::budget(request.uri().query(), admission.default_timeout);
    match admission.answer(request, begun, deadline).await {
        Ok(body) => json(body),
        Err(Refused(status, why)) => {
            admission.metrics.refused(status.as_u16());
            tracing::warn!(status = status.as_u16(), error = why, "a request was refused");
            (status, format!("{why}\n")).into_response()
        }
    }
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Admission {
    async fn answer(&self, request: Request, begun: Instant, deadline: Instant) -> Result<Bytes, Refused> {
        let _in_flight = self.metrics.begin();
        if !is_json(&request) {
            let why = "the content type of a review is application/json".to_owned();
            return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let stated = content_length(&request);
        let (body, _room) = self.room.read(request.into_body(), stated, deadline).await?;
        let incoming = wire::read(&body).map_err(|why| Refused(StatusCode::BAD_REQUEST, why))?;
        let answer = match &incoming.subject {
            Subject::Skip(why) => {
                self.metrics.skipped(why);
                report::skipped(&incoming, why);
                Answer::allowed()
            }
            Subject::Malformed(why) => {
                self.metrics.malformed();
                report::malformed(&incoming, why);
                Answer::refused(Refusal::bad_request(why.clone()))
            }
            Subject::Unknown { group, kind } => {
                self.metrics.unknown_kind(group, kind);
                self.metrics.skipped("UnknownKind");
                report::skipped(&incoming, "UnknownKind");
                Answer::allowed()
            }
            Subject::Judge(workload) => self.judged(&incoming, workload, begun, deadline).await,
        };
        Ok(wire::write(&incoming.uid, &answer))
    }

    /// An answer, whatever the judge does.
    async fn judged(
        &self,
        incoming: &Incoming<'_>,
        workload: &Workload,
        begun: Instant,
        deadline: Instant,
    ) -> Answer {
        let judging = async {
            let snapshot = self.inventory.snapshot();
            let review = self.judge.judge(&snapshot, workload, deadline).await;
            let answer = Answer::from(&review);
            let took = begun.elapsed();
            self.metrics.reviewed(&review, took);
            report::reviewed(incoming, &review, took);
            answer
        };
        // Nothing of ours that a panic could leave half-changed is looked at afterwards: caches insert whole values, locks do not poison.
        match timeout_at(deadline + GRACE, AssertUnwindSafe(judging).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => {
                self.metrics.panicked();
                report::panicked(incoming, &*panic);
                Answer::refused(Refusal::internal(
                    "this could not be reviewed because of a fault in bonafide; it is in bonafide's log"
                        .to_owned(),
                ))
            }
            Err(_) => {
                self.metrics.overdue();
                report::overdue(incoming, begun.elapsed());
                Answer::refused(Refusal::unavailable(
                    "DeadlineExceeded: this could not be reviewed in time".to_owned(),
                    None,
                ))
            }
        }
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
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
