//! The webhook configurations, as they are to be in the API server.
//!
//! Nothing here talks to anybody. Whatever the API server would fill in is written out, so that what is there can be compared with
//! what is meant.

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
};

use crate::domain::policy::NAME_LABEL;

/// The value of the opt-out label that spares a namespace.
pub const OPTED_OUT: &str = "disabled";

/// The first part of the name of the entry for policies.
const POLICIES: &str = "policies";
/// The same of the entry for the leader's probes.
const LEASE: &str = "lease";
/// Where probes are answered.
pub const PROBE_PATH: &str = "/probe";
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
    /// How long the API server waits, 1 to 30.
    pub timeout_seconds: u8,
    /// Namespaces whose workloads are not reviewed.
    pub exempt_namespaces: Vec<String>,
    /// The label that, with the value `disabled`, takes a namespace out.
    pub opt_out_label: Option<String>,
    /// Whether pods go through /mutate.
    pub pinning: bool,
    /// Who signs the serving certificate, PEM.
    pub ca_bundle: Option<Vec<u8>>,
}

/// The validating configuration.
pub fn validating(settings: &WebhookSettings) -> ValidatingWebhookConfiguration {
    let workloads = ValidatingWebhook {
        failure_policy: Some(settings.failure_policy.as_str().to_owned()),
        match_conditions: Some(vec![may_have_changed()]),
        namespace_selector: Some(reviewed_namespaces(settings)),
        ..validating_webhook(settings, "workloads", "/validate", workload_rules())
    };
    let bindings = ValidatingWebhook {
        failure_policy: Some(settings.failure_policy.as_str().to_owned()),
        namespace_selector: Some(reviewed_namespaces(settings)),
        // `bindings` is the older way to the same.
        ..validating_webhook(
            settings,
            "bindings",
            "/bind",
            vec![rule("", "v1", &["pods/binding", "bindings"], &["CREATE"], "Namespaced")],
        )
    };
    ValidatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(vec![workloads, bindings, policies(settings)]),
    }
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

fn policies(settings: &WebhookSettings) -> ValidatingWebhook {
    let kinds = ["provenancepolicies", "clusterprovenancepolicies", "trustroots"];
    // A policy that gets in unseen fails closed where it is wrong, so none has to wait for the webhook.
    ValidatingWebhook {
        failure_policy: Some(FailurePolicy::Ignore.as_str().to_owned()),
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

/// The mutating configuration; without pinning it has no webhook.
pub fn mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    let pods = MutatingWebhook {
        failure_policy: Some(settings.failure_policy.as_str().to_owned()),
        match_conditions: Some(vec![may_have_changed()]),
        namespace_selector: Some(reviewed_namespaces(settings)),
        // Another webhook may add a container after this one has been asked.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        ..mutating_webhook(settings, "pods", "/mutate", pod_rules())
    };
    MutatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(if settings.pinning { vec![pods] } else { Vec::new() }),
    }
}

/// The mutating configuration as the leader installs it. Its entry for probes is served before any `ValidatingAdmissionPolicy` is
/// evaluated, which might refuse them.
pub(super) fn installed_mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    let mut configuration = mutating(settings);
    configuration.webhooks.get_or_insert_default().extend(mutating_lease(settings));
    configuration
}

/// The mutating configuration while the API server has not been seen to reach the webhook.
pub(super) fn unproven_mutating(settings: &WebhookSettings) -> MutatingWebhookConfiguration {
    MutatingWebhookConfiguration {
        metadata: metadata(settings),
        webhooks: Some(mutating_lease(settings).into_iter().collect()),
    }
}

/// The same as [`lease`]; nothing where the configuration is to stay empty.
fn mutating_lease(settings: &WebhookSettings) -> Option<MutatingWebhook> {
    let lease = lease(settings);
    settings.pinning.then(|| MutatingWebhook {
        failure_policy: lease.failure_policy,
        match_conditions: lease.match_conditions,
        namespace_selector: lease.namespace_selector,
        timeout_seconds: lease.timeout_seconds,
        ..mutating_webhook(settings, LEASE, PROBE_PATH, lease.rules.unwrap_or_default())
    })
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

/// All but those that are exempt, or have opted out.
fn reviewed_namespaces(settings: &WebhookSettings) -> LabelSelector {
    let not_in = |key: &str, values: Vec<String>| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(values),
    };
    let mut requirements = Vec::new();
    if !settings.exempt_namespaces.is_empty() {
        requirements.push(not_in(NAME_LABEL, settings.exempt_namespaces.clone()));
    }
    if let Some(label) = &settings.opt_out_label {
        requirements.push(not_in(label, vec![OPTED_OUT.to_owned()]));
    }
    LabelSelector { match_expressions: Some(requirements).filter(|all| !all.is_empty()), match_labels: None }
}

#[cfg(test)]
mod tests;
