//! Bonafide as its chart installs it: with the Deployment's own arguments, the rights of its service account, its own certificate and
//! the entries that its leader writes. All the while, somebody makes pods.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bonafide_kit::plane::{ControlPlane, eventually};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    installation::{BAD, Installation, entries, is_enforced, make},
    shared::alone,
};

const USERS: &str = "users";
/// No policy names it.
const GOOD: &str = "registry.invalid/app:v1";

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
    let (over, made, failed) = (AtomicBool::new(false), Mutex::new(0_usize), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match make(&plane, USERS, GOOD) {
                    Ok(_) => *made.lock() += 1,
                    Err(said) => failed.lock().push(said),
                }
            }
        });
        let _made = Made { over: &over };
        live(&plane);
    });
    let (made, failed) = (*made.lock(), failed.lock());
    assert!(failed.is_empty(), "of {made} pods: {failed:#?}");
    assert!(made > 20, "only {made} pods were made");
}

fn live(plane: &ControlPlane) {
    // Installed, before a replica runs: nobody is asked.
    let release = Installation::new(plane, "installed");
    make(plane, USERS, BAD).expect("nobody is asked yet");
    let first = release.replica("first");
    release.enforced();

    // Upgraded, one replica after the other; who leads then writes what the new values say.
    release.helm("upgrade", &["--set=timeoutSeconds=5", "--set=pinning.enabled=false"]);
    let second = release.replica("second");
    let old = first.port;
    thread::scope(|scope| {
        let ending = scope.spawn(|| first.stop());
        // The time that a cluster takes to tell everybody.
        thread::sleep(Duration::from_secs(2));
        release.service.remove(old);
        assert!(ending.join().unwrap().success());
    });
    eventually("the second replica to lead", || {
        let (validating, mutating) = (
            entries(plane, "validatingwebhookconfiguration")?,
            entries(plane, "mutatingwebhookconfiguration")?,
        );
        // The entries for the Lease have a time of their own, and are there in any case.
        let of_others = |entries: &[Value]| -> Vec<Value> {
            entries.iter().filter(|entry| entry["name"] != "lease.bonafide.dev").cloned().collect()
        };
        let (validating, mutating) = (of_others(&validating), of_others(&mutating));
        let new = validating.iter().all(|entry| entry["timeoutSeconds"] == 5) && mutating.is_empty();
        if new { Ok(()) } else { Err(format!("{validating:?} {mutating:?}")) }
    });
    is_enforced(plane).unwrap();
    let log = second.log();
    assert!(!log.contains("forbidden"), "a right is missing:\n{log}");

    // Uninstalled, and only then ended: the configurations go first.
    drop(release);
    eventually("nobody to be asked", || make(plane, USERS, BAD));
    assert!(second.stop().success());
}
