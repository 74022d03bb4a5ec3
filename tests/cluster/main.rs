//! On a real control plane: what the API server, the controller manager and the scheduler do, and what they make of Bonafide.
//!
//! All tests share one control plane. A test has namespaces of its own, and takes the plane for itself where it changes what
//! concerns everybody: webhook configurations, nodes that are counted, policies of the whole cluster, the API server itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::missing_panics_doc
)]

mod availability;
mod balancer;
mod callers;
mod certificate;
mod chart;
mod configurations;
#[path = "../crd_support/mod.rs"]
mod crd_support;
mod definitions;
mod enduring;
mod installation;
mod installed;
mod keeping;
mod keys;
mod narrowing;
mod objects;
mod placement;
mod plane;
mod pulling;
mod reached;
mod release;
mod rights;
mod roots;
mod serving;
mod shared;
mod upgrade;
mod webhook;
mod workloads;
