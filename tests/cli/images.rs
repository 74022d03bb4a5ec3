//! `verify --layout` on real images.

use std::path::PathBuf;

use crate::{Ran, bonafide, generator_policy, vectors};

const IMAGE: &str = "ghcr.io/example/app";
const RELEASES: [&str; 3] = ["v1.4.0", "v1.5.0", "v2.1.0"];

fn layout(name: &str) -> Option<PathBuf> {
    vectors(&format!("images/{name}"))
}

fn verify(name: &str, more: &[&str]) -> Option<Ran> {
    let layout = layout(name)?;
    let mut line = vec!["verify", IMAGE, "--layout", layout.to_str().unwrap(), "--output", "json"];
    line.extend(more);
    Some(bonafide(&line))
}

fn verify_release(release: &str, policy: &str, more: &[&str]) -> Option<Ran> {
    let mut line = vec!["--policy", policy];
    line.extend(more);
    verify(&format!("slsa-github-generator-{release}"), &line)
}

#[test]
fn releases_of_the_generator_are_admitted_with_what_was_proved() {
    let policy = generator_policy("\n", "\n");
    for release in RELEASES {
        let Some(ran) = verify_release(release, policy.to_str().unwrap(), &[]) else { return };
        assert_eq!(ran.code, 0, "{release}: {ran:?}");
        let json = ran.json();
        let image = &json["images"][0];
        assert_eq!((json["allowed"].as_bool(), image["allowed"].as_bool()), (Some(true), Some(true)));
        assert_eq!(image["reasons"], serde_json::json!([]));
        assert_eq!(image["reference"], IMAGE);
        assert!(image["digest"].as_str().unwrap().starts_with("sha256:"));
        assert_eq!(image["platforms"][0]["covered"], true);
        let proof = &image["proofs"][0];
        assert_eq!(proof["policy"], "elsewhere/generator");
        assert_eq!(proof["signer"], "generator");
        assert_eq!(proof["predicateType"], "https://slsa.dev/provenance/v0.2");
        let signer = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";
        let certificate = &proof["certificate"];
        assert_eq!(certificate["subject"], format!("{signer}@refs/tags/{release}"));
        assert_eq!(certificate["issuer"], "https://token.actions.githubusercontent.com");
        assert_eq!(certificate["sourceRepository"], "https://github.com/slsa-framework/example-package");
        assert_eq!(certificate["sourceRef"], "refs/heads/main");
        assert_eq!(certificate["trigger"], "workflow_dispatch");
        assert_eq!(certificate["sourceDigest"].as_str().unwrap().len(), 40);
        assert_eq!(proof["provenance"]["builderId"], format!("{signer}@refs/tags/{release}"));
        assert_eq!(proof["provenance"]["commit"], certificate["sourceDigest"]);
    }
}

#[test]
fn the_json_has_the_fields_of_the_contract_and_no_others() {
    let policy = generator_policy("\n", "\n");
    for (release, runner) in [("v1.4.0", None), ("v2.1.0", Some("github-hosted"))] {
        let Some(ran) = verify_release(release, policy.to_str().unwrap(), &[]) else { return };
        let json = ran.json();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let image = &json["images"][0];
        let proof = &image["proofs"][0];
        assert_eq!(keys(&json), ["allowed", "images"]);
        assert_eq!(
            keys(image),
            ["allowed", "digest", "lookedAt", "lookedAtMore", "platforms", "proofs", "reasons", "reference"]
        );
        let looked_at = &image["lookedAt"][0];
        assert_eq!(
            keys(looked_at),
            ["digest", "layout", "message", "of", "outcome", "policy", "predicateType", "repository"]
        );
        assert_eq!((&looked_at["outcome"], &looked_at["layout"]), (&"ok".into(), &"attTag".into()));
        assert_eq!(
            (&looked_at["of"], &looked_at["predicateType"]),
            (&image["digest"], &proof["predicateType"])
        );

        assert_eq!(keys(&image["platforms"][0]), ["covered", "digest", "platform"]);
        assert_eq!(keys(proof), ["certificate", "level", "policy", "predicateType", "provenance", "signer"]);
        assert_eq!(
            keys(&proof["certificate"]),
            [
                "buildConfigDigest",
                "buildConfigUri",
                "buildSignerDigest",
                "buildSignerUri",
                "environment",
                "issuer",
                "runUri",
                "runner",
                "sourceDigest",
                "sourceOwner",
                "sourceOwnerId",
                "sourceRef",
                "sourceRepository",
                "sourceRepositoryId",
                "sourceVisibility",
                "subject",
                "tokenSubject",
                "trigger",
                "workflowName",
            ]
        );
        assert_eq!(
            keys(&proof["provenance"]),
            ["buildType", "builderId", "commit", "finishedOn", "source", "startedOn", "workflow"]
        );
        assert_eq!(proof["certificate"]["runner"].as_str(), runner);
    }
}

#[test]
fn one_thing_that_differs_is_enough_to_deny() {
    for (from, to, reason) in [
        (
            "repository: slsa-framework/example-package",
            "repository: slsa-framework/example-packages",
            "WrongSource",
        ),
        ("refs/heads/main", "refs/heads/mai", "WrongSource"),
        ("[workflow_dispatch]", "[push]", "WrongSource"),
        ("generator_container_slsa3.yml", "generator_generic_slsa3.yml", "WrongSigner"),
        ("slsa-framework/slsa-github-generator", "slsa-framework/slsa-github-generators", "WrongSigner"),
        ("refs/tags/v*", "refs/tags/w*", "WrongSigner"),
        ("githubusercontent.com", "githubusercontent.com/enterprise", "WrongSigner"),
    ] {
        let policy = generator_policy(from, to);
        for release in RELEASES {
            let Some(ran) = verify_release(release, policy.to_str().unwrap(), &[]) else { return };
            assert_eq!(ran.code, 1, "{release} {to}: {ran:?}");
            assert_eq!(ran.reasons(), [reason], "{release} {to}: {ran:?}");
            assert_eq!(ran.json()["allowed"], false);
        }
    }
}

#[test]
fn another_trust_root_trusts_nobody_here_and_the_right_one_does() {
    let policy = generator_policy("\n", "\n");
    let (Some(staging), Some(public)) =
        (vectors("roots/trusted_root_staging.json"), vectors("roots/trusted_root.json"))
    else {
        return;
    };
    for release in RELEASES {
        let root = |path: &PathBuf| {
            verify_release(release, policy.to_str().unwrap(), &["--trust-root", path.to_str().unwrap()])
                .unwrap()
        };
        let ran = root(&staging);
        assert_eq!((ran.code, ran.reasons()), (1, vec!["UntrustedSignature".to_owned()]), "{ran:?}");
        assert_eq!(root(&public).code, 0);
    }
}

#[test]
fn flags_say_what_a_policy_file_says() {
    let workflow = "slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";
    let subject = format!("https://github.com/{workflow}@refs/tags/v2.1.0");
    let regex = r"https://github\.com/slsa-framework/slsa-github-generator/.*@refs/tags/v[0-9.]+";
    let issuer = "https://token.actions.githubusercontent.com";
    let repository = ["--repository", "slsa-framework/example-package"];
    let by_workflow = ["--workflow", workflow, "--workflow-ref", "refs/tags/v*"];
    for (flags, code) in [
        ([&repository[..], &by_workflow].concat(), 0),
        (
            [&repository[..], &by_workflow, &["--ref", "refs/heads/main", "--trigger", "workflow_dispatch"]]
                .concat(),
            0,
        ),
        ([&repository[..], &by_workflow, &["--ref", "refs/tags/*", "--ref", "refs/heads/main"]].concat(), 0),
        ([&repository[..], &by_workflow, &["--ref", "refs/tags/*"]].concat(), 1),
        ([&repository[..], &by_workflow, &["--trigger", "push"]].concat(), 1),
        ([&repository[..], &by_workflow, &["--issuer", issuer]].concat(), 0),
        ([&repository[..], &by_workflow, &["--issuer", "https://example.com"]].concat(), 1),
        ([&["--repository", "slsa-framework/other"][..], &by_workflow].concat(), 1),
        // Any workflow of the repository itself: another repository's is not.
        (repository.to_vec(), 1),
        ([&repository[..], &["--identity", &subject]].concat(), 0),
        ([&repository[..], &["--identity", &subject, "--ref", "refs/tags/*"]].concat(), 1),
        ([&repository[..], &["--identity-regex", regex]].concat(), 0),
        ([&["--repository", "slsa-framework/other"][..], &["--identity-regex", regex]].concat(), 1),
        ([&repository[..], &["--identity-regex", "https://github"]].concat(), 1),
        (vec!["--identity", &subject, "--issuer", issuer], 0),
        (vec!["--identity-regex", regex, "--issuer", issuer], 0),
        (vec!["--identity", &subject, "--issuer", "https://example.com"], 1),
        (vec!["--identity", &subject], 64),
        (vec!["--issuer", issuer], 64),
        ([&["--repository", "["][..], &by_workflow].concat(), 64),
    ] {
        let Some(ran) = verify("slsa-github-generator-v2.1.0", &flags) else { return };
        assert_eq!(ran.code, code, "{flags:?}: {ran:?}");
    }
}

#[test]
fn unsigned_provenance_is_told_per_platform_with_its_digest() {
    let policy = generator_policy("\n", "\n");
    let line = ["--policy", policy.to_str().unwrap()];
    let Some(ran) = verify("buildkit-multiarch-unsigned", &line) else { return };
    assert_eq!((ran.code, ran.reasons()), (1, vec!["UnsignedProvenance".to_owned(); 2]), "{ran:?}");
    let json = ran.json();
    let image = &json["images"][0];
    let platforms = image["platforms"].as_array().unwrap();
    let names: Vec<&str> = platforms.iter().map(|p| p["platform"].as_str().unwrap()).collect();
    assert_eq!(names, ["linux/amd64", "linux/arm64"]);
    for (platform, reason) in platforms.iter().zip(image["reasons"].as_array().unwrap()) {
        let message = reason["message"].as_str().unwrap();
        assert!(message.contains(platform["platform"].as_str().unwrap()), "{message}");
        assert!(message.contains(platform["digest"].as_str().unwrap()), "{message}");
        assert_eq!(platform["covered"], false);
    }
}

#[test]
fn one_platform_alone_can_be_asked_for() {
    let policy = generator_policy("\n", "\n");
    let line =
        ["--policy", policy.to_str().unwrap(), "--platform", "linux/arm64", "--platform", "linux/arm64/v8"];
    let Some(ran) = verify("buildkit-multiarch-unsigned", &line) else { return };
    assert_eq!((ran.code, ran.reasons()), (1, vec!["UnsignedProvenance".to_owned()]));
    let line = ["--policy", policy.to_str().unwrap(), "--platform", "windows/amd64"];
    let ran = verify("buildkit-multiarch-unsigned", &line).unwrap();
    assert_eq!((ran.code, ran.reasons()), (1, vec!["PlatformMissing".to_owned()]));
}

#[test]
fn texts() {
    let policy = generator_policy("\n", "\n");
    let text = |layout_name: &str, more: &[&str]| {
        let layout = layout(layout_name)?;
        let mut line = vec!["verify", IMAGE, "--layout", layout.to_str().unwrap()];
        line.extend(more);
        let ran = bonafide(&line);
        Some(format!("exit {}\n{}{}", ran.code, ran.out, ran.err))
    };
    let policy = ["--policy", policy.to_str().unwrap()];
    let Some(admitted) = text("slsa-github-generator-v2.1.0", &policy) else { return };
    insta::assert_snapshot!("admitted", admitted);
    insta::assert_snapshot!("unsigned", text("buildkit-multiarch-unsigned", &policy).unwrap());
    let other = ["--repository", "example/other", "--identity-regex", "https://github.com/.*"];
    insta::assert_snapshot!("wrong_source", text("slsa-github-generator-v1.5.0", &other).unwrap());
}
