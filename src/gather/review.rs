//! What a review answers: the types that `server` and `cli` render.

use std::time::Duration;

use crate::domain::{
    verdict::{ImageVerdict, Outcome},
    workload::WorkloadImage,
};

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

/// The verdict about one image of a workload.
#[derive(Debug, Clone)]
pub struct ReviewedImage {
    /// Where the workload names it.
    pub image: WorkloadImage,
    /// What was decided. Containers of one image share one verdict.
    pub verdict: std::sync::Arc<ImageVerdict>,
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
