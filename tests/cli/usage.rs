//! Bad usage, help, version, `explain`, and readers that go away.

use std::process::{Command, Stdio};

use crate::{bonafide, file, generator_policy, scratch};

#[test]
fn bad_usage_is_64_and_help_is_not() {
    let policy = generator_policy("\n", "\n");
    let policy = policy.to_str().unwrap();
    let missing = scratch("missing");
    let missing = missing.to_str().unwrap();
    let broken = file("broken.yaml", "kind: [");
    for (line, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["verify", "--help"], 0),
        (&["policy", "check", "--help"], 0),
        (&[], 64),
        (&["nonsense"], 64),
        (&["verify"], 64),
        (&["verify", "ghcr.io/example/app"], 64),
        (&["verify", "ghcr.io/example/app", "--policy", missing], 64),
        (&["verify", "ghcr.io/example/app", "--policy", broken.to_str().unwrap()], 64),
        (&["verify", "ghcr.io/elsewhere/app", "--policy", policy], 64),
        (&["verify", "ghcr.io/example/app", "--policy", policy, "--repository", "o/r"], 64),
        (&["verify", "ghcr.io/example/app", "--policy", policy, "--layout", missing], 64),
        (&["verify", "ghcr.io/example/app", "--policy", policy, "--trust-root", missing], 64),
        (&["verify", "ghcr.io/example/app", "--policy", policy, "--trust-root", policy], 64),
        (&["verify", "Not An Image", "--policy", policy], 64),
        (&["review", "-f", missing, "--policies", policy], 64),
        (&["review", "-f", broken.to_str().unwrap(), "--policies", policy], 64),
        (&["explain", "Nonsense"], 64),
        (&["explain", "noprovenance"], 0),
        (&["explain"], 0),
    ] {
        let ran = bonafide(line);
        assert_eq!(ran.code, code, "{line:?}: {ran:?}");
        assert_eq!(ran.err.is_empty(), code == 0, "{line:?}: {ran:?}");
    }
}

#[test]
fn an_image_that_no_policy_covers_is_said_to_be_that() {
    let policy = generator_policy("\n", "\n");
    let ran = bonafide(&["verify", "ghcr.io/elsewhere/app", "--policy", policy.to_str().unwrap()]);
    assert!(ran.err.contains("no given policy covers ghcr.io/elsewhere/app"), "{ran:?}");
    assert!(ran.err.contains("elsewhere/generator"), "{ran:?}");
}

#[test]
fn errors_in_flags_name_the_flag_and_the_value() {
    for (flags, parts) in [
        (&["--repository", "o/r", "--ref", "refs/heads/a[b]"][..], ["--ref", "refs/heads/a[b]"]),
        (&["--repository", "just-a-name"], ["--repository", "just-a-name"]),
        (&["--identity-regex", "(", "--issuer", "https://i.example"], ["--identity-regex", "("]),
        (&["--repository", "o/r", "--identity-regex", "("], ["--identity-regex", "("]),
    ] {
        let line: Vec<&str> = ["verify", "ghcr.io/o/r"].iter().chain(flags).copied().collect();
        let ran = bonafide(&line);
        assert_eq!(ran.code, 64, "{flags:?}: {ran:?}");
        assert!(parts.iter().all(|part| ran.err.contains(part)), "{flags:?}: {ran:?}");
    }
}

#[test]
fn a_word_that_is_nearly_a_reason_is_suggested() {
    let ran = bonafide(&["explain", "UnsignedProvenence"]);
    assert_eq!(ran.code, 64);
    assert!(ran.err.contains("UnsignedProvenance"), "{ran:?}");
}

#[test]
fn the_version_is_the_packages() {
    let ran = bonafide(&["--version"]);
    assert!(ran.out.starts_with(&format!("bonafide {}", env!("CARGO_PKG_VERSION"))), "{ran:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bonafide"))
        .args(["explain", "--markdown"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn help() {
    insta::assert_snapshot!("help", bonafide(&["--help"]).out);
    insta::assert_snapshot!("help_verify", bonafide(&["verify", "--help"]).out);
    insta::assert_snapshot!("help_review", bonafide(&["review", "--help"]).out);
}

#[test]
fn a_page_of_explanation() {
    insta::assert_snapshot!("explain", bonafide(&["explain", "PlatformMissing"]).out);
}
