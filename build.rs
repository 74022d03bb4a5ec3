//! Gives `--version` the git state the binary was built from. Without git, or from a tarball, there is none and the build goes on.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.lock");
    // For builds in a container that is not given `.git`.
    println!("cargo::rerun-if-env-changed=GIT_DESCRIBE");
    let given = env::var("GIT_DESCRIBE").ok().filter(|text| !text.trim().is_empty());
    let described = given.or_else(describe).unwrap_or_default();
    println!("cargo::rustc-env=BONAFIDE_GIT={}", described.trim());
}

/// The state of this repository, and not of one that an unpacked tarball happens to lie in.
fn describe() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    for file in ["HEAD", "logs/HEAD", "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["describe", "--tags", "--always", "--dirty", "--abbrev=12", "--match=v[0-9]*"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty() && !text.contains('\n')).then_some(text)
}
