//! A TUF repository made in memory, written from the specification: `root`, `timestamp`, `snapshot` and `targets`, one key for all of
//! them, consistent snapshots. What it says, when it ends and what is wrong with it are the test's to choose.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::sigstore::{KeyKind, SigningKey, hexadecimal};

/// What the one key is called.
const KEY_ID: &str = "the-key";

/// The repository.
pub struct Tuf {
    key: SigningKey,
    root: String,
    files: Arc<Mutex<Files>>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Files {
    all: BTreeMap<String, Vec<u8>>,
    away: bool,
    asked: usize,
}

impl Drop for Tuf {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Tuf {
    /// One that is served on loopback and has nothing but its root.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let files = Arc::<Mutex<Files>>::default();
        let router = Router::new().route("/{*path}", axum::routing::get(get)).with_state(Arc::clone(&files));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let key = SigningKey::generate(KeyKind::P256);
        Self { root: root(&key), key, files, address, serving }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its root, of version 1.
    pub fn root_json(&self) -> String {
        self.root.clone()
    }

    /// Publishes a trust root as this version of everything, valid for so long from now on.
    pub fn publish(&self, version: u64, trusted_root: &str, valid_for: SignedDuration) {
        self.publish_as(version, trusted_root, trusted_root, valid_for);
    }

    /// The same, where what is served is something else than what was signed.
    pub fn publish_as(&self, version: u64, signed: &str, served: &str, valid_for: SignedDuration) {
        let hash = hexadecimal(signed.as_bytes());
        let of_file = json!({"length": signed.len(), "hashes": {"sha256": hash}});
        let common = |kind: &str| {
            json!({
                "_type": kind, "spec_version": "1.0.31", "version": version, "expires": ends(valid_for),
            })
        };
        let with = |kind: &str, key: &str, value: Value| {
            let mut role = common(kind);
            role[key] = value;
            envelope(&self.key, &role)
        };
        let targets = with("targets", "targets", json!({"trusted_root.json": of_file}));
        let snapshot = with("snapshot", "meta", json!({"targets.json": {"version": version}}));
        let timestamp = with("timestamp", "meta", json!({"snapshot.json": {"version": version}}));
        let mut files = self.files.lock();
        files.all.insert(format!("{version}.targets.json"), targets.into_bytes());
        files.all.insert(format!("{version}.snapshot.json"), snapshot.into_bytes());
        files.all.insert("timestamp.json".to_owned(), timestamp.into_bytes());
        files.all.insert(format!("targets/{hash}.trusted_root.json"), served.as_bytes().to_vec());
    }

    /// Serves other bytes for a file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&str) -> String) {
        let mut files = self.files.lock();
        let file = files.all.get_mut(name).expect("a file of that name");
        *file = change(std::str::from_utf8(file).unwrap()).into_bytes();
    }

    /// Whether it answers nothing but 503.
    pub fn set_away(&self, away: bool) {
        self.files.lock().away = away;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.files.lock().asked
    }
}

fn root(key: &SigningKey) -> String {
    let role = json!({"keyids": [KEY_ID], "threshold": 1});
    let root = json!({
        "_type": "root", "spec_version": "1.0.31", "version": 1, "consistent_snapshot": true,
        "expires": ends(SignedDuration::from_hours(24 * 365)),
        "keys": {KEY_ID: {
            "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": key.public_pem()},
        }},
        "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
    });
    envelope(key, &root)
}

/// An envelope around what is signed.
fn envelope(key: &SigningKey, signed: &Value) -> String {
    let signature = hex::encode(key.sign(canonical(signed).as_bytes()));
    json!({"signed": signed, "signatures": [{"keyid": KEY_ID, "sig": signature}]}).to_string()
}

/// OLPC canonical JSON: sorted, without spaces, and of texts only quotes and backslashes escaped.
fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let each = sorted.into_iter().map(|(key, value)| format!("\"{key}\":{}", canonical(value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn ends(after: SignedDuration) -> String {
    (Timestamp::now() + after).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn get(
    State(files): State<Arc<Mutex<Files>>>,
    Path(path): Path<String>,
) -> Result<Vec<u8>, StatusCode> {
    let mut files = files.lock();
    files.asked += 1;
    if files.away {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    files.all.get(&path).cloned().ok_or(StatusCode::NOT_FOUND)
}
