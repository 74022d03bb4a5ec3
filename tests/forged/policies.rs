//! What is genuine and not what the policy asks for: each form with each thing that a policy looks at.

use bonafide::domain::{
    level::BuildLevel,
    verdict::{Outcome, Reason},
};
use bonafide_kit::sigstore::{Build, Identity, statement_cosign_sign, statement_v1, statement_v02};
use serde_json::{Value, json};

use crate::form::{FORMS, WORKFLOW, World, denied, identity, image, judge, statement};

/// Somebody else than the policy names, or built from something else.
fn strangers() -> Vec<(&'static str, Identity, Reason, &'static str)> {
    let of = |repository: &str, git_ref: &str, trigger: &str| {
        Identity::github(repository, WORKFLOW, git_ref, trigger)
    };
    let main = "refs/heads/main";
    vec![
        (
            "another repository",
            of("evil/app", main, "push"),
            Reason::WrongSigner,
            "signed by https://github.com/evil/app",
        ),
        (
            "another workflow",
            Identity::github("acme/app", ".github/workflows/other.yml", main, "push"),
            Reason::WrongSigner,
            "other.yml",
        ),
        (
            "another branch",
            of("acme/app", "refs/heads/dev", "push"),
            Reason::WrongSource,
            "ref is refs/heads/dev",
        ),
        (
            "a pull request",
            of("acme/app", "refs/pull/1/merge", "push"),
            Reason::WrongSource,
            "ref is refs/pull/1/merge",
        ),
        (
            "another trigger",
            of("acme/app", main, "issue_comment"),
            Reason::WrongSource,
            "trigger is issue_comment",
        ),
        (
            "another issuer",
            identity().issuer("https://issuer.example"),
            Reason::WrongSigner,
            "with the issuer https://issuer.example",
        ),
        (
            "a reusable workflow of another repository",
            identity().signed_by("evil/workflows/.github/workflows/build.yml@refs/heads/main"),
            Reason::WrongSigner,
            "signed by https://github.com/evil/workflows",
        ),
        (
            "no source",
            identity().without_extension(12).without_extension(5),
            Reason::WrongSource,
            "names no source repository",
        ),
        (
            "no ref",
            identity().without_extension(14).without_extension(6),
            Reason::WrongSource,
            "names no source ref",
        ),
        (
            "no trigger",
            identity().without_extension(20).without_extension(2),
            Reason::WrongSource,
            "names no source trigger",
        ),
        (
            "a person",
            Identity::email("dev@acme.example", "https://accounts.example"),
            Reason::WrongSigner,
            "signed by dev@acme.example",
        ),
    ]
}

#[test]
fn only_whom_the_policy_names_may_sign_in_every_form() {
    let statement = statement();
    for form in FORMS.into_iter().filter(|form| !form.is_keyed()) {
        let world = World::of(form);
        world.admitted(&world.signing().sign(&statement));
        for (what, stranger, reason, words) in strangers() {
            let signed = world.signing_by(&stranger).sign(&statement);
            denied(&world.judge(&signed), reason, words, &(form, what));
        }
    }
}

/// A policy that asks for more, which the good statement does not say.
fn rules() -> Vec<(&'static str, Value, Reason, &'static str)> {
    vec![
        ("types", json!({"types": ["https://slsa.dev/provenance/v0.2"]}), Reason::NoProvenance, "of type"),
        ("builder", json!({"builderIds": ["https://other.example"]}), Reason::WrongBuilder, "the builder"),
        (
            "build type",
            json!({"buildTypes": ["https://other.example"]}),
            Reason::WrongBuilder,
            "the build type",
        ),
        (
            "source",
            json!({"source": {"repository": "https://github.com/evil/app"}}),
            Reason::WrongSource,
            "the source https://github.com/acme/app",
        ),
        (
            "ref",
            json!({"source": {"refs": ["refs/heads/dev"]}}),
            Reason::WrongSource,
            "the source ref refs/heads/main",
        ),
        ("age", json!({"maxAge": "1h"}), Reason::ProvenanceTooOld, "built at 2026-01-01T00:10:00Z"),
    ]
}

#[test]
fn the_level_is_that_of_the_signer_and_its_builder_in_every_form() {
    let statement = statement();
    let builder = Build::of(&identity()).builder_id;
    for form in FORMS {
        let world = World::of(form);
        let raw = form.of(&world.signing().sign(&statement));
        // The same identity twice: whatever it builds, and what this builder builds for it.
        let policy = |builder: &str, least: i32| {
            let mut policy = world.policy();
            let mut known = policy["spec"]["signers"][0].clone();
            known["name"] = json!("known");
            known["builderIds"] = json!([builder]);
            known["level"] = json!(3);
            policy["spec"]["signers"].as_array_mut().unwrap().push(known);
            policy["spec"]["provenance"] = json!({"minLevel": least});
            policy
        };
        for (builder, least, signer, level) in [
            (&*builder, 1, "known", BuildLevel::Three),
            (&*builder, 3, "known", BuildLevel::Three),
            ("https://other.example", 1, "ci", BuildLevel::One),
        ] {
            let verdict = judge(&world.roots, &policy(builder, least), &raw);
            assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}: {:?}", verdict.problems);
            assert_eq!((&*verdict.proofs[0].signer, verdict.proofs[0].level), (signer, level));
        }
        let verdict = judge(&world.roots, &policy("https://other.example", 2), &raw);
        denied(&verdict, Reason::WrongBuilder, "what ci builds is of SLSA build level 1", &form);
        assert_eq!(
            verdict.problems[0].expected.as_deref(),
            Some("of known the builder https://other.example, SLSA build level 2 at least")
        );
    }
}

/// Something else that a build claims, and what is said of it.
type Contradiction = (&'static str, fn(&mut Build), &'static str);

/// What the provenance claims of its source where the certificate says otherwise, in both versions.
fn contradictions() -> Vec<(&'static str, String, &'static str)> {
    let subject = image().hex();
    let subjects: [(&str, &str); 1] = [("ghcr.io/acme/app", &subject)];
    let changes: [Contradiction; 3] = [
        (
            "another repository",
            |build| "evil/app".clone_into(&mut build.repository),
            "claims the source https://github.com/evil/app, and the certificate says https://github.com/acme/app",
        ),
        (
            "another ref",
            |build| "refs/heads/dev".clone_into(&mut build.git_ref),
            "claims the source ref refs/heads/dev, and the certificate says refs/heads/main",
        ),
        (
            "another commit",
            |build| build.commit = "0".repeat(40),
            "claims the commit 0000000000000000000000000000000000000000, and the certificate says",
        ),
    ];
    let both = |(what, change, words): Contradiction| {
        let mut build = Build::of(&identity());
        change(&mut build);
        [statement_v1(&subjects, &build), statement_v02(&subjects, &build)]
            .map(|statement| (what, statement.to_string(), words))
    };
    changes.into_iter().flat_map(both).collect()
}

#[test]
fn provenance_that_contradicts_its_certificate_is_denied_in_every_form() {
    for form in FORMS {
        let world = World::of(form);
        let build = Build::of(&identity());
        let subject = image().hex();
        for good in [statement_v1(&[("x", &subject)], &build), statement_v02(&[("x", &subject)], &build)] {
            world.admitted(&world.signing().sign(good.to_string()));
        }
        for (what, statement, words) in contradictions() {
            let signed = world.signing().sign(&statement);
            if form.is_keyed() {
                // A key says nothing of a source.
                world.admitted(&signed);
            } else {
                denied(&world.judge(&signed), Reason::WrongSource, words, &(form, what));
            }
        }
    }
}

/// Statements that say something else than the policy wants to hear.
fn statements() -> Vec<(&'static str, String, Reason, &'static str)> {
    let build = Build::of(&identity());
    let (ours, other) = (image().hex(), "cd".repeat(32));
    let good = statement_v1(&[("ghcr.io/acme/app", &ours)], &build).to_string();
    let mislabelled =
        statement_v02(&[("x", &ours)], &build).to_string().replace("provenance/v0.2", "provenance/v1");
    let nameless = statement_v1(&[], &build).to_string();
    vec![
        (
            "another image",
            statement_v1(&[("ghcr.io/acme/app", &other)], &build).to_string(),
            Reason::NoProvenance,
            "it is about another digest",
        ),
        (
            "no provenance",
            statement_cosign_sign(&[("ghcr.io/acme/app", &ours)]).to_string(),
            Reason::NoProvenance,
            "it is a signature, and says nothing of how the image was built",
        ),
        ("no statement", "{}".to_owned(), Reason::MalformedAttestation, "not an in-toto statement"),
        ("no JSON", "provenance".to_owned(), Reason::MalformedAttestation, "not an in-toto statement"),
        (
            "a key twice",
            good.replacen('{', r#"{"predicateType":"other","#, 1),
            Reason::MalformedAttestation,
            "not an in-toto statement",
        ),
        (
            "a type of another version",
            mislabelled,
            Reason::MalformedAttestation,
            "its predicate is not SLSA provenance",
        ),
        (
            "a statement of a version to come",
            good.replace("in-toto.io/Statement/v1", "in-toto.io/Statement/v9"),
            Reason::MalformedAttestation,
            "not an in-toto statement v0.1 or v1",
        ),
        ("no subject", nameless, Reason::MalformedAttestation, "names no sha256 or sha512 digest"),
    ]
}

#[test]
fn what_is_claimed_must_be_what_the_policy_asks_in_every_form() {
    let good = statement();
    for form in FORMS {
        let world = World::of(form);
        let signed = world.signing().sign(&good);
        world.admitted(&signed);
        for (what, asked, reason, words) in rules() {
            let mut policy = world.policy();
            policy["spec"]["provenance"] = asked;
            denied(&judge(&world.roots, &policy, &form.of(&signed)), reason, words, &(form, what));
        }
        for (what, statement, reason, words) in statements() {
            let verdict = world.judge(&world.signing().sign(&statement));
            // A statement without a subject can be read from a layer, and is about nothing.
            if what == "no subject" && verdict.problems[0].reason == Reason::NoProvenance {
                denied(&verdict, Reason::NoProvenance, "names no digest", &(form, what));
            } else if what == "no subject" && form.is_keyed() {
                denied(&verdict, Reason::UntrustedSignature, "is not by the key", &(form, what));
            } else {
                denied(&verdict, reason, words, &(form, what));
            }
        }
    }
}

/// Whoever builds with BuildKit chooses what it says of its context. A policy for all repositories of an owner reads the claim of one of
/// them, and only that one may make it.
#[test]
fn a13_a_claim_of_another_repository_than_the_certificate_is_denied_for_every_build_type() {
    let buildkit_v1 = "https://mobyproject.org/buildkit@v1";
    let buildkit_v2 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
    let subjects = [("ghcr.io/acme/app", image().hex())];
    let subjects = subjects.each_ref().map(|(name, hex)| (*name, hex.as_str()));
    let claimed = |form: usize, build_type: &str, repository: &str| {
        let uri = format!("https://github.com/{repository}.git#refs/tags/v9");
        if form == 0 {
            let mut statement = statement_v02(&subjects, &Build::of(&identity()));
            statement["predicate"]["buildType"] = json!(build_type);
            statement["predicate"]["invocation"]["configSource"] = json!({"uri": uri});
            return statement;
        }
        let mut statement = statement_v1(&subjects, &Build::of(&identity()));
        let definition = &mut statement["predicate"]["buildDefinition"];
        definition["buildType"] = json!(build_type);
        definition["externalParameters"] = json!({"configSource": {"uri": uri}});
        statement
    };
    for at in [0, 8] {
        let world = World::of(FORMS[at]);
        let mut policy = world.policy();
        policy["spec"]["signers"][0]["github"]["repository"] = json!("acme/*");
        let judge = |statement: &Value| {
            let signed = world.signing().sign(statement.to_string());
            judge(&world.roots, &policy, &world.form.of(&signed))
        };
        for (form, build_type) in [(0, buildkit_v1), (1, buildkit_v2), (1, buildkit_v1)] {
            // The context may be another ref and commit of the same repository.
            let same = judge(&claimed(form, build_type, "acme/app"));
            assert_eq!(same.outcome, Outcome::Allow, "{build_type}: {:?}", same.problems);
            let other = judge(&claimed(form, build_type, "acme/other"));
            let words = "it claims the source https://github.com/acme/other, and the certificate says https://github.com/acme/app";
            denied(&other, Reason::WrongSource, words, &build_type);
        }
    }
}

/// What is no time is no time: it is nothing that is wrong with the provenance, and nothing that shows that it is young.
#[test]
fn c12_a_time_without_a_zone_is_none_and_is_old_enough_for_no_max_age() {
    let subjects = [("ghcr.io/acme/app", image().hex())];
    let subjects = subjects.each_ref().map(|(name, hex)| (*name, hex.as_str()));
    let now = jiff::Timestamp::now().to_string();
    for at in [0, 8, 13] {
        let world = World::of(FORMS[at]);
        let judge = |time: &str, max_age: Option<&str>| {
            let statement = statement_v1(&subjects, &Build::of(&identity()).ran(time, time));
            let signed = world.signing().sign(statement.to_string());
            let mut policy = world.policy();
            policy["spec"]["provenance"] = json!({});
            if let Some(max_age) = max_age {
                policy["spec"]["provenance"]["maxAge"] = json!(max_age);
            }
            judge(&world.roots, &policy, &world.form.of(&signed))
        };
        for time in ["2026-01-01T00:00:00", "Thu, 1 Jan 2026 00:00:00 GMT", "1767225600"] {
            let verdict = judge(time, None);
            assert_eq!(verdict.outcome, Outcome::Allow, "{time}: {:?}", verdict.problems);
            let words = format!(
                "the provenance claims {time} as the time of the build, which is not a time with a zone"
            );
            denied(&judge(time, Some("24h")), Reason::ProvenanceTooOld, &words, &time);
        }
        assert_eq!(judge(&now, Some("24h")).outcome, Outcome::Allow);
    }
}

#[test]
fn a14_what_outsiders_trigger_is_denied_in_every_form_unless_the_policy_names_it() {
    let statement = statement();
    let main = "refs/heads/main";
    for form in FORMS.into_iter().filter(|form| !form.is_keyed()) {
        let world = World::of(form);
        let mut by_github = world.policy();
        by_github["spec"]["signers"][0]["github"].as_object_mut().unwrap().remove("triggers");
        let mut by_subject = world.policy();
        let signer = by_subject["spec"]["signers"][0].as_object_mut().unwrap();
        signer.remove("github");
        signer.insert(
            "certificate".to_owned(),
            json!({"issuer": identity().value(8).unwrap(), "subject": identity().subject()}),
        );
        for (kind, policy) in [("github", by_github), ("certificate", by_subject)] {
            let judged = |identity: &Identity, policy: &Value| {
                judge(&world.roots, policy, &form.of(&world.signing_by(identity).sign(&statement)))
            };
            for trigger in ["push", "workflow_dispatch", "schedule", "release", "repository_dispatch"] {
                let verdict = judged(&Identity::github("acme/app", WORKFLOW, main, trigger), &policy);
                assert_eq!(
                    verdict.outcome,
                    Outcome::Allow,
                    "{form:?} {kind} {trigger}: {:?}",
                    verdict.problems
                );
            }
            // Older certificates say it in their second extension alone.
            let legacy = |trigger: &str| {
                Identity::github("acme/app", WORKFLOW, main, trigger)
                    .without_extension(20)
                    .extension(2, trigger)
            };
            assert_eq!(judged(&legacy("push"), &policy).outcome, Outcome::Allow, "{form:?} {kind}");
            let none = identity().without_extension(20).without_extension(2);
            let words = "names no source trigger";
            denied(&judged(&none, &policy), Reason::WrongSource, words, &(form, kind));
            for trigger in ["pull_request_target", "workflow_run", "issue_comment"] {
                let by = [Identity::github("acme/app", WORKFLOW, main, trigger), legacy(trigger)];
                for identity in by {
                    let words = format!(
                        "{kind}: triggers: [push, workflow_dispatch, schedule, release, create, merge_group, repository_dispatch, {trigger}]"
                    );
                    denied(&judged(&identity, &policy), Reason::WrongSource, &words, &(form, kind, trigger));
                    let mut naming = policy.clone();
                    naming["spec"]["signers"][0][kind]["triggers"] = json!([trigger]);
                    assert_eq!(
                        judged(&identity, &naming).outcome,
                        Outcome::Allow,
                        "{form:?} {kind} {trigger}"
                    );
                }
            }
        }
    }
}

#[test]
fn a15_a_file_with_an_at_sign_is_another_file_and_a_tag_with_one_is_a_tag_in_every_form() {
    let statement = |identity: &Identity| {
        let build = Build::of(identity);
        statement_v1(&[("ghcr.io/acme/app", &image().hex())], &build).to_string()
    };
    for form in FORMS.into_iter().filter(|form| !form.is_keyed()) {
        let world = World::of(form);
        let mut policy = world.policy();
        policy["spec"]["signers"][0]["github"]["refs"] = json!(["refs/tags/**"]);
        let tagged = Identity::github("acme/app", WORKFLOW, "refs/tags/foo@1.0.0", "push");
        let verdict =
            judge(&world.roots, &policy, &form.of(&world.signing_by(&tagged).sign(statement(&tagged))));
        assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}: {:?}", verdict.problems);
        let file = format!("{WORKFLOW}@x.yml");
        let other = Identity::github("acme/app", &file, "refs/tags/foo", "push");
        let verdict =
            judge(&world.roots, &policy, &form.of(&world.signing_by(&other).sign(statement(&other))));
        denied(&verdict, Reason::WrongSigner, "@x.yml@refs/tags/foo", &form);
    }
}

#[test]
fn a7_a_condition_is_answered_from_every_field_it_reaches_in_every_form() {
    let signing = statement();
    for form in FORMS {
        let world = World::of(form);
        let raw = form.of(&world.signing().sign(&signing));
        for (expression, holds) in [
            ("'parameters' in provenance", true),
            ("!('parameters' in provenance)", false),
            ("provenance.exists(k, k == 'predicate')", true),
            ("'predicate' in provenance && size(provenance['predicate']) > 0", true),
            ("provenance['predicate'] == {}", false),
        ] {
            let mut policy = world.policy();
            policy["spec"]["provenance"] =
                json!({"conditions": [{"expression": expression.replace("{}", "[]")}]});
            let verdict = judge(&world.roots, &policy, &raw);
            if holds {
                assert_eq!(verdict.outcome, Outcome::Allow, "{form:?} {expression}: {:?}", verdict.problems);
            } else {
                denied(&verdict, Reason::ConditionFailed, "does not hold", &(form, expression));
            }
        }
    }
}

/// Summaries are believed of those whom the policy names for them, in every form, and of nobody else.
#[test]
fn a12_a_summary_is_by_a_signer_of_summaries() {
    let summary = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "ghcr.io/acme/app", "digest": {"sha256": image().hex()}}],
        "predicateType": "https://slsa.dev/verification_summary/v1",
        "predicate": {
            "verifier": {"id": "https://verifier.example"}, "timeVerified": "2026-01-01T00:00:00Z",
            "resourceUri": "ghcr.io/acme/app", "policy": {"uri": "https://policy.example"},
            "verificationResult": "PASSED", "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
        },
    })
    .to_string();
    for form in FORMS {
        let world = World::of(form);
        let signed = world.signing().sign(&summary);
        let judge = |signers: &[&str], of_summaries: &[&str]| {
            let mut policy = world.policy();
            let own = policy["spec"]["signers"][0].clone();
            let certificate = json!({"issuer": "https://other.example", "subject": "somebody@example.com"});
            let other = json!({"name": "other", "trustRoot": form.root(), "certificate": certificate});
            let of = |names: &[&str]| -> Vec<Value> {
                names.iter().map(|name| if *name == "own" { own.clone() } else { other.clone() }).collect()
            };
            policy["spec"]["signers"] = json!(of(signers));
            if signers.is_empty() {
                policy["spec"].as_object_mut().unwrap().remove("signers");
            }
            policy["spec"]["vsa"] = json!({"verifierIds": ["https://verifier.example"], "minLevel": 3});
            if !of_summaries.is_empty() {
                policy["spec"]["vsa"]["signers"] = json!(of(of_summaries));
            }
            judge(&world.roots, &policy, &form.of(&signed))
        };
        for signers in [&["own"][..], &["other"], &[]] {
            let verdict = judge(signers, &["own"]);
            assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}: {:?}", verdict.problems);
        }
        let reason = if form.is_keyed() { Reason::UntrustedSignature } else { Reason::WrongSigner };
        denied(&judge(&["own"], &["other"]), reason, "", &form);
        // A stored policy of before: valid, and no summary counts.
        denied(&judge(&["own"], &[]), Reason::NoProvenance, "names nobody in vsa.signers", &form);
    }
}
