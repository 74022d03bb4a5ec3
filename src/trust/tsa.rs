//! RFC 3161 timestamps, by the timestamp authorities of a trust root.

use jiff::Timestamp;
use sigstore_trust_root::{TimestampAuthority as WireAuthority, TrustedRoot, TsaAuthority};
use sigstore_tsa::{Error, verify_timestamp_for_authority};
use sigstore_types::{SignatureBytes, TimestampToken};

use super::{
    certificate::{self, Validity},
    refusal::Refusal,
};

/// The timestamp authorities of a trust root.
pub(super) struct TimestampAuthorities(Vec<TimestampAuthority>);

struct TimestampAuthority {
    authority: TsaAuthority,
    /// When each certificate of its chain is valid. The library leaves the last one's out.
    validities: Vec<Validity>,
}

impl TimestampAuthorities {
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, Refusal> {
        let one = |authority: &WireAuthority| {
            let (leaf, intermediates, root) = match authority.cert_chain.certificates.as_slice() {
                [leaf, intermediates @ .., root] => (leaf, intermediates, root),
                [root] => (root, [].as_slice(), root),
                [] => return Err(Refusal::Malformed("a timestamp authority has no certificate".to_owned())),
            };
            let intermediates = intermediates.iter().map(|entry| entry.raw_bytes.clone()).collect();
            let (leaf, root) = (leaf.raw_bytes.clone(), root.raw_bytes.clone());
            let authority = TsaAuthority::new(leaf, intermediates, root, authority.valid_for);
            let chain = [&authority.leaf, &authority.root].into_iter().chain(&authority.intermediates);
            let validities = chain.map(|der| Validity::of(&certificate::parse(der.as_bytes())?));
            Ok(TimestampAuthority { validities: validities.collect::<Result<_, Refusal>>()?, authority })
        };
        root.timestamp_authorities.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time at which one of the authorities stamped the signature, while it and all of its certificates were in force.
    ///
    /// # Errors
    /// [`Refusal::Timestamp`], or [`Refusal::TimestampAuthority`] where an authority did and was not in force.
    pub(super) fn time(
        &self,
        stamp: &TimestampToken,
        signature: &SignatureBytes,
    ) -> Result<Timestamp, Refusal> {
        let mut refusal = Refusal::Timestamp;
        for TimestampAuthority { authority, validities } in &self.0 {
            match verify_timestamp_for_authority(stamp, signature, authority) {
                Ok(time) if validities.iter().all(|validity| validity.contains(time)) => return Ok(time),
                Ok(time) | Err(Error::TimestampOutsideValidity { time }) => {
                    refusal = Refusal::TimestampAuthority(time);
                }
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}
