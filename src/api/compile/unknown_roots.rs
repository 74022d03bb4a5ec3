//! Signers of a policy that nothing satisfies, because the trust root that they name is not in force.

use super::Note;
use crate::domain::{identity::TrustRootName, policy::Policy};

/// A warning for each such signer. `lack` says what is wrong with a root, and nothing of one that is in force.
pub fn unknown_roots(policy: &Policy, lack: impl Fn(&TrustRootName) -> Option<String>) -> Vec<Note> {
    let note = |(at, root): (usize, &TrustRootName)| {
        let lack = lack(root)?;
        Some(Note {
            field: format!("spec.signers[{at}].trustRoot"),
            value: Some(root.to_string()),
            message: format!("{lack}; without it, nothing satisfies this signer"),
        })
    };
    let named = policy.signers.iter().enumerate().filter_map(|(at, signer)| Some((at, signer.root()?)));
    named.filter_map(note).collect()
}
