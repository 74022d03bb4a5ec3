//! The act of signing: a key, a certificate for it, an envelope, the log's entry and a timestamp, with
//! at most one [`Defect`] among them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::body::canonical_body;
use super::ca::{Authority, LeafPlan, SctPlan, Usage, short_validity};
use super::defect::Defect;
use super::identity::Identity;
use super::keys::{Key, KeyKind, sha256};
use super::rekor::{checkpoint, set_payload};
use super::signed::{Entry, EntryKind, Envelope, Signed, Verifier};
use super::{Sigstore, truncated};

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Who signs.
#[derive(Clone, Debug)]
pub(super) enum Signer<'a> {
    /// Somebody with a certificate for a key that is made for the occasion.
    Identity(Box<Identity>),
    /// Somebody with a key.
    Key(&'a Key),
}

/// A signature about to be made; see [`Sigstore::signing`].
#[derive(Debug)]
#[must_use]
pub struct Signing<'a> {
    sigstore: &'a Sigstore,
    signer: Signer<'a>,
    at: Timestamp,
    entry: EntryKind,
    timestamp: bool,
    stamped_again: Option<Timestamp>,
    payload_type: String,
    leaf: KeyKind,
    defect: Option<Defect>,
}

impl<'a> Signing<'a> {
    pub(super) fn new(sigstore: &'a Sigstore, signer: Signer<'a>) -> Self {
        Self {
            sigstore,
            signer,
            at: truncated(Timestamp::now()),
            entry: EntryKind::Dsse001,
            timestamp: false,
            stamped_again: None,
            payload_type: IN_TOTO.to_owned(),
            leaf: KeyKind::P256,
            defect: None,
        }
    }

    /// The time of signing and logging, in whole seconds; otherwise now.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.at = truncated(time);
        self
    }

    /// The kind of the log's entry; otherwise `dsse` 0.0.1.
    pub fn entry(mut self, kind: EntryKind) -> Self {
        self.entry = kind;
        self
    }

    /// With an RFC 3161 timestamp beside the log's.
    pub fn with_timestamp(mut self) -> Self {
        self.timestamp = true;
        self
    }

    /// With one more RFC 3161 timestamp over the same signature, of another time.
    pub fn also_stamped_at(mut self, time: Timestamp) -> Self {
        self.stamped_again = Some(truncated(time));
        self
    }

    /// With another payload type than in-toto's.
    pub fn payload_type(mut self, payload_type: &str) -> Self {
        payload_type.clone_into(&mut self.payload_type);
        self
    }

    /// With a certificate for a key of this kind; otherwise P-256.
    pub fn leaf(mut self, kind: KeyKind) -> Self {
        self.leaf = kind;
        self
    }

    /// With this wrong.
    pub fn defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }

    /// Sign.
    pub fn sign(mut self, statement: impl AsRef<[u8]>) -> Signed {
        if self.has(Defect::IntegratedTimeInFuture) {
            self.at += SignedDuration::from_hours(24);
        }
        let authority = self.authority();
        let made;
        let (key, verifier) = match &self.signer {
            Signer::Identity(identity) => {
                made = Key::generate(self.leaf);
                (&made, Verifier::Certificate(self.certificate(identity, authority, &made)))
            }
            Signer::Key(key) => (*key, Verifier::Key(key.spki(), key.kind)),
        };
        let envelope = self.envelope(key, statement.as_ref());
        let entry = self.log_entry(key, &verifier, &envelope);
        let timestamps = self.timestamps(&envelope.signature);
        let chain = vec![authority.intermediate.certificate.clone(), authority.root.certificate.clone()];
        Signed { envelope, verifier, chain, entry, timestamps }
    }

    /// The certificate of who signs, for this key in place of one for the occasion.
    pub(super) fn certificate_for(&self, key: &Key) -> Vec<u8> {
        let Signer::Identity(identity) = &self.signer else { panic!("a bare key has no certificate") };
        self.certificate(identity, self.authority(), key)
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn authority(&self) -> &'a Authority {
        if self.has(Defect::ChainOfAnotherAuthority) {
            &self.sigstore.stranger.authority
        } else {
            &self.sigstore.trusted.authority
        }
    }

    fn validity(&self) -> (Timestamp, Timestamp) {
        let hour = SignedDuration::from_hours(1);
        match self.defect {
            Some(Defect::CertificateExpired) => short_validity(self.at - hour),
            Some(Defect::CertificateNotYetValid) => short_validity(self.at + hour),
            _ => match &self.signer {
                Signer::Identity(identity) => identity.validity.unwrap_or_else(|| short_validity(self.at)),
                Signer::Key(_) => short_validity(self.at),
            },
        }
    }

    fn certificate(&self, identity: &Identity, authority: &Authority, key: &Key) -> Vec<u8> {
        let identity = match self.defect {
            Some(Defect::ExtensionMissing(number)) => &identity.clone().without_extension(number),
            _ => identity,
        };
        authority.issue(&LeafPlan {
            identity,
            key: &key.spki(),
            validity: self.validity(),
            usage: match self.defect {
                Some(Defect::WrongExtendedKeyUsage) => Usage::ClientAuth,
                Some(Defect::NoExtendedKeyUsage) => Usage::Absent,
                _ => Usage::CodeSigning,
            },
            is_authority: self.has(Defect::CertificateIsAuthority),
            sct: self.sct(authority),
            signature_invalid: self.has(Defect::CertificateSignatureInvalid),
        })
    }

    fn sct(&self, authority: &Authority) -> Option<SctPlan<'a>> {
        if self.has(Defect::SctMissing) || !self.sigstore.settings.sct {
            return None;
        }
        let (known, stranger) = (&self.sigstore.trusted.ct_key, &self.sigstore.stranger.ct_key);
        let (log_id, key) = match self.defect {
            Some(Defect::SctByUnknownLog) => (stranger.id(), stranger),
            Some(Defect::SctSignatureInvalid) => (known.id(), stranger),
            _ => (known.id(), known),
        };
        let issuer =
            if self.has(Defect::SctOfAnotherIssuer) { &self.sigstore.stranger.authority } else { authority };
        Some(SctPlan {
            log_id,
            key,
            issuer_key_hash: issuer.intermediate.key.id(),
            at: self.validity().0.min(self.at),
            of_another_certificate: self.has(Defect::SctOfAnotherCertificate),
        })
    }

    fn envelope(&self, key: &Key, statement: &[u8]) -> Envelope {
        let signed_type =
            if self.has(Defect::PayloadTypeSwapped) { "text/plain" } else { &self.payload_type };
        let signature = if self.has(Defect::SignatureInvalid) {
            Key::generate(key.kind).sign(&pae(signed_type, statement))
        } else {
            key.sign(&pae(signed_type, statement))
        };
        let payload = if self.has(Defect::PayloadSwapped) { swapped(statement) } else { statement.to_vec() };
        Envelope { payload_type: self.payload_type.clone(), payload, signature }
    }

    fn log_entry(&self, key: &Key, verifier: &Verifier, envelope: &Envelope) -> Option<Entry> {
        if self.has(Defect::NoLogEntry) || !self.sigstore.settings.log {
            return None;
        }
        let body = self.entry_body(key, verifier, envelope);
        let (trusted, stranger) = (&self.sigstore.trusted, &self.sigstore.stranger);
        let (trusted, stranger) = if self.entry.is_v2() {
            (&trusted.log_v2, &stranger.log_v2)
        } else {
            (&trusted.log, &stranger.log)
        };
        let log = if self.has(Defect::LogEntryByUnknownLog) { stranger } else { trusted };
        let mut inclusion = log.append(&body);
        let log_index = inclusion.log_index;
        let log_id = if self.has(Defect::LogEntryNamesAnotherLog) {
            let parts = &self.sigstore.trusted;
            if self.entry.is_v2() { parts.log.id() } else { parts.log_v2.id() }
        } else {
            log.id()
        };
        if self.has(Defect::InclusionProofOfAnotherEntry) {
            inclusion = log.append(b"another entry");
        }
        let (head_key, hint) = match self.defect {
            Some(Defect::CheckpointSignatureInvalid) => (&stranger.key, log_id),
            Some(Defect::CheckpointByUnknownLog) => (&stranger.key, stranger.id()),
            _ => (&log.key, log.id()),
        };
        let head =
            if self.has(Defect::CheckpointRootWrong) { sha256(&inclusion.root) } else { inclusion.root };
        let note = checkpoint(log, inclusion.tree_size, &head, head_key, hint);
        if self.has(Defect::InclusionProofInvalid) {
            inclusion.hashes[0][0] ^= 1;
        }
        let promised_at = if self.has(Defect::IntegratedTimeChanged) {
            self.at + SignedDuration::from_secs(60)
        } else {
            self.at
        };
        let set_key = if self.has(Defect::SetInvalid) { &stranger.key } else { &log.key };
        let set = set_key.sign(set_payload(&body, promised_at, &log.id(), log_index).as_bytes());
        Some(Entry {
            kind: self.entry,
            stated_kind: self.stated_kind(),
            body,
            log_id,
            log_index,
            integrated: (!self.entry.is_v2()).then_some(self.at),
            set: (!self.entry.is_v2() && !self.has(Defect::SetMissing)).then_some(set),
            proof: (!self.has(Defect::InclusionProofMissing)).then_some((inclusion, note)),
        })
    }

    fn stated_kind(&self) -> EntryKind {
        match (self.has(Defect::LogEntryKindWrong), self.entry) {
            (true, EntryKind::Dsse001) => EntryKind::Intoto002,
            (true, EntryKind::Intoto001 | EntryKind::Intoto002) => EntryKind::Dsse001,
            (true, EntryKind::Dsse002) => EntryKind::HashedRekord002,
            (true, EntryKind::HashedRekord002) => EntryKind::Dsse002,
            (false, kind) => kind,
        }
    }

    fn entry_body(&self, key: &Key, verifier: &Verifier, envelope: &Envelope) -> Vec<u8> {
        let mut logged = envelope.clone();
        let mut verifier = verifier.clone();
        match self.defect {
            Some(Defect::LogEntryOfAnotherEnvelope) => {
                logged.payload = swapped(&envelope.payload);
                logged.signature = key.sign(&pae(&logged.payload_type, &logged.payload));
            }
            Some(Defect::LogEntryOfAnotherSignature) => {
                let signed = pae(&logged.payload_type, &logged.payload);
                // ECDSA is randomised: the same key signs the same bytes differently. The other kinds are not.
                logged.signature = key.sign(&signed);
                if logged.signature == envelope.signature {
                    logged.signature = Key::generate(key.kind).sign(&signed);
                }
            }
            Some(Defect::LogEntryOfAnotherCertificate) => {
                let other = Key::generate(key.kind);
                verifier = match &self.signer {
                    Signer::Identity(identity) => {
                        Verifier::Certificate(self.certificate(identity, self.authority(), &other))
                    }
                    Signer::Key(_) => Verifier::Key(other.spki(), other.kind),
                };
            }
            Some(Defect::LogEntryOfTheOtherVerifier) => {
                verifier = match &self.signer {
                    Signer::Identity(_) => Verifier::Key(key.spki(), key.kind),
                    Signer::Key(_) => {
                        let identity = Identity::email("somebody@example.com", "https://issuer.example");
                        Verifier::Certificate(self.certificate(&identity, self.authority(), key))
                    }
                };
            }
            _ => {}
        }
        canonical_body(self.entry, &logged, &verifier, key.kind)
    }

    fn timestamps(&self, signature: &[u8]) -> Vec<Vec<u8>> {
        let wanted = self.timestamp
            || self.entry.is_v2()
            || !self.sigstore.settings.log
            || self.defect.is_some_and(Defect::needs_timestamp);
        if !wanted || self.has(Defect::TimestampMissing) {
            return Vec::new();
        }
        let (tsa, stranger) = (&self.sigstore.trusted.tsa, &self.sigstore.stranger.tsa);
        let stamp = match self.defect {
            Some(Defect::TimestampInvalid) => tsa.stamp(signature, self.at, &stranger.signer.key),
            Some(Defect::TimestampOfAnotherSignature) => {
                tsa.stamp(b"another signature", self.at, &tsa.signer.key)
            }
            Some(Defect::TimestampByUnknownAuthority) => {
                stranger.stamp(signature, self.at, &stranger.signer.key)
            }
            Some(Defect::TimestampOutsideCertificate) => {
                let early = self.validity().0 - SignedDuration::from_hours(1);
                tsa.stamp(signature, early, &tsa.signer.key)
            }
            _ => tsa.stamp(signature, self.at, &tsa.signer.key),
        };
        let again = self.stamped_again.map(|time| tsa.stamp(signature, time, &tsa.signer.key));
        [Some(stamp), again].into_iter().flatten().collect()
    }
}

/// What a DSSE signature covers.
pub(super) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The same statement with another builder; other bytes where it is none.
fn swapped(statement: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(statement).unwrap_or_default();
    for place in ["/predicate/runDetails/builder/id", "/predicate/builder/id"] {
        if let Some(builder) = value.pointer_mut(place) {
            *builder = json!("https://attacker.example");
            return value.to_string().into_bytes();
        }
    }
    [statement, b" "].concat()
}
