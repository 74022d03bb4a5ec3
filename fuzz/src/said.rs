//! What is signed: statements and their predicates.

use bonafide::{
    api::statement::{STATEMENT_V0_1, STATEMENT_V1, parse},
    domain::{
        predicate::Predicate,
        provenance::{SLSA_V0_2, SLSA_V1, Statement},
    },
};
use serde_json::Value;

/// A statement says what its JSON says, in one reading: of a key that occurs twice there are two.
pub fn statement(data: &[u8]) {
    let Ok(statement) = parse(data) else { return };
    let json: Value = serde_json::from_slice(data).expect("a statement is JSON");
    assert!([STATEMENT_V0_1, STATEMENT_V1].map(Some).contains(&json["_type"].as_str()));
    assert_eq!(json["predicateType"], *statement.predicate_type);
    let text = json["subject"].to_string().to_ascii_lowercase();
    for subject in &statement.subjects {
        assert!(text.contains(&subject.hex()), "{subject} is in no subject");
    }
    let slsa = [SLSA_V0_2, SLSA_V1].contains(&statement.predicate_type.as_str());
    assert_eq!(statement.provenance.is_some(), slsa);
    let again = parse(json.to_string().as_bytes()).expect("the same JSON, written again");
    assert_eq!(told(&again), told(&statement));
    let behind = data.iter().position(|byte| *byte == b'{').expect("an object") + 1;
    for key in [r#""_type":"","#, r#""subject":[],"#, r#""predicate":{},"#] {
        let twice = [&data[..behind], key.as_bytes(), &data[behind..]].concat();
        assert!(parse(&twice).is_err() || !has(&json, key), "{key} occurs twice");
    }
}

fn has(json: &Value, key: &str) -> bool {
    json.get(key.split('"').nth(1).unwrap_or_default()).is_some()
}

/// All but the predicate as it is: a number may lose its last digit on the way.
fn told(statement: &Statement) -> String {
    let mut told = statement.clone();
    if let Some(provenance) = &mut told.provenance {
        provenance.predicate = Predicate::default();
    }
    if let Some(other) = &mut told.other {
        *other = Predicate::default();
    }
    format!("{told:?}")
}

/// See [`predicate`].
pub fn predicate_v02(data: &[u8]) {
    predicate(data, SLSA_V0_2, "/predicate/builder/id", "/predicate/buildType");
}

/// See [`predicate`].
pub fn predicate_v1(data: &[u8]) {
    predicate(data, SLSA_V1, "/predicate/runDetails/builder/id", "/predicate/buildDefinition/buildType");
}

/// A predicate is what its type says, or the statement is refused; builder, build type and source are those that it names.
fn predicate(data: &[u8], kind: &str, builder: &str, build_type: &str) {
    let head = format!(r#"{{"_type":"{STATEMENT_V1}","subject":[],"predicateType":"{kind}","predicate":"#);
    let payload = [head.as_bytes(), data, b"}"].concat();
    let Ok(read) = parse(&payload) else { return };
    let json: Value = serde_json::from_slice(&payload).expect("a statement is JSON");
    let provenance = read.provenance.as_ref().expect("provenance of a type that is known");
    assert_eq!(json.pointer(builder).and_then(Value::as_str), Some(provenance.builder_id.as_str()));
    assert_eq!(json.pointer(build_type).and_then(Value::as_str), Some(provenance.build_type.as_str()));
    assert_eq!(provenance.predicate.read().expect("it was read before"), json["predicate"]);
    let mut said = String::new();
    texts(&json, &mut said);
    let folded = said.to_lowercase();
    let claims =
        [&provenance.source_ref, &provenance.commit, &provenance.workflow, &provenance.invocation_id];
    for claim in claims.into_iter().flatten() {
        assert!(folded.contains(&claim.to_lowercase()), "{claim:?} is said nowhere");
    }
}

/// Every text in it, one behind the other.
fn texts(json: &Value, all: &mut String) {
    match json {
        Value::String(text) => {
            all.push_str(text);
            all.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, all)),
        _ => {}
    }
}
