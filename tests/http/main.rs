//! The webhook as its clients see it: over HTTP, through files that change, and at its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod admission;
mod callers;
mod certificate;
mod exhaustion;
mod flood;
#[path = "../flood_support/mod.rs"]
mod flood_support;
mod limits;
mod pods;
mod policies;
mod policy_reviews;
mod serve;
mod stand_in;
mod starting;
mod support;
