//! Public keys as signers, written in the policy or in an object that it references.

use super::super::{References, fields::Fields, key, wire};
use crate::{
    api::compile::keys::{DEFAULT_KEY, KeyHolder, KeyKeeper, KeyObject, Unfound},
    domain::{
        identity::SignerIdentity,
        key::{KeyIdentity, PublicKey, TransparencyLog},
    },
};

/// Compiles a signer with a key.
pub fn public_key(
    fields: &mut Fields,
    field: &str,
    wire: &wire::PublicKey,
    trust_root: Option<&str>,
    references: &mut References<'_>,
) -> Option<SignerIdentity> {
    let log = match wire.transparency_log {
        wire::TransparencyLog::Required => TransparencyLog::Required,
        wire::TransparencyLog::Optional => TransparencyLog::Optional,
    };
    let root = format!("{field}.trustRoot");
    match (log, trust_root) {
        (TransparencyLog::Required, Some("github")) => {
            let message = "has no transparency log, so no signature with this key could be in it; write transparencyLog: Optional";
            fields.error(&root, Some("github"), message);
        }
        // The API server writes the usual one where none is named.
        (TransparencyLog::Optional, Some(name)) if name != "sigstore" => {
            let message = "says nothing here: the signature alone suffices where transparencyLog is Optional";
            fields.warn(&root, Some(name), message);
        }
        _ => {}
    }
    let field = format!("{field}.publicKey");
    let key = match (&wire.pem, &wire.secret_ref, &wire.config_map_ref) {
        (Some(pem), None, None) => {
            let read = key::public_key(pem);
            read.map_err(|message| fields.error(&format!("{field}.pem"), None, message)).ok()
        }
        (None, Some(secret), None) => {
            referenced(fields, &format!("{field}.secretRef"), KeyKeeper::Secret, secret, references)
        }
        (None, None, Some(map)) => {
            referenced(fields, &format!("{field}.configMapRef"), KeyKeeper::ConfigMap, map, references)
        }
        _ => {
            fields.error(&field, None, "has exactly one of pem, secretRef, configMapRef");
            None
        }
    };
    key.map(|key| SignerIdentity::PublicKey(Box::new(KeyIdentity { key, log })))
}

fn referenced(
    fields: &mut Fields,
    field: &str,
    kind: KeyKeeper,
    wire: &wire::KeyRef,
    references: &mut References<'_>,
) -> Option<PublicKey> {
    // That it has one is told of its shape.
    if wire.name.is_empty() {
        return None;
    }
    let namespace = references.namespace.to_owned();
    let holder = KeyHolder { kind, namespace, name: wire.name.clone() };
    let wanted = KeyObject { holder, key: wire.key.as_deref().unwrap_or(DEFAULT_KEY).to_owned() };
    let found = references.keys.find(&wanted);
    references.objects.insert(wanted.clone());
    let read = match found {
        // The rest of its advice is for policies.
        Ok(text) if text.contains("PRIVATE KEY-----") => {
            Err(format!("{wanted}, is a private key; name the entry with the public half"))
        }
        Ok(text) => key::public_key(&text).map_err(|message| format!("{wanted}, {message}")),
        // It is never read, whatever becomes of it.
        Err(unfound @ Unfound::Unread(_)) => {
            fields.error(field, None, unfound.told(&wanted));
            return None;
        }
        Err(unfound) => Err(unfound.told(&wanted)),
    };
    read.map_err(|message| references.unmet(fields, field, message)).ok()
}
