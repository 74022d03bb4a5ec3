//! Follows one kind of object: its complete list, then its changes, forever. Objects are read one by one, so that no page of them is
//! held: whoever may write an object chooses its size. What goes wrong is tried again soon; until then what was known stays known.

use std::time::Duration;

use kube::{
    Client, Error,
    api::{ListParams, WatchParams},
    core::{Request, Status},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    call,
    pods::ListMetadata,
    split::{self, Form, Part},
    watch::{Change, Patience, Trouble, WATCH_SECONDS},
};

/// How many objects are listed per request. One at a time is held, however many these are.
const PAGE: u32 = 500;
/// When a watch counts as ended that the API server did not end: its connection may have died in silence.
const LONGEST: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// A watch that ended sooner, without any event, has not gone well.
const SOON: Duration = Duration::from_secs(1);

/// An event of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// An object whose version is wanted and nothing else.
#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

/// What the API server sends of each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it.
    Whole,
    /// Its metadata. The status of a node is many times as large.
    Metadata,
}

/// Follows the objects under a path forever; `read` keeps of an object what matters.
pub(super) async fn follow<T>(
    client: &Client,
    path: &str,
    sent: Sent,
    read: impl Fn(&[u8]) -> serde_json::Result<T>,
    mut tell: impl FnMut(Change<T>),
) {
    let objects = Objects { client, path, sent, read };
    let mut version: Option<String> = None;
    let mut patience = Patience::default();
    loop {
        let (begun, mut events) = (Instant::now(), 0_usize);
        let result = match &mut version {
            None => objects.list().await.map(|(all, listed)| {
                version = Some(listed);
                patience = Patience::default();
                tell(Change::All(all));
            }),
            Some(version) => {
                let mut told = |change| {
                    events = events.saturating_add(1);
                    tell(change);
                };
                let watching = objects.watch(version, &mut told);
                let watched = tokio::time::timeout(LONGEST, watching).await.unwrap_or(Ok(()));
                if events > 0 {
                    patience = Patience::default();
                }
                match watched {
                    Ok(()) if events == 0 && begun.elapsed() < SOON => {
                        tokio::time::sleep(patience.next_wait(Trouble::Other)).await;
                        Ok(())
                    }
                    watched => watched,
                }
            }
        };
        if let Err(error) = result {
            let code = if let Error::Api(status) = &error { status.code } else { 0 };
            let words = call::words(&error);
            tell(if code == 404 { Change::Absent(words) } else { Change::Lost(words) });
            // What the API server refuses to continue is listed again. Without the right to watch there is nothing to gain from a list.
            if matches!(code, 400 | 404 | 410) {
                version = None;
            }
            tokio::time::sleep(patience.next_wait(Trouble::of_status(code))).await;
        }
    }
}

/// Reads all objects under a path, and says from where on they are to be watched.
///
/// # Errors
/// What the API server answers in place of them, and what cannot be read.
pub(super) async fn list<T>(
    client: &Client,
    path: &str,
    sent: Sent,
    read: impl Fn(&[u8]) -> serde_json::Result<T>,
) -> Result<(Vec<T>, String), Error> {
    Objects { client, path, sent, read }.list().await
}

struct Objects<'a, R> {
    client: &'a Client,
    path: &'a str,
    sent: Sent,
    read: R,
}

impl<T, R: Fn(&[u8]) -> serde_json::Result<T>> Objects<'_, R> {
    async fn list(&self) -> Result<(Vec<T>, String), Error> {
        let mut all = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(self.path);
            let request = match self.sent {
                Sent::Whole => request.list(&page),
                Sent::Metadata => request.list_metadata(&page),
            };
            let request = request.map_err(Error::BuildRequest)?;
            let mut metadata = ListMetadata::default();
            split::read(self.client, request, Form::List, |part| {
                match part {
                    Part::Metadata(bytes) => {
                        metadata = serde_json::from_slice(bytes).map_err(Error::SerdeError)?;
                    }
                    Part::Object(bytes) => all.push(self.object(bytes)?),
                    Part::TooLarge => return Err(too_large()),
                    Part::Begun => {}
                }
                Ok(())
            })
            .await?;
            if metadata.next.is_empty() {
                return Ok((all, metadata.resource_version));
            }
            page = page.continue_token(&metadata.next);
        }
    }

    fn object(&self, bytes: &[u8]) -> Result<T, Error> {
        (self.read)(bytes).map_err(Error::SerdeError)
    }

    /// Tells changes until the API server ends the watch; `version` is where to go on.
    async fn watch(&self, version: &mut String, tell: &mut impl FnMut(Change<T>)) -> Result<(), Error> {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let request = Request::new(self.path);
        let request = match self.sent {
            Sent::Whole => request.watch(&params, version),
            Sent::Metadata => request.watch_metadata(&params, version),
        };
        let request = request.map_err(Error::BuildRequest)?;
        split::read(self.client, request, Form::Events, |part| {
            match part {
                Part::Object(bytes) => {
                    let Event { r#type, object } =
                        serde_json::from_slice(bytes).map_err(Error::SerdeError)?;
                    let json = object.get();
                    if r#type == "ERROR" {
                        let status: Status = serde_json::from_str(json).map_err(Error::SerdeError)?;
                        return Err(Error::Api(Box::new(status)));
                    }
                    let Versioned { metadata } = serde_json::from_str(json).map_err(Error::SerdeError)?;
                    match r#type {
                        "ADDED" | "MODIFIED" => tell(Change::One(self.object(json.as_bytes())?)),
                        "DELETED" => tell(Change::Gone(self.object(json.as_bytes())?)),
                        _ => {}
                    }
                    *version = metadata.resource_version;
                }
                Part::TooLarge => return Err(too_large()),
                Part::Begun | Part::Metadata(_) => {}
            }
            Ok(())
        })
        .await
    }
}

fn too_large() -> Error {
    let status =
        Status { code: 410, message: "an object is too large to be read".to_owned(), ..Status::default() };
    Error::Api(Box::new(status))
}
