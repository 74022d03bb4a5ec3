//! What a review answers: the types that `server` and `cli` render.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::domain::{
    policy::Mode,
    verdict::{ImageVerdict, Outcome, Problem, Reason},
    workload::{Workload, WorkloadImage},
};

/// How many distinct images of one workload are judged.
pub const MAX_IMAGES: usize = 128;

/// The answer about one workload.
#[derive(Debug, Clone)]
pub struct Review {
    /// What is answered: the worst of the images.
    pub outcome: Outcome,
    /// One verdict per image of the workload, in its order.
    pub images: Vec<ReviewedImage>,
    /// What took how long.
    pub phases: Phases,
}

impl Review {
    /// The answer about a workload with more images than are judged: a no, told by the first that is too many.
    pub fn of_too_many(workload: &Workload) -> Option<Self> {
        // Nearly every workload has fewer containers than that.
        if workload.images.len() <= MAX_IMAGES {
            return None;
        }
        let mut distinct: HashSet<&str> = HashSet::new();
        let mut images = workload.images.iter();
        let beyond = images.find(|image| distinct.insert(&image.image) && distinct.len() > MAX_IMAGES)?;
        let found = format!("the workload names more than {MAX_IMAGES} different images");
        let problem = Problem {
            hint: Some("split the workload".to_owned()),
            ..Problem::new(Reason::TooManyImages, Mode::Enforce, found)
        };
        let verdict = Arc::new(ImageVerdict::of_problems(&beyond.image, vec![problem]));
        let images = vec![ReviewedImage { image: Arc::clone(beyond), verdict }];
        Some(Self { outcome: Outcome::Deny, images, phases: Phases::default() })
    }
}

/// The verdict about one image of a workload.
#[derive(Debug, Clone)]
pub struct ReviewedImage {
    /// Where the workload names it.
    pub image: Arc<WorkloadImage>,
    /// What was decided. Containers of one image share one verdict.
    pub verdict: Arc<ImageVerdict>,
}

/// How long the phases of a review took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Deciding what is to be asked.
    pub plan: Duration,
    /// Asking it, verification of signatures included.
    pub gather: Duration,
    /// Deciding.
    pub evaluate: Duration,
}

/// One definite no is enough; only where every no may heal is it worth asking again.
pub(super) fn worst(images: &[ReviewedImage]) -> Outcome {
    let outcomes = || images.iter().map(|image| image.verdict.outcome);
    if outcomes().any(|outcome| outcome == Outcome::Deny) {
        return Outcome::Deny;
    }
    outcomes().max().unwrap_or(Outcome::Allow)
}
