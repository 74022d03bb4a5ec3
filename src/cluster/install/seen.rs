//! How the configurations stand, followed on every replica.

use kube::{Api, Client, core::DynamicObject, runtime::watcher};
use tokio::sync::{Notify, watch::Sender};

use super::{
    entries::{Entries, Kind},
    modify,
    report::WebhookReport,
};
use crate::cluster::watch::{self as follow, Change};

/// Tells of every change of a configuration, forever. Where it cannot be followed, looking at it now and then must do.
pub(super) async fn watch(
    client: &Client,
    kind: Kind,
    name: &str,
    changes: &Notify,
    report: &Sender<WebhookReport>,
) {
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let events = watcher::watcher(objects, follow::settings().fields(&format!("metadata.name={name}")));
    follow::follow(
        events,
        |object| of(&object),
        |change| {
            match change {
                Change::All(all) => see(report, kind, all.first()),
                Change::One(one) => see(report, kind, Some(&one)),
                Change::Gone(_) => see(report, kind, None),
                Change::Lost(_) | Change::Absent(_) => {}
            }
            changes.notify_one();
        },
    )
    .await;
}

/// What matters of a configuration: its entries and its uid.
pub(super) fn of(object: &DynamicObject) -> (Entries, Option<String>) {
    (Entries::seen(object), object.metadata.uid.clone())
}

pub(super) fn see(report: &Sender<WebhookReport>, kind: Kind, seen: Option<&(Entries, Option<String>)>) {
    modify(report, |report| report.see(kind, seen.map(|(entries, uid)| (uid.clone(), entries))));
}
