//! Bonafide as its chart installs it: the Deployment's own arguments, the rights of its service account, its own certificate, and the
//! entries that its leader writes. The pods of the Deployment are processes here.

use bonafide_kit::{
    plane::{Client, ControlPlane, eventually, free_port},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{balancer::Balancer, objects, webhook::Webhook};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bonafide");
/// It is no reference, and therefore denied whatever policies there are.
pub const BAD: &str = "registry.invalid/App:v1";

/// A release of the chart. It is for the whole cluster: there is one at a time.
pub struct Installation<'a> {
    plane: &'a ControlPlane,
    namespace: &'a str,
    /// What the Service stands for.
    pub service: Balancer,
    flags: Vec<String>,
}

/// Uninstalled first, and only then are the processes ended: nobody is asked who is gone.
impl Drop for Installation<'_> {
    fn drop(&mut self) {
        self.plane.helm(&["uninstall", "bonafide", "--namespace", self.namespace]);
        self.plane.kubectl(&["delete", "namespace", self.namespace, "--wait=false"]);
    }
}

impl<'a> Installation<'a> {
    /// Installed, and nobody runs yet.
    pub fn new(plane: &'a ControlPlane, namespace: &'a str) -> Self {
        Self::behind(plane, namespace, Balancer::start(), &[])
    }

    /// The same behind this Service, with these arguments of helm.
    pub fn behind(
        plane: &'a ControlPlane,
        namespace: &'a str,
        service: Balancer,
        arguments: &[&str],
    ) -> Self {
        // Tests that give rights without the chart leave these behind.
        plane.kubectl(&["delete", "clusterrole,clusterrolebinding", "bonafide", "--ignore-not-found"]).ok();
        let installation = Self { plane, namespace, service, flags: Vec::new() };
        installation.helm("install", &[&["--create-namespace"], arguments].concat());
        installation
    }

    /// One more flag of each pod, in place of what the chart would mount.
    pub fn flag(&mut self, flag: String) {
        self.flags.push(flag);
    }

    /// The same, where `world` vouches for signers.
    pub fn of(plane: &'a ControlPlane, namespace: &'a str, world: &Scenario) -> Self {
        let root = plane.folder().join(format!("{namespace}-root.json"));
        std::fs::write(&root, world.sigstore.trusted_root_json()).unwrap();
        let mut installation = Self::new(plane, namespace);
        installation.flags.push(format!("--trust-root={}", root.display()));
        installation
    }

    /// `helm install` or `helm upgrade`, with what lets the API server reach this machine; nobody else is asked for trust roots.
    pub fn helm(&self, command: &str, arguments: &[&str]) {
        let port = format!("--set=service.port={}", self.service.port);
        let outside = [
            "--set=service.type=ExternalName",
            "--set=service.externalName=localhost",
            "--set=trustRoot.refresh=false",
            &port,
            CHART,
        ];
        let call = [&[command, "bonafide", "--namespace", self.namespace], &outside[..], arguments].concat();
        self.plane.helm(&call).ok();
    }

    /// A pod of the Deployment, as that is now; the Service does not lead to it yet.
    pub fn pod(&self, name: &str) -> Webhook {
        let deployment = self.plane.get(&["deployment", "bonafide", "--namespace", self.namespace]).unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let own = |flag: &str| {
            let flag = flag.replace("$(POD_NAMESPACE)", self.namespace).replace("$(POD_NAME)", name);
            // Where it listens is the test's to say.
            let told = ["--listen", "--health-listen", "--log-format", "--caller-ca"]
                .iter()
                .any(|own| flag.starts_with(own));
            (flag != "serve" && !told).then_some(flag)
        };
        let flags = container["args"].as_array().unwrap().iter();
        let flags: Vec<String> = flags.filter_map(|flag| own(flag.as_str().unwrap())).collect();
        let flags: Vec<&str> = flags.iter().chain(&self.flags).map(String::as_str).collect();
        let account = self.plane.service_account(self.namespace, "bonafide");
        Webhook::start(&account, self.plane.folder(), free_port(), &flags)
    }

    /// A pod that the Service leads to.
    pub fn replica(&self, name: &str) -> Webhook {
        let pod = self.pod(name);
        self.service.add(pod.port);
        pod
    }

    /// Waits until the API server asks, and denies where it gets no answer.
    pub fn enforced(&self) {
        eventually("the webhook to be asked, and to be needed", || is_enforced(self.plane));
    }
}

/// The entries of a configuration.
pub fn entries(plane: &Client, kind: &str) -> Result<Vec<Value>, String> {
    let configuration = plane.get(&[kind, "bonafide"])?;
    Ok(configuration["webhooks"].as_array().cloned().unwrap_or_default())
}

/// Whether a pod of this image may be made in a namespace.
pub fn make(plane: &Client, namespace: &str, image: &str) -> Result<String, String> {
    let mut pod = objects::pod("", image);
    pod["metadata"] = json!({"generateName": "made-"});
    plane.kubectl_reading(&["create", "--namespace", namespace, "-f", "-"], &pod.to_string()).attempt()
}

/// Whether the API server asks, and would deny were nobody there.
pub fn is_enforced(plane: &Client) -> Result<(), String> {
    let said = match make(plane, "default", BAD) {
        Ok(made) => return Err(made),
        Err(said) => said,
    };
    let entries = entries(plane, "validatingwebhookconfiguration")?;
    let denies = entries.iter().any(|entry| entry["failurePolicy"] == "Fail");
    if said.contains("InvalidReference") && denies { Ok(()) } else { Err(said) }
}
