//! Bonafide: a Kubernetes admission webhook that admits a workload only when every image it may run
//! carries signed SLSA provenance for every node architecture the pod can land on.
//!
//! Data flows one way: `cli → server → { registry, trust, cluster } → gather → api → domain`.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod domain;
pub mod gather;
pub mod registry;
pub mod server;
pub mod trust;
