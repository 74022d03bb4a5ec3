//! Conditions, compiled and evaluated.

use serde_json::json;

use super::*;
use crate::domain::{
    digest::Digest,
    identity::Certificate,
    platform::Platform,
    provenance::Provenance,
    provenance::{SLSA_V0_2, SLSA_V1},
    reference::Reference,
};

struct Facts {
    predicate_type: &'static str,
    provenance: Provenance,
    certificate: Certificate,
    reference: Reference,
    platform: Platform,
}

impl Facts {
    fn of(predicate_type: &'static str, predicate: serde_json::Value) -> Self {
        Self {
            predicate_type,
            provenance: Provenance {
                builder_id: "https://builder.example/v1".into(),
                source: Some("https://github.com/o/r".into()),
                predicate: predicate.into(),
                ..Provenance::default()
            },
            certificate: Certificate {
                subject: "me".into(),
                trigger: Some("push".into()),
                ..Certificate::default()
            },
            reference: "ghcr.io/o/r:v1.2".parse().unwrap(),
            platform: "linux/arm64".parse().unwrap(),
        }
    }

    fn given(&self) -> Given<'_> {
        Given {
            predicate_type: self.predicate_type,
            provenance: &self.provenance,
            certificate: Some(&self.certificate),
            reference: &self.reference,
            digest: Digest::of(b"x"),
            platform: Some(&self.platform),
        }
    }

    fn holds(&self, expression: &str) -> Result<bool, String> {
        Condition::new(expression, None)
            .map_err(|error| error.to_string())?
            .holds(&self.given(), &Budget::default())
    }
}

fn v1() -> Facts {
    Facts::of(
        SLSA_V1,
        json!({"buildDefinition": {"externalParameters": {"args": ["A=1", "DEBUG=1"], "depth": 3, "big": u64::MAX}}}),
    )
}

/// What a chain of everything that can be chained does to the stack of a thread as small as those that judge.
#[test]
fn no_expression_takes_the_stack() {
    let repeat = |head: &str, part: &str, tail: &str| {
        let times = (MAX_EXPRESSION - head.len() - tail.len()) / (part.len());
        format!("{head}{}{tail}", part.repeat(times))
    };
    let nested = |open: &str, inner: &str, close: &str| {
        let times = (MAX_EXPRESSION - inner.len()) / (open.len() + close.len());
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let all = [
        repeat("", "!", "true"),
        repeat("", "-", "1 == 1"),
        repeat("1", "+1", " == 1"),
        repeat("true", "&&true", ""),
        repeat("true", "||true", ""),
        repeat("1", "==1", ""),
        repeat("image", ".tag", " == 1"),
        repeat("image", "[0]", " == 1"),
        repeat("image", ".size()", " == 1"),
        repeat("", "true?true:", "true"),
        nested("true?", "true", ":true"),
        nested("(", "true", ")"),
        nested("[", "true", "]"),
        format!("{}true{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH)),
        format!("{}image{}", "size(".repeat(MAX_DEPTH - 1), ")".repeat(MAX_DEPTH - 1)),
        nested("!(", "true", ")"),
        nested("size(", "image", ")"),
        nested("{1:", "true", "}"),
        nested("\"\\\"\"==[", "true", "]"),
        nested("image.exists(a,", "true", ")"),
        repeat("", "(", ""),
        repeat("", "[", ""),
        repeat("", "{", ""),
        repeat("", "\"", ""),
        repeat("", "a.", ""),
        repeat("", "a?", ""),
        repeat("", "a&&", ""),
        repeat("", "?:", ""),
        repeat("", "}", ""),
    ];
    for expression in all {
        // The thread of a test has 2 MiB of stack, as those have that conditions are judged on: more would end the process.
        let _ = v1().holds(&expression);
    }
}

#[test]
fn what_it_looks_at_is_there() {
    let v0_2 = Facts::of(
        SLSA_V0_2,
        json!({"invocation": {"parameters": ["A=1"]}, "materials": [{"uri": "git+https://github.com/o/r"}]}),
    );
    for (facts, expression, holds) in [
        (v1(), "!provenance.parameters.args.exists(p, p.startsWith('DEBUG'))", false),
        (v1(), "!provenance.parameters.args.exists(p, p.startsWith('TRACE'))", true),
        (v1(), "provenance.parameters.exists(name, name == 'args')", true),
        (v1(), "provenance.parameters.depth == 3 && provenance.parameters.big > 3", true),
        (v1(), "size(provenance.parameters.args.filter(p, p.contains('='))) == 2", true),
        (v1(), "provenance.parameters.args.exists_one(p, p.endsWith('=1'))", false),
        (v1(), "provenance.parameters.args.all(p, provenance.parameters.args.exists(q, q == p))", true),
        (v1(), "provenance.predicate.buildDefinition.externalParameters.depth == 3", true),
        (v1(), "provenance.predicateType == 'https://slsa.dev/provenance/v1'", true),
        (v1(), "has(provenance.commit)", false),
        (v1(), "has(provenance.source) && provenance.builderId.matches('^https://builder[.]example/')", true),
        (v1(), "certificate.trigger in ['push', 'release']", true),
        (v1(), "certificate.trigger in ['release']", false),
        (v1(), "image.tag == 'v1.2' && image.registry + '/o/r' == image.repository", true),
        (v1(), "image.platform == 'linux/arm64' && image.digest.startsWith('sha256:')", true),
        (v0_2, "provenance.parameters == ['A=1'] && provenance.predicate.materials.size() == 1", true),
    ] {
        assert_eq!(facts.holds(expression), Ok(holds), "{expression}");
    }
}

/// What is signed with a key has no certificate, and one who asks for it gets no truth by accident.
#[test]
fn what_is_absent_is_an_error_and_never_a_yes() {
    let facts = v1();
    let keyed = Given { certificate: None, platform: None, ..facts.given() };
    let ask = |expression: &str| Condition::new(expression, None).unwrap().holds(&keyed, &Budget::default());
    for expression in ["certificate.runner != 'self-hosted'", "image.platform != 'linux/s390x'"] {
        let error = ask(expression).unwrap_err();
        assert!(error.starts_with("there is no "), "{error}");
    }
    assert_eq!(ask("!has(certificate.subject)"), Ok(true));
    for (expression, error) in [
        ("provenance.parameters.other", "there is no other"),
        ("provenance.parameters.depth", "it is a number, not true or false"),
        ("provenance.parameters.args[9] == ''", "an index is beyond the list's end"),
        ("1 / 0 == 1", "it divides by zero"),
        ("provenance.builderId.all(c, true)", "it has string where iterable belongs"),
    ] {
        assert_eq!(facts.holds(expression), Err(error.to_owned()), "{expression}");
    }
}

#[test]
fn what_is_no_condition_says_where_and_why() {
    let errors: String = [
        "",
        "provenance.builderID == 'x'",
        "provenence.builderId == 'x'",
        "true &&\n  nobody == 1",
        "provenance.builderId.lower() == 'x'",
        "now() > 1",
        "size(image.tag, 1) == 1",
        "image.tag.contains() == true",
        "image.tag.matches(image.digest)",
        "image.tag.matches('a(')",
        "provenance.parameters.map(p, p) == []",
        "provenance.parameters.all(a, a.all(b, b.all(c, c.all(d, d))))",
        "provenance.parameters.all(image, true)",
        "{'a': 1} == {}",
        "Foo{a: 1} == 1",
        "image.?tag == 'x'",
        "image.tag ==",
        "image.tag == 'x' extra",
        "'true'",
        "image",
        "size(image.tag)",
        "image.tag + 'x'",
        "provenance.parameters.filter(p, true)",
        "@step(1, 1)",
        "@result == 1",
        &"(".repeat(200),
        &format!("'{}' == ''", "x".repeat(MAX_EXPRESSION)),
    ]
    .map(|expression| {
        let shown: String = expression.chars().take(70).collect();
        format!("{shown:?}\n    {}\n", Condition::new(expression, None).unwrap_err())
    })
    .concat();
    insta::assert_snapshot!(errors);
}

/// Loops within loops over much: they end soon, with an error, and whatever absorbs errors changes nothing of that.
#[test]
fn an_expression_costs_what_it_is_given_and_no_more() {
    let many: Vec<String> = (0..5000).map(|number| format!("parameter-{number}")).collect();
    let facts = |args: &[String]| {
        Facts::of(SLSA_V1, json!({"buildDefinition": {"externalParameters": {"args": args}}}))
    };
    let all = "provenance.parameters.args.all";
    let exists = "provenance.parameters.args.exists";
    for expression in [
        format!("{all}(a, {all}(b, {all}(c, a != b || b != c || a == c)))"),
        format!("!{exists}(a, {exists}(b, {exists}(c, a + b == c)))"),
        format!("{all}(a, a.matches('^.*.*x$') || {all}(b, b.contains(a) || true) || true) || true"),
        format!("{all}(a, provenance.parameters.args == provenance.parameters.args)"),
        format!("{all}(a, {all}(b, true)) || true"),
    ] {
        let few = facts(many.get(..5).unwrap()).holds(&expression);
        assert_eq!(few.map_err(|error| error.contains("steps")), Ok(true), "{expression}");
        assert_eq!(facts(&many).holds(&expression), Err(steps::SPENT.to_owned()), "{expression}");
    }
    let thousand = facts(many.get(..1000).unwrap());
    assert_eq!(thousand.holds(&format!("{all}(a, a.startsWith('parameter-'))")), Ok(true));
}

/// What an image's conditions cost is one account, whichever policy and whichever attestation they are asked of.
#[test]
fn what_is_spent_is_spent() {
    let (condition, budget) = (Condition::new("image.tag == 'v1.2'", None).unwrap(), Budget::default());
    let facts = v1();
    let held = (0..100_000).take_while(|_| condition.holds(&facts.given(), &budget) == Ok(true)).count();
    assert!((1000..50_000).contains(&held), "{held}");
}

#[test]
fn only_what_is_asked_for_is_too_large() {
    let large = |size: usize| Facts::of(SLSA_V1, json!({"buildDefinition": {"x": "y".repeat(size)}}));
    let asks = "provenance.predicate.buildDefinition.x != ''";
    assert_eq!(large(200 << 10).holds(asks), Ok(true));
    let error = large(300 << 10).holds(asks).unwrap_err();
    assert_eq!(error, "provenance.predicate is too large for a condition: at most 256 KiB are looked at");
    assert_eq!(large(300 << 10).holds("provenance.builderId != ''"), Ok(true));
    // What is beside the parameters does not matter.
    assert_eq!(large(3 << 20).holds("!has(provenance.parameters)"), Ok(true));
    let error = large(2 << 20).holds(asks).unwrap_err();
    let most = "is too large for a condition: at most 2 MiB and 80000 values are looked at";
    assert_eq!(error, format!("provenance.predicate {most}"));
    let many = Facts::of(SLSA_V1, json!({"buildDefinition": {"externalParameters": vec![0; 90_000]}}));
    assert_eq!(many.holds("!has(provenance.parameters)"), Err(format!("provenance.parameters {most}")));
    assert_eq!(large(2 << 20).holds("provenance.builderId != ''"), Ok(true));
}

/// What nobody asks for may be ambiguous. What a condition reads may not.
#[test]
fn c12_a_condition_reads_nothing_that_is_there_twice() {
    let of = |kind, text: &str| {
        let mut facts = Facts::of(kind, json!({}));
        facts.provenance.predicate = crate::domain::predicate::Predicate::of_text(text);
        facts
    };
    let twice = of(SLSA_V1, r#"{"buildDefinition":{"externalParameters":{"a":1,"a":2},"b":1,"b":2}}"#);
    let parameters = "provenance.parameters.a == 1";
    assert_eq!(twice.holds(parameters), Err("provenance.parameters holds a key twice".to_owned()));
    let whole = "provenance.predicate.buildDefinition.externalParameters.a == 1";
    assert_eq!(twice.holds(whole), Err("provenance.predicate holds a key twice".to_owned()));
    let beside = of(SLSA_V1, r#"{"buildDefinition":{"externalParameters":{"a":1},"b":1,"b":2}}"#);
    assert_eq!(beside.holds(parameters), Ok(true));
    assert_eq!(beside.holds(whole), Err("provenance.predicate holds a key twice".to_owned()));
    for (kind, text) in [
        (SLSA_V1, r#"{"buildDefinition":{"externalParameters":{"a":1},"externalParameters":{"a":2}}}"#),
        (SLSA_V0_2, r#"{"invocation":{"parameters":{"a":1}},"invocation":{}}"#),
    ] {
        let told = of(kind, text).holds("!has(provenance.parameters)");
        assert_eq!(told, Err("provenance.parameters is there twice".to_owned()), "{text}");
    }
}
