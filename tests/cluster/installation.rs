//! Bonafide as its chart installs it: the Deployment's own arguments, the rights of its service account, its own certificate, and the
//! entries that its leader writes. The pods of the Deployment are processes here.

use std::path::{Path, PathBuf};

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
    /// The chart that helm is given.
    pub chart: PathBuf,
    flags: Vec<String>,
    /// `None`: the chart's default. The chart of another version may not know the value.
    reach: Option<&'static str>,
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
        let reach = Some("everything");
        Self::install(Path::new(CHART), plane, namespace, service, arguments, reach)
    }

    /// The same where `world` vouches for signers, and with this `reach`.
    pub fn reaching(
        plane: &'a ControlPlane,
        namespace: &'a str,
        reach: &'static str,
        world: &Scenario,
    ) -> Self {
        let service = Balancer::start();
        let mut installation = Self::install(Path::new(CHART), plane, namespace, service, &[], Some(reach));
        installation.trust(world);
        installation
    }

    /// The same from this chart, with its default of `reach`.
    pub fn from_chart(
        chart: &Path,
        plane: &'a ControlPlane,
        namespace: &'a str,
        service: Balancer,
        arguments: &[&str],
    ) -> Self {
        Self::install(chart, plane, namespace, service, arguments, None)
    }

    fn install(
        chart: &Path,
        plane: &'a ControlPlane,
        namespace: &'a str,
        service: Balancer,
        arguments: &[&str],
        reach: Option<&'static str>,
    ) -> Self {
        // Tests that give rights without the chart leave these behind.
        plane.kubectl(&["delete", "clusterrole,clusterrolebinding", "bonafide", "--ignore-not-found"]).ok();
        let installation =
            Self { plane, namespace, service, chart: chart.to_owned(), flags: Vec::new(), reach };
        installation.helm("install", &[&["--create-namespace"], arguments].concat());
        installation
    }

    /// One more flag of each pod, in place of what the chart would mount.
    pub fn flag(&mut self, flag: String) {
        self.flags.push(flag);
    }

    /// The same, where `world` vouches for signers.
    pub fn of(plane: &'a ControlPlane, namespace: &'a str, world: &Scenario) -> Self {
        let mut installation = Self::new(plane, namespace);
        installation.trust(world);
        installation
    }

    /// Has `world` vouch for signers.
    pub fn trust(&mut self, world: &Scenario) {
        let root = self.plane.folder().join(format!("{}-root.json", self.namespace));
        std::fs::write(&root, world.sigstore.trusted_root_json()).unwrap();
        self.flags.push(format!("--trust-root={}", root.display()));
    }

    /// `helm install` or `helm upgrade`, with what lets the API server reach this machine; nobody else is asked for trust roots.
    pub fn helm(&self, command: &str, arguments: &[&str]) {
        let port = format!("--set=service.port={}", self.service.port);
        let outside = [
            "--set=service.type=ExternalName",
            "--set=service.externalName=localhost",
            "--set=trustRoot.refresh=false",
            &port,
            &self.chart.display().to_string(),
        ];
        let reach = self.reach.map(|reach| format!("--set=reach={reach}"));
        let reach: Vec<&str> = reach.iter().map(String::as_str).collect();
        let call =
            [&[command, "bonafide", "--namespace", self.namespace], &outside[..], &reach, arguments].concat();
        self.plane.helm(&call).ok();
    }

    /// A pod of the Deployment, as that is now; the Service does not lead to it yet.
    pub fn pod(&self, name: &str) -> Webhook {
        let flags = self.flags(name);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Webhook::start(&self.account(), self.plane.folder(), free_port(), &flags)
    }

    /// A pod that the Service leads to, with the binary of another version and what its Deployment told.
    pub fn replica_of(&self, program: &Path, flags: &[String]) -> Webhook {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let pod = Webhook::start_program(program, &self.account(), self.plane.folder(), free_port(), &flags);
        self.service.add(pod.port);
        pod
    }

    fn account(&self) -> Client {
        self.plane.service_account(self.namespace, "bonafide")
    }

    /// What the Deployment tells a pod, as it is now.
    pub fn flags(&self, name: &str) -> Vec<String> {
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
        let flags = flags.filter_map(|flag| own(flag.as_str().unwrap()));
        flags.chain(self.flags.iter().cloned()).collect()
    }

    /// A pod that the Service leads to.
    pub fn replica(&self, name: &str) -> Webhook {
        let pod = self.pod(name);
        self.service.add(pod.port);
        pod
    }

    /// Somebody takes all entries away.
    pub fn remove_entries(&self) {
        for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
            let patch = r#"[{"op": "replace", "path": "/webhooks", "value": []}]"#;
            self.plane.kubectl(&["patch", kind, "bonafide", "--type=json", "--patch", patch]).ok();
        }
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
