//! What is meant to be in a webhook configuration, held against what is there.

use std::collections::BTreeSet;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    },
};
use kube::{core::DynamicObject, discovery::ApiResource};
use serde_json::Value;

use super::report::EntryState;
use crate::cluster::{
    reach::WebhookReach,
    webhooks::{self, FailurePolicy, WebhookSettings},
};

/// What the names of our webhooks end with.
const OURS: &str = ".bonafide.dev";

/// The two configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Validating,
    Mutating,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Validating, Self::Mutating];

    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Validating => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
            Self::Mutating => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        }
    }

    /// The webhooks that are to be in it.
    pub(super) fn wanted(
        self,
        settings: &WebhookSettings,
        stage: Stage,
    ) -> Result<Entries, serde_json::Error> {
        let complete = |policy| WebhookSettings {
            failure_policy: policy,
            // What is not closed yet is open for bindings too.
            binding_failure_policy: settings
                .binding_failure_policy
                .filter(|_| policy == settings.failure_policy),
            ..settings.clone()
        };
        let object = match (self, stage) {
            (Self::Validating, Stage::Unproven) => serde_json::to_value(webhooks::unproven(settings))?,
            (Self::Mutating, Stage::Unproven) => serde_json::to_value(webhooks::unproven_mutating(settings))?,
            (Self::Validating, Stage::Complete(policy)) => {
                serde_json::to_value(webhooks::installed(&complete(policy)))?
            }
            (Self::Mutating, Stage::Complete(policy)) => {
                serde_json::to_value(webhooks::installed_mutating(&complete(policy)))?
            }
        };
        Entries::of(object.get("webhooks"))
    }
}

/// Which entries a configuration is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The entry for policies and the one for the Lease: the API server has not been seen to reach the webhook.
    Unproven,
    /// All, with this failure policy for workloads.
    Complete(FailurePolicy),
}

/// The webhooks of a configuration. The mutating form has every field of the validating one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entries {
    ours: Vec<MutatingWebhook>,
    /// As they are written.
    json: Vec<Value>,
}

impl Entries {
    fn of(list: Option<&Value>) -> Result<Self, serde_json::Error> {
        let json = list.and_then(Value::as_array).cloned().unwrap_or_default();
        let ours = json.iter().filter(|entry| is_ours(entry)).cloned().map(serde_json::from_value);
        Ok(Self { ours: ours.collect::<Result<_, _>>()?, json })
    }

    /// Those that an object has; none where they cannot be read.
    pub(super) fn seen(object: &DynamicObject) -> Self {
        let list = object.data.get("webhooks");
        Self::of(list).unwrap_or_else(|_| Self {
            ours: Vec::new(),
            json: list.and_then(Value::as_array).cloned().unwrap_or_default(),
        })
    }

    pub(super) fn json(&self) -> &[Value] {
        &self.json
    }

    /// Whether these, as seen, are as wanted. Where no bundle is wanted, it is somebody else's, and any is as good.
    pub(super) fn are(&self, wanted: &Self) -> bool {
        let alike = |seen: &MutatingWebhook, wanted: &MutatingWebhook| {
            let mut seen = seen.clone();
            if wanted.client_config.ca_bundle.is_none() {
                seen.client_config.ca_bundle = None;
            }
            seen == *wanted
        };
        self.ours.len() == wanted.ours.len()
            && wanted.ours.iter().all(|wanted| self.ours.iter().any(|seen| alike(seen, wanted)))
    }

    /// Whether these have the API server send the workloads that `wanted` would have it send, however it goes on where that fails. Somebody
    /// may have added a selector or a condition, or have taken rules away.
    pub(super) fn send_as(&self, wanted: &Self) -> bool {
        let sending = |entry: &MutatingWebhook| {
            let mut entry = entry.clone();
            entry.client_config.ca_bundle = None;
            MutatingWebhook {
                failure_policy: None,
                timeout_seconds: None,
                reinvocation_policy: None,
                ..entry
            }
        };
        let seen: Vec<MutatingWebhook> = self.ours.iter().map(sending).collect();
        let of_workloads = wanted.ours.iter().filter(|entry| !webhooks::is_harmless(&entry.name));
        of_workloads.map(sending).all(|wanted| seen.contains(&wanted))
    }

    /// Whether each of ours has this bundle.
    pub(super) fn trust(&self, bundle: &[u8]) -> bool {
        let of = |entry: &MutatingWebhook| {
            entry.client_config.ca_bundle.as_ref().is_some_and(|ByteString(found)| found == bundle)
        };
        self.ours.iter().all(of)
    }

    /// Whether requests are denied already where one of ours cannot be reached.
    pub(super) fn deny(&self) -> bool {
        let fail = Some(FailurePolicy::Fail.as_str());
        self.ours.iter().any(|entry| entry.failure_policy.as_deref() == fail)
    }

    /// Whether workloads or bindings are sent to the webhook.
    pub(super) fn review(&self) -> bool {
        self.ours.iter().any(|entry| !webhooks::is_harmless(&entry.name))
    }

    /// What they select of workloads; `None` where that is not as it is written here.
    pub(super) fn reach(&self, exempt: &BTreeSet<String>) -> Option<WebhookReach> {
        let of_workloads = self.ours.iter().filter(|entry| !webhooks::is_harmless(&entry.name));
        let mut all = of_workloads.map(|entry| {
            let namespaces = entry.namespace_selector.clone().unwrap_or_default();
            let conditions = entry.match_conditions.as_deref().unwrap_or_default();
            let reach = webhooks::selected(&namespaces, conditions, exempt)?;
            // A binding shows no images.
            Some(if webhooks::is_binding(&entry.name) { reach.of_every_image() } else { reach })
        });
        let Some(first) = all.next() else { return Some(WebhookReach::Nothing) };
        // What all entries select. The one for bindings follows the one for workloads.
        all.try_fold(first?, |reach, next| Some(reach.intersection(next?)))
    }

    /// The authorities that the API server trusts, the same for each of ours. A version without probes writes no entry but that for pods
    /// into the mutating configuration.
    pub(super) fn bundle(&self) -> Option<Vec<u8>> {
        let (harmless, reviewing): (Vec<_>, Vec<_>) =
            self.ours.iter().partition(|entry| webhooks::is_harmless(&entry.name));
        let bundles = harmless.into_iter().chain(reviewing).map(|entry| &entry.client_config.ca_bundle);
        bundles.flatten().map(|ByteString(bundle)| bundle.clone()).next()
    }

    /// Whether these review workloads and send no probes: a replica of a version without probes wrote them.
    pub(super) fn are_without_probes(&self) -> bool {
        self.review() && !self.ours.iter().any(|entry| webhooks::is_lease(&entry.name))
    }

    /// How each of ours stands, by the first part of its name.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, EntryState)> {
        self.ours.iter().map(|entry| {
            let denies = entry.failure_policy.as_deref() != Some(FailurePolicy::Ignore.as_str());
            let state = if denies { EntryState::Fail } else { EntryState::Ignore };
            (entry.name.trim_end_matches(OURS), state)
        })
    }

    /// The whole list with ours as wanted, and nothing of what somebody added to them; what is not ours stays.
    pub(super) fn replaced(&self, wanted: &Self) -> Vec<Value> {
        let mut list: Vec<Value> = self.json.iter().filter(|entry| !is_ours(entry)).cloned().collect();
        for entry in &wanted.json {
            let mut entry = entry.clone();
            let seen = self.json.iter().find(|seen| seen.get("name") == entry.get("name"));
            let bundle = seen.and_then(|seen| seen.get("clientConfig")?.get("caBundle"));
            if let (Some(bundle), Some(config)) =
                (bundle, entry.get_mut("clientConfig").and_then(Value::as_object_mut))
            {
                config.entry("caBundle").or_insert_with(|| bundle.clone());
            }
            list.push(entry);
        }
        list
    }
}

fn is_ours(entry: &Value) -> bool {
    entry.get("name").and_then(Value::as_str).is_some_and(|name| name.ends_with(OURS))
}

/// Who else wrote the object's webhooks, by the names they gave themselves.
pub(super) fn others(object: &DynamicObject, manager: &str) -> String {
    let fields = object.metadata.managed_fields.iter().flatten();
    let mut others: Vec<&str> = fields
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:webhooks").is_some()))
        .filter_map(|entry| entry.manager.as_deref())
        .filter(|name| *name != manager)
        .collect();
    others.dedup();
    if others.is_empty() { "unknown".to_owned() } else { others.join(", ") }
}
