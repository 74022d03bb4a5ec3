//! Replicas that share a Secret.
