//! The upgrade from the version before: what it stored, and its replicas beside those of this version. `tests/previous` has what it stored
//! and wrote; its binary and its chart are there where `tests/plane/previous` has built them.

mod inherited;
mod stored;
mod together;
mod watched;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
};

use bonafide_kit::{
    plane::{Availability, ControlPlane, Tools, eventually},
    scenario::Scenario,
};
use serde_json::Value;

use crate::{
    installation::{Installation, entries},
    webhook::Webhook,
};

/// The commit of the version before.
const COMMIT: &str = include_str!("../previous/commit");
/// What its users stored.
const POLICIES: &str = include_str!("../previous/policies.yaml");
const VALIDATING: &str = "validatingwebhookconfiguration";
const MUTATING: &str = "mutatingwebhookconfiguration";

/// The version before.
struct Previous {
    program: PathBuf,
    chart: PathBuf,
}

impl Previous {
    /// `None` where the test is skipped, which it says.
    fn find() -> Option<Self> {
        let Availability::Run(tools) = Tools::find() else { return None };
        if let Some(folder) = tools.previous(COMMIT.trim()) {
            return Some(Self { program: folder.join("bonafide"), chart: folder.join("charts/bonafide") });
        }
        assert!(
            env::var_os("BONAFIDE_PREVIOUS").is_none_or(|wish| wish != "require"),
            "the version before is not there; tests/plane/previous builds it"
        );
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: a test with the version before: it is not there; tests/plane/previous builds it"
        );
        None
    }
}

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The definitions of the version before, and those of this one again when it is dropped.
struct Definitions<'a>(&'a ControlPlane);

impl<'a> Definitions<'a> {
    fn of_the_version_before(plane: &'a ControlPlane) -> Self {
        apply_definitions(plane, "tests/previous/crds");
        Self(plane)
    }

    /// None, so that helm installs them.
    fn none(plane: &'a ControlPlane) -> Self {
        let kinds = ["provenancepolicies", "clusterprovenancepolicies", "trustroots"];
        let names = kinds.map(|kind| format!("{kind}.bonafide.dev"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        plane.kubectl(&[&["delete", "crd", "--ignore-not-found"], names.as_slice()].concat()).ok();
        Self(plane)
    }

    /// As the guide says.
    fn upgrade(&self) {
        apply_definitions(self.0, "charts/bonafide/crds");
    }
}

impl Drop for Definitions<'_> {
    fn drop(&mut self) {
        let all = "provenancepolicies,clusterprovenancepolicies,trustroots";
        self.0.kubectl(&["delete", all, "--all", "--all-namespaces"]);
        let crds = repository("charts/bonafide/crds");
        self.0.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &crds]);
    }
}

fn apply_definitions(plane: &ControlPlane, folder: &str) {
    let folder = repository(folder);
    plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &folder]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "-f", &folder, "--timeout=30s"]).ok();
}

/// The stored objects, where `world` is the corporate trust root.
fn stored(world: &Scenario) -> String {
    POLICIES.replace("TRUSTED_ROOT", &world.sigstore.trusted_root_json().replace('\'', "''"))
}

/// Whether each stored policy is in force, by its name.
fn verdicts(plane: &ControlPlane) -> Result<Vec<(String, String)>, String> {
    let found =
        plane.get(&["provenancepolicies,clusterprovenancepolicies,trustroots", "--all-namespaces"])?;
    let mut all: Vec<(String, String)> = Vec::new();
    for object in found["items"].as_array().unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if object["metadata"]["namespace"] != "stored" && !name.starts_with("stored-") && name != "corporate"
        {
            continue;
        }
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let ready = ready.ok_or_else(|| format!("{name} has no status"))?;
        all.push((name, ready["status"].as_str().unwrap().to_owned()));
    }
    all.sort();
    Ok(all)
}

/// Whether each was in force under the version before, which `together` shows to be so.
fn verdicts_before() -> Vec<(String, String)> {
    [
        ("any-event", "True"),
        ("broken-audit", "False"),
        ("broken-enforce", "False"),
        ("corporate", "True"),
        ("keys-of-objects", "False"),
        ("no-registry", "False"),
        ("stored-every-field", "True"),
        ("stored-minimal", "True"),
        ("summaries", "True"),
        ("whole-variables", "True"),
    ]
    .map(|(name, ready)| (name.to_owned(), ready.to_owned()))
    .to_vec()
}

fn until_as_before(plane: &ControlPlane) {
    eventually("the verdicts of the version before", || {
        let now = verdicts(plane)?;
        if now == verdicts_before() { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

fn holder(plane: &ControlPlane, namespace: &str) -> Result<String, String> {
    let lease = plane.get(&["lease", "bonafide", "--namespace", namespace])?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

fn until_it_leads(plane: &ControlPlane, namespace: &str, name: &str) {
    eventually(&format!("{name} to lead"), || {
        let holder = holder(plane, namespace)?;
        if holder == name { Ok(()) } else { Err(holder) }
    });
}

fn names(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

/// Whether workloads are sent to the webhook, and denied where it does not answer.
fn is_closed(plane: &ControlPlane) -> Result<(), String> {
    for (kind, wanted) in [
        (VALIDATING, &["workloads.bonafide.dev", "bindings.bonafide.dev"][..]),
        (MUTATING, &["pods.bonafide.dev"]),
    ] {
        let entries = entries(plane, kind)?;
        for name in wanted {
            let entry = entries.iter().find(|entry| entry["name"] == *name);
            if entry.is_none_or(|entry| entry["failurePolicy"] != "Fail") {
                return Err(format!("{name} of {:?}", names(&entries)));
            }
        }
    }
    Ok(())
}

/// Whether the entries are those of a leader of this version.
fn is_of_this_version(plane: &ControlPlane) -> Result<(), String> {
    let entries = entries(plane, VALIDATING)?;
    if names(&entries).contains(&"lease.bonafide.dev") {
        Ok(())
    } else {
        Err(format!("{:?}", names(&entries)))
    }
}

/// Ends a replica as a kubelet does: the Service stops leading to it a moment after it was told.
fn retire(release: &Installation<'_>, replica: Webhook) {
    let port = replica.port;
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| replica.stop());
        std::thread::sleep(std::time::Duration::from_secs(2));
        release.service.remove(port);
        assert!(ending.join().unwrap().success());
    });
}
