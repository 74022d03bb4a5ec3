//! Nodes and namespaces that are gone when their test is over.

use serde_json::json;

use super::{client::Client, wait::eventually};

/// A node: an object that says it is ready.
#[derive(Debug)]
pub struct Node<'a> {
    client: &'a Client,
    name: String,
}

/// A namespace in which pods can be made.
#[derive(Debug)]
pub struct Namespace<'a> {
    client: &'a Client,
    name: String,
}

impl Client {
    /// Makes a node that the scheduler can bind pods to, of an architecture such as `amd64`.
    ///
    /// # Panics
    /// The API server refuses it.
    pub fn node(&self, name: &str, architecture: &str) -> Node<'_> {
        let labels = json!({
            "kubernetes.io/arch": architecture,
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
        });
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.kubectl_reading(&["create", "-f", "-"], &node.to_string()).ok();
        let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let status = json!({"status": {
            "allocatable": room,
            "capacity": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
            "nodeInfo": {"architecture": architecture, "operatingSystem": "linux"},
        }});
        self.kubectl(&["patch", "node", name, "--subresource=status", "--patch", &status.to_string()]).ok();
        // Admission gives every new node the taint of one that is not ready.
        let taints = json!({"spec": {"taints": null}}).to_string();
        self.kubectl(&["patch", "node", name, "--type=merge", "--patch", &taints]).ok();
        Node { client: self, name: name.to_owned() }
    }

    /// Makes a namespace, and waits for its default service account, without which no pod is admitted.
    ///
    /// # Panics
    /// The API server refuses it.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        self.kubectl(&["create", "namespace", name]).ok();
        self.wait_for_service_account(name);
        Namespace { client: self, name: name.to_owned() }
    }

    pub(super) fn wait_for_service_account(&self, namespace: &str) {
        eventually("the default service account", || {
            self.kubectl(&["get", "serviceaccount", "default", "--namespace", namespace]).attempt()
        });
    }
}

impl Node<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.client.kubectl(&["delete", "node", &self.name, "--ignore-not-found"]);
    }
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> super::Ran {
        self.client.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// kubectl in this namespace, with this on its standard input.
    pub fn kubectl_reading(&self, arguments: &[&str], input: &str) -> super::Ran {
        self.client.kubectl_reading(&[&["--namespace", self.name.as_str()], arguments].concat(), input)
    }

    /// Applies manifests in this namespace.
    pub fn apply(&self, manifests: &str) -> super::Ran {
        self.kubectl_reading(&["apply", "-f", "-"], manifests)
    }

    /// What `kubectl get` finds in this namespace.
    ///
    /// # Errors
    /// What kubectl says, where it fails.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        self.client.get(&[&["--namespace", self.name.as_str()], arguments].concat())
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        self.client.kubectl(&["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"]);
        // No kubelet tells that a pod that was bound has ended.
        self.client.kubectl(&[
            "delete",
            "pods",
            "--all",
            "--namespace",
            &self.name,
            "--force",
            "--grace-period=0",
            "--wait=false",
        ]);
    }
}
