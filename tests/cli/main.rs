//! The real binary: its exit codes, its JSON, its texts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::missing_panics_doc
)]

mod images;
mod looked_at;
mod manifests;
mod policies;
mod registry;
mod reviews;
mod signers;
mod slsa;
mod summaries;
mod types;
mod usage;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

/// What a run of the binary left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reasons of the first image.
    pub fn reasons(&self) -> Vec<String> {
        let json = self.json();
        let reasons = json["images"][0]["reasons"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        reasons.iter().map(|reason| reason["reason"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn bonafide<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    bonafide_reading(arguments, "")
}

pub fn bonafide_reading<S: AsRef<std::ffi::OsStr>>(arguments: &[S], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bonafide"))
        .args(arguments)
        // Credentials of whoever runs the tests are no part of them.
        .env("DOCKER_CONFIG", scratch("no-credentials"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A path of its own for every caller; nothing is there yet.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let folder = format!("cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// A file with this text.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = scratch(name);
    fs::write(&path, text).unwrap();
    path
}

/// The folder of real signed data, where it is there.
pub fn vectors(below: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors").join(below);
    if !path.exists() {
        println!("SKIPPED: there is no {}", path.display());
        return None;
    }
    Some(path)
}

/// The policy that the releases of the container generator satisfy, with one thing in it replaced.
pub fn generator_policy(from: &str, to: &str) -> PathBuf {
    let text = r#"
apiVersion: bonafide.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: generator, namespace: elsewhere}
spec:
  images:
    include: ["ghcr.io/example/**"]
  tags: Allow
  signers:
    - name: generator
      github:
        repository: slsa-framework/example-package
        workflow: slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml
        workflowRefs: ["refs/tags/v*"]
        refs: ["refs/heads/main"]
        triggers: [workflow_dispatch]
        issuer: https://token.actions.githubusercontent.com
"#;
    assert!(text.contains(from), "{from}");
    file("policy.yaml", &text.replace(from, to))
}
