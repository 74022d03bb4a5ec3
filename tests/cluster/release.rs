//! Bonafide in the cluster: what it may do, how it is reached, and the process itself.

use std::path::Path;

use bonafide_kit::{
    plane::{Client, ControlPlane, Namespace, eventually, free_port},
    scenario::Scenario,
};

use crate::{certificate::Certificate, objects, webhook::Webhook};

const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bonafide/crds");

/// An installation. It is for the whole cluster: there is one at a time.
pub struct Release<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace<'a>,
    account: Client,
    certificate: Certificate,
    flags: Vec<String>,
    /// The port that the Service stands for.
    pub port: u16,
}

impl<'a> Release<'a> {
    /// Everything but the process and the webhook configurations, in a namespace of its own.
    pub fn new(plane: &'a ControlPlane, name: &str, world: &Scenario) -> Self {
        Self::install(plane);
        let namespace = plane.namespace(name);
        plane.apply(&include_str!("rights.yaml").replace("NAMESPACE", name)).ok();
        namespace.apply(&objects::service("bonafide").to_string()).ok();
        let certificate = Certificate::of(&format!("bonafide.{name}.svc"));
        let file = |name: &str, text: &str| write(plane.folder(), name, text);
        let flags = vec![
            "--cluster".to_owned(),
            "--pinning".to_owned(),
            // The webhook configurations are the test's own: of this name there is none to keep.
            format!("--name={name}"),
            format!("--namespace={name}"),
            format!("--trust-root={}", file("root.json", &world.sigstore.trusted_root_json())),
            "--certificates=files".to_owned(),
            format!("--tls-cert={}", file("tls.crt", &certificate.chain)),
            format!("--tls-key={}", file("tls.key", &certificate.key)),
        ];
        let account = plane.service_account(name, "bonafide");
        Self { plane, namespace, account, certificate, flags, port: free_port() }
    }

    /// The definitions, and nothing else.
    pub fn install(plane: &ControlPlane) {
        plane.kubectl(&["apply", "-f", CRDS]).ok();
        let established = ["wait", "--for=condition=Established", "-f", CRDS, "--timeout=30s"];
        plane.kubectl(&established).ok();
    }

    /// A replica on `port`; the API server asks the one on [`Release::port`].
    pub fn replica(&self, port: u16) -> Webhook {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Webhook::start(&self.account, self.plane.folder(), port, &flags)
    }

    /// Has the API server ask, and waits until it asks this replica.
    pub fn configure(&self, replica: &Webhook) {
        let configurations = include_str!("webhooks.yaml")
            .replace("NAMESPACE", self.namespace.name())
            .replace("AUTHORITY", &self.certificate.ca_bundle())
            .replace("PORT", &self.port.to_string());
        self.plane.apply(&configurations).ok();
        let pod = objects::pod("asked", "example.com/asked").to_string();
        eventually("the API server to ask", || {
            let dry = ["--namespace=default", "create", "--dry-run=server", "-f", "-"];
            let said = self.plane.kubectl_reading(&dry, &pod).attempt();
            let reviews = replica.get("/metrics").unwrap();
            if reviews.contains("bonafide_reviews_total{") { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
