//! A Sigstore that answers over HTTP on a loopback port: what signing clients ask of Fulcio, Rekor (v1 and v2) and a
//! timestamping authority, all under one address. It checks what theirs check of a signature, and believes any token.

mod fulcio;
mod presented;
mod rekor;
mod tiles;
mod timestamp;
mod token;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::Sigstore;
pub use token::{github_claims, token};

type Shared = Arc<Sigstore>;

/// The version of Rekor's interface that clients are told to log with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekorVersion {
    /// One entry with a signed time.
    V1,
    /// Tiles; the time is of a timestamping authority.
    V2,
}

/// The endpoints of a Sigstore; they stop when this is dropped.
#[derive(Debug)]
pub struct Services {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Services {
    /// Starts the endpoints of this Sigstore on a free port of 127.0.0.1.
    pub async fn start(sigstore: Arc<Sigstore>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("the address of a bound socket"));
        let router = Router::new()
            .route("/api/v2/signingCert", post(fulcio::signing_certificate))
            .route("/api/v1/log/entries", post(rekor::create))
            .route("/api/v2/log/entries", post(tiles::create))
            .route("/api/v1/timestamp", post(timestamp::stamp))
            .with_state(sigstore);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves on") });
        Self { url, task }
    }

    /// `http://127.0.0.1:PORT`, of Fulcio and of Rekor.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The timestamping authority.
    pub fn timestamp_url(&self) -> String {
        format!("{}/api/v1/timestamp", self.url)
    }

    /// What tells clients of these endpoints, in the format of Sigstore's `signing_config.json`. Where Rekor states no time,
    /// the timestamping authority is among them.
    pub fn signing_config(&self, rekor: Option<RekorVersion>) -> Value {
        let service = |url: &str, version: u32| {
            json!([{
                "url": url,
                "majorApiVersion": version,
                "validFor": {"start": "2025-01-01T00:00:00Z"},
                "operator": "throwaway.example",
            }])
        };
        let mut config = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(&self.url, 1),
        });
        if let Some(version) = rekor {
            config["rekorTlogUrls"] = service(&self.url, if version == RekorVersion::V1 { 1 } else { 2 });
            config["rekorTlogConfig"] = json!({"selector": "ANY"});
        }
        if rekor != Some(RekorVersion::V1) {
            config["tsaUrls"] = service(&self.timestamp_url(), 1);
            config["tsaConfig"] = json!({"selector": "ANY"});
        }
        config
    }
}

/// Why a request is not granted, in the form of these services' errors.
struct Refused(&'static str);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = json!({"code": 400, "message": self.0});
        (StatusCode::BAD_REQUEST, Json(error)).into_response()
    }
}
