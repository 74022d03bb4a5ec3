//! What statuses say, and when they need not be written.

use super::*;
use crate::{
    api::compile::{NoKeys, compile},
    cluster::{
        install::Reachability,
        reach::{ReachMode, WebhookReach},
        webhooks::{FailurePolicy, WebhookSettings},
    },
    domain::policy::Unmatched,
};

fn reported(ready: bool, since: &str) -> Reported {
    Reported { generation: 3, ready, message: "m".to_owned(), since: Some(since.to_owned()), reviewed: None }
}

fn settings(failure_policy: FailurePolicy) -> WebhookSettings {
    WebhookSettings {
        name: "bonafide".to_owned(),
        namespace: "ns".to_owned(),
        service_port: 443,
        failure_policy,
        timeout_seconds: 10,
        exempt_namespaces: Vec::new(),
        binding_failure_policy: None,
        reach: WebhookReach::EVERYTHING,
        opt_out_label: None,
        pinning: true,
        ca_bundle: None,
    }
}

fn webhooks(failure_policy: FailurePolicy, reachability: Reachability) -> WebhookReport {
    WebhookReport::complete(&settings(failure_policy), reachability)
}

fn not_reached() -> Reachability {
    Reachability::NotReached { since: tokio::time::Instant::now(), why: "Nobody listens.".to_owned() }
}

fn policy(trust_root: Option<&str>, before: Option<Reviewed>) -> KnownPolicy {
    let mut signer =
        json!({"name": "release", "certificate": {"issuer": "https://ci.example", "subject": "build"}});
    if let Some(root) = trust_root {
        signer["trustRoot"] = json!(root);
    }
    let object = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"images": {"include": ["ghcr.io/o/a"]}, "signers": [signer]},
    });
    let reported = before.map(|reviewed| Reported { reviewed: Some(reviewed), ..reported(true, "") });
    let entry = compile(&object, &NoKeys).entry;
    assert!(matches!(entry, PolicyEntry::Valid(_)), "{entry:?}");
    KnownPolicy { uid: "u".to_owned(), generation: 3, entry, reported, keyed: None, beyond_budget: false }
}

fn roots() -> KnownRoots {
    KnownRoots {
        in_force: [crate::domain::identity::TrustRootName::default()].into(),
        ..KnownRoots::default()
    }
}

fn rule(exempt: &[&str]) -> ReachRule {
    let exempt = exempt.iter().map(|name| (*name).to_owned()).collect();
    ReachRule { mode: ReachMode::Namespaces, unmatched: Unmatched::Allow, exempt }
}

/// Where no namespace has labels.
const fn selection<'a>(rule: &'a ReachRule, entries: Option<&'a AppliedReach>) -> Selection<'a> {
    static NAMESPACES: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    Selection { rule, entries, namespaces: &NAMESPACES }
}

/// Both conditions as they are written.
fn conditions(policy: &KnownPolicy, webhooks: &WebhookReport, last: Option<&str>) -> String {
    let last = last.map(|time| time.parse().unwrap());
    let reach = AppliedReach::settled(WebhookReach::EVERYTHING);
    let (wanted, reason) = report(policy, &roots(), webhooks, last, &selection(&rule(&[]), Some(&reach)));
    let status = status(&wanted, reason, policy.reported.as_ref(), "2026-11-28T09:00:00Z".parse().unwrap());
    let conditions = status["conditions"].as_array().unwrap().iter().map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap();
        format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
    });
    conditions.collect::<Vec<_>>().join("\n")
}

#[test]
fn e6_ready_is_true_only_where_workloads_are_sent_to_the_webhook() {
    let settings = settings(FailurePolicy::Fail);
    let mut unproven = WebhookReport::complete(&settings, not_reached());
    unproven.remove_entries();
    let cases = [
        ("in force", webhooks(FailurePolicy::Fail, Reachability::Reached)),
        (
            "in force, and open while no replica answers",
            webhooks(FailurePolicy::Ignore, Reachability::Reached),
        ),
        ("not reached any more, and closed", webhooks(FailurePolicy::Fail, not_reached())),
        ("not reached any more, and open", webhooks(FailurePolicy::Ignore, not_reached())),
        ("never reached", unproven),
        ("not known", WebhookReport::new(&settings)),
    ];
    let told = cases.map(|(what, webhooks)| {
        format!("# {what}\n{}", conditions(&policy(None, None), &webhooks, Some("2026-11-28T08:59:59Z")))
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn b8_ready_is_true_only_where_the_entries_select_what_the_policy_is_about() {
    let webhooks = webhooks(FailurePolicy::Fail, Reachability::Reached);
    let told = |rule: &ReachRule, selected: Option<&WebhookReach>| {
        let applied = selected.cloned().map(AppliedReach::settled);
        let (wanted, reason) =
            report(&policy(None, None), &roots(), &webhooks, None, &selection(rule, applied.as_ref()));
        format!("Ready={} {reason}: {}", wanted.ready, wanted.message)
    };
    let own = rule(&[]).reach([&policy(None, None).entry]);
    assert_eq!(told(&rule(&[]), Some(&own)), "Ready=true Compiled: the policy is in force");
    assert_eq!(told(&rule(&[]), None), told(&rule(&[]), Some(&WebhookReach::Nothing)));
    insta::assert_snapshot!(
        [told(&rule(&[]), Some(&WebhookReach::Nothing)), told(&rule(&["ns"]), Some(&own))].join("\n")
    );
}

#[test]
fn e6_ready_is_false_where_a_signer_names_a_root_that_is_not_there() {
    let webhooks = webhooks(FailurePolicy::Fail, Reachability::Reached);
    assert!(conditions(&policy(None, None), &webhooks, None).starts_with("Ready=True Compiled"));
    let told = conditions(&policy(Some("corp"), None), &webhooks, None);
    insta::assert_snapshot!(told);
}

#[test]
fn e6_the_status_of_an_invalid_policy_says_what_it_does() {
    let webhooks = webhooks(FailurePolicy::Fail, Reachability::Reached);
    let told = ["Enforce", "Warn", "Audit", "audit"].map(|mode| {
        let object = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"mode": mode, "images": {"include": ["ghcr.io/o/a"]}, "signers": []},
        });
        let policy = KnownPolicy { entry: compile(&object, &NoKeys).entry, ..policy(None, None) };
        let told = conditions(&policy, &webhooks, None);
        told.lines().next().unwrap_or_default().split(": spec").next().unwrap_or_default().to_owned()
    });
    let denies = "Ready=False Invalid: the policy denies every image it is for";
    assert_eq!(
        told,
        [
            denies,
            "Ready=False Invalid: the policy warns of every image it is for, and denies none",
            "Ready=False Invalid: the policy records every image it is for, and denies none",
            denies,
        ]
    );
}

#[test]
fn e6_the_last_review_is_told_by_the_hour_and_a_new_leader_keeps_what_was_told() {
    let webhooks = webhooks(FailurePolicy::Fail, Reachability::Reached);
    let message = |last: Option<&str>, before: Option<Reviewed>| {
        let before = before.or_else(|| policy(None, None).reported?.reviewed);
        reviewed(&webhooks, last.map(|time| time.parse().unwrap()), before.as_ref()).unwrap()
    };
    let first = message(Some("2026-11-28T08:00:01Z"), None);
    assert!(
        first.message.ends_with("a review was last seen on 2026-11-28 after 08:00 UTC"),
        "{}",
        first.message
    );
    assert!(first.says(&message(Some("2026-11-28T08:59:59Z"), None)), "nothing is written");
    assert!(!first.says(&message(Some("2026-11-28T09:00:00Z"), None)));
    assert!(first.says(&message(None, Some(first.clone()))), "it has seen none itself");
    assert!(message(None, None).message.ends_with("no review was seen yet"));
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
