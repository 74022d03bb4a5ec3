//! Whether an attestation that is by a signer and says what the policy asks also meets the policy's conditions.

use std::collections::HashMap;

use super::{Condition, Given};
use crate::domain::{
    authorize::Mismatch, cover::Judge, digest::Digest, identity::Certificate, platform::Platform,
    policy::Policy, provenance::Provenance, verdict::Reason,
};

/// An attestation, and where the manifest would run that it would cover.
pub struct Question<'a> {
    /// Which attestation it is.
    pub attestation: (Digest, usize),
    /// The type of its predicate.
    pub predicate_type: &'a str,
    /// What it claims.
    pub provenance: &'a Provenance,
    /// Who signed it; nobody, where that is a key.
    pub certificate: Option<&'a Certificate>,
    /// The platforms that are judged: those that the manifest would be picked for, whatever the index says of it.
    pub platforms: &'a [Option<&'a Platform>],
}

/// What became of a policy's conditions: they are asked once for each attestation, and for each platform only where they ask for it.
#[derive(Default)]
pub struct Answers(HashMap<Asked, Result<(), Mismatch>>);

/// The attestation, and the platform where it matters.
type Asked = ((Digest, usize), Option<Platform>);

impl Answers {
    /// Whether all conditions of the policy hold.
    ///
    /// # Errors
    /// `ConditionFailed`: the first that does not, or that cannot be answered.
    pub fn all_hold(
        &mut self,
        judge: &Judge<'_>,
        policy: &Policy,
        question: &Question<'_>,
    ) -> Result<(), Mismatch> {
        let conditions = &policy.provenance.conditions;
        if conditions.is_empty() {
            return Ok(());
        }
        let by_platform = conditions.iter().any(Condition::is_of_platform);
        // Where no condition asks for the platform, one answer is good for all.
        let platforms =
            if by_platform && !question.platforms.is_empty() { question.platforms } else { &[None] };
        platforms.iter().try_for_each(|platform| {
            let key = (question.attestation, platform.cloned());
            let given = Given {
                predicate_type: question.predicate_type,
                provenance: question.provenance,
                certificate: question.certificate,
                reference: &judge.plan.reference,
                digest: judge.facts.digest,
                platform: *platform,
            };
            let answer = || conditions.iter().try_for_each(|condition| ask(condition, &given, judge));
            self.0.entry(key).or_insert_with(answer).clone()
        })
    }
}

fn ask(condition: &Condition, given: &Given<'_>, judge: &Judge<'_>) -> Result<(), Mismatch> {
    let expression = condition.expression();
    let why = match condition.holds(given, &judge.budget) {
        Ok(true) => return Ok(()),
        Ok(false) => "does not hold".to_owned(),
        Err(error) => format!("cannot be answered ({error})"),
    };
    // A manifest that is picked for several platforms is shown with the first of them.
    let on = given.platform.filter(|_| condition.is_of_platform());
    let on = on.map(|platform| format!(" on {platform}")).unwrap_or_default();
    let message = condition.message().map(|message| format!(": {message}")).unwrap_or_default();
    Err(Mismatch::new(Reason::ConditionFailed, format!("the condition `{expression}` {why}{on}{message}")))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::{
        condition::Budget,
        cover::Judge,
        evidence::{ImageFacts, Root},
        plan::{ImagePlan, Plan, Stage, plan},
        policy::{
            ImageSelector, LabelSelector, Labels, Mode, PolicyEntry, PolicyId, PolicySet, ProvenanceRules,
            Scope, SubjectRule, TagRule, UncoveredRule, Unmatched,
        },
        provenance::SLSA_V1,
    };

    fn policy(expression: &str) -> Policy {
        Policy {
            id: PolicyId { namespace: None, name: "p".to_owned() },
            namespaces: LabelSelector::default(),
            mode: Mode::Enforce,
            images: ImageSelector {
                include: vec![crate::domain::glob::Glob::new("**").unwrap()],
                exclude: Vec::new(),
            },
            subject: SubjectRule::Any,
            uncovered: UncoveredRule::Deny,
            tags: TagRule::Allow,
            signers: Vec::new(),
            provenance: ProvenanceRules {
                conditions: vec![Condition::new(expression, None).unwrap()],
                ..ProvenanceRules::default()
            },
            attestation_repositories: Vec::new(),
            summaries: None,
            in_place_of_provenance: None,
        }
    }

    fn asked(policy: &Policy) -> ImagePlan {
        let set = PolicySet::new(vec![PolicyEntry::Valid(Arc::new(policy.clone()))], 1);
        let labels = BTreeMap::new();
        let scope = Scope::Namespace { name: "n", labels: Labels::All(&labels) };
        match plan(&set, scope, Unmatched::Deny, Stage::Final, "ghcr.io/o/r:v1") {
            Plan::Ask(asked) => asked,
            Plan::Settled(verdict) => panic!("{verdict:?}"),
        }
    }

    fn provenance() -> Provenance {
        Provenance {
            builder_id: "https://builder.example".to_owned(),
            predicate: json!({"buildDefinition": {"externalParameters": {"depth": 1}}}).into(),
            ..Provenance::default()
        }
    }

    /// Whether the condition holds on each of the platforms, asked one after the other with what is kept, or each time anew.
    fn holds(expression: &str, platforms: &[&str], kept: bool) -> Vec<bool> {
        let policy = policy(expression);
        let plan = asked(&policy);
        let facts = ImageFacts {
            digest: Digest::of(b"x"),
            root: Arc::new(Root::Manifest(None)),
            evidence: HashMap::new(),
            elsewhere: HashMap::new(),
            key_checks: HashMap::new(),
            trust_roots: None,
        };
        let judge = Judge::new(&plan, &facts, std::iter::empty(), Timestamp::default(), Budget::default());
        let provenance = provenance();
        let mut answers = Answers::default();
        let ask = |platform: &&str| {
            if !kept {
                answers = Answers::default();
            }
            let platform: Platform = platform.parse().unwrap();
            let question = Question {
                attestation: (facts.digest, 0),
                predicate_type: SLSA_V1,
                provenance: &provenance,
                certificate: None,
                platforms: &[Some(&platform)],
            };
            answers.all_hold(&judge, &policy, &question).is_ok()
        };
        platforms.iter().map(ask).collect()
    }

    fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
        prop_oneof![
            Just(("image", "platform")),
            Just(("image", "tag")),
            Just(("provenance", "parameters")),
            Just(("provenance", "predicate")),
            Just(("provenance", "builderId")),
            Just(("certificate", "runner")),
        ]
    }

    fn truth() -> impl Strategy<Value = String> {
        let value = prop_oneof![Just("'linux/amd64'"), Just("'linux/arm64'"), Just("'v1'")];
        let leaf = (field(), value, 0..14_usize).prop_map(|((variable, field), value, form)| match form {
            0 => format!("{variable}.{field} == {value}"),
            1 => format!("{variable}['{field}'] == {value}"),
            2 => format!("'{field}' in {variable}"),
            3 => format!("!('{field}' in {variable})"),
            4 => format!("has({variable}.{field})"),
            5 => format!("{variable}.exists(k, k == '{field}')"),
            6 => format!("{variable}.exists(k, {variable}[k] == {value})"),
            7 => format!("{variable}.all(k, {variable}[k] != {value})"),
            8 => format!("size({variable}) == 5"),
            9 => format!("{variable} == [{variable}][0]"),
            10 => format!("[{variable}].exists(v, v.{field} == {value})"),
            11 => format!("size({variable}.filter(k, k == '{field}')) == 1"),
            12 => format!("(true ? {variable} : {variable}).{field} == {value}"),
            _ => format!("{variable}[['{field}'][0]] == {value}"),
        });
        leaf.prop_recursive(2, 6, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
                inner.clone().prop_map(|a| format!("!({a})")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a7_an_answer_that_is_kept_is_the_answer_that_would_be_given(expression in truth()) {
            // Beside this, all of every variable is used.
            let of_all = format!("({expression}) && [image, provenance, certificate].all(v, size(v) >= 0)");
            for platforms in [["linux/amd64", "linux/arm64"], ["linux/arm64", "linux/amd64"]] {
                let each = holds(&of_all, &platforms, false);
                prop_assert_eq!(&holds(&expression, &platforms, false), &each, "{}", expression);
                prop_assert_eq!(&holds(&expression, &platforms, true), &each, "{}", expression);
            }
        }
    }

    #[test]
    fn a7_every_way_to_a_field_reaches_it() {
        let (amd64, arm64) = ("linux/amd64", "linux/arm64");
        for expression in [
            "image['platform'] == 'linux/amd64'",
            "image.exists(k, image[k] == 'linux/amd64')",
            "[image][0].platform == 'linux/amd64'",
            "image == image && image[['platform'][0]] == 'linux/amd64'",
        ] {
            assert_eq!(holds(expression, &[amd64, arm64], true), [true, false], "{expression}");
        }
        for expression in [
            "'parameters' in provenance",
            "has(provenance.parameters)",
            "provenance.exists(k, k == 'parameters')",
            "provenance['parameters'].depth == 1",
            "provenance['predicate'].buildDefinition.externalParameters.depth == 1",
        ] {
            assert_eq!(holds(expression, &[amd64], true), [true], "{expression}");
            assert_eq!(holds(&format!("!({expression})"), &[amd64], true), [false], "{expression}");
        }
    }
}
