//! From an HTTP request to an HTTP response: the body is read, and whatever is wrong is told by a denial where the `uid` is known.

use std::panic::AssertUnwindSafe;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, Version, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::Instant;

use super::{
    admission::{Admission, Asked, Elsewhere, Endpoint},
    answer::Answer,
    caller::{Caller, Sender},
    connections::PeerAddress,
    deadline,
    head::Head,
    refused::Refused,
    report::{self, About},
    wire,
};

const JSON: &str = "application/json";

impl Admission {
    pub(super) async fn respond(&self, endpoint: Endpoint, request: Request) -> Response {
        let begun = Instant::now();
        let deadline = begun + deadline::budget(request.uri().query(), self.default_timeout);
        let keeps_alive = request.version() < Version::HTTP_2;
        let _in_flight = self.metrics.begin();
        let mut response = self.answered(endpoint, request, begun, deadline).await;
        // The API server keeps its connections for the next review. One that is closed between two, as all are in the end, may be closed
        // while the next is on its way; so each is ended by an answer.
        if keeps_alive && self.readiness.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answered(
        &self,
        endpoint: Endpoint,
        request: Request,
        begun: Instant,
        deadline: Instant,
    ) -> Response {
        let stated = content_length(&request);
        let mut refused = match endpoint {
            Endpoint::Nowhere(Elsewhere::Path) => Some(Refused::path(request.uri().path())),
            Endpoint::Nowhere(Elsewhere::Method) => Some(Refused::method()),
            _ if !is_json(&request) => Some(Refused::content_type()),
            _ => None,
        };
        let mut sender = sender(&request);
        match self.callers.check(&request, deadline).await {
            // A request may carry who sent it from elsewhere.
            Ok(Caller::Unchecked) => {}
            Ok(caller) => sender.caller = caller,
            Err(unknown) => {
                self.metrics.unknown_caller(unknown.what);
                sender.caller = Caller::Unauthenticated;
                refused = Some(Refused::unknown_caller(&unknown));
            }
        }
        let is_cut_off = request.version() < Version::HTTP_2;
        let mut body = match self.bodies.read(request.into_body(), stated, sender, deadline).await {
            Ok(body) => body,
            Err(mut unread) => {
                let head = std::mem::take(&mut unread.head);
                let why = refused.unwrap_or_else(|| unread.error.into());
                if is_cut_off {
                    self.bodies.discard(unread);
                }
                return self.refuse(endpoint, &head, &why);
            }
        };
        let head = std::mem::take(&mut body.head);
        if let Some(refused) = refused {
            return self.refuse(endpoint, &head, &refused);
        }
        let asked = Asked { begun, deadline, sender, account: body.account };
        // Nothing of ours that a panic could leave half-changed is looked at afterwards: caches insert whole values, locks do not poison.
        match AssertUnwindSafe(self.answer(endpoint, body, asked)).catch_unwind().await {
            Ok(Ok(answer)) => json(answer),
            Ok(Err(refused)) => self.refuse(endpoint, &head, &refused),
            Err(panic) => {
                report::panicked(&about(endpoint, &head), &*panic);
                self.metrics.panicked();
                self.refuse(endpoint, &head, &Refused::fault())
            }
        }
    }

    /// Says what is wrong with a request: by a denial where it is a review whose `uid` is known, else by an HTTP status.
    fn refuse(&self, endpoint: Endpoint, head: &Head, refused: &Refused) -> Response {
        // A denial of a probe would take the leader's Lease away. Its entry ignores errors.
        let Some(uid) = head.uid.as_ref().filter(|_| endpoint != Endpoint::Probe) else {
            self.metrics.refused(refused.status.as_u16());
            tracing::warn!(status = refused.status.as_u16(), error = refused.why, "a request was refused");
            return (refused.status, format!("{}\n", refused.why)).into_response();
        };
        if refused.status != StatusCode::INTERNAL_SERVER_ERROR {
            self.metrics.denied_unread(refused.is_transient(), refused.word);
            report::unread(&about(endpoint, head), refused.word, &refused.why);
        }
        json(wire::write(uid, &Answer::refused(refused.denial())))
    }
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
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

/// Where a request came from.
fn sender(request: &Request) -> Sender {
    let extensions = request.extensions();
    Sender {
        caller: extensions.get().copied().unwrap_or_default(),
        peer: extensions.get::<PeerAddress>().map(|peer| peer.0),
    }
}

/// What is known of a review that no judge sees.
fn about(endpoint: Endpoint, head: &Head) -> About<'_> {
    About {
        webhook: endpoint.as_str(),
        kind: "",
        namespace: head.namespace.as_deref().unwrap_or_default(),
        name: "",
        uid: head.uid.as_deref().unwrap_or_default(),
        dry_run: false,
    }
}
