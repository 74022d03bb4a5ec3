//! The decision, pure: no I/O, no async, no clock of its own. Wire types live in `api`, I/O behind the ports in `gather`.
#![warn(clippy::arithmetic_side_effects)]

pub mod authorize;
pub mod compiled_pattern;
pub mod condition;
pub mod constrain;
pub mod cover;
pub mod digest;
pub mod evaluate;
pub mod evidence;
pub mod glob;
pub mod identity;
pub mod json_limits;
pub mod key;
pub mod keyed;
pub mod landing;
pub mod level;
pub mod looked_at;
pub mod message;
pub mod placement;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod policy_budget;
pub mod predicate;
pub mod provenance;
pub mod reference;
pub mod repeated_keys;
pub mod repository_name;
pub mod summary;
pub mod verdict;
pub mod vouch;
pub mod workload;
