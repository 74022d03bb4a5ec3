//! Texts that people and the API server send: references, policies, reviews.

use bonafide::{
    api::manifest,
    domain::{
        policy::PolicyEntry,
        reference::{Reference, Repository},
    },
    server::{
        answer::{Answer, Refusal},
        wire::{self, Subject},
    },
};
use serde_json::Value;

/// A reference that is read is written as one that is read the same, and says where the image is.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = text.parse::<Reference>() else { return };
    assert_eq!(read.written(), text);
    let again: Reference = read.to_string().parse().expect("what is written can be read");
    let parts = |reference: &Reference| {
        (reference.repository().clone(), reference.tag().map(str::to_owned), reference.digest().copied())
    };
    assert_eq!(parts(&again), parts(&read));
    assert_eq!(again.to_string(), read.to_string());
    let repository = read.repository();
    assert_eq!(format!("{}/{}", repository.registry(), repository.path()), repository.as_str());
    assert_eq!(repository.as_str().parse::<Repository>().as_ref(), Ok(repository));
    // It becomes part of a URL's path.
    assert!(!repository.path().split('/').any(|part| matches!(part, "" | "." | "..")));
    assert!(!repository.path().contains(['?', '#', '%', '@', '\\']) && repository.as_str().is_ascii());
}

/// A policy is valid or says why not and where, and more of it makes no valid one of an invalid one.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(found) = manifest::policies(text) else { return };
    // To YAML, a carriage return alone ends a line too.
    let lines = text.lines().map(|line| line.matches('\r').count() + 1).sum::<usize>() + 1;
    for document in &found {
        let compiled = &document.compiled;
        match &compiled.entry {
            PolicyEntry::Valid(policy) => {
                assert!(compiled.errors.is_empty());
                // What names nobody would admit nobody; what names no image would be about nothing.
                assert!(policy.all_signers().next().is_some());
            }
            PolicyEntry::Invalid(policy) => {
                assert!(!compiled.errors.is_empty());
                assert_eq!(policy.errors.len(), compiled.errors.len());
            }
        }
        for note in compiled.errors.iter().chain(&compiled.warnings) {
            let line = usize::try_from(document.line_of(note)).expect("a line");
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            assert!(!note.to_string().is_empty());
        }
    }
    let again = manifest::policies(text).expect("it was read before");
    assert_eq!(format!("{again:?}"), format!("{found:?}"));
}

/// A review is answered under its own uid, or refused in words; of what is made, no image is passed over.
pub fn admission_review(data: &[u8]) {
    let incoming = match wire::read(data) {
        Ok(incoming) => incoming,
        Err(why) => return assert!(!why.is_empty() && why.chars().count() < 1000),
    };
    assert!(!incoming.uid.is_empty());
    let refused = Answer::refused(Refusal::forbidden(incoming.name.to_string()));
    for (answer, allowed) in [(refused, false), (Answer::allowed(), true)] {
        let bytes = wire::write(&incoming.uid, &answer);
        let written: Value = serde_json::from_slice(&bytes).expect("an answer is JSON");
        assert_eq!(written["response"]["uid"], *incoming.uid);
        assert_eq!(written["response"]["allowed"], allowed);
    }
    if let Subject::Judge(workload) = &incoming.subject {
        let review: Value = serde_json::from_slice(data).expect("it was read before");
        let mut named = Vec::new();
        images(&review["request"]["object"], workload.kind.as_str(), &mut named);
        for image in named {
            assert!(workload.images.iter().any(|known| known.image == image), "{image:?} is passed over");
        }
    }
}

/// The images of a pod, or of the template of one, wherever Kubernetes lets them be named.
fn images<'a>(object: &'a Value, kind: &str, found: &mut Vec<&'a str>) {
    let spec = match kind {
        "Pod" => &object["spec"],
        "PodTemplate" => &object["template"]["spec"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    };
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = spec[containers].as_array().into_iter().flatten();
        found.extend(containers.filter_map(|container| container["image"].as_str()));
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    found.extend(volumes.filter_map(|volume| volume["image"]["reference"].as_str()));
    found.retain(|image| !image.is_empty());
}
