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
fn a_key_that_occurs_twice_is_refused_wherever_it_is() {
    let good = statement("p", r#"{"a":{"b":1}}"#);
    assert!(parse(good.as_bytes()).is_ok());
    for twice in [
        good.replacen('{', r#"{"predicateType":"q","#, 1),
        good.replacen('{', r#"{"unknown":1,"unknown":1,"#, 1),
        good.replace(r#"{"sha256""#, &format!(r#"{{"sha256":"{HEX}","sha256""#)),
        good.replace(r#"{"b":1}"#, r#"{"b":1,"b":2}"#),
        // The same key in another spelling of its text.
        good.replace(r#"{"b":1}"#, r#"{"b":1,"\u0062":2}"#),
    ] {
        assert!(matches!(parse(twice.as_bytes()), Err(StatementError::Json(_))), "{twice}");
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
        (SLSA_V0_2, r#"{"builder":{"id":"b"},"buildType":"t","metadata":{"buildStartedOn":"yesterday"}}"#),
    ] {
        let refused = parse(statement(kind, predicate).as_bytes());
        assert!(matches!(refused, Err(StatementError::Predicate { .. })), "{kind} {predicate}");
    }
}

/// Both spellings at once would be two answers to one question.
#[test]
fn two_invocation_ids_are_refused() {
    let v1 = r#"{"buildDefinition":{"buildType":"t"},"runDetails":{"builder":{"id":"b"},"metadata":{"invocationId":"1","invocationID":"2"}}}"#;
    assert!(parse(statement(SLSA_V1, v1).as_bytes()).is_err());
}
