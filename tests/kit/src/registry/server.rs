//! The loop that accepts connections, and what happens to a request between its arrival and its
//! answer: it is recorded, delayed, refused, spoiled, or simply answered.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::State;
use super::fault::Fault;
use super::observe::Request;
use super::reply::Reply;
use super::route::{Route, Target};

/// The largest form the token endpoint reads.
const FORM_LIMIT: usize = 64 * 1024;

/// Serves until it is dropped, which closes every connection.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Small answers must not wait for the other side's delayed acknowledgement: tests measure time.
                stream.set_nodelay(true).ok();
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers one request; an error closes the connection without an answer.
async fn answer(state: Arc<State>, request: hyper::Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let route = Route::parse(head.uri.path());
    let request = Request::of(&head, &route);
    let entry = state.recorder.begin(request.clone());
    let latency = state.settings.lock().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let refusal = match route.target {
        Target::Token => None,
        _ => state.auth.refusal(&request, &state.host),
    };
    let faults = state.faults.take(&request, refusal.is_none());
    for fault in &faults {
        match fault {
            Fault::Slow(delay) => tokio::time::sleep(*delay).await,
            Fault::Hang => std::future::pending().await,
            Fault::Close => return Err(io::Error::other("closed on request")),
            _ => {}
        }
    }
    let replacement = faults.iter().find_map(|fault| Reply::replacement(fault, &request));
    let mut reply = match replacement.or(refusal) {
        Some(reply) => reply,
        None => ordinary(&state, &request, &head, body).await,
    };
    for fault in &faults {
        reply.spoil(fault, &request);
    }
    entry.status(reply.status.as_u16());
    if head.method == Method::HEAD {
        entry.sent(0, true);
        return Ok(reply.into_response(|_, _| ()));
    }
    Ok(reply.into_response(move |bytes, last| entry.sent(bytes, last)))
}

/// The answer of a registry that nothing is wrong with.
async fn ordinary(state: &State, request: &Request, head: &Parts, body: Incoming) -> Reply {
    if request.target == Target::Token {
        let form = axum::body::to_bytes(Body::new(body), FORM_LIMIT).await.unwrap_or_default();
        return state.auth.token(request, &String::from_utf8_lossy(&form));
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        let pushed = super::uploads::answer(state, request, head, body).await;
        return pushed.unwrap_or_else(|| Reply::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"));
    }
    if request.target == Target::Ping {
        return Reply::json("application/json", &serde_json::json!({}));
    }
    let (Some(name), Some(reference)) = (&request.repo, &request.reference) else {
        return Reply::error(StatusCode::NOT_FOUND, "NOT_FOUND");
    };
    let settings = state.settings.lock().clone();
    let content = state.content.lock();
    let Some(repo) = content.repo(name) else { return Reply::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN") };
    match request.target {
        Target::Blob => match repo.blob(reference) {
            Some(bytes) => digested("application/octet-stream", bytes, reference),
            None => Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        },
        Target::Referrers => super::referrers::page(repo, reference, request, &settings),
        Target::Tags => {
            let tags: Vec<_> = repo.tags().keys().collect();
            Reply::json("application/json", &serde_json::json!({"name": name, "tags": tags}))
        }
        Target::Manifest | Target::AttTag | Target::SigTag | Target::FallbackTag => {
            match (repo.resolve(reference), repo.manifest(reference)) {
                (Some(digest), Some(manifest)) => digested(&manifest.media_type, &manifest.bytes, &digest),
                _ => Reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            }
        }
        Target::Ping | Target::Token | Target::Other => Reply::error(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

fn digested(content_type: &str, bytes: &Bytes, digest: &str) -> Reply {
    Reply::new(StatusCode::OK, content_type, bytes.clone()).header("docker-content-digest", digest)
}
