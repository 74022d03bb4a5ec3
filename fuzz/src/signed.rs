//! What is signed, and what is not: a change of what is genuine says the same as before, or it is not believed.

use std::{collections::BTreeMap, sync::OnceLock};

use bonafide::{
    api::compile::public_key,
    domain::{
        digest::Digest,
        evidence::{Finding, Layout},
        identity::TrustRootName,
        key::PublicKey,
    },
    gather::ports::{RawAttestation, RawContent, TrustRoots as _},
    trust::{Roots, claims},
};
use bonafide_kit::{
    scenario::signer,
    sigstore::{
        Build, BundleVersion, EntryKind, KeyKind, Signed, SigningKey, Sigstore, statement_v1, statement_v02,
    },
};
use bytes::Bytes;
use jiff::Timestamp;

use super::apply;

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";

/// A Sigstore of this process, the public ones, and what was signed under the former.
pub(crate) struct World {
    own: Roots,
    public: Roots,
    key: PublicKey,
    pub(crate) bundles: Vec<String>,
    pub(crate) layers: Vec<(Vec<u8>, BTreeMap<String, String>)>,
    pub(crate) envelopes: Vec<Vec<u8>>,
    pub(crate) certificates: Vec<Vec<u8>>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

/// The world of others: seeds are signed there, as those that another process wrote are.
pub(crate) fn another_world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let sigstore = Sigstore::new();
        let builder = signer();
        let subjects = [("app", "ab".repeat(32))];
        let subjects = subjects.each_ref().map(|(name, digest)| (*name, digest.as_str()));
        let v1 = statement_v1(&subjects, &Build::of(&builder)).to_string();
        let v02 = statement_v02(&subjects, &Build::of(&builder)).to_string();
        let key = SigningKey::generate(KeyKind::P256);
        let by_certificate = |entry| sigstore.signing(&builder).entry(entry).sign(&v1);
        let by_key = |entry| sigstore.signing_with(&key).entry(entry).sign(&v02);
        let bundles: Vec<Signed> =
            [EntryKind::Dsse001, EntryKind::Intoto002, EntryKind::HashedRekord002, EntryKind::Dsse002]
                .into_iter()
                .flat_map(|entry| [by_certificate(entry), by_key(entry)])
                .collect();
        let layers: Vec<Signed> = [EntryKind::Dsse001, EntryKind::Intoto001]
            .into_iter()
            .flat_map(|entry| [by_certificate(entry), by_key(entry)])
            .collect();
        Self {
            own: Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json())
                .expect("the kit's root"),
            public: Roots::embedded().expect("the embedded roots"),
            key: public_key(&key.public_pem()).expect("the kit's key"),
            bundles: bundles.iter().map(|signed| signed.bundle_json(BundleVersion::V03)).collect(),
            certificates: bundles
                .iter()
                .filter_map(|signed| Some(signed.certificate_der()?.to_vec()))
                .collect(),
            envelopes: layers.iter().map(Signed::envelope_bytes).collect(),
            layers: layers.iter().map(Signed::cosign_att_layer).collect(),
        }
    }

    /// Keys and roots are made anew in each process: what comes from outside is signed under none of them.
    fn nobody_signed(&self, raw: &RawAttestation) {
        for roots in [&self.own, &self.public] {
            let finding = roots.verify(raw, Timestamp::now()).finding;
            if let Finding::Untrusted(why) | Finding::Malformed(why) = &finding {
                assert!(!why.is_empty());
            }
            assert!(!matches!(finding, Finding::Verified(_)), "{finding:?}");
            let check = roots.check_key(raw, &self.key, Timestamp::now());
            assert!(check.signature.is_err() && check.logged.is_empty(), "{check:?}");
        }
    }

    fn changed(&self, original: &RawAttestation, changed: &RawAttestation) {
        says_the_same_or_nothing(&self.own, original, changed);
        let finding = self.public.verify(changed, Timestamp::now()).finding;
        assert!(!matches!(finding, Finding::Verified(_)), "{finding:?}");
        let statement = |raw| match self.own.verify(raw, Timestamp::now()).finding {
            Finding::Keyed(keyed) => Some(format!("{:?}", keyed.statement)),
            _ => None,
        };
        let check = self.own.check_key(changed, &self.key, Timestamp::now());
        if check.signature.is_ok() {
            // A bundle may be given a certificate that has nothing to do with it: it is then none of a key's.
            let told = statement(changed);
            assert!(told.is_none() || told == statement(original), "{told:?}");
        } else {
            assert!(check.logged.is_empty());
        }
    }
}

/// Whatever was changed of a genuine attestation: what is believed of it is what is believed of the original.
pub fn says_the_same_or_nothing(roots: &Roots, original: &RawAttestation, changed: &RawAttestation) {
    let Finding::Verified(found) = roots.verify(changed, Timestamp::now()).finding else { return };
    match roots.verify(original, Timestamp::now()).finding {
        Finding::Verified(expected) => assert_eq!(format!("{found:?}"), format!("{expected:?}")),
        other => panic!("{found:?} is believed, and of the original {other:?}"),
    }
}

fn raw(content: RawContent, layout: Layout) -> RawAttestation {
    RawAttestation { layout, found_at: Digest::sha256([0; 32]), content }
}

fn of_bundle(json: Vec<u8>) -> RawAttestation {
    raw(RawContent::Bundle(Bytes::from(json)), Layout::Referrer)
}

fn of_layer(envelope: Vec<u8>, annotations: BTreeMap<String, String>) -> RawAttestation {
    raw(RawContent::CosignLayer { envelope: Bytes::from(envelope), annotations }, Layout::AttTag)
}

fn picked<T>(genuine: &[T], by: u8) -> &T {
    &genuine[usize::from(by) % genuine.len()]
}

/// A bundle that nobody signed is not believed. Behind a zero stand edits of one that is genuine.
pub fn bundle(data: &[u8]) {
    let world = world();
    let [0, which, edits @ ..] = data else { return world.nobody_signed(&of_bundle(data.to_vec())) };
    let original = picked(&world.bundles, *which).as_bytes();
    world.changed(&of_bundle(original.to_vec()), &of_bundle(apply(original, edits)));
}

/// The same of an `.att` layer: envelope, certificate and log entry stand behind each other, with a zero between. In what is genuine, one
/// of them is changed.
pub fn att_layer(data: &[u8]) {
    let world = world();
    let [0, which, part, edits @ ..] = data else {
        let mut parts = data.split(|byte| *byte == 0);
        let envelope = parts.next().unwrap_or_default().to_vec();
        // A manifest whose annotations are not UTF-8 is refused before: `manifest_and_index` holds that.
        let annotations = [CERTIFICATE, LOG_ENTRY].into_iter().zip(parts);
        let annotations = annotations
            .map(|(name, part)| Some((name.to_owned(), std::str::from_utf8(part).ok()?.to_owned())));
        let Some(annotations) = annotations.collect() else { return };
        return world.nobody_signed(&of_layer(envelope, annotations));
    };
    let (envelope, annotations) = picked(&world.layers, *which);
    let (mut changed, mut noted) = (envelope.clone(), annotations.clone());
    match part % 3 {
        0 => changed = apply(envelope, edits),
        part => {
            let name = if part == 1 { CERTIFICATE } else { LOG_ENTRY };
            let text = annotations.get(name).map(String::as_str).unwrap_or_default();
            let Ok(text) = String::from_utf8(apply(text.as_bytes(), edits)) else { return };
            noted.insert(name.to_owned(), text);
        }
    }
    world.changed(&of_layer(envelope.clone(), annotations.clone()), &of_layer(changed, noted));
}

/// The same of an envelope alone, which only a key can have signed.
pub fn envelope(data: &[u8]) {
    let world = world();
    let [0, which, edits @ ..] = data else {
        return world.nobody_signed(&of_layer(data.to_vec(), BTreeMap::new()));
    };
    let original = picked(&world.envelopes, *which);
    let changed = apply(original, edits);
    world.changed(&of_layer(original.clone(), BTreeMap::new()), &of_layer(changed, BTreeMap::new()));
}

/// What is read from a certificate stands in it, and can be shown to a person. Behind a zero stand edits of a genuine one.
pub fn certificate_extensions(data: &[u8]) {
    let der = match data {
        [0, which, edits @ ..] => apply(picked(&world().certificates, *which).as_slice(), edits),
        _ => data.to_vec(),
    };
    let Ok(read) = claims(&der) else { return };
    assert!(!read.issuer.is_empty());
    let debug = claims(&der).map(|again| format!("{again:?}"));
    assert_eq!(debug.as_deref().ok(), Some(format!("{read:?}").as_str()));
    let texts = [
        Some(&read.subject),
        Some(&read.issuer),
        read.workflow_name.as_ref(),
        read.build_signer_uri.as_ref(),
        read.build_signer_digest.as_ref(),
        read.runner.as_ref(),
        read.source_repository.as_ref(),
        read.source_digest.as_ref(),
        read.source_ref.as_ref(),
        read.source_repository_id.as_ref(),
        read.source_owner.as_ref(),
        read.source_owner_id.as_ref(),
        read.build_config_uri.as_ref(),
        read.build_config_digest.as_ref(),
        read.trigger.as_ref(),
        read.run_uri.as_ref(),
        read.source_visibility.as_ref(),
        read.environment.as_ref(),
        read.token_subject.as_ref(),
    ];
    for text in texts.into_iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        // The old extension for the repository has it without the host.
        let short = text.strip_prefix("https://github.com/").unwrap_or(text);
        let is_in =
            |text: &str| text.is_empty() || der.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(is_in(text) || is_in(short), "{text:?} is not in the certificate");
    }
}
