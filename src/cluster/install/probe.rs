//! Whether the API server reaches the webhook: it is asked to make a policy that is wrong in a way that only the webhook knows of.
//! Nothing is made, whatever it says: the request is a dry run.

use kube::{
    Api, Client,
    api::PostParams,
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use serde_json::{Value, json};

use crate::cluster::call;

/// The webhook that refuses it.
const WEBHOOK: &str = "policies.bonafide.dev";

/// What the API server made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The webhook refused it.
    Reached,
    /// It did not, or something else did.
    NotYet(String),
}

/// The policy: it fits its definition, and is about no image at all.
fn policy() -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1",
        "kind": "ProvenancePolicy",
        "metadata": {"name": "bonafide-probe"},
        "spec": {
            "images": {"include": ["none"]},
            "signers": [{"name": "nobody", "certificate": {"issuer": "https://bonafide.invalid", "subject": "nobody"}}],
        },
    })
}

/// Asks once.
pub(super) async fn ask(client: &Client, namespace: &str) -> Answer {
    let kind = GroupVersionKind::gvk("bonafide.dev", "v1alpha1", "ProvenancePolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "provenancepolicies");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = match serde_json::from_value(policy()) {
        Ok(object) => object,
        Err(error) => return Answer::NotYet(error.to_string()),
    };
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match call::within(call::LIMIT, api.create(&params, &object)).await {
        Ok(_) => Answer::NotYet("the API server does not ask the webhook, or cannot reach it".to_owned()),
        Err(kube::Error::Api(status)) if is_ours(&status.message) => Answer::Reached,
        Err(error) => Answer::NotYet(call::words(&error)),
    }
}

fn is_ours(message: &str) -> bool {
    message.contains(&format!("admission webhook \"{WEBHOOK}\" denied the request"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;
    use crate::{
        api::compile::{NoKeys, compile},
        cluster::webhooks::{FailurePolicy, WebhookSettings, validating},
    };

    #[test]
    fn the_policy_is_wrong_in_one_thing_that_its_definition_allows() {
        let errors: Vec<String> =
            compile(&policy(), &NoKeys).errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(errors.join("\n"));
        let mut right = policy();
        right["spec"]["images"]["include"] = json!(["none.example/**"]);
        assert!(compile(&right, &NoKeys).errors.is_empty());
    }

    #[test]
    fn only_our_webhook_s_refusal_counts() {
        assert!(is_ours(r#"admission webhook "policies.bonafide.dev" denied the request: spec.images"#));
        for other in [
            r#"admission webhook "policies.example.com" denied the request: no"#,
            r#"failed calling webhook "policies.bonafide.dev": failed to call webhook: no endpoints available"#,
            r#"provenancepolicies.bonafide.dev is forbidden: User "a" cannot create"#,
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn there_is_such_a_webhook_and_it_is_asked_about_the_release_s_namespace() {
        let settings = WebhookSettings {
            name: "bonafide".to_owned(),
            namespace: "ns".to_owned(),
            service_port: 443,
            failure_policy: FailurePolicy::Fail,
            timeout_seconds: 10,
            exempt_namespaces: vec!["ns".to_owned()],
            opt_out_label: None,
            pinning: true,
            ca_bundle: None,
        };
        let all = validating(&settings).webhooks.unwrap();
        let webhook = all.iter().find(|webhook| webhook.name == WEBHOOK).unwrap();
        assert_eq!(webhook.namespace_selector, Some(LabelSelector::default()));
        assert_eq!(webhook.match_conditions, None);
    }
}
