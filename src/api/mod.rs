//! Wire types: the v1alpha1 policies, `AdmissionReview`, Kubernetes workloads, in-toto statements – and their way into the domain.

pub mod bounded;
pub mod compile;
pub mod crd;
pub mod manifest;
pub mod statement;
pub mod v1alpha1;
pub mod workload;
