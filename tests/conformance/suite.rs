//! The cases of the suite, each in both ways of naming the artifact: every one that must fail does, for the reason in its
//! README.

use std::{fs, path::Path};

use bonafide::domain::digest::Digest;

use crate::verify_bundle;

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// What the refusal says, as the case's README has it. Cases that are not known here must fail, for whatever reason.
fn reason_of(case: &str) -> &'static str {
    match case {
        "bundle-from-wrong-instance_fail" => "of a log that the trust root sigstore does not know",
        "bundle-malformed-json_fail" => "it is not a Sigstore bundle",
        "checkpoint-wrong-roothash_fail" | "invalid-checkpoint-signature_fail" => {
            "the checkpoint of its log entry"
        }
        "dsse-invalid-sig_fail" => "its signature does not verify",
        "dsse-mismatch-envelope_fail"
        | "intoto-log-entry-mismatch_fail"
        | "wrong-hashedrekord-entry_fail" => "its log entry does not describe",
        "intoto-expired-certificate_fail" => "was not valid at the time of signing",
        // Not even a key.
        "managed-key-wrong-key_fail" => {
            "is no public key in PEM: what stands between its lines is not base64"
        }
        "rekor2-no-timestamp_fail" => "nothing vouches for the time of signing",
        "set-invalid-signature_fail" => "signed timestamp (SET) does not verify",
        "wrong-material_fail" => "it is not about this artifact",
        _ => "",
    }
}

#[test]
fn the_cases_of_the_suite_give_the_expected_result() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/conformance");
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there, so no case of the suite was run", folder.display());
        return;
    }
    let mut cases = 0;
    for case in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if case.is_dir() {
            cases += 1;
            run(&folder, &case);
        }
    }
    assert!(cases >= 22, "{cases}");
}

fn run(folder: &Path, case: &Path) {
    let name = case.file_name().unwrap().to_str().unwrap();
    let file = |name: &str| Some(case.join(name)).filter(|path| path.exists());
    let text = |name: &str, usual: &str| {
        file(name).map_or(usual.to_owned(), |path| fs::read_to_string(path).unwrap())
    };
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let mut arguments = vec!["--bundle".to_owned(), shown(&case.join("bundle.sigstore.json"))];
    match file("key.pub") {
        Some(key) => arguments.extend(["--key".to_owned(), shown(&key)]),
        None => arguments.extend([
            "--certificate-identity".to_owned(),
            text("identity", IDENTITY).trim().to_owned(),
            "--certificate-oidc-issuer".to_owned(),
            text("issuer", ISSUER).trim().to_owned(),
        ]),
    }
    if let Some(root) = file("trusted_root.json") {
        arguments.extend(["--trusted-root".to_owned(), shown(&root)]);
    }
    let artifact = file("artifact").unwrap_or_else(|| folder.join("a.txt"));
    let digest = Digest::of(&fs::read(&artifact).unwrap()).to_string();
    for what in [shown(&artifact), digest] {
        let line: Vec<&str> = arguments.iter().chain([&what]).map(String::as_str).collect();
        let outcome = verify_bundle(&line);
        println!("{name}: {outcome:?}");
        if name.ends_with("_fail") {
            let reason = outcome.expect_err(name);
            assert!(reason.contains(reason_of(name)), "{name}: {reason}");
        } else {
            outcome.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        }
    }
}
