//! `POST /probe`: the leader's question whether the API server reaches the webhook. The answer brings the probe's number back as a warning,
//! so that the leader learns of it whichever replica received the probe.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{admission::Admission, answer::Answer, wire};
use crate::cluster::install::{PROBE_ANNOTATION, echo};

/// What logs call this.
pub const PROBE: &str = "probe";

/// The most characters of a probe's number.
const NUMBER_LIMIT: usize = 64;

/// A probe that arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Probe<'a> {
    /// The review's, to be echoed.
    pub uid: Cow<'a, str>,
    /// The number of the probe; `None` for an update that is none.
    number: Option<String>,
}

#[derive(Deserialize)]
struct LeaseIn<'a> {
    #[serde(borrow, default)]
    metadata: LeaseMetadataIn<'a>,
}

#[derive(Default, Deserialize)]
struct LeaseMetadataIn<'a> {
    #[serde(borrow, default)]
    annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Reads a review of a Lease.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read(body: &[u8]) -> Result<Probe<'_>, String> {
    let request = wire::request::<&RawValue>(body)?;
    let (group, kind) = (request.kind.group.as_ref(), request.kind.kind.as_ref());
    if (group, kind) != ("coordination.k8s.io", "Lease") {
        return Err(format!("/{PROBE} answers reviews of Lease, not of {kind}"));
    }
    let lease = request.object.map(|object| serde_json::from_str::<LeaseIn<'_>>(object.get())).transpose();
    let lease = lease.map_err(|error| format!("the object cannot be read as a Lease: {error}"))?;
    let number = lease.and_then(|mut lease| lease.metadata.annotations.remove(PROBE_ANNOTATION));
    let is_number =
        |number: &Cow<'_, str>| number.len() <= NUMBER_LIMIT && number.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(Probe { uid: request.uid, number: number.filter(is_number).map(Cow::into_owned) })
}

impl Admission {
    pub(super) fn probed(&self, probe: &Probe<'_>) -> Answer {
        // A replica that would deny every review is not one to be sent workloads.
        let Some(number) = probe.number.as_ref().filter(|_| self.inventory.snapshot().is_ok()) else {
            return Answer::allowed();
        };
        if let Some(cluster) = &self.cluster {
            cluster.probes.receive(number);
        }
        Answer { warnings: vec![echo(number)], ..Answer::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(kind: &str, object: &serde_json::Value) -> Vec<u8> {
        let kind = json!({"group": "coordination.k8s.io", "version": "v1", "kind": kind});
        let request = json!({"uid": "u", "kind": kind, "operation": "UPDATE", "object": object});
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        review.to_string().into_bytes()
    }

    fn number(annotation: &str) -> Option<String> {
        let object = json!({"metadata": {"annotations": {PROBE_ANNOTATION: annotation}}});
        read(&review("Lease", &object)).unwrap().number
    }

    #[test]
    fn e2_the_number_of_a_probe_is_read_and_nothing_else_is_brought_back() {
        assert_eq!(number("0af9").as_deref(), Some("0af9"));
        for other in ["a\r\nb", "no number", &"0".repeat(65)] {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(read(&review("Lease", &json!({"metadata": {}}))).unwrap().number, None);
        assert!(read(&review("Pod", &json!({}))).unwrap_err().contains("not of Pod"));
    }
}
