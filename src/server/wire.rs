//! The bytes of an `AdmissionReview`, in and out.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    answer::{Answer, Refusal},
    report::About,
    warnings,
};
use crate::{
    api::workload::{self, Object},
    domain::workload::Workload,
};

/// What nearly every answer has room in.
const ANSWER: usize = 1024;
/// The most characters that are said of an error.
const ERROR_LIMIT: usize = 400;

/// A review as far as it matters here.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// To be echoed.
    pub uid: Cow<'a, str>,
    /// The object's kind.
    pub kind: Cow<'a, str>,
    /// The object's namespace.
    pub namespace: Cow<'a, str>,
    /// The object's name.
    pub name: Cow<'a, str>,
    /// Whether nothing will come of it.
    pub dry_run: bool,
    /// Whether the object is there already.
    pub is_update: bool,
    /// What is to be done.
    pub subject: Subject,
}

impl Incoming<'_> {
    /// The same without the bytes that it was read from.
    pub fn into_owned(self) -> Incoming<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Incoming {
            uid: owned(self.uid),
            kind: owned(self.kind),
            namespace: owned(self.namespace),
            name: owned(self.name),
            dry_run: self.dry_run,
            is_update: self.is_update,
            subject: self.subject,
        }
    }

    /// What the log says of it.
    pub fn about(&self, webhook: &'static str) -> About<'_> {
        About {
            webhook,
            kind: &self.kind,
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
            dry_run: self.dry_run,
        }
    }
}

/// What is to be done about a review.
#[derive(Debug)]
pub enum Subject {
    /// Its images are judged.
    Judge(Box<Workload>),
    /// Nothing, for a reason that is a word of a fixed set.
    Skip(&'static str),
    /// Nothing can be: the object is not of the shape of its kind. A denial and not an HTTP error, which a webhook configuration may
    /// be told to ignore.
    Malformed(String),
    /// Nothing, because nobody knows where the kind names images.
    Unknown {
        /// The kind's group.
        group: String,
        /// The kind.
        kind: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct ReviewIn<'a, O> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<RequestIn<'a, O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub(super) struct RequestIn<'a, O> {
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kind: KindIn<'a>,
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) operation: Cow<'a, str>,
    pub(super) object: Option<O>,
    #[serde(borrow)]
    pub(super) old_object: Option<&'a RawValue>,
    pub(super) dry_run: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct KindIn<'a> {
    #[serde(borrow, default)]
    pub(super) group: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
}

/// Reads a review.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read(body: &[u8]) -> Result<Incoming<'_>, String> {
    // Checked to be text at once, rather than string by string.
    let text = std::str::from_utf8(body).map_err(|error| no_review(&error))?;
    if let Some(incoming) = made_pod(text) {
        return Ok(incoming);
    }
    let request = request::<&RawValue>(text.as_bytes())?;
    let subject = subject(&request)?;
    Ok(incoming(request, subject))
}

/// The request of a review, with an object of some form.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub(super) fn request<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<RequestIn<'a, O>, String> {
    let review: ReviewIn<'_, O> = serde_json::from_slice(body).map_err(|error| no_review(&error))?;
    if !review.is_one() {
        return Err("the body is not an AdmissionReview of admission.k8s.io/v1".to_owned());
    }
    let request = review.request.ok_or("the AdmissionReview has no request")?;
    if request.uid.is_empty() {
        return Err("the request has no uid".to_owned());
    }
    Ok(request)
}

fn no_review(error: &dyn fmt::Display) -> String {
    shorten(format!("the body is not an AdmissionReview: {error}"))
}

impl<O> ReviewIn<'_, O> {
    fn is_one(&self) -> bool {
        self.kind == "AdmissionReview" && self.api_version == "admission.k8s.io/v1"
    }
}

/// A pod that is made, which nearly every review is of, read in one go; `None` for everything else, and for all that is wrong.
fn made_pod(text: &str) -> Option<Incoming<'_>> {
    // In boxes, for what is read is handed on from one function to the next.
    let review: ReviewIn<'_, Box<workload::Pod<'_>>> = serde_json::from_str(text).ok()?;
    let is_one = review.is_one();
    let mut request = review.request?;
    let is_made =
        request.operation == "CREATE" && request.kind.group.is_empty() && request.kind.kind == "Pod";
    if !is_one || !is_made || request.uid.is_empty() {
        return None;
    }
    let Object { mut workload, .. } = (*request.object.take()?).into();
    place(&mut workload, &request.namespace);
    Some(incoming(request, Subject::Judge(Box::new(workload))))
}

/// What the request says counts: the object need not name its namespace.
fn place(workload: &mut Workload, namespace: &str) {
    if !namespace.is_empty() {
        namespace.clone_into(&mut workload.namespace);
    }
}

fn incoming<O>(request: RequestIn<'_, O>, subject: Subject) -> Incoming<'_> {
    // What is made with `generateName` has no name yet.
    let name = match &subject {
        Subject::Judge(workload) if request.name.is_empty() => Cow::Owned(workload.name.clone()),
        _ => request.name,
    };
    Incoming {
        is_update: request.operation == "UPDATE",
        uid: request.uid,
        kind: request.kind.kind,
        namespace: request.namespace,
        name,
        dry_run: request.dry_run.unwrap_or(false),
        subject,
    }
}

/// Errors quote what they met, however long.
fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(ERROR_LIMIT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn subject(request: &RequestIn<'_, &RawValue>) -> Result<Subject, String> {
    match request.operation.as_ref() {
        "CREATE" | "UPDATE" => {}
        "DELETE" => return Ok(Subject::Skip("Deleted")),
        _ => return Ok(Subject::Skip("Operation")),
    }
    let (group, kind) = (request.kind.group.as_ref(), request.kind.kind.as_ref());
    if !workload::is_known(group, kind) {
        return Ok(Subject::Unknown { group: group.to_owned(), kind: kind.to_owned() });
    }
    let read = |object: &RawValue| workload::read(group, kind, object.get());
    let object = request.object.ok_or("the request has no object")?;
    let Object { mut workload, being_deleted, .. } = match read(object) {
        Ok(Some(object)) => object,
        Ok(None) => return Ok(Subject::Unknown { group: group.to_owned(), kind: kind.to_owned() }),
        Err(error) => {
            return Ok(Subject::Malformed(shorten(format!(
                "the object cannot be read as a {kind}: {error}"
            ))));
        }
    };
    let is_update = request.operation == "UPDATE";
    // Nothing is being deleted when it is made, whatever it says.
    if being_deleted && is_update {
        return Ok(Subject::Skip("Deleted"));
    }
    place(&mut workload, &request.namespace);
    // An old object that cannot be read has been changed into one that can.
    let before = request.old_object.filter(|_| is_update).and_then(|old| read(old).ok()?);
    if let Some(before) = before {
        if workload::is_unchanged(&before.workload, &workload) {
            return Ok(Subject::Skip("Unchanged"));
        }
        // What runs already goes on running, whatever is said of it.
        if (group, kind) == ("", "Pod") {
            workload::keep_changed(&before.workload, &mut workload);
            if workload.images.is_empty() {
                return Ok(Subject::Skip("Unchanged"));
            }
        }
    }
    Ok(Subject::Judge(Box::new(workload)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: ResponseOut<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseOut<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusOut<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<String, Arc<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// JSON, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

#[derive(Serialize)]
struct StatusOut<'a> {
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<DetailsOut<'a>>,
    code: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DetailsOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<CauseOut<'a>>,
}

#[derive(Serialize)]
struct CauseOut<'a> {
    reason: &'static str,
    message: String,
    field: &'a str,
}

impl<'a> DetailsOut<'a> {
    fn of(refusal: &'a Refusal) -> Option<Self> {
        let invalid = refusal.invalid.as_ref()?;
        let causes = invalid.causes.iter().map(|note| CauseOut {
            reason: "FieldValueInvalid",
            message: note.told().to_string(),
            field: &note.field,
        });
        Some(Self {
            name: Some(&invalid.name).filter(|name| !name.is_empty()).map(String::as_str),
            kind: Some(&invalid.kind),
            causes: causes.collect(),
        })
    }
}

/// The bytes of an answer.
pub fn write(uid: &str, answer: &Answer) -> Bytes {
    let status = answer.refusal.as_ref().map(|refusal| StatusOut {
        status: "Failure",
        message: &refusal.message,
        reason: refusal.reason,
        details: DetailsOut::of(refusal),
        code: refusal.code,
    });
    let patch = (!answer.patch.is_empty()).then(|| {
        // Operations always have a JSON form; an empty patch is one the API server refuses.
        BASE64_STANDARD.encode(serde_json::to_vec(&answer.patch).unwrap_or_default())
    });
    let review = ReviewOut {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: ResponseOut {
            uid,
            allowed: status.is_none(),
            status,
            warnings: warnings::fit(&answer.warnings),
            audit_annotations: &answer.audit,
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch,
        },
    };
    // Strings and maps of strings always have a JSON form; were that not so, an empty answer is a denial.
    let mut bytes = Vec::with_capacity(ANSWER);
    match serde_json::to_writer(&mut bytes, &review) {
        Ok(()) => bytes.into(),
        Err(_) => Bytes::new(),
    }
}
