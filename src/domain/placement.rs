//! Where a pod can land: its constraints against the nodes and the configured platforms.

use super::{
    platform::Platform,
    workload::{Node, Placement, Platforms},
};

/// The platforms that a pod can land on: the configured ones, or unknown.
pub fn platforms(_: &Placement, _: &[Node], configured: &[Platform]) -> Platforms {
    if configured.is_empty() { Platforms::Unknown } else { Platforms::These(configured.to_vec()) }
}
