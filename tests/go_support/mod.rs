//! What Go's `encoding/json` reads of the same bytes: container runtimes are written in Go.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// The program that reads as Go reads, built where Go is there.
pub struct Go(PathBuf);

impl Go {
    /// `None`, and a line that says so, where there is no Go.
    pub fn build() -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go_support/main.go");
        let program = std::env::temp_dir().join(format!("bonafide-go-reads-{}", std::process::id()));
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(source)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod")
            .env("GOPROXY", "off")
            .stdout(Stdio::null())
            .status();
        let Ok(status) = built else {
            println!("SKIPPED: there is no `go`, so what it reads of manifests is not compared");
            return None;
        };
        assert!(status.success(), "go build fails");
        Some(Self(program))
    }

    /// What it reads of each document; `None` for what it refuses.
    pub fn read(&self, documents: &[Vec<u8>]) -> Vec<Option<Value>> {
        let mut child =
            Command::new(&self.0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines: String = documents.iter().map(|document| STANDARD.encode(document) + "\n").collect();
        let mut input = child.stdin.take().expect("its input");
        let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        writing.join().expect("no panic").expect("all is written");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        let read: Vec<Option<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(read.len(), documents.len());
        read
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
