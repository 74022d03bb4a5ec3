//! An answer as data, so that faults can change it before it becomes bytes on a connection.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::fault::Fault;
use super::observe::Request;

/// How much of an endless body is handed over at a time.
const ENDLESS_CHUNK: usize = 16 * 1024;
/// How long what is handed over before a cut may take to leave.
const FLUSH: Duration = Duration::from_millis(5);

/// How the body is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    Truncated,
    Stalled,
    Endless,
    Drip(Duration),
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: Vec<(String, String)>,
    body: Bytes,
    delivery: Delivery,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: Bytes) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body, delivery: Delivery::Whole }
    }

    pub(crate) fn json(content_type: &str, body: &Value) -> Self {
        Self::new(StatusCode::OK, content_type, Bytes::from(body.to_string()))
    }

    /// An error as the distribution specification words it.
    pub(crate) fn error(status: StatusCode, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": code.to_lowercase().replace('_', " ")}]});
        Self { status, ..Self::json("application/json", &body) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, Some(value.into()));
        self
    }

    fn set(&mut self, name: &str, value: Option<String>) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// The answer that takes the place of every other, if this fault is of that kind. `Hang` and `Close` are none.
    pub(crate) fn replacement(fault: &Fault, request: &Request) -> Option<Self> {
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let here = format!("{}{query}", request.path);
        let redirect =
            |to: String| Some(Self::error(StatusCode::TEMPORARY_REDIRECT, "REDIRECT").header("location", to));
        match fault {
            Fault::Status(status) => Some(Self::status(*status)),
            Fault::RetryAfter(status, after) => Some(Self::status(*status).header("retry-after", after)),
            Fault::Redirect(base) => redirect(format!("{}{here}", base.trim_end_matches('/'))),
            Fault::RedirectTo(url) => redirect(url.clone()),
            Fault::RedirectLoop => redirect(here),
            _ => None,
        }
    }

    fn status(status: u16) -> Self {
        let code = match status {
            401 => "UNAUTHORIZED",
            403 => "DENIED",
            404 => "NOT_FOUND",
            405 => "UNSUPPORTED",
            429 => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        Self::error(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), code)
    }

    /// Changes this answer as the fault says; the kinds that delay or replace one change nothing.
    pub(crate) fn spoil(&mut self, fault: &Fault, request: &Request) {
        match fault {
            Fault::Truncated => self.delivery = Delivery::Truncated,
            Fault::Stalled => self.delivery = Delivery::Stalled,
            Fault::Endless => self.delivery = Delivery::Endless,
            Fault::Drip(pause) => self.delivery = Delivery::Drip(*pause),
            Fault::WrongBytes => self.body = flip_a_bit(&self.body),
            Fault::Body(body) => self.body = body.clone(),
            Fault::MalformedJson => {
                self.body = Bytes::from_static(b"{\"schemaVersion\": 2, \"manifests\": [{\"dig");
            }
            Fault::ContentType(given) => self.set("content-type", Some(given.clone())),
            Fault::DigestHeader(given) => self.set("docker-content-digest", given.clone()),
            Fault::NextPage(url) => self.set("link", Some(format!("<{url}>; rel=\"next\""))),
            Fault::EndlessPaging => {
                let page: u64 =
                    request.query_values("last").first().and_then(|n| n.parse().ok()).unwrap_or_default();
                self.set("link", Some(format!("<{}?last={}>; rel=\"next\"", request.path, page + 1)));
            }
            Fault::Slow(_)
            | Fault::Hang
            | Fault::Close
            | Fault::Status(_)
            | Fault::RetryAfter(..)
            | Fault::Redirect(_)
            | Fault::RedirectTo(_)
            | Fault::RedirectLoop => {}
        }
    }

    /// The answer for the connection. `sent` hears of each part of the body that is handed over, and whether it is the last.
    pub(crate) fn into_response(self, sent: impl Fn(usize, bool) + Send + 'static) -> Response<Body> {
        let length = self.body.len();
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        if self.delivery != Delivery::Endless {
            response = response.header("content-length", length);
        }
        let body = match self.delivery {
            Delivery::Drip(pause) if length > 0 => Body::from_stream(drip(self.body, pause, sent)),
            Delivery::Whole | Delivery::Drip(_) => {
                sent(length, true);
                Body::from(self.body)
            }
            Delivery::Truncated => {
                let half = self.body.slice(..length / 2);
                sent(half.len(), true);
                // The pause lets the head and the half leave before the connection is closed on them.
                let cut = async {
                    tokio::time::sleep(FLUSH).await;
                    Err(io::Error::other("cut off on request"))
                };
                Body::from_stream(stream::once(async { Ok(half) }).chain(stream::once(cut)))
            }
            Delivery::Stalled => {
                let half = self.body.slice(..length / 2);
                sent(half.len(), false);
                let first = stream::once(async { Ok::<_, io::Error>(half) });
                Body::from_stream(first.chain(stream::pending()))
            }
            Delivery::Endless => Body::from_stream(endless(sent)),
        };
        response.body(body).unwrap()
    }
}

fn flip_a_bit(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    Bytes::from(bytes)
}

fn endless(sent: impl Fn(usize, bool) + Send) -> impl Stream<Item = io::Result<Bytes>> {
    let padding = Bytes::from(vec![b' '; ENDLESS_CHUNK]);
    stream::once(async { Bytes::from_static(b"{") }).chain(stream::repeat(padding)).map(move |chunk| {
        sent(chunk.len(), false);
        Ok(chunk)
    })
}

fn drip(
    body: Bytes,
    pause: Duration,
    sent: impl Fn(usize, bool) + Send,
) -> impl Stream<Item = io::Result<Bytes>> {
    let length = body.len();
    stream::iter(0..length).then(move |at| {
        sent(1, at + 1 == length);
        let byte = body.slice(at..=at);
        async move {
            tokio::time::sleep(pause).await;
            Ok(byte)
        }
    })
}
