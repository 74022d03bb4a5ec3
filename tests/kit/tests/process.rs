//! Processes end when they are told to, and when nobody is left to tell them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    env,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bonafide_kit::plane::{Process, eventually};

/// Where a test binary that is to end badly writes.
const ORPHAN: &str = "BONAFIDE_TEST_ORPHAN_LOG";

fn log(name: &str) -> PathBuf {
    let path = env::temp_dir().join(format!("bonafide-process-{}-{name}.log", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A shell that says its process id first, then runs the script.
fn shell(script: &str, log: &Path) -> Process {
    let script = format!("{script}\n echo $$; while :; do sleep 0.05; done");
    let configure = |command: &mut Command| {
        command.args(["-c", &script]);
    };
    let process = Process::start("shell", "/bin/sh", configure, log, None).unwrap();
    eventually("the process id", || process.log().contains('\n').then_some(()).ok_or_else(|| process.log()));
    process
}

fn id(log: &Path) -> u32 {
    std::fs::read_to_string(log).unwrap().lines().next().unwrap().parse().unwrap()
}

fn lives(id: u32) -> bool {
    Path::new(&format!("/proc/{id}/cmdline")).exists()
}

#[test]
fn a_process_may_end_in_order_and_is_killed_where_it_does_not() {
    let grace = Duration::from_mins(1);
    let (obeys, ignores) = (log("obeys"), log("ignores"));
    let status = shell("trap 'exit 7' TERM", &obeys).stop(grace);
    assert_eq!(status.code(), Some(7));

    let status = shell("trap '' TERM", &ignores).stop(Duration::from_millis(200));
    assert_eq!(status.code(), Some(128 + 9));
    assert!(!lives(id(&ignores)));

    let status = shell("trap 'exit 7' TERM", &obeys).kill();
    assert_eq!(status.code(), Some(128 + 9), "nothing is asked for");
    for log in [obeys, ignores] {
        std::fs::remove_file(log).unwrap();
    }
}

#[test]
fn a_process_that_ends_by_itself_is_seen_to() {
    let log = log("ends");
    let configure = |command: &mut Command| {
        command.args(["-c", "echo said; echo also >&2; exit 3"]);
    };
    let mut process = Process::start("short", "/bin/sh", configure, &log, None).unwrap();
    let status = eventually("the end", || process.ended().ok_or_else(String::new));
    assert_eq!(status.code(), Some(3));
    assert_eq!(process.log(), "said\nalso\n");
    std::fs::remove_file(log).unwrap();
}

#[test]
fn nothing_is_left_behind_by_a_test_binary_that_is_aborted() {
    if let Some(log) = env::var_os(ORPHAN) {
        let _process = shell("trap '' TERM", Path::new(&log));
        std::process::abort();
    }
    let log = log("orphan");
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_behind_by_a_test_binary_that_is_aborted"])
        .env(ORPHAN, &log)
        .output()
        .unwrap()
        .status;
    assert!(status.signal().is_some(), "it was to be aborted: {status}");
    let id = id(&log);
    eventually("its end", || if lives(id) { Err(format!("{id} lives")) } else { Ok(()) });
    std::fs::remove_file(log).unwrap();
}
