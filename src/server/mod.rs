//! The webhook: admission over HTTPS, health and metrics over plain HTTP.
//!
//! This is where bytes of the API server become a [`Workload`](crate::domain::workload::Workload) and a
//! [`Review`](crate::gather::review::Review) becomes the answer it reads. What is decided, and what a registry is asked, is not
//! decided here. Whatever goes wrong in one request ends that request, with a denial, and never the server.

pub mod admission;
pub mod answer;
pub mod binding;
pub mod body;
pub mod caller;
pub mod callers;
pub mod connections;
pub mod deadline;
pub mod files;
mod head;
pub mod health;
mod in_flight;
pub mod listen;
pub mod log;
pub mod metrics;
mod mutation;
pub mod patch;
pub mod policies;
mod policy_review;
mod pool;
mod probe;
mod refused;
pub mod report;
mod respond;
pub mod tls;
mod warnings;
pub mod wire;
mod workload_review;
