//! Bonafide as its chart installs it: with the Deployment's own arguments, the rights of its service account, its own certificate and
//! the entries that its leader writes. All the while, somebody makes pods.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bonafide_kit::plane::{Client, ControlPlane, eventually, free_port};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{balancer::Balancer, objects, shared::alone, webhook::Webhook};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bonafide");
const NAMESPACE: &str = "installed";
const USERS: &str = "users";
/// No policy names it.
const GOOD: &str = "registry.invalid/app:v1";
/// It is no reference, and therefore denied whatever policies there are.
const BAD: &str = "registry.invalid/App:v1";

fn helm(plane: &Client, command: &str, arguments: &[&str]) {
    plane.helm(&[&[command, "bonafide", "--namespace", NAMESPACE], arguments].concat()).ok();
}

/// A pod of the Deployment, as it is now.
fn replica(plane: &ControlPlane, name: &str) -> Webhook {
    let deployment = plane.get(&["deployment", "bonafide", "--namespace", NAMESPACE]).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let flags: Vec<String> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| {
            flag.as_str().unwrap().replace("$(POD_NAMESPACE)", NAMESPACE).replace("$(POD_NAME)", name)
        })
        // Where it listens is the test's to say.
        .filter(|flag| {
            flag != "serve"
                && !["--listen", "--health-listen", "--log-format"].iter().any(|own| flag.starts_with(own))
        })
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let account = plane.service_account(NAMESPACE, "bonafide");
    Webhook::start(&account, plane.folder(), free_port(), &flags)
}

/// The entries of a configuration.
fn entries(plane: &Client, kind: &str) -> Result<Vec<Value>, String> {
    let configuration = plane.get(&[kind, "bonafide"])?;
    Ok(configuration["webhooks"].as_array().cloned().unwrap_or_default())
}

/// Whether a pod of this image may be made.
fn make(plane: &Client, image: &str) -> Result<String, String> {
    let mut pod = objects::pod("", image);
    pod["metadata"] = json!({"generateName": "made-"});
    let arguments = ["create", "--namespace", USERS, "-f", "-"];
    plane.kubectl_reading(&arguments, &pod.to_string()).attempt()
}

fn is_enforced(plane: &Client) -> Result<(), String> {
    let said = match make(plane, BAD) {
        Ok(made) => return Err(made),
        Err(said) => said,
    };
    let entries = entries(plane, "validatingwebhookconfiguration")?;
    let denies = entries.iter().any(|entry| entry["failurePolicy"] == "Fail");
    if said.contains("InvalidReference") && denies { Ok(()) } else { Err(said) }
}

/// Makes pods until it is dropped.
struct Made<'a> {
    over: &'a AtomicBool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn pods_can_be_made_throughout_a_releases_life() {
    let Some(plane) = alone() else { return };
    let _users = plane.namespace(USERS);
    let service = Balancer::start();
    let (over, made, failed) = (AtomicBool::new(false), Mutex::new(0_usize), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match make(&plane, GOOD) {
                    Ok(_) => *made.lock() += 1,
                    Err(said) => failed.lock().push(said),
                }
            }
        });
        let _made = Made { over: &over };
        live(&plane, &service);
    });
    let (made, failed) = (*made.lock(), failed.lock());
    assert!(failed.is_empty(), "of {made} pods: {failed:#?}");
    assert!(made > 20, "only {made} pods were made");
    plane.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).ok();
}

fn live(plane: &ControlPlane, service: &Balancer) {
    let port = format!("--set=service.port={}", service.port);
    let outside = ["--set=service.type=ExternalName", "--set=service.externalName=localhost", &port, CHART];

    // Installed, before a replica runs: nobody is asked.
    helm(plane, "install", &[&outside[..], &["--create-namespace"]].concat());
    make(plane, BAD).expect("nobody is asked yet");
    let first = replica(plane, "first");
    service.add(first.port);
    eventually("the first replica to be asked", || is_enforced(plane));

    // Upgraded, one replica after the other; who leads then writes what the new values say.
    let changed = ["--set=timeoutSeconds=5", "--set=pinning.enabled=false"];
    helm(plane, "upgrade", &[&outside[..], &changed].concat());
    let second = replica(plane, "second");
    service.add(second.port);
    let old = first.port;
    thread::scope(|scope| {
        let ending = scope.spawn(|| first.stop());
        // The time that a cluster takes to tell everybody.
        thread::sleep(Duration::from_secs(2));
        service.remove(old);
        assert!(ending.join().unwrap().success());
    });
    eventually("the second replica to lead", || {
        let (validating, mutating) = (
            entries(plane, "validatingwebhookconfiguration")?,
            entries(plane, "mutatingwebhookconfiguration")?,
        );
        let new = validating.iter().all(|entry| entry["timeoutSeconds"] == 5) && mutating.is_empty();
        if new { Ok(()) } else { Err(format!("{validating:?} {mutating:?}")) }
    });
    is_enforced(plane).unwrap();
    let log = second.log();
    assert!(!log.contains("forbidden"), "a right is missing:\n{log}");

    // Uninstalled, and only then ended: the configurations go first.
    helm(plane, "uninstall", &[]);
    eventually("nobody to be asked", || make(plane, BAD));
    assert!(second.stop().success());
}
