//! Events about the webhook configurations: the leader tells when workloads are not reviewed as was asked for, and when they are again.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::watch, time::Instant};

use super::{Concern, WebhookReport};
use crate::cluster::call::{self, Trouble};

/// How often it is looked, beside each change.
const LOOK: Duration = Duration::from_secs(5);
/// How long something must be wrong before it is told: an upgrade changes much for a moment.
const SETTLES: Duration = Duration::from_secs(10);
/// How long until what goes on is told again: events are kept for an hour.
const AGAIN: Duration = Duration::from_mins(30);

/// Tells, forever, while `leads` says that it is this replica's to do.
pub async fn run(
    client: Client,
    identity: String,
    mut leads: watch::Receiver<bool>,
    mut report: watch::Receiver<WebhookReport>,
) {
    let reporter = Reporter { controller: "bonafide".to_owned(), instance: Some(identity) };
    let recorder = Recorder::new(client, reporter);
    let mut trouble = Trouble::new("write an event about the webhook configurations");
    let mut told = Told::default();
    loop {
        let (is_leader, concern) = (*leads.borrow_and_update(), report.borrow_and_update().concern());
        if let Some(news) = told.news(is_leader, concern, Instant::now()) {
            let about = {
                let report = report.borrow();
                ObjectReference {
                    api_version: Some("admissionregistration.k8s.io/v1".to_owned()),
                    kind: Some("ValidatingWebhookConfiguration".to_owned()),
                    name: Some(report.name().to_owned()),
                    uid: report.uid(),
                    ..ObjectReference::default()
                }
            };
            match call::within(call::LIMIT, recorder.publish(&event(&news), &about)).await {
                Ok(()) => trouble.is_over(),
                Err(error) => trouble.goes_on(&call::words(&error)),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = leads.changed() => {}
            Ok(()) = report.changed() => {}
        }
    }
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    Wrong(Concern),
    Right,
}

fn event(news: &News) -> Event {
    let (type_, reason, note) = match news {
        News::Wrong(Concern { reason, message, why, .. }) => {
            let why = why.as_ref().map(|why| format!(". {why}")).unwrap_or_default();
            (EventType::Warning, *reason, format!("{message}{why}"))
        }
        News::Right => {
            (EventType::Normal, "WebhookInForce", "workloads are reviewed as was asked for again".to_owned())
        }
    };
    let note = Some(note);
    Event { type_, reason: reason.to_owned(), note, action: "Install".to_owned(), secondary: None }
}

/// What was told, and since when something else has been so.
#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    last: Option<(&'static str, Instant)>,
}

impl Told {
    /// What to tell now.
    fn news(&mut self, is_leader: bool, concern: Option<Concern>, now: Instant) -> Option<News> {
        if !is_leader {
            *self = Self::default();
            return None;
        }
        let Some(concern) = concern else {
            self.since = None;
            return self.last.take().map(|_| News::Right);
        };
        let settled = now.duration_since(*self.since.get_or_insert(now)) >= SETTLES;
        let is_known =
            self.last.is_some_and(|(reason, at)| reason == concern.reason && now.duration_since(at) < AGAIN);
        if !settled || is_known {
            return None;
        }
        self.last = Some((concern.reason, now));
        Some(News::Wrong(concern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b9_what_lasts_is_told_once_and_again_later_and_so_is_its_end() {
        let start = Instant::now();
        let concern = |reason| Some(Concern { reason, message: "m".to_owned(), why: None, is_open: true });
        let mut told = Told::default();
        let mut at = |seconds: u64, concern: Option<Concern>| {
            let now = start + Duration::from_secs(seconds);
            told.news(true, concern, now).map(|news| event(&news).reason)
        };
        assert_eq!(at(0, concern("a")), None, "it may be over at once");
        assert_eq!(at(5, None), None);
        assert_eq!(at(6, concern("a")), None);
        assert_eq!(at(16, concern("a")).as_deref(), Some("a"));
        assert_eq!(at(20, concern("a")), None);
        assert_eq!(at(21, concern("b")).as_deref(), Some("b"), "something else is wrong");
        assert_eq!(at(22 + AGAIN.as_secs(), concern("b")).as_deref(), Some("b"));
        assert_eq!(at(23 + AGAIN.as_secs(), None).as_deref(), Some("WebhookInForce"));
        assert_eq!(at(24 + AGAIN.as_secs(), None), None);
        let later = start + AGAIN * 2;
        assert_eq!(told.news(false, concern("a"), later), None, "another replica leads");
    }
}
