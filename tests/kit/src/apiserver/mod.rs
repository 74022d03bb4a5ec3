//! An API server in memory, as far as clients of single objects see one: get, create, replace, delete, merge patch and server-side apply,
//! with resource versions, preconditions and conflicts. It knows no kinds: an object is what stands under its path.

mod lists;
mod patch;
mod store;

use std::{future::pending, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
pub use lists::{ListServer, Listed};
use parking_lot::Mutex;
use serde_json::{Value, json};
pub use store::Refusal;
use store::Store;

/// The largest body that is read.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query.
    pub query: String,
}

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It answers everything with 503.
    Unavailable,
    /// It does not answer.
    Silent,
    /// It does what it is asked, but the answer never arrives.
    Deaf,
}

type Admit = Box<dyn Fn(&Value) -> Result<(), Refusal> + Send + Sync>;
type Warn = Box<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

#[derive(Default)]
struct Inner {
    store: Mutex<Store>,
    seen: Mutex<Vec<Seen>>,
    outage: Mutex<Option<Outage>>,
    admit: Mutex<Option<Admit>>,
    warn: Mutex<Option<Warn>>,
}

/// The server; clones are the same one.
#[derive(Clone, Default)]
pub struct ApiServer(Arc<Inner>);

impl ApiServer {
    /// One without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a client talks to.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// The object under a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.0.store.lock().get(path).cloned()
    }

    /// Puts an object there, whatever was there.
    pub fn put(&self, path: &str, object: Value) {
        self.0.store.lock().put(path, object);
    }

    /// Changes an object as somebody else would.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut store = self.0.store.lock();
        let mut object = store.get(path).expect("there is such an object").clone();
        change(&mut object);
        store.put(path, object);
    }

    /// Removes an object.
    pub fn delete(&self, path: &str) {
        self.0.store.lock().remove(path);
    }

    /// From now on this is wrong with it; `None`: nothing.
    pub fn outage(&self, outage: Option<Outage>) {
        *self.0.outage.lock() = outage;
    }

    /// Asks this about each object that is to be created.
    pub fn admit(&self, admit: impl Fn(&Value) -> Result<(), Refusal> + Send + Sync + 'static) {
        *self.0.admit.lock() = Some(Box::new(admit));
    }

    /// Asks this about each object that is to be replaced in a dry run, as a webhook is asked, and passes its warnings on.
    pub fn warn(&self, warn: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) {
        *self.0.warn.lock() = Some(Box::new(warn));
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().clone()
    }

    fn act(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<(u16, Value), Refusal> {
        let parsed = || serde_json::from_slice(body).map_err(|error| Refusal::new(400, &error.to_string()));
        let mut store = self.0.store.lock();
        match *method {
            Method::GET => {
                store.get(path).cloned().map(|object| (200, object)).ok_or_else(|| Refusal::not_found(path))
            }
            Method::POST => {
                let object = parsed()?;
                if let Some(admit) = &*self.0.admit.lock() {
                    admit(&object)?;
                }
                let dry = parameter(query, "dryRun").is_some();
                Ok((201, store.create(path, object, dry)?))
            }
            Method::PUT if parameter(query, "dryRun").is_some() => {
                let object = parsed()?;
                store.check(path, &object)?;
                Ok((200, object))
            }
            Method::PUT => Ok((200, store.replace(path, parsed()?)?)),
            Method::PATCH if kind == "application/apply-patch+yaml" => {
                let manager =
                    parameter(query, "fieldManager").ok_or_else(|| Refusal::new(400, "no field manager"))?;
                Ok((200, store.apply(path, manager, parsed()?)?))
            }
            Method::PATCH if kind == "application/merge-patch+json" => {
                Ok((200, store.merge(path, &parsed()?)?))
            }
            Method::PATCH => Err(Refusal::new(415, "no such patch")),
            Method::DELETE => {
                let options: Value = if body.is_empty() { Value::Null } else { parsed()? };
                // Preconditions stand where an object has its metadata.
                store.check(path, &json!({"metadata": options["preconditions"]}))?;
                store.remove(path);
                Ok((200, json!({"apiVersion": "v1", "kind": "Status", "status": "Success"})))
            }
            _ => Err(Refusal::new(405, "no such verb")),
        }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

async fn answer(State(server): State<ApiServer>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    server.0.seen.lock().push(Seen {
        method: head.method.to_string(),
        path: path.clone(),
        query: query.clone(),
    });
    let outage = *server.0.outage.lock();
    let body = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let answer = match outage {
        Some(Outage::Unavailable) => Err(Refusal::new(503, "the server is away")),
        Some(Outage::Silent) => pending().await,
        Some(Outage::Deaf) => {
            let _ = server.act(&head.method, &path, &query, kind, &body);
            pending().await
        }
        None => server.act(&head.method, &path, &query, kind, &body),
    };
    let is_dry = head.method == Method::PUT && parameter(&query, "dryRun").is_some();
    let warnings = match (&*server.0.warn.lock(), &answer) {
        (Some(warn), Ok((_, object))) if is_dry => warn(object),
        _ => Vec::new(),
    };
    let mut response = match answer {
        Ok((code, object)) => respond(code, &object),
        Err(refusal) => respond(
            refusal.code,
            &json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
            }),
        ),
    };
    for warning in warnings {
        response.headers_mut().append("warning", format!("299 - \"{warning}\"").parse().unwrap());
    }
    response
}

fn respond(code: u16, object: &Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    (code, [(header::CONTENT_TYPE, "application/json")], Body::from(object.to_string())).into_response()
}
