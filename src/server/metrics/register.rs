//! Registering what is described.

use prometheus_client::registry::{Metric, Registry};

use super::Described;

/// Registers a copy under the name and help of its description, and gives it back.
pub(super) fn register<M: Metric + Clone>(registry: &mut Registry, described: Described, metric: M) -> M {
    // The library appends the suffixes that OpenMetrics asks for.
    let name = match described.kind {
        "counter" => described.name.trim_end_matches("_total"),
        "info" => described.name.trim_end_matches("_info"),
        _ => described.name,
    };
    registry.register(name, described.help, metric.clone());
    metric
}
