//! An in-process OCI registry with faults.
