//! Forged attestations: a Sigstore of our own, right in all but one thing at a time. Each is judged from its bytes to the
//! verdict, beside a twin that differs in that one thing and is admitted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod anchors;
mod builders;
mod flips;
mod form;
mod images;
mod in_index;
mod instances;
mod keys;
mod looked_at;
mod odd;
mod policies;
mod roots;
mod table;
#[path = "../trust_support/mod.rs"]
mod trust_support;
