//! The webhook configurations, as they are to be in the API server.
//!
//! Nothing here talks to anybody. Whatever the API server would fill in is written out, so that what is there can be compared with
//! what is meant.

use std::collections::BTreeSet;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
};

use super::reach::{ImageReach, NamespaceReach, WebhookReach, exempt::exempt_namespaces, expression};
use crate::domain::policy::NAME_LABEL;

/// The value of the opt-out label that spares a namespace.
pub const OPTED_OUT: &str = "disabled";

/// The first part of the name of the entry for workloads.
pub(super) const WORKLOADS: &str = "workloads";
/// The same of the entry for bindings.
pub(super) const BINDINGS: &str = "bindings";
/// The same of the entry for pods, in the mutating configuration.
pub(super) const PODS: &str = "pods";
/// The first part of the name of the entry for policies.
const POLICIES: &str = "policies";
/// The same of the entry for the leader's probes.
const LEASE: &str = "lease";
/// Where probes are answered.
pub const PROBE_PATH: &str = "/probe";
/// The operators of label selectors.
const IN: &str = "In";
const NOT_IN: &str = "NotIn";
/// How long the API server waits for the answer to a probe, in seconds.
const PROBE_SECONDS: i32 = 2;

/// Whether an object's images and placement may be others than before. Whatever is not an update of a kind listed here is reviewed, and
/// so is everything that differs in more than it must: the webhook sees for itself that nothing changed, and asks nobody.
///
/// The pod's spec is compared as a whole. A field on the way to it that is not there is the same on both sides, and no error: an error
/// would be a denial, or with `failurePolicy: Ignore` an admission.
const MAY_HAVE_CHANGED: &str = "request.operation != 'UPDATE' || (\
    request.kind.kind == 'Pod' ? object.?spec != oldObject.?spec : \
    request.kind.kind == 'PodTemplate' ? object.?template.?spec != oldObject.?template.?spec : \
    request.kind.kind == 'CronJob' ? object.?spec.?jobTemplate.?spec.?template.?spec != oldObject.?spec.?jobTemplate.?spec.?template.?spec : \
    request.kind.kind in ['Deployment', 'ReplicaSet', 'StatefulSet', 'DaemonSet', 'Job', 'ReplicationController'] ? \
    object.?spec.?template.?spec != oldObject.?spec.?template.?spec : true)";

/// What the API server does where the webhook cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum FailurePolicy {
    /// It denies.
    #[default]
    Fail,
    /// It admits, unreviewed.
    Ignore,
}

impl FailurePolicy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

/// What the configurations depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// The name of the configurations and of the Service.
    pub name: String,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's port.
    pub service_port: u16,
    /// What becomes of workloads that cannot be reviewed.
    pub failure_policy: FailurePolicy,
    /// The same of bindings; `None`: as of workloads.
    pub binding_failure_policy: Option<FailurePolicy>,
    /// How long the API server waits, 1 to 30.
    pub timeout_seconds: u8,
    /// Namespaces whose workloads are not reviewed, beside `kube-system` and the Service's own.
    pub exempt_namespaces: Vec<String>,
    /// Which workloads are selected.
    pub reach: WebhookReach,
    /// The label that, with the value `disabled`, takes a namespace out.
    pub opt_out_label: Option<String>,
    /// Whether pods go through /mutate.
    pub pinning: bool,
    /// Who signs the serving certificate, PEM.
    pub ca_bundle: Option<Vec<u8>>,
}

impl WebhookSettings {
    /// The namespaces that are not reviewed, all of them.
    pub fn exempt(&self) -> BTreeSet<String> {
        exempt_namespaces(&self.namespace, &self.exempt_namespaces)
    }

    /// The same with entries that select this.
    #[must_use]
    pub fn reaching(&self, reach: WebhookReach) -> Self {
        Self { reach, ..self.clone() }
    }

    const fn selects_workloads(&self) -> bool {
        matches!(self.reach, WebhookReach::Workloads { .. })
    }
}

/// The validating configuration.
pub fn validating(settings: &WebhookSettings) -> ValidatingWebhookConfiguration {
    let workloads = ValidatingWebhook {
        failure_policy: Some(settings.failure_policy.as_str().to_owned()),
        match_conditions: Some(conditions(settings)),
        namespace_selector: Some(reviewed_namespaces(settings)),
        ..validating_webhook(settings, WORKLOADS, "/validate", workload_rules())
    };
    let of_bindings = settings.binding_failure_policy.unwrap_or(settings.failure_policy);
    let bindings = ValidatingWebhook {
        failure_policy: Some(of_bindings.as_str().to_owned()),
        namespace_selector: Some(reviewed_namespaces(settings)),
        // `bindings` is the older way to the same.
        ..validating_webhook(
            settings,
            BINDINGS,
            "/bind",
            vec![rule("", "v1", &["pods/binding", "bindings"], &["CREATE"], "Namespaced")],
        )
    };
    let mut webhooks = if settings.selects_workloads() { vec![workloads, bindings] } else { Vec::new() };
    webhooks.push(policies(settings));
    ValidatingWebhookConfiguration { metadata: metadata(settings), webhooks: Some(webhooks) }
}

/// The validating configuration as the leader installs it: with the entry by which it sees whether the API server reaches the webhook.
pub(super) fn installed(settings: &WebhookSettings) -> ValidatingWebhookConfiguration {
    let mut configuration = validating(settings);
    configuration.webhooks.get_or_insert_default().push(lease(settings));
    configuration
}

/// The validating configuration while the API server has not been seen to reach the webhook: no workload waits for it.
pub(super) fn unproven(settings: &WebhookSettings) -> ValidatingWebhookConfiguration {
    let timeout_seconds = Some(PROBE_SECONDS.min(settings.timeout_seconds.into()));
    let policies = ValidatingWebhook { timeout_seconds, ..policies(settings) };
    ValidatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(vec![policies, lease(settings)]),
    }
}

/// Whether the entry of this name never delays or denies a workload.
pub(super) fn is_harmless(name: &str) -> bool {
    [POLICIES, LEASE].iter().any(|harmless| name.split_once('.').is_some_and(|(first, _)| first == *harmless))
}

/// Whether the entry of this name is the one for bindings.
pub(super) fn is_binding(name: &str) -> bool {
    name.split_once('.').is_some_and(|(first, _)| first == BINDINGS)
}

/// Whether the entry of this name is the one for probes.
pub(super) fn is_lease(name: &str) -> bool {
    name.split_once('.').is_some_and(|(first, _)| first == LEASE)
}

fn policies(settings: &WebhookSettings) -> ValidatingWebhook {
    let kinds = ["provenancepolicies", "clusterprovenancepolicies", "trustroots"];
    // A policy that gets in unseen fails closed where it is wrong, so none has to wait for the webhook.
    ValidatingWebhook {
        failure_policy: Some(FailurePolicy::Ignore.as_str().to_owned()),
        // The entries are widened for what a policy needs before the policy is there.
        side_effects: "NoneOnDryRun".to_owned(),
        ..validating_webhook(
            settings,
            POLICIES,
            "/validate-policy",
            vec![rule("bonafide.dev", "v1alpha1", &kinds, &["CREATE", "UPDATE"], "*")],
        )
    }
}

/// Sends the leader's probes to the webhook: dry-run updates of the release's own Lease, and nothing else. The election's own writes
/// never wait for the webhook.
fn lease(settings: &WebhookSettings) -> ValidatingWebhook {
    let own = LabelSelectorRequirement {
        key: NAME_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![settings.namespace.clone()]),
    };
    let expression = format!("request.name == '{}' && has(request.dryRun) && request.dryRun", settings.name);
    ValidatingWebhook {
        failure_policy: Some(FailurePolicy::Ignore.as_str().to_owned()),
        match_conditions: Some(vec![MatchCondition {
            name: "dry-run-of-the-own-lease".to_owned(),
            expression,
        }]),
        namespace_selector: Some(LabelSelector { match_expressions: Some(vec![own]), match_labels: None }),
        timeout_seconds: Some(PROBE_SECONDS),
        ..validating_webhook(
            settings,
            LEASE,
            PROBE_PATH,
            vec![rule("coordination.k8s.io", "v1", &["leases"], &["UPDATE"], "Namespaced")],
        )
    }
}

/// The mutating configuration; without pinning it reviews nothing.
pub fn mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    let pods = MutatingWebhook {
        failure_policy: Some(settings.failure_policy.as_str().to_owned()),
        match_conditions: Some(conditions(settings)),
        namespace_selector: Some(reviewed_namespaces(settings)),
        // Another webhook may add a container after this one has been asked.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        ..mutating_webhook(settings, PODS, "/mutate", pod_rules())
    };
    MutatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(if settings.pinning && settings.selects_workloads() {
            vec![pods]
        } else {
            Vec::new()
        }),
    }
}

/// The mutating configuration as the leader installs it. Its entry for probes is served before any `ValidatingAdmissionPolicy` is
/// evaluated, which might refuse them.
pub(super) fn installed_mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    let mut configuration = mutating(settings);
    configuration.webhooks.get_or_insert_default().push(mutating_lease(settings));
    configuration
}

/// The mutating configuration while the API server has not been seen to reach the webhook.
pub(super) fn unproven_mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    MutatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(vec![mutating_lease(settings)]),
    }
}

/// The same as [`lease`]. It is there without pinning too: no `ValidatingAdmissionPolicy` comes before it.
fn mutating_lease(settings: &WebhookSettings) -> MutatingWebhook {
    let lease = lease(settings);
    MutatingWebhook {
        failure_policy: lease.failure_policy,
        match_conditions: lease.match_conditions,
        namespace_selector: lease.namespace_selector,
        timeout_seconds: lease.timeout_seconds,
        ..mutating_webhook(settings, LEASE, PROBE_PATH, lease.rules.unwrap_or_default())
    }
}

fn mutating_webhook(
    settings: &WebhookSettings,
    name: &str,
    path: &str,
    rules: Vec<RuleWithOperations>,
) -> MutatingWebhook {
    MutatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client(settings, path),
        match_policy: Some("Equivalent".to_owned()),
        name: format!("{name}.bonafide.dev"),
        namespace_selector: Some(LabelSelector::default()),
        object_selector: Some(LabelSelector::default()),
        reinvocation_policy: Some("Never".to_owned()),
        rules: Some(rules),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(settings.timeout_seconds.into()),
        ..MutatingWebhook::default()
    }
}

fn metadata(settings: &WebhookSettings) -> ObjectMeta {
    ObjectMeta { name: Some(settings.name.clone()), ..ObjectMeta::default() }
}

fn validating_webhook(
    settings: &WebhookSettings,
    name: &str,
    path: &str,
    rules: Vec<RuleWithOperations>,
) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client(settings, path),
        match_policy: Some("Equivalent".to_owned()),
        name: format!("{name}.bonafide.dev"),
        namespace_selector: Some(LabelSelector::default()),
        object_selector: Some(LabelSelector::default()),
        rules: Some(rules),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(settings.timeout_seconds.into()),
        ..ValidatingWebhook::default()
    }
}

fn client(settings: &WebhookSettings, path: &str) -> WebhookClientConfig {
    WebhookClientConfig {
        ca_bundle: settings.ca_bundle.clone().map(ByteString),
        service: Some(ServiceReference {
            name: settings.name.clone(),
            namespace: settings.namespace.clone(),
            path: Some(path.to_owned()),
            port: Some(settings.service_port.into()),
        }),
        url: None,
    }
}

/// Everything that names the images of pods: what the webhook reads is what it is asked about.
fn workload_rules() -> Vec<RuleWithOperations> {
    let made_or_changed = ["CREATE", "UPDATE"];
    let mut rules = pod_rules();
    let kinds = ["replicationcontrollers", "podtemplates"];
    rules.push(rule("", "v1", &kinds, &made_or_changed, "Namespaced"));
    let kinds = ["deployments", "replicasets", "statefulsets", "daemonsets"];
    rules.push(rule("apps", "v1", &kinds, &made_or_changed, "Namespaced"));
    rules.push(rule("batch", "v1", &["jobs", "cronjobs"], &made_or_changed, "Namespaced"));
    rules
}

fn pod_rules() -> Vec<RuleWithOperations> {
    vec![
        rule("", "v1", &["pods"], &["CREATE", "UPDATE"], "Namespaced"),
        rule("", "v1", &["pods/ephemeralcontainers"], &["UPDATE"], "Namespaced"),
    ]
}

fn rule(
    group: &str,
    version: &str,
    resources: &[&str],
    operations: &[&str],
    scope: &str,
) -> RuleWithOperations {
    let all = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    RuleWithOperations {
        api_groups: all(&[group]),
        api_versions: all(&[version]),
        operations: all(operations),
        resources: all(resources),
        scope: Some(scope.to_owned()),
    }
}

fn may_have_changed() -> MatchCondition {
    MatchCondition {
        name: "images-or-placement-may-have-changed".to_owned(),
        expression: MAY_HAVE_CHANGED.to_owned(),
    }
}

/// What must hold of a workload for it to be sent; the API server sends it where all of them do.
fn conditions(settings: &WebhookSettings) -> Vec<MatchCondition> {
    let images = match &settings.reach {
        WebhookReach::Workloads { images: ImageReach::Containing(fragments), .. } => {
            expression::images(fragments)
        }
        WebhookReach::Workloads { images: ImageReach::Every, .. } | WebhookReach::Nothing => None,
    };
    let images = images.map(|expression| MatchCondition { name: expression::NAME.to_owned(), expression });
    [may_have_changed()].into_iter().chain(images).collect()
}

/// Those that the entries select: of those that have a policy, or of all but the exempt ones, those that have not opted out.
fn reviewed_namespaces(settings: &WebhookSettings) -> LabelSelector {
    let exempt = settings.exempt();
    let (operator, names): (_, Vec<String>) = match &settings.reach {
        WebhookReach::Workloads { namespaces: NamespaceReach::Named(names), .. } => {
            (IN, names.difference(&exempt).cloned().collect())
        }
        WebhookReach::Workloads { namespaces: NamespaceReach::Every, .. } | WebhookReach::Nothing => {
            (NOT_IN, exempt.into_iter().collect())
        }
    };
    let requirement = |key: &str, operator: &str, values| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values),
    };
    let mut requirements = vec![requirement(NAME_LABEL, operator, names)];
    if let Some(label) = &settings.opt_out_label {
        requirements.push(requirement(label, NOT_IN, vec![OPTED_OUT.to_owned()]));
    }
    LabelSelector { match_expressions: Some(requirements), match_labels: None }
}

/// What an entry selects, by its namespaces and its conditions; `None` where it is not one that is written here.
pub(super) fn selected(
    namespaces: &LabelSelector,
    conditions: &[MatchCondition],
    exempt: &BTreeSet<String>,
) -> Option<WebhookReach> {
    let of_name = namespaces.match_expressions.iter().flatten().find(|one| one.key == NAME_LABEL)?;
    let names: BTreeSet<String> = of_name.values.iter().flatten().cloned().collect();
    let namespaces = match of_name.operator.as_str() {
        IN if !names.is_empty() => NamespaceReach::Named(names),
        NOT_IN if names == *exempt => NamespaceReach::Every,
        _ => return None,
    };
    let images = match conditions.iter().find(|condition| condition.name == expression::NAME) {
        Some(condition) => ImageReach::Containing(expression::fragments(&condition.expression)?),
        None => ImageReach::Every,
    };
    Some(WebhookReach::Workloads { namespaces, images })
}

#[cfg(test)]
mod tests;
