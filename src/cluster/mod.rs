//! The cluster: what is watched of it, and what is written to it.
//!
//! A review asks the API server nothing. What it needs is watched, kept in memory, and goes on being served as it was last known while
//! the API server is away.

pub mod call;
pub mod callers;
pub mod certificates;
pub mod client;
pub mod events;
mod follow;
pub mod install;
pub mod inventory;
pub mod keys;
pub mod last_review;
pub mod lease;
mod objects;
pub mod pods;
pub mod pull;
pub mod reach;
pub mod roots;
mod shares;
mod split;
mod state;
pub mod status;
pub mod warm;
pub mod watch;
pub mod webhooks;
