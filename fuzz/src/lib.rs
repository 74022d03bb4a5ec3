//! What must hold whatever bytes come in, at every place where bytes of others come in. libFuzzer runs this with a nightly toolchain, and
//! `tests/fuzzed.rs` includes the same files and runs them with every other.
//!
//! A property is a function of bytes that panics where it does not hold.

mod edits;
mod image;
mod said;
mod seeds;
mod signed;
mod text;

pub use edits::apply;
pub use image::{manifest_and_index, root_of};
pub use said::{predicate_v1, predicate_v02, statement};
pub use signed::{att_layer, bundle, certificate_extensions, envelope, says_the_same_or_nothing};
pub use text::{admission_review, policy, reference};

/// A place where bytes come in.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its program.
    pub name: &'static str,
    /// What must hold.
    pub holds: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "reference", holds: reference },
    Target { name: "manifest_and_index", holds: manifest_and_index },
    Target { name: "bundle", holds: bundle },
    Target { name: "att_layer", holds: att_layer },
    Target { name: "envelope", holds: envelope },
    Target { name: "statement", holds: statement },
    Target { name: "predicate_v02", holds: predicate_v02 },
    Target { name: "predicate_v1", holds: predicate_v1 },
    Target { name: "certificate_extensions", holds: certificate_extensions },
    Target { name: "admission_review", holds: admission_review },
    Target { name: "policy", holds: policy },
];

impl Target {
    /// Inputs that come far.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        seeds::of(self.name)
    }
}
