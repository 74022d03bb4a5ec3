//! What a condition can look at. What is not known is absent and not empty: whoever asks for it gets an error, and `has` tells.

use std::collections::HashMap;

use cel::{Context, ExecutionError, Value, objects::Key};
use serde::Deserialize;
use serde_json::{Value as Json, value::RawValue};

use super::Mentions;
use crate::domain::{
    digest::Digest,
    identity::Certificate,
    json_limits::{MAX_JSON_VALUES, has_too_many_values},
    platform::Platform,
    predicate::Predicate,
    provenance::{Provenance, SLSA_V0_2},
    reference::Reference,
    repeated_keys::has_repeated_key,
};

/// How much may be given to a condition, in bytes.
const MAX_BYTES: u64 = 256 << 10;
/// How long the text of a predicate may be of which a condition looks at some.
const MAX_TEXT: usize = 2 << 20;
/// What a value takes beside its text.
const VALUE: u64 = 32;

/// The variables and their fields.
pub const FIELDS: &[(&str, &[&str])] = &[
    (
        "provenance",
        &[
            "predicateType",
            "builderId",
            "buildType",
            "source",
            "sourceRef",
            "commit",
            "workflow",
            "invocationId",
            "startedOn",
            "finishedOn",
            "parameters",
            "predicate",
        ],
    ),
    (
        "certificate",
        &[
            "subject",
            "issuer",
            "workflowName",
            "buildSignerUri",
            "buildSignerDigest",
            "runner",
            "sourceRepository",
            "sourceDigest",
            "sourceRef",
            "sourceRepositoryId",
            "sourceOwner",
            "sourceOwnerId",
            "buildConfigUri",
            "buildConfigDigest",
            "trigger",
            "runUri",
            "sourceVisibility",
            "environment",
            "tokenSubject",
        ],
    ),
    ("image", &["repository", "registry", "tag", "digest", "platform"]),
];

/// What a condition is about.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The predicate's type.
    pub predicate_type: &'a str,
    /// What is claimed.
    pub provenance: &'a Provenance,
    /// What is proved; nothing, where it is signed with a key.
    pub certificate: Option<&'a Certificate>,
    /// The image as it was asked for.
    pub reference: &'a Reference,
    /// What it stands for.
    pub digest: Digest,
    /// The platform of the manifest in question.
    pub platform: Option<&'a Platform>,
}

/// Puts what is mentioned into the context; answers how much it is.
pub(super) fn put(
    context: &mut Context<'_, '_>,
    given: &Given<'_>,
    mentions: Mentions,
) -> Result<u64, String> {
    let mut made = Made::default();
    let provenance = made.provenance(given, mentions)?;
    let certificate = made.certificate(given.certificate);
    let image = made.image(given);
    for (name, value) in [("provenance", provenance), ("certificate", certificate), ("image", image)] {
        context.add_variable_from_value(name, value);
    }
    Ok(made.0)
}

/// How much was made.
#[derive(Default)]
struct Made(u64);

impl Made {
    fn provenance(&mut self, given: &Given<'_>, mentions: Mentions) -> Result<Value, String> {
        let Provenance {
            builder_id,
            build_type,
            source,
            source_ref,
            commit,
            workflow,
            invocation_id,
            started_on,
            finished_on,
            unreadable_time: _,
            predicate,
        } = given.provenance;
        let times = [started_on, finished_on].map(|time| time.map(|time| time.to_string()));
        let mut fields = self.texts([
            ("predicateType", Some(given.predicate_type)),
            ("builderId", Some(builder_id.as_str())),
            ("buildType", Some(build_type.as_str())),
            ("source", source.as_deref()),
            ("sourceRef", source_ref.as_deref()),
            ("commit", commit.as_deref()),
            ("workflow", workflow.as_deref()),
            ("invocationId", invocation_id.as_deref()),
            ("startedOn", times.first().and_then(Option::as_deref)),
            ("finishedOn", times.last().and_then(Option::as_deref)),
        ]);
        if mentions.parameters
            && let Some(parameters) = parameters(given.predicate_type, predicate)?
        {
            let parameters = read("provenance.parameters", parameters.get())?;
            fields.insert("parameters".into(), self.json("provenance.parameters", &parameters)?);
        }
        if mentions.predicate {
            let predicate = read("provenance.predicate", predicate.text())?;
            fields.insert("predicate".into(), self.json("provenance.predicate", &predicate)?);
        }
        Ok(Value::Map(fields.into()))
    }

    fn certificate(&mut self, certificate: Option<&Certificate>) -> Value {
        let Some(of) = certificate else { return Value::Map(HashMap::<Key, Value>::new().into()) };
        let fields = self.texts([
            ("subject", Some(of.subject.as_str())),
            ("issuer", Some(of.issuer.as_str())),
            ("workflowName", of.workflow_name.as_deref()),
            ("buildSignerUri", of.build_signer_uri.as_deref()),
            ("buildSignerDigest", of.build_signer_digest.as_deref()),
            ("runner", of.runner.as_deref()),
            ("sourceRepository", of.source_repository.as_deref()),
            ("sourceDigest", of.source_digest.as_deref()),
            ("sourceRef", of.source_ref.as_deref()),
            ("sourceRepositoryId", of.source_repository_id.as_deref()),
            ("sourceOwner", of.source_owner.as_deref()),
            ("sourceOwnerId", of.source_owner_id.as_deref()),
            ("buildConfigUri", of.build_config_uri.as_deref()),
            ("buildConfigDigest", of.build_config_digest.as_deref()),
            ("trigger", of.trigger.as_deref()),
            ("runUri", of.run_uri.as_deref()),
            ("sourceVisibility", of.source_visibility.as_deref()),
            ("environment", of.environment.as_deref()),
            ("tokenSubject", of.token_subject.as_deref()),
        ]);
        Value::Map(fields.into())
    }

    fn image(&mut self, given: &Given<'_>) -> Value {
        let (digest, platform) = (given.digest.to_string(), given.platform.map(ToString::to_string));
        let repository = given.reference.repository();
        let fields = self.texts([
            ("repository", Some(repository.as_str())),
            ("registry", Some(repository.registry())),
            ("tag", given.reference.tag()),
            ("digest", Some(digest.as_str())),
            ("platform", platform.as_deref()),
        ]);
        Value::Map(fields.into())
    }

    fn texts<'t>(
        &mut self,
        fields: impl IntoIterator<Item = (&'t str, Option<&'t str>)>,
    ) -> HashMap<Key, Value> {
        let present = fields.into_iter().filter_map(|(name, text)| Some((name, text?)));
        present.map(|(name, text)| (Key::from(name), self.text(text))).collect()
    }

    fn text(&mut self, text: &str) -> Value {
        self.weigh(text.len());
        Value::from(text)
    }

    fn weigh(&mut self, text: usize) {
        self.0 = self.0.saturating_add(u64::try_from(text).unwrap_or(u64::MAX)).saturating_add(VALUE);
    }

    fn json(&mut self, name: &str, json: &Json) -> Result<Value, String> {
        self.value(json).ok_or_else(|| {
            format!("{name} is too large for a condition: at most {} KiB are looked at", MAX_BYTES >> 10)
        })
    }

    /// The depth of what was read is bounded where it was.
    fn value(&mut self, json: &Json) -> Option<Value> {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => number
                .as_i64()
                .map(Value::Int)
                .or_else(|| number.as_u64().map(Value::UInt).or_else(|| number.as_f64().map(Value::Float)))?,
            Json::String(text) => self.text(text),
            Json::Array(items) => {
                let items: Option<Vec<Value>> = items.iter().map(|item| self.value(item)).collect();
                Value::List(items?.into())
            }
            Json::Object(fields) => {
                let fields: Option<HashMap<Key, Value>> = fields
                    .iter()
                    .map(|(name, value)| {
                        self.weigh(name.len());
                        Some((Key::from(name.as_str()), self.value(value)?))
                    })
                    .collect();
                Value::Map(fields?.into())
            }
        };
        if !json.is_string() {
            self.weigh(0);
        }
        (self.0 <= MAX_BYTES).then_some(value)
    }
}

/// A part of a predicate, taken apart for as long as it is asked. What is asked is read strictly, whatever is beside it.
fn read(name: &str, json: &str) -> Result<Json, String> {
    if json.len() > MAX_TEXT || has_too_many_values(json.as_bytes()) {
        return Err(format!(
            "{name} is too large for a condition: at most {} MiB and {MAX_JSON_VALUES} values are looked at",
            MAX_TEXT >> 20
        ));
    }
    if has_repeated_key(json) {
        return Err(format!("{name} holds a key twice"));
    }
    serde_json::from_str(json).map_err(|error| format!("{name} cannot be read: {error}"))
}

/// What a build was started with: `invocation.parameters` of v0.2, `buildDefinition.externalParameters` of v1. What is beside it is passed
/// over in its text.
fn parameters<'p>(predicate_type: &str, predicate: &'p Predicate) -> Result<Option<&'p RawValue>, String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Outer<'a> {
        #[serde(borrow)]
        invocation: Option<&'a RawValue>,
        #[serde(borrow)]
        build_definition: Option<&'a RawValue>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Inner<'a> {
        #[serde(borrow)]
        parameters: Option<&'a RawValue>,
        #[serde(borrow)]
        external_parameters: Option<&'a RawValue>,
    }
    fn part<'a, T: Deserialize<'a> + Default>(json: &'a str) -> Result<T, String> {
        if !json.starts_with('{') {
            return Ok(T::default());
        }
        // A field that occurs twice is all that can be wrong.
        serde_json::from_str(json).map_err(|_| "provenance.parameters is there twice".to_owned())
    }
    let Outer { invocation, build_definition } = part(predicate.text())?;
    let is_v0_2 = predicate_type == SLSA_V0_2;
    let around = if is_v0_2 { invocation } else { build_definition };
    let Inner { parameters, external_parameters } = part(around.map_or("null", RawValue::get))?;
    Ok(if is_v0_2 { parameters } else { external_parameters })
}

/// What kind of value it is.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Null => "null",
        _ => "something else",
    }
}

/// An error without the values in it: they may be long, and somebody else's.
pub(super) fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {key}"),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UnexpectedType { got, want } => format!("it has {got} where {want} belongs"),
        ExecutionError::IndexOutOfBounds(_) => "an index is beyond the list's end".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "it divides by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::InvalidArgumentCount { .. }
        | ExecutionError::UndeclaredReference(_)
        | ExecutionError::MissingArgumentOrTarget => error.to_string(),
        _ => "its values are of kinds that do not fit".to_owned(),
    }
}
