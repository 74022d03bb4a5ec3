//! The control plane is one: before anything is told about Bonafide on it.

use bonafide_kit::{
    plane::{Client, Namespace, eventually, free_port},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{
    certificate::Certificate,
    objects::{deployment, pod, service},
    shared::{alone, shared},
    webhook::Webhook,
};

#[test]
fn pods_are_made_and_bound_to_nodes_that_fit() {
    let Some(plane) = shared() else { return };
    let namespace = plane.namespace("bound");
    let node = plane.node("bound", "arm64");
    for (name, host) in [("fits", node.name()), ("does-not", "nowhere")] {
        let mut deployment = deployment(name, "example.com/image");
        deployment["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": host});
        namespace.apply(&deployment.to_string()).ok();
    }
    let scheduled = |app: &str| -> Result<Value, String> {
        let pods = namespace.get(&["pods", "--selector", &format!("app={app}")])?;
        let condition = &pods["items"][0]["status"]["conditions"][0];
        let decided = condition["type"] == "PodScheduled";
        if decided { Ok(pods["items"][0].clone()) } else { Err(pods.to_string()) }
    };
    let pod = eventually("a pod that is bound", || scheduled("fits"));
    assert_eq!(pod["spec"]["nodeName"], "bound");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");

    let pod = eventually("a pod that is not", || scheduled("does-not"));
    assert_eq!(pod["spec"]["nodeName"], Value::Null);
    assert_eq!(pod["status"]["conditions"][0]["reason"], "Unschedulable");
}

#[test]
fn a_service_account_has_the_rights_that_it_is_given() {
    let Some(plane) = shared() else { return };
    let namespace = plane.namespace("rights");
    namespace.kubectl(&["create", "serviceaccount", "reader"]).ok();
    let reader = plane.service_account(namespace.name(), "reader");
    let read = || reader.kubectl(&["get", "configmaps", "--namespace", "rights"]);
    assert!(read().refused().contains(r#"User "system:serviceaccount:rights:reader" cannot list"#));
    namespace.kubectl(&["create", "role", "reader", "--verb=list", "--resource=configmaps"]).ok();
    let account = "--serviceaccount=rights:reader";
    namespace.kubectl(&["create", "rolebinding", "reader", "--role=reader", account]).ok();
    eventually("the right to list", || read().attempt());
}

#[test]
fn the_api_server_can_be_away_for_a_while() {
    let Some(plane) = alone() else { return };
    plane.kubectl(&["create", "configmap", "kept", "--from-literal=a=b", "--namespace=default"]).ok();
    plane.stop_api_server();
    plane.kubectl(&["get", "--raw=/readyz"]).refused();
    plane.start_api_server();
    assert_eq!(plane.get(&["configmap", "kept", "--namespace=default"]).unwrap()["data"]["a"], "b");
    plane.kubectl(&["delete", "configmap", "kept", "--namespace=default"]).ok();
    // The controllers go on too.
    plane.namespace("afterwards");
}

/// A chart that makes nothing but a `ConfigMap`.
#[test]
fn helm_installs() {
    let Some(plane) = shared() else { return };
    let namespace = plane.namespace("helmed");
    let chart = plane.folder().join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: tiny\nversion: 0.1.0\n").unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiny}\ndata: {minor: {{ .Capabilities.KubeVersion.Minor | quote }}}\n";
    std::fs::write(chart.join("templates/map.yaml"), template).unwrap();
    plane.helm(&["install", "tiny", &chart.display().to_string(), "--namespace", "helmed"]).ok();
    assert_eq!(namespace.get(&["configmap", "tiny"]).unwrap()["data"]["minor"], "37");
}

/// Sends every new pod of the namespace to the Service there.
fn configure(client: &Client, namespace: &Namespace<'_>, port: u16, ca_bundle: &str) {
    namespace.apply(&service("webhook").to_string()).ok();
    let namespace = namespace.name();
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "pods.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "clientConfig": {"caBundle": ca_bundle, "service":
                {"name": "webhook", "namespace": namespace, "port": port, "path": "/validate"}},
        }],
    });
    client.apply(&configuration.to_string()).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_reached_through_a_service_that_names_this_machine() {
    let Some(plane) = alone() else { return };
    let namespace = plane.namespace("asked");
    let world = Scenario::start().await;
    let certificate = Certificate::of("webhook.asked.svc");
    let file = |name: &str, text: &str| {
        let path = plane.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let flags = [
        format!(
            "--policies={}",
            file("policy.yaml", &world.policy().replace("namespace: shop", "namespace: asked"))
        ),
        format!("--trust-root={}", file("root.json", &world.sigstore.trusted_root_json())),
        format!("--tls-cert={}", file("tls.crt", &certificate.chain)),
        format!("--tls-key={}", file("tls.key", &certificate.key)),
        "--platform=linux/amd64".to_owned(),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let webhook = Webhook::start(&plane, plane.folder(), free_port(), &flags);
    configure(&plane, &namespace, webhook.port, &certificate.ca_bundle());

    // The API server learns of a configuration in its own time.
    let refusal = eventually("a pod to be denied", || {
        let dry = ["--namespace=asked", "create", "--dry-run=server", "-f", "-"];
        let ran = plane.kubectl_reading(&dry, &pod("one", world.image("bare")).to_string());
        if ran.worked { Err(ran.out) } else { Ok(ran.err) }
    });
    assert!(refusal.contains("denied the request") && refusal.contains("NoProvenance"), "{refusal}");
    namespace.apply(&pod("one", world.image("shop")).to_string()).ok();
    assert!(webhook.get("/metrics").unwrap().contains("bonafide_"));

    // Without the process the API server has nobody to ask.
    assert!(webhook.stop().success());
    let refusal =
        plane.kubectl(&["--namespace=asked", "run", "two", "--image", world.image("shop")]).refused();
    assert!(refusal.contains("failed calling webhook"), "{refusal}");
}
