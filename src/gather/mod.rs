//! Gathering: the ports to the world, and the orchestration between plan and evaluation – cache, single flight, deadline.
//!
//! What is asked of a registry, and in which order, is decided here; how it is asked is `registry`'s, and whether an
//! answer is genuine is `trust`'s.

pub mod budget;
pub mod discover;
mod disputable;
mod evaluation;
pub mod facts;
pub mod fair;
pub mod flight;
mod held;
pub mod image;
pub mod in_index;
pub mod keys;
mod landings;
pub mod lanes;
mod late;
pub mod paced;
pub mod ports;
pub mod review;
pub mod reviewer;
mod trim;
mod verdicts;
pub mod weigh;
