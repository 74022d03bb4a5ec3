//! Statements in the dialects of real builders, and what is refused of them.

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn statement(predicate_type: &str, predicate: &str) -> String {
    format!(
        r#"{{"_type":"{STATEMENT_V1}","subject":[{{"name":"x","digest":{{"sha256":"{HEX}"}}}}],"predicateType":"{predicate_type}","predicate":{predicate}}}"#
    )
}

fn provenance_of(predicate_type: &str, predicate: &str) -> Provenance {
    parse(statement(predicate_type, predicate).as_bytes()).unwrap().provenance.unwrap()
}

#[allow(clippy::unnecessary_wraps)]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn subjects_are_the_digests_that_can_be_checked() {
    let payload = format!(
        r#"{{"_type":"{STATEMENT_V0_1}","predicateType":"p","subject":[
            {{"digest":{{"sha256":"{HEX}","gitCommit":"00","sha1":"11"}}}},
            {{"name":"no digest"}},
            {{"digest":{{"sha256":"short"}}}},
            {{"digest":{{"sha256":"{}"}}}}]}}"#,
        HEX.to_uppercase()
    );
    let statement = parse(payload.as_bytes()).unwrap();
    assert_eq!(statement.subjects, [DIGEST.parse().unwrap(), DIGEST.parse().unwrap()]);
    assert!(statement.provenance.is_none());
}

#[test]
fn c12_a_key_that_occurs_twice_is_refused_where_it_decides_and_nowhere_else() {
    let v1 = r#"{"buildDefinition":{"buildType":"t","externalParameters":{"workflow":{"repository":"https://github.com/o/r","x":1}},
        "resolvedDependencies":[{"uri":"git+https://github.com/o/r","digest":{"gitCommit":"c","x":1},"annotations":{"y":1}}]},
        "runDetails":{"builder":{"id":"b","version":{"z":1}},"metadata":{"invocationId":"i"},"byproducts":[{"w":1}]},"v":1}"#;
    let good = statement(SLSA_V1, v1);
    assert!(parse(good.as_bytes()).is_ok());
    let twice = |field: &str| {
        let at = format!("\"{field}\":");
        assert!(good.contains(&at), "{field}");
        good.replacen(&at, &format!("\"{field}\":null,{at}"), 1)
    };
    for field in [
        "_type",
        "subject",
        "predicateType",
        "predicate",
        "sha256",
        "buildDefinition",
        "runDetails",
        "buildType",
        "externalParameters",
        "workflow",
        "repository",
        "resolvedDependencies",
        "builder",
        "id",
        "metadata",
        "invocationId",
    ] {
        assert!(parse(twice(field).as_bytes()).is_err(), "{field}");
    }
    // The same key in another spelling of its text.
    let spelled = good.replace(r#""repository":"#, r#""repositor\u0079":"x","repository":"#);
    assert!(parse(spelled.as_bytes()).is_err());
    for field in ["name", "x", "y", "z", "w", "v", "annotations", "version", "byproducts"] {
        let read = parse(twice(field).as_bytes()).unwrap().provenance.unwrap();
        assert_eq!((read.builder_id.as_str(), read.commit.as_deref()), ("b", Some("c")), "{field}");
    }
}

#[test]
fn what_is_no_statement_is_refused() {
    let good = statement("p", "{}");
    for bad in [
        String::new(),
        "[]".to_owned(),
        format!("{good}{good}"),
        good.replace("Statement/v1", "Statement/v2"),
        good.replace(r#""subject""#, r#""subjects""#),
        good.replace(r#""predicateType":"p","#, ""),
        good.replace("{}", &format!("{}{}", "[".repeat(200), "]".repeat(200))),
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let subjects = format!(r#"{{"digest":{{"sha256":"{HEX}"}}}},"#).repeat(MAX_SUBJECTS);
    let many = good.replace(r#""subject":["#, &format!(r#""subject":[{subjects}"#));
    assert!(matches!(parse(many.as_bytes()), Err(StatementError::Subjects(_))));
}

#[test]
fn v0_2_of_slsa_github_generator() {
    let predicate = r#"{"builder":{"id":"b"},"buildType":"t","invocation":{"configSource":{
        "uri":"git+https://github.com/o/r@refs/heads/main","digest":{"sha1":"abc"},"entryPoint":".github/workflows/w.yml"}},
        "metadata":{"buildInvocationID":"7-1","buildStartedOn":"2024-03-21T10:32:59.326230397Z","buildFinishedOn":"2024-03-21T10:33:18Z"},
        "extra":{"kept":true}}"#;
    let found = provenance_of(SLSA_V0_2, predicate);
    assert_eq!((found.builder_id.as_str(), found.build_type.as_str()), ("b", "t"));
    assert_eq!(found.source, some("https://github.com/o/r"));
    assert_eq!(found.source_ref, some("refs/heads/main"));
    assert_eq!(found.commit, some("abc"));
    assert_eq!(found.workflow, some(".github/workflows/w.yml"));
    assert_eq!(found.invocation_id, some("7-1"));
    assert!(found.started_on < found.finished_on && found.started_on.is_some());
    assert_eq!(found.predicate.read().unwrap()["extra"]["kept"], serde_json::Value::Bool(true));
    assert_eq!(found.predicate.text(), predicate);
    let other = provenance_of(SLSA_V0_2, &predicate.replace("InvocationID", "InvocationId"));
    assert_eq!(other.invocation_id, found.invocation_id);
}

#[test]
fn v1_of_github_buildkit_and_generators() {
    let of = |external: &str, dependencies: &str, build_type: &str| {
        let predicate = format!(
            r#"{{"buildDefinition":{{"buildType":"{build_type}","externalParameters":{external},"resolvedDependencies":{dependencies}}},
                "runDetails":{{"builder":{{"id":"b"}},"metadata":{{"invocationID":"i"}}}}}}"#
        );
        let found = provenance_of(SLSA_V1, &predicate);
        assert_eq!(found.invocation_id, some("i"));
        [found.source, found.source_ref, found.commit, found.workflow]
    };
    let commit = "95baf27389e83e6a5c48f42e190d48d7abcea19e";
    let dependency = format!(
        r#"[{{"uri":"git+https://github.com/other/repo@refs/heads/main","digest":{{"gitCommit":"no"}}}},
            {{"uri":"git+https://github.com/o/r@refs/heads/main","digest":{{"gitCommit":"{commit}"}}}}]"#
    );
    let source = some("https://github.com/o/r");
    let main = some("refs/heads/main");
    assert_eq!(
        of(
            r#"{"workflow":{"ref":"refs/heads/main","repository":"https://github.com/o/r","path":"w.yml"}}"#,
            &dependency,
            "t"
        ),
        [source.clone(), main.clone(), some(commit), some("w.yml")]
    );
    assert_eq!(
        of(
            &format!(
                r#"{{"configSource":{{"uri":"https://github.com/o/r.git#{commit}","digest":{{"sha1":"{commit}"}},"path":"Dockerfile"}}}}"#
            ),
            "null",
            "t"
        ),
        [source.clone(), None, some(commit), some("Dockerfile")]
    );
    assert_eq!(
        of(
            r#"{"source":{"uri":"git+https://github.com/o/r@refs/heads/main","digest":{"sha1":"abc"}},"configPath":"c.toml"}"#,
            "[]",
            "t"
        ),
        [source, main, some("abc"), some("c.toml")]
    );
    // A dependency from git is no source.
    assert_eq!(of("{}", &dependency, "t"), [None, None, None, None]);
    assert_eq!(of(r#"{"workflow":{"repository":7}}"#, &dependency, "t"), [None, None, None, None]);
}

#[test]
fn the_predicate_is_what_its_type_says() {
    let v0_2 = r#"{"builder":{"id":"b"},"buildType":"t"}"#;
    let v1 = r#"{"buildDefinition":{"buildType":"t"},"runDetails":{"builder":{"id":"b"}}}"#;
    assert!(parse(statement(SLSA_V0_2, v0_2).as_bytes()).is_ok());
    assert!(parse(statement(SLSA_V1, v1).as_bytes()).is_ok());
    for (kind, predicate) in [
        (SLSA_V0_2, v1),
        (SLSA_V1, v0_2),
        (SLSA_V1, "null"),
        (SLSA_V0_2, r#"{"builder":{"id":7},"buildType":"t"}"#),
    ] {
        let refused = parse(statement(kind, predicate).as_bytes());
        assert!(matches!(refused, Err(StatementError::Predicate { .. })), "{kind} {predicate}");
    }
}

/// Builders write both spellings. Where they say the same, that is the id; where not, there is none.
#[test]
fn c12_both_spellings_of_the_invocation_id() {
    let v1 = |metadata: &str| {
        let text = format!(
            r#"{{"buildDefinition":{{"buildType":"t"}},"runDetails":{{"builder":{{"id":"b"}},"metadata":{metadata}}}}}"#
        );
        provenance_of(SLSA_V1, &text).invocation_id
    };
    let v0_2 = |metadata: &str| {
        let text = format!(r#"{{"builder":{{"id":"b"}},"buildType":"t","metadata":{metadata}}}"#);
        provenance_of(SLSA_V0_2, &text).invocation_id
    };
    for (one, other, expected) in [
        (r#""1""#, r#""1""#, some("1")),
        (r#""1""#, r#""""#, some("1")),
        ("null", r#""1""#, some("1")),
        (r#""1""#, r#""2""#, None),
        ("7", r#""1""#, some("1")),
        ("7", "[]", None),
    ] {
        let both = |prefix: &str| {
            let (upper, lower) = (format!("{prefix}ID"), format!("{prefix}Id"));
            format!(r#"{{"{upper}":{one},"{lower}":{other}}}"#)
        };
        assert_eq!(v1(&both("invocation")), expected, "{one} {other}");
        assert_eq!(v0_2(&both("buildInvocation")), expected, "{one} {other}");
    }
}

/// What is no time is none, and is remembered for whoever asks how old the build is.
#[test]
fn c12_what_is_no_time_is_none() {
    let of = |started: &str, finished: &str| {
        let text = format!(
            r#"{{"buildDefinition":{{"buildType":"t"}},"runDetails":{{"builder":{{"id":"b"}},"metadata":{{"startedOn":{started},"finishedOn":{finished}}}}}}}"#
        );
        let found = provenance_of(SLSA_V1, &text);
        (found.started_on.or(found.finished_on).is_some(), found.unreadable_time)
    };
    let good = r#""2026-01-01T00:00:00Z""#;
    assert_eq!(of(good, good), (true, None));
    assert_eq!(of("null", r#""""#), (false, None));
    for (bad, told) in [
        (r#""2026-01-01T00:00:00""#, "2026-01-01T00:00:00"),
        (r#""yesterday""#, "yesterday"),
        ("1767225600", "1767225600"),
        (r#"{"seconds":1}"#, r#"{"seconds":1}"#),
        ("1e999", "1e999"),
    ] {
        assert_eq!(of(bad, "null"), (false, some(told)), "{bad}");
        assert_eq!(of("null", bad), (false, some(told)), "{bad}");
        // One that is a time is enough.
        assert_eq!(of(good, bad), (true, None), "{bad}");
    }
}

/// Whatever stands where nobody looks, the provenance is what it is. A field that could name a source names none then.
#[test]
fn c12_parts_that_nobody_asks_for_may_hold_anything() {
    let odd = [
        "null",
        "7",
        "1e999",
        "-0",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        r#"{"":{"a":null,"a":null}}"#,
        "true",
    ];
    for odd in odd {
        for text in [
            format!(
                r#"{{"builder":{{"id":"b","x":{odd}}},"buildType":"t","x":{odd},"metadata":{odd},"materials":{odd}}}"#
            ),
            format!(r#"{{"builder":{{"id":"b"}},"buildType":"t","invocation":{odd}}}"#),
            format!(
                r#"{{"builder":{{"id":"b"}},"buildType":"t","invocation":{{"environment":{odd},"parameters":{odd},"configSource":{odd}}},
                "metadata":{{"completeness":{odd},"reproducible":{odd},"buildInvocationId":{odd}}},
                "materials":[{odd},{{"uri":{odd},"digest":{odd}}},{{"uri":"u","digest":{{"sha1":{odd},"gitCommit":{odd}}}}}]}}"#
            ),
        ] {
            let found = provenance_of(SLSA_V0_2, &text);
            assert_eq!((found.builder_id.as_str(), found.source), ("b", None), "{text}");
        }
        let dependencies = format!(
            r#"[{odd},{{"uri":{odd},"digest":{odd},"name":{odd}}},{{"uri":"git+https://github.com/o/r@refs/heads/main","digest":{{"gitCommit":"c","sha1":{odd}}}}}]"#
        );
        let text = format!(
            r#"{{"buildDefinition":{{"buildType":"t","x":{odd},"internalParameters":{odd},"resolvedDependencies":{dependencies},
                "externalParameters":{{"inputs":{odd},"workflow":{{"repository":"https://github.com/o/r","ref":"refs/heads/main","path":{odd}}}}}}},
                "runDetails":{{"builder":{{"id":"b","version":{odd},"builderDependencies":{odd}}},"byproducts":{odd},"metadata":{odd}}},"x":{odd}}}"#
        );
        let found = provenance_of(SLSA_V1, &text);
        assert_eq!(found.commit, some("c"), "{text}");
        for parameters in [
            odd.to_owned(),
            format!(r#"{{"workflow":{odd}}}"#),
            format!(r#"{{"source":{{"uri":{odd},"digest":{odd}}}}}"#),
            format!(r#"{{"configSource":{odd}}}"#),
            format!(r#"{{"buildConfigSource":{odd}}}"#),
        ] {
            let text = format!(
                r#"{{"buildDefinition":{{"buildType":"t","externalParameters":{parameters},"resolvedDependencies":{odd}}},"runDetails":{{"builder":{{"id":"b"}}}}}}"#
            );
            let named = some("x").filter(|_| odd == "\"x\"" && parameters.contains("source\":"));
            let found = provenance_of(SLSA_V1, &text).source;
            assert!(found.is_none() || found == named, "{text}");
        }
        // Of a subject it names nothing; the others count.
        let good = statement(
            SLSA_V1,
            r#"{"buildDefinition":{"buildType":"t"},"runDetails":{"builder":{"id":"b"}}}"#,
        );
        for more in [
            odd.to_owned(),
            format!(r#"{{"name":{odd},"digest":{odd}}}"#),
            format!(r#"{{"digest":{{"sha256":{odd},"x":{odd}}}}}"#),
        ] {
            let text = good.replace(r#""subject":["#, &format!(r#""subject":[{more},"#));
            assert_eq!(parse(text.as_bytes()).unwrap().subjects, [DIGEST.parse().unwrap()], "{text}");
        }
    }
}

#[test]
fn c12_a_build_may_have_many_thousand_dependencies() {
    let many = |count: usize, last: &str| {
        let one = r#"{"uri":"pkg:npm/left-pad@1.3.0","digest":{"sha512":"00"},"annotations":{"a":[1,2,3]}},"#;
        let text = format!(
            r#"{{"buildDefinition":{{"buildType":"t","externalParameters":{{"workflow":{{"repository":"https://github.com/o/r"}}}},"resolvedDependencies":[{}{last}]}},"runDetails":{{"builder":{{"id":"b"}}}}}}"#,
            one.repeat(count)
        );
        provenance_of(SLSA_V1, &text)
    };
    let found = many(60_000, r#"{"uri":"git+https://github.com/o/r","digest":{"gitCommit":"c"}}"#);
    assert_eq!((found.source, found.commit), (some("https://github.com/o/r"), some("c")));
}
