//! The namespaces of a cluster policy. A selector that can select nothing would protect nothing, without a word: it is an error.

use super::{fields::Fields, wire};
use crate::domain::policy::{LabelRequirement, LabelSelector, LabelTest};

/// Compiles the selector of a cluster policy.
pub fn labels(fields: &mut Fields, selector: &wire::LabelSelector) -> LabelSelector {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| LabelRequirement { key: key.clone(), test: LabelTest::In(vec![value.clone()]) });
    let mut requirements: Vec<LabelRequirement> = labels.collect();
    for (key, value) in &selector.match_labels {
        let field = format!("spec.namespaceSelector.matchLabels.{key}");
        check_key(fields, &field, key);
        check_value(fields, &field, value);
    }
    for (at, expression) in selector.match_expressions.iter().enumerate() {
        let key = format!("spec.namespaceSelector.matchExpressions[{at}].key");
        check_key(fields, &key, &expression.key);
        let field = format!("spec.namespaceSelector.matchExpressions[{at}].values");
        let wants_values =
            matches!(expression.operator, wire::LabelOperator::In | wire::LabelOperator::NotIn);
        if wants_values == expression.values.is_empty() {
            let message = if wants_values {
                "In and NotIn need values"
            } else {
                "Exists and DoesNotExist take no values"
            };
            fields.error(&field, None, message);
        }
        for (at, value) in expression.values.iter().enumerate() {
            check_value(fields, &format!("{field}[{at}]"), value);
        }
        let test = match expression.operator {
            wire::LabelOperator::In => LabelTest::In(expression.values.clone()),
            wire::LabelOperator::NotIn => LabelTest::NotIn(expression.values.clone()),
            wire::LabelOperator::Exists => LabelTest::Exists,
            wire::LabelOperator::DoesNotExist => LabelTest::DoesNotExist,
        };
        requirements.push(LabelRequirement { key: expression.key.clone(), test });
    }
    LabelSelector(requirements)
}

/// A key that no label can have would select no namespace, and protect none.
fn check_key(fields: &mut Fields, field: &str, key: &str) {
    if !is_label_key(key) {
        fields.error(field, Some(key), "is no label's key, so it selects no namespace");
    }
}

/// Whether a label can have this key: a name, and before it, with a slash, the DNS name of whose it is.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("x", key));
    let is_dns = prefix.len() <= 253
        && prefix.split('.').all(|label| is_word(label, b"-"))
        && !prefix.bytes().any(|b| b.is_ascii_uppercase());
    is_word(name, b"-_.") && name.len() <= 63 && is_dns
}

/// The same of a value.
fn check_value(fields: &mut Fields, field: &str, value: &str) {
    if !value.is_empty() && (!is_word(value, b"-_.") || value.len() > 63) {
        let message = "is no label's value: letters and digits, with - _ . between them";
        fields.error(field, Some(value), message);
    }
}

/// Letters and digits, and between them what else may be.
fn is_word(text: &str, between: &[u8]) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let ends = text.bytes().next().zip(text.bytes().last());
    ends.is_some_and(|(first, last)| plain(first) && plain(last))
        && text.bytes().all(|b| plain(b) || between.contains(&b))
}
