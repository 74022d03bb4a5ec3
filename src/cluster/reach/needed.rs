//! Namespaces that hold what nodes need before other pods start. A policy for one of them can be a deadlock: when every node is replaced
//! while Bonafide is down, its pods wait for Bonafide, and Bonafide's pods wait for them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::PodSpec,
};
use kube::{Api, Client, api::ListParams};

use crate::cluster::call;

/// How many objects are listed at once.
const PAGE: u32 = 200;
/// Where a CNI plugin puts its configuration and its programs.
const NETWORK: [&str; 2] = ["/etc/cni", "/opt/cni"];
/// Where the driver of a CSI registers itself with the kubelet.
const STORAGE: [&str; 2] = ["/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry"];
/// What autoscalers are called.
const AUTOSCALERS: [&str; 2] = ["cluster-autoscaler", "karpenter"];

/// The namespaces that are not exempt, each with what in it nodes need.
pub type NeededNamespaces = BTreeMap<String, BTreeSet<String>>;

/// Finds them in a cluster.
///
/// # Errors
/// What the API server refuses.
pub async fn find(client: &Client, exempt: &BTreeSet<String>) -> Result<NeededNamespaces, kube::Error> {
    let mut found = NeededNamespaces::new();
    let daemon_sets: Vec<DaemonSet> = list(client).await?;
    for set in daemon_sets {
        let role = set.spec.and_then(|spec| spec.template.spec).and_then(|spec| role(&spec));
        add(&mut found, exempt, set.metadata, "DaemonSet", role);
    }
    let deployments: Vec<Deployment> = list(client).await?;
    for deployment in deployments {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let is_autoscaler = AUTOSCALERS.iter().any(|known| is_named(&name, known));
        add(&mut found, exempt, deployment.metadata, "Deployment", is_autoscaler.then_some("an autoscaler"));
    }
    Ok(found)
}

fn add(
    found: &mut NeededNamespaces,
    exempt: &BTreeSet<String>,
    metadata: kube::core::ObjectMeta,
    kind: &str,
    role: Option<&'static str>,
) {
    let (Some(role), Some(namespace)) = (role, metadata.namespace) else { return };
    if !exempt.contains(&namespace) {
        let told = format!("{kind} {} ({role})", metadata.name.unwrap_or_default());
        found.entry(namespace).or_default().insert(told);
    }
}

/// What the pods of a `DaemonSet` are to their nodes.
fn role(spec: &PodSpec) -> Option<&'static str> {
    let mounts = |folders: &[&str]| {
        let of_host = spec.volumes.iter().flatten().filter_map(|volume| volume.host_path.as_ref());
        let mut paths = of_host.map(|source| source.path.trim_end_matches('/'));
        paths.any(|path| folders.iter().any(|folder| is_within(path, folder)))
    };
    if mounts(&NETWORK) {
        Some("a CNI plugin")
    } else if mounts(&STORAGE) {
        Some("a CSI driver")
    } else {
        None
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_named(name: &str, known: &str) -> bool {
    format!("-{name}-").contains(&format!("-{known}-"))
}

async fn list<K>(client: &Client) -> Result<Vec<K>, kube::Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::all(client.clone());
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = call::within(call::LIMIT, api.list(&page)).await?;
        all.extend(list.items);
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use bonafide_kit::apiserver::ApiServer;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::reach::exempt::exempt_namespaces;

    fn object(namespace: &str, name: &str, path: Option<&str>) -> Value {
        let volumes: Vec<Value> =
            path.iter().map(|path| json!({"name": "v", "hostPath": {"path": path}})).collect();
        let spec = json!({"containers": [], "volumes": volumes});
        json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {}, "template": {"spec": spec}}})
    }

    #[tokio::test]
    async fn b8_what_nodes_need_is_found_outside_of_exempt_namespaces() {
        let server = ApiServer::new();
        let sets = [
            object("calico-system", "calico-node", Some("/opt/cni/bin")),
            object("kube-system", "kube-proxy", Some("/etc/cni/net.d")),
            object("storage", "csi-node", Some("/var/lib/kubelet/plugins_registry/")),
            object("logs", "fluent-bit", Some("/var/log")),
            object("logs", "other", Some("/opt/cniche")),
            object("logs", "none", None),
        ];
        let deployments = [
            object("scaling", "eu-cluster-autoscaler", None),
            object("shop", "karpenterless", None),
            object("karpenter", "karpenter", None),
        ];
        for (path, items) in [("daemonsets", json!(sets)), ("deployments", json!(deployments))] {
            let list = json!({"apiVersion": "apps/v1", "kind": "List", "metadata": {}, "items": items});
            server.put(&format!("/apis/apps/v1/{path}"), list);
        }
        let client = Client::new(server.router(), "default");
        let exempt = exempt_namespaces("bonafide", [&"karpenter".to_owned()]);
        let found = find(&client, &exempt).await.unwrap();
        let lines: Vec<String> = found
            .iter()
            .flat_map(|(namespace, all)| all.iter().map(move |what| format!("{namespace}: {what}")))
            .collect();
        assert_eq!(
            lines,
            [
                "calico-system: DaemonSet calico-node (a CNI plugin)",
                "scaling: Deployment eu-cluster-autoscaler (an autoscaler)",
                "storage: DaemonSet csi-node (a CSI driver)",
            ]
        );
    }
}
