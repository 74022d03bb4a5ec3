//! The status of policies: whether each is in force as it is written. The leading replica writes it, and only where it says
//! something else than it should.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    inventory::{ClusterInventory, Watched},
    state::{KnownPolicy, Reported},
};
use crate::{
    domain::{
        evidence::KnownRoots,
        identity::Signer,
        policy::{PolicyEntry, PolicyId},
    },
    gather::ports::RootKeeper,
};

/// How long a message may be: it is read in a terminal.
const MESSAGE_LIMIT: usize = 2000;
/// How often is looked whether all is as it should be, beside each change.
const LOOK: Duration = Duration::from_secs(30);
/// How long changes are gathered: a folder of policies is applied one by one.
const GATHERING: Duration = Duration::from_millis(100);

/// Writes statuses for ever, while `leads` says that it is this replica's to do.
pub async fn run(
    client: Client,
    inventory: Arc<ClusterInventory>,
    roots: Arc<dyn RootKeeper>,
    mut leads: watch::Receiver<bool>,
) {
    let mut written: HashMap<PolicyId, (String, Reported)> = HashMap::new();
    loop {
        if !*leads.borrow_and_update() {
            written.clear();
            if leads.changed().await.is_err() {
                return;
            }
            continue;
        }
        let policies = inventory.policies();
        written
            .retain(|id, (uid, _)| policies.iter().any(|(known, policy)| known == id && policy.uid == *uid));
        for (id, policy) in policies {
            let wanted = report(&policy, &roots.known());
            // What was written comes back by the watch; until then it need not be written again.
            let is_there = policy.reported.as_ref().is_some_and(|reported| reported.says(&wanted))
                || written.get(&id).is_some_and(|(_, written)| written.says(&wanted));
            if is_there || !*leads.borrow() {
                continue;
            }
            match write(&client, &id, &policy, &wanted).await {
                Ok(()) => {
                    written.insert(id, (policy.uid, wanted));
                }
                Err(error) => {
                    tracing::warn!(
                        policy = id.to_string(),
                        error = error.to_string(),
                        "its status cannot be written"
                    );
                }
            }
        }
        tokio::select! {
            () = inventory.policies_changed() => tokio::time::sleep(GATHERING).await,
            _ = leads.changed() => {}
            () = tokio::time::sleep(LOOK) => written.clear(),
        }
    }
}

impl Reported {
    pub(super) fn says(&self, wanted: &Self) -> bool {
        self.generation == wanted.generation && self.ready == wanted.ready && self.message == wanted.message
    }
}

/// What the status should say.
fn report(policy: &KnownPolicy, roots: &KnownRoots) -> Reported {
    let (ready, message) = match &policy.entry {
        PolicyEntry::Valid(policy) => {
            let lack = |signer: &Signer| {
                roots
                    .lack(signer.root()?)
                    .map(|lack| format!("; nothing satisfies the signer {}: {lack}", signer.name))
            };
            let lacking: String = policy.signers.iter().filter_map(lack).collect();
            (true, format!("the policy is in force{lacking}"))
        }
        PolicyEntry::Invalid(invalid) => {
            (false, format!("the policy denies every image it is for: {}", invalid.errors.join("; ")))
        }
    };
    Reported { generation: policy.generation, ready, message: shortened(message), since: None }
}

pub(super) fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
        message.push('…');
    }
    message
}

/// The status object (`metav1.Condition`); the time stays where the condition does.
pub(super) fn status(wanted: &Reported, reason: &str, before: Option<&Reported>, now: Timestamp) -> Value {
    let since = before.filter(|before| before.ready == wanted.ready).and_then(|before| before.since.clone());
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "observedGeneration": wanted.generation,
        "conditions": [{
            "type": "Ready",
            "status": if wanted.ready { "True" } else { "False" },
            "reason": reason,
            "message": wanted.message,
            "observedGeneration": wanted.generation,
            "lastTransitionTime": since.unwrap_or(now),
        }],
    })
}

async fn write(
    client: &Client,
    id: &PolicyId,
    policy: &KnownPolicy,
    wanted: &Reported,
) -> Result<(), kube::Error> {
    let api = policies(client, id);
    let reason = if wanted.ready { "Compiled" } else { "Invalid" };
    // The uid sees to it that another object of the name is left alone.
    let patch = json!({
        "metadata": {"uid": policy.uid},
        "status": status(wanted, reason, policy.reported.as_ref(), Timestamp::now()),
    });
    api.patch_status(&id.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn policies(client: &Client, id: &PolicyId) -> Api<DynamicObject> {
    let plural = match id.namespace {
        Some(_) => Watched::Policies,
        None => Watched::ClusterPolicies,
    };
    let kind = GroupVersionKind::gvk("bonafide.dev", "v1alpha1", id.kind());
    let resource = ApiResource::from_gvk_with_plural(&kind, plural.as_str());
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(ready: bool, since: &str) -> Reported {
        Reported { generation: 3, ready, message: "m".to_owned(), since: Some(since.to_owned()) }
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change() {
        let now: Timestamp = "2026-11-23T08:00:00.5Z".parse().unwrap();
        let wanted = Reported { since: None, ..reported(true, "") };
        let time = |before: Option<&Reported>| {
            status(&wanted, "Compiled", before, now)["conditions"][0]["lastTransitionTime"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(time(None), "2026-11-23T08:00:00Z");
        assert_eq!(time(Some(&reported(false, "2026-01-01T00:00:00Z"))), "2026-11-23T08:00:00Z");
        assert_eq!(time(Some(&reported(true, "2026-01-01T00:00:00Z"))), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = shortened("é".repeat(MESSAGE_LIMIT));
        assert!(long.len() <= MESSAGE_LIMIT + '…'.len_utf8() && long.ends_with('…'));
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
