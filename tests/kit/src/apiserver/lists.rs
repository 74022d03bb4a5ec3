//! An API server of large lists: it answers page by page and tells watches of what is added, and holds what objects share once.
//! Single objects beside the lists are those of an [`ApiServer`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::{ApiServer, parameter};

/// How many changes wait for a watch.
const CHANGES: usize = 4096;
/// What a list has at most where the client does not say.
const PAGE: usize = 100_000;

/// An object as its JSON, in parts that others may share.
#[derive(Clone)]
pub struct Listed {
    namespace: String,
    name: String,
    parts: Vec<Bytes>,
}

impl Listed {
    /// An object of a namespace; empty: of the cluster.
    ///
    /// # Panics
    /// Where it has no name.
    pub fn new(namespace: &str, object: &Value) -> Self {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        Self { namespace: namespace.to_owned(), name, parts: vec![Bytes::from(object.to_string())] }
    }

    /// With a text in place of a mark, which may be long and is held once.
    ///
    /// # Panics
    /// Where the mark is not there.
    #[must_use]
    pub fn with(self, mark: &str, text: &Bytes) -> Self {
        let object: Vec<u8> = self.parts.concat();
        let object = String::from_utf8(object).expect("text");
        let (before, after) = object.split_once(mark).expect("the mark is there");
        let parts = vec![Bytes::from(before.to_owned()), text.clone(), Bytes::from(after.to_owned())];
        Self { parts, ..self }
    }
}

/// A resource's plural, and what was added to it.
type Change = (&'static str, Listed);

struct Inner {
    lists: Mutex<BTreeMap<&'static str, Vec<Listed>>>,
    changes: broadcast::Sender<Change>,
    single: ApiServer,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ListServer(Arc<Inner>);

impl Default for ListServer {
    fn default() -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        Self(Arc::new(Inner { lists: Mutex::default(), changes, single: ApiServer::new() }))
    }
}

impl ListServer {
    /// The kinds that may be listed, by their plurals. Each has no objects.
    pub fn new(plurals: &[&'static str]) -> Self {
        let server = Self::default();
        server.0.lists.lock().extend(plurals.iter().map(|plural| (*plural, Vec::new())));
        server
    }

    /// Adds an object, and tells the watches.
    ///
    /// # Panics
    /// Where the server does not have the kind.
    pub fn add(&self, plural: &'static str, object: Listed) {
        self.0.lists.lock().get_mut(plural).expect("a kind of this server").push(object.clone());
        // Nobody need watch.
        let _ = self.0.changes.send((plural, object));
    }

    /// The single objects.
    pub fn single(&self) -> &ApiServer {
        &self.0.single
    }

    /// Serves on a loopback port, until the runtime ends.
    ///
    /// # Panics
    /// Where there is no port.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn page(&self, plural: &'static str, query: &str) -> Response {
        let number = |name| parameter(query, name).and_then(|text| text.parse::<usize>().ok());
        let (from, limit) = (number("continue").unwrap_or_default(), number("limit").unwrap_or(PAGE));
        // The one selector that all kinds have.
        let named = parameter(query, "fieldSelector").and_then(|text| text.strip_prefix("metadata.name%3D"));
        let lists = self.0.lists.lock();
        let is_wanted = |object: &&Listed| named.is_none_or(|name| object.name == name);
        let all: Vec<&Listed> = lists[plural].iter().filter(is_wanted).collect();
        let until = from.saturating_add(limit).min(all.len());
        let mut metadata = json!({"resourceVersion": "1"});
        if until < all.len() {
            metadata["continue"] = json!(until.to_string());
        }
        let head = format!(r#"{{"kind":"List","apiVersion":"v1","metadata":{metadata},"items":["#);
        let comma = |at: usize| (at > 0).then(|| Bytes::from_static(b","));
        let items = all[from.min(until)..until].iter().enumerate();
        let items = items.flat_map(|(at, object)| comma(at).into_iter().chain(object.parts.iter().cloned()));
        let parts: Vec<Bytes> =
            [Bytes::from(head)].into_iter().chain(items).chain([Bytes::from_static(b"]}")]).collect();
        stream_of(stream::iter(parts))
    }

    fn watch(&self, plural: &'static str) -> Response {
        let changes = self.0.changes.subscribe();
        stream_of(stream::unfold(changes, move |mut changes| async move {
            loop {
                match changes.recv().await {
                    Ok((of, object)) if of == plural => {
                        let object = object.parts.concat();
                        let event = [br#"{"type":"ADDED","object":"#.as_slice(), &object, b"}\n"].concat();
                        return Some((Bytes::from(event), changes));
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        }))
    }

    fn find(&self, path: &str) -> Option<Response> {
        let parts: Vec<&str> = path.split('/').collect();
        let [.., plural, name] = parts.as_slice() else { return None };
        let namespace = parts.iter().position(|part| *part == "namespaces").and_then(|at| parts.get(at + 1));
        let lists = self.0.lists.lock();
        let of_kind = lists.get(plural)?;
        let is_wanted = |object: &&Listed| {
            object.name == *name
                && (object.namespace.is_empty() || Some(&object.namespace.as_str()) == namespace)
        };
        let object = of_kind.iter().find(is_wanted)?;
        Some(stream_of(stream::iter(object.parts.clone())))
    }
}

fn stream_of(parts: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(parts.map(Ok::<_, std::io::Error>));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn answer(State(server): State<ListServer>, request: Request) -> Response {
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    if request.method() == Method::GET {
        let last = path.rsplit('/').next().unwrap_or_default();
        let known = server.0.lists.lock().keys().find(|plural| **plural == last).copied();
        if let Some(plural) = known {
            let is_watch = parameter(&query, "watch").is_some();
            return if is_watch { server.watch(plural) } else { server.page(plural, &query) };
        }
        if let Some(found) = server.find(&path) {
            return found;
        }
    }
    // Statuses are written to what is listed; what they say is nobody's concern here.
    if request.method() == Method::PATCH && path.ends_with("/status") {
        let object = json!({"apiVersion": "v1", "kind": "Object", "metadata": {"name": "x"}});
        return (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], object.to_string())
            .into_response();
    }
    super::answer(State(server.0.single.clone()), request).await
}
