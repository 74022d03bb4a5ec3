//! Signers of a policy that nothing satisfies, because the trust root that they name is not in force.

use super::Note;
use crate::domain::{identity::TrustRootName, policy::Policy};

/// A warning for each such signer. `lack` says what is wrong with a root, and nothing of one that is in force.
pub fn unknown_roots(policy: &Policy, lack: impl Fn(&TrustRootName) -> Option<String>) -> Vec<Note> {
    let note = |(list, at, root): (&str, usize, &TrustRootName)| {
        let lack = lack(root)?;
        Some(Note {
            field: format!("{list}[{at}].trustRoot"),
            value: Some(root.to_string()),
            message: format!("{lack}; without it, nothing satisfies this signer"),
        })
    };
    let of_summaries = policy.summaries.iter().flat_map(|rules| &rules.signers).enumerate();
    let of_summaries = of_summaries.map(|(at, signer)| ("spec.vsa.signers", at, signer));
    let of_provenance = policy.signers.iter().enumerate().map(|(at, signer)| ("spec.signers", at, signer));
    let named = of_provenance.chain(of_summaries);
    named.filter_map(|(list, at, signer)| Some((list, at, signer.root()?))).filter_map(note).collect()
}
