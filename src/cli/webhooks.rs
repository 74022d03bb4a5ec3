//! The flags that the webhook configurations depend on: those of whoever installs them, and of whoever prints them.

use std::time::Duration;

use crate::{
    cluster::{
        reach::WebhookReach,
        webhooks::{FailurePolicy, WebhookSettings},
    },
    server::deadline,
};

/// How long an API server waits for a webhook at most.
const LONGEST: Duration = Duration::from_secs(30);

/// The flags of the webhook configurations.
#[derive(Debug, Clone, clap::Args)]
pub struct WebhookArgs {
    /// Name of the Service and of both webhook configurations
    #[arg(long, value_name = "NAME", env = "BONAFIDE_NAME", default_value = "bonafide", value_parser = name)]
    pub name: String,

    /// Namespace that Bonafide is in
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "bonafide", value_parser = name)]
    pub namespace: String,

    /// Port of the Service
    #[arg(long, value_name = "PORT", default_value = "443", value_parser = clap::value_parser!(u16).range(1..))]
    pub service_port: u16,

    /// What becomes of workloads while no replica can be asked: Fail denies them, Ignore admits them unreviewed
    #[arg(long, value_name = "POLICY", default_value = "Fail")]
    pub failure_policy: FailurePolicy,

    /// The same for the binding of pods to nodes. Default: that of --failure-policy; with --reach images, Ignore
    #[arg(long, value_name = "POLICY")]
    pub binding_failure_policy: Option<FailurePolicy>,

    /// How long the API server waits for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub webhook_timeout: u8,

    /// Namespace whose workloads are not reviewed, beside kube-system and Bonafide's own. Can be repeated
    #[arg(long = "exempt-namespace", value_name = "NAMESPACE", value_parser = name)]
    pub exempt_namespaces: Vec<String>,

    /// Label that takes a namespace out of the reviews, with the value `disabled`. Default: none does
    #[arg(long, value_name = "KEY", value_parser = label)]
    pub opt_out_label: Option<String>,
}

impl WebhookArgs {
    /// What the configurations depend on. Nothing is left out.
    pub fn settings(&self, pinning: bool, ca_bundle: Option<Vec<u8>>) -> WebhookSettings {
        WebhookSettings {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            service_port: self.service_port,
            failure_policy: self.failure_policy,
            binding_failure_policy: self.binding_failure_policy,
            timeout_seconds: self.webhook_timeout,
            exempt_namespaces: self.exempt_namespaces.clone(),
            reach: WebhookReach::EVERYTHING,
            opt_out_label: self.opt_out_label.clone(),
            pinning,
            ca_bundle,
        }
    }
}

/// A name that would be none selects nothing, without a word.
fn name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    let is_name = ends.is_some_and(|(first, last)| plain(first) && plain(last))
        && text.bytes().all(|b| plain(b) || b == b'-')
        && text.len() <= 63;
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("not a name: at most 63 lower-case letters, digits and -".to_owned())
    }
}

fn label(text: &str) -> Result<String, String> {
    if crate::api::compile::is_label_key(text) {
        Ok(text.to_owned())
    } else {
        Err("not a label's key, such as example.com/bonafide".to_owned())
    }
}

fn timeout(text: &str) -> Result<u8, String> {
    let granted = deadline::go_duration(text).ok_or("not a duration, such as 10s")?;
    let whole = granted.subsec_nanos() == 0 && !granted.is_zero() && granted <= LONGEST;
    let seconds = u8::try_from(granted.as_secs()).ok().filter(|_| whole);
    seconds.ok_or_else(|| "must be whole seconds, 1s to 30s".to_owned())
}
