//! Whether an attestation that is signed with a key is by one that a policy names. Nothing in it is believed before.

use super::{
    authorize::Mismatch,
    evidence::{ImageFacts, Keyed},
    identity::{Signer, SignerIdentity},
    key::{KeyCheck, KeyIdentity, KeyKind, TransparencyLog},
    verdict::{Reason, SignedBy},
};

/// Those of `signers` whose key it is signed with, one at least, and what that proves.
///
/// # Errors
/// `UntrustedSignature`: they have no key, the signature is by none that it names, or no log has it that should.
pub fn match_key<'a>(
    signers: &'a [Signer],
    keyed: &Keyed,
    facts: &ImageFacts,
) -> Result<Vec<(&'a Signer, SignedBy)>, Mismatch> {
    let untrusted = |found: String| Mismatch::new(Reason::UntrustedSignature, found);
    let keys = || {
        signers.iter().filter_map(|signer| match &signer.identity {
            SignerIdentity::PublicKey(identity) => Some((signer, identity.as_ref())),
            SignerIdentity::Github(_)
            | SignerIdentity::Gitlab(_)
            | SignerIdentity::Buildkite(_)
            | SignerIdentity::GoogleCloudBuild(_)
            | SignerIdentity::Certificate { .. } => None,
        })
    };
    let (mut fits, mut unlogged) = (Vec::new(), None);
    for (signer, identity) in keys() {
        let Some(check) = facts.key_checks.get(&(identity.key.id(), keyed.fingerprint)) else { continue };
        if check.signature.is_ok() {
            match signed_by(signer, identity, check) {
                Ok(signed_by) => fits.push((signer, signed_by)),
                Err(found) => unlogged = unlogged.or(Some(found)),
            }
        }
    }
    if !fits.is_empty() {
        return Ok(fits);
    }
    // Whoever signs so has done nothing that looks wrong, and cosign's own verification says no more than that it fails.
    let hint = if keys().any(|(_, identity)| identity.key.kind() == KeyKind::Ed25519) {
        "; with Ed25519, cosign signs a hash (Ed25519ph), which is not accepted"
    } else {
        ""
    };
    let names: Vec<&str> = keys().map(|(signer, _)| signer.name.as_str()).collect();
    Err(untrusted(match (unlogged, names.as_slice()) {
        (Some(found), _) => found,
        (None, []) => "it is signed with a key, and the policy names none".to_owned(),
        (None, [one]) => format!("its signature is not by the key of {one}{hint}"),
        (None, several) => {
            format!("its signature is by none of the keys of {}{hint}", several.join(", "))
        }
    }))
}

/// What the signature proves, where it is logged as the policy wants it.
fn signed_by(signer: &Signer, identity: &KeyIdentity, check: &KeyCheck) -> Result<SignedBy, String> {
    let logged = check.logged.iter().find(|logged| logged.trust_root == signer.trust_root);
    if identity.log == TransparencyLog::Required && logged.is_none() {
        let roots: Vec<&str> = check.logged.iter().map(|logged| logged.trust_root.0.as_str()).collect();
        let why = if roots.is_empty() {
            check.unlogged.clone()
        } else {
            format!(
                "its log entry is of the trust root {}, not of {}",
                roots.join(" and "),
                signer.trust_root
            )
        };
        return Err(format!("it is signed with the key of {}, but {why}", signer.name));
    }
    Ok(SignedBy::Key {
        id: identity.key.id(),
        kind: identity.key.kind(),
        logged: logged.is_some(),
        at: logged.and_then(|logged| logged.at),
    })
}
