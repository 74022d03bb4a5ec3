//! What clients push over HTTP: blobs in one piece or several, and manifests. Digests are checked, as a registry does.

use std::collections::HashMap;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::{Method, StatusCode, body::Incoming, header::CONTENT_TYPE, http::request::Parts};
use parking_lot::Mutex;

use super::{
    State,
    content::{Manifest, digest_of},
    observe::Request,
    reply::Reply,
    route::Target,
};

/// The largest body that is read.
const LIMIT: usize = 64 << 20;

/// Blobs on their way, by the number in their address.
#[derive(Default)]
pub(crate) struct Uploads {
    begun: Mutex<(u64, HashMap<String, Vec<u8>>)>,
}

impl Uploads {
    fn begin(&self) -> String {
        let mut begun = self.begun.lock();
        begun.0 += 1;
        let name = begun.0.to_string();
        begun.1.insert(name.clone(), Vec::new());
        name
    }

    fn append(&self, name: &str, bytes: &[u8]) -> bool {
        let mut begun = self.begun.lock();
        let Some(upload) = begun.1.get_mut(name) else { return false };
        upload.extend_from_slice(bytes);
        true
    }

    fn end(&self, name: &str) -> Option<Vec<u8>> {
        self.begun.lock().1.remove(name)
    }
}

/// The answer to a push; `None` where it is none.
pub(crate) async fn answer(state: &State, request: &Request, head: &Parts, body: Incoming) -> Option<Reply> {
    let (Some(repo), Some(reference)) = (&request.repo, &request.reference) else { return None };
    if ![Method::POST, Method::PATCH, Method::PUT].contains(&head.method) {
        return None;
    }
    let body = to_bytes(Body::new(body), LIMIT).await.unwrap_or_default();
    let upload = reference.strip_prefix("uploads/");
    let at = |name: &str| format!("/v2/{repo}/blobs/uploads/{name}");
    match (&head.method, request.target, upload) {
        (&Method::POST, Target::Blob, Some("")) => {
            Some(accepted(StatusCode::ACCEPTED).header("location", at(&state.uploads.begin())))
        }
        (&Method::PATCH, Target::Blob, Some(name)) if state.uploads.append(name, &body) => {
            Some(accepted(StatusCode::ACCEPTED).header("location", at(name)))
        }
        (&Method::PUT, Target::Blob, Some(name)) if state.uploads.append(name, &body) => {
            let bytes = state.uploads.end(name).unwrap_or_default();
            let digest = digest_of(&bytes);
            if request.query_values("digest") != [digest.clone()] {
                return Some(Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
            }
            state.content.lock().repo_mut(repo).put_blob(bytes.into());
            Some(accepted(StatusCode::CREATED).header("docker-content-digest", digest))
        }
        (&Method::PUT, Target::Manifest | Target::AttTag | Target::SigTag | Target::FallbackTag, None) => {
            Some(manifest(state, repo, reference, head, body))
        }
        _ => None,
    }
}

fn manifest(state: &State, repo: &str, reference: &str, head: &Parts, bytes: Bytes) -> Reply {
    let digest = digest_of(&bytes);
    if reference.contains(':') && reference != digest {
        return Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let manifest = Manifest { media_type: media_type.to_owned(), bytes };
    let subject = manifest.json()["subject"]["digest"].as_str().map(str::to_owned);
    let mut content = state.content.lock();
    let repo = content.repo_mut(repo);
    repo.put_manifest(manifest);
    if !reference.contains(':') {
        repo.tag(reference, &digest);
    }
    let reply = accepted(StatusCode::CREATED).header("docker-content-digest", digest);
    // Whoever is told so need not write a fallback tag.
    match subject.filter(|_| state.settings.lock().referrers_api) {
        Some(subject) => reply.header("oci-subject", subject),
        None => reply,
    }
}

fn accepted(status: StatusCode) -> Reply {
    Reply::new(status, "application/json", Bytes::new())
}
