//! The texts that people read: denials and warnings, from verdicts. Every one is snapshot-tested.

use super::{
    verdict::{ImageVerdict, Problem},
    workload::WorkloadImage,
};

/// The whole message about an image that is not admitted. `image` is `None` on the command line, where no workload names it.
pub fn denial(image: Option<&WorkloadImage>, verdict: &ImageVerdict) -> String {
    let _ = image;
    verdict.problems.iter().map(|problem| problem.found.clone()).collect::<Vec<_>>().join("\n")
}

/// One warning.
pub fn warning(image: Option<&WorkloadImage>, verdict: &ImageVerdict, problem: &Problem) -> String {
    let _ = (image, verdict);
    problem.found.clone()
}
