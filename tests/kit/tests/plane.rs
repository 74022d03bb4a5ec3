//! A control plane leaves neither processes nor files behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{env, fs, path::Path, process::Command};

use bonafide_kit::plane::{ControlPlane, eventually};

/// Tells a run of this test binary to start a control plane and end badly.
const ABORT: &str = "BONAFIDE_TEST_ABORTS";

/// The command lines of the processes that use the folder.
fn users(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        // A process may end while it is looked at.
        fs::read_to_string(entry.unwrap().path().join("cmdline")).ok()
    });
    processes.filter(|line| line.contains(folder)).map(|line| line.replace('\0', " ")).collect()
}

#[test]
fn nothing_is_left_of_one_whose_test_is_aborted() {
    if env::var_os(ABORT).is_some() {
        let plane = ControlPlane::start().unwrap();
        println!("folder={}", plane.folder().display());
        std::process::abort();
    }
    // Decides whether there can be one, and is itself the case of an orderly end.
    let Some(plane) = ControlPlane::start() else { return };
    let folder = plane.folder().display().to_string();
    assert!(users(&folder).len() >= 4, "what uses the folder was not found: {:?}", users(&folder));
    drop(plane);
    assert_eq!(users(&folder), Vec::<String>::new());
    assert!(!Path::new(&folder).exists());

    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_one_whose_test_is_aborted", "--nocapture"])
        .env(ABORT, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let folder = said.split_once("folder=").unwrap().1.lines().next().unwrap().to_owned();
    eventually("the processes' end", || match users(&folder) {
        none if none.is_empty() => Ok(()),
        some => Err(some.join("\n")),
    });
    eventually("the folder's end", || if Path::new(&folder).exists() { Err(folder.clone()) } else { Ok(()) });
}
