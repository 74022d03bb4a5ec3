//! The real cosign beside Bonafide, over one registry: what it signs is admitted here, what the kit signs is verified by it, and
//! what is forged is refused by both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod authority;
mod keyless;
mod signed_by_key;
mod support;
mod verified;
