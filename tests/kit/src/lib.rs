//! What Bonafide is tested with: an in-process OCI registry with faults, and a throwaway Sigstore
//! (certificate authority, certificate-transparency log, transparency log, timestamping) made in
//! memory, and a real Kubernetes control plane. It depends on nothing of Bonafide's, so that it is an independent judge of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

pub mod apiserver;
pub mod image;
pub mod plane;
pub mod registry;
pub mod scenario;
pub mod sigstore;
pub mod tuf;
