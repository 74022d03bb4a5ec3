//! The client of `examples/conformance.rs`, as sigstore-conformance runs it: on the cases of that suite that are at hand, and
//! on cases of our own making for what the suite looks at.
#![allow(
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[allow(dead_code)] // its main
#[path = "../../examples/conformance.rs"]
mod client;

mod own;
mod roots;
mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A file of its own with these bytes.
pub fn file(name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let folder = format!("conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Runs `verify-bundle` with these arguments.
pub fn verify_bundle(arguments: &[&str]) -> Result<(), String> {
    client::run(["conformance", "verify-bundle"].iter().chain(arguments))
}
