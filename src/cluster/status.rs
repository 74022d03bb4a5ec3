//! The status of policies: whether each is in force as it is written. The leading replica writes it, and only where it says
//! something else than it should.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    call,
    install::{AppliedReach, Concern, EntryState, WebhookReport},
    inventory::{ClusterInventory, Watched},
    last_review::LastReview,
    reach::{ReachRule, exempt::ExemptReach},
    state::{KnownPolicy, Reported, Reviewed},
};
use crate::{
    domain::{
        evidence::KnownRoots,
        identity::Signer,
        policy::{Mode, PolicyEntry, PolicyId},
    },
    gather::ports::RootKeeper,
};

/// How long a message may be: it is read in a terminal.
const MESSAGE_LIMIT: usize = 2000;
/// How often is looked whether all is as it should be, beside each change.
const LOOK: Duration = Duration::from_secs(30);
/// How long changes are gathered: a folder of policies is applied one by one.
const GATHERING: Duration = Duration::from_millis(100);

/// How long the first look of a new leader waits until it is known how the webhook configurations stand, and since when.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What is told of a policy while API servers may not have followed the change of the webhook configurations.
const NOT_SELECTED_YET: &str = "the policy is not in force yet: the API server does not send the workloads that it is about to the webhook";

/// What the status of policies says besides the policies themselves.
pub struct Surroundings {
    /// The trust roots that are in force.
    pub roots: Arc<dyn RootKeeper>,
    /// How the webhook configurations stand.
    pub webhooks: watch::Receiver<WebhookReport>,
    /// When a replica last answered a review.
    pub last_review: Arc<LastReview>,
    /// What decides which workloads the webhook configurations select.
    pub rule: ReachRule,
    /// What they select; `None` while this replica does not lead.
    pub applied: watch::Receiver<Option<AppliedReach>>,
}

/// Writes statuses forever, while `leads` says that it is this replica's to do.
pub async fn run(
    client: Client,
    inventory: Arc<ClusterInventory>,
    mut surroundings: Surroundings,
    mut leads: watch::Receiver<bool>,
) {
    let mut written: HashMap<PolicyId, (String, Reported)> = HashMap::new();
    loop {
        if !*leads.borrow_and_update() {
            written.clear();
            if leads.changed().await.is_err() {
                return;
            }
            let Surroundings { webhooks, applied, .. } = &mut surroundings;
            let known = async {
                let _ = webhooks.wait_for(|report| report.workloads().is_some()).await;
                let _ = applied.wait_for(|seen| seen.as_ref().is_some_and(AppliedReach::is_settled)).await;
            };
            let _ = tokio::time::timeout(FIRST_LOOK, known).await;
            continue;
        }
        let webhooks = surroundings.webhooks.borrow_and_update().clone();
        let last_review = surroundings.last_review.latest();
        let (policies, namespaces) = (inventory.policies(), inventory.namespaces());
        written
            .retain(|id, (uid, _)| policies.iter().any(|(known, policy)| known == id && policy.uid == *uid));
        for (id, policy) in policies {
            let entries = surroundings.applied.borrow_and_update().clone();
            let selection =
                Selection { rule: &surroundings.rule, entries: entries.as_ref(), namespaces: &namespaces };
            let (wanted, reason) =
                report(&policy, &surroundings.roots.known(), &webhooks, last_review, &selection);
            // What was written comes back by the watch; until then it need not be written again.
            let is_there = policy.reported.as_ref().is_some_and(|reported| reported.says(&wanted))
                || written.get(&id).is_some_and(|(_, written)| written.says(&wanted));
            if is_there || !*leads.borrow() {
                continue;
            }
            match write(&client, &id, &policy, &wanted, reason).await {
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
            Ok(()) = surroundings.webhooks.changed() => tokio::time::sleep(GATHERING).await,
            Ok(()) = surroundings.applied.changed() => {}
            () = tokio::time::sleep(LOOK) => written.clear(),
        }
    }
}

/// What decides whether a policy's workloads are reviewed.
struct Selection<'a> {
    rule: &'a ReachRule,
    /// What the webhook configurations select; `None` while that is not known.
    entries: Option<&'a AppliedReach>,
    /// The labels of each namespace.
    namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
}

/// What the status should say, and the reason of the condition `Ready`.
fn report(
    policy: &KnownPolicy,
    roots: &KnownRoots,
    webhooks: &WebhookReport,
    last_review: Option<Timestamp>,
    selection: &Selection<'_>,
) -> (Reported, &'static str) {
    let Selection { rule, entries, namespaces } = *selection;
    let exempt = ExemptReach::of_labels(&policy.entry, &rule.exempt, namespaces);
    let needed = rule.reach([&policy.entry]);
    let is_selected = entries.is_some_and(|entries| entries.covers(&needed));
    let before = policy.reported.as_ref().and_then(|reported| reported.reviewed.as_ref());
    let reviewed = reviewed(webhooks, last_review, before);
    let concern = match &reviewed {
        Some(_) => webhooks.concern(),
        None => Some(Concern {
            reason: "WebhookUnknown",
            message: "it is not known whether the API server sends workloads to the webhook".to_owned(),
            why: None,
            is_open: true,
        }),
    };
    let also = concern.as_ref().map(|concern| format!("; {}", concern.message)).unwrap_or_default();
    let (ready, reason, mut message) = match &policy.entry {
        _ if exempt.as_ref().is_some_and(ExemptReach::is_all) => (false, "NamespaceExempt", String::new()),
        PolicyEntry::Valid(policy) => {
            let lack = |signer: &Signer| {
                let lack = roots.lack(signer.root()?)?;
                Some(format!("nothing satisfies the signer {}: {lack}", signer.name))
            };
            let lacking: Vec<String> = policy.all_signers().filter_map(lack).collect();
            match concern {
                _ if !lacking.is_empty() => {
                    (false, "TrustRootNotInForce", format!("{}{also}", lacking.join("; ")))
                }
                Some(concern) if concern.is_open => {
                    (false, concern.reason, format!("the policy is not in force: {}", concern.message))
                }
                _ if !is_selected => (false, "NotSelectedYet", format!("{NOT_SELECTED_YET}{also}")),
                _ if policy.lacks_summary_signers() => {
                    let summaries = "spec.vsa.signers is missing, so no verification summary suffices";
                    (true, "Compiled", format!("the policy is in force for provenance; {summaries}{also}"))
                }
                _ => (true, "Compiled", format!("the policy is in force{also}")),
            }
        }
        PolicyEntry::Invalid(invalid) => {
            let errors = invalid.errors.join("; ");
            let effect = match invalid.mode {
                Mode::Enforce => "denies every image it is for",
                Mode::Warn => "warns of every image it is for, and denies none",
                Mode::Audit => "records every image it is for, and denies none",
            };
            (false, "Invalid", format!("the policy {effect}: {errors}{also}"))
        }
    };
    if let Some(exempt) = exempt {
        let separator = if message.is_empty() { "" } else { "; " };
        message = format!("{message}{separator}{exempt}");
    }
    let message = shortened(message);
    (Reported { generation: policy.generation, ready, message, since: None, reviewed }, reason)
}

/// What the last part of the message of `Reviewed` begins with.
const LAST_REVIEW: &str = "a review was last seen ";

/// Whether the API server sends workloads to the webhook; `None` while that is not known. The time of the last review is told by the
/// hour, so that statuses are written rarely; until this process has seen one, what `before` says of it stays.
fn reviewed(
    webhooks: &WebhookReport,
    last_review: Option<Timestamp>,
    before: Option<&Reviewed>,
) -> Option<Reviewed> {
    let (is_true, reason) = match (webhooks.concern(), webhooks.workloads()?) {
        (Some(concern), _) => (!concern.is_open, concern.reason),
        (None, EntryState::Absent) => (false, "WebhookNotInstalled"),
        (None, EntryState::Unneeded) => (false, "NothingToReview"),
        (None, EntryState::Ignore) => (true, "FailurePolicyIgnore"),
        (None, EntryState::Fail) => (true, "FailurePolicyFail"),
    };
    let entries = webhooks.entries();
    let reviewing = entries.iter().filter(|(name, _)| !matches!(*name, "policies" | "lease"));
    let entries: Vec<String> = reviewing.map(|(name, state)| format!("{name} {}", state.as_str())).collect();
    let seen = match (last_review, before) {
        (Some(at), _) => at.strftime(&format!("{LAST_REVIEW}on %Y-%m-%d after %H:00 UTC")).to_string(),
        (None, Some(before)) if before.message.contains(LAST_REVIEW) => {
            before.message.rsplit("; ").next().unwrap_or_default().to_owned()
        }
        (None, _) => "no review was seen yet".to_owned(),
    };
    let message = format!("webhook entries: {}; {seen}", entries.join(", "));
    Some(Reviewed { is_true, reason: reason.to_owned(), message, since: None })
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
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, is_true: bool, reason: &str, message: &str, since: Option<String>| {
        json!({
            "type": kind,
            "status": if is_true { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "observedGeneration": wanted.generation,
            "lastTransitionTime": since.unwrap_or_else(|| now.clone()),
        })
    };
    let since = before.filter(|before| before.ready == wanted.ready).and_then(|before| before.since.clone());
    let mut conditions = vec![condition("Ready", wanted.ready, reason, &wanted.message, since)];
    if let Some(reviewed) = &wanted.reviewed {
        let before = before.and_then(|before| before.reviewed.as_ref());
        let since = before
            .filter(|before| before.is_true == reviewed.is_true)
            .and_then(|before| before.since.clone());
        let (reason, message) = (&reviewed.reason, &reviewed.message);
        conditions.push(condition("Reviewed", reviewed.is_true, reason, message, since));
    }
    json!({"observedGeneration": wanted.generation, "conditions": conditions})
}

async fn write(
    client: &Client,
    id: &PolicyId,
    policy: &KnownPolicy,
    wanted: &Reported,
    reason: &str,
) -> Result<(), kube::Error> {
    let api = policies(client, id);
    // The uid sees to it that another object of the name is left alone.
    let patch = json!({
        "metadata": {"uid": policy.uid},
        "status": status(wanted, reason, policy.reported.as_ref(), Timestamp::now()),
    });
    // One that hangs keeps no other status from being written.
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    call::within(call::LIMIT, api.patch_status(&id.name, &params, &patch)).await.map(drop)
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
mod tests;
