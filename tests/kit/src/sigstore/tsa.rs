//! The timestamping authority: RFC 3161 responses (a CMS `SignedData` over a `TSTInfo`).

use jiff::Timestamp;

use super::ca::{Issuer, Validities, timestamping_pair};
use super::der;
use super::keys::{Key, serial, sha256};

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
const SHA_256: &str = "2.16.840.1.101.3.4.2.1";

#[derive(Debug)]
pub(super) struct Tsa {
    pub(super) root: Issuer,
    pub(super) signer: Issuer,
    /// The signer's serial number, by which a token names it.
    serial: Vec<u8>,
}

impl Tsa {
    pub(super) fn new(organisation: &str, validities: Validities) -> Self {
        let (root, signer) = timestamping_pair(organisation, validities);
        let serial = serial_of(&signer.certificate);
        Self { root, signer, serial }
    }

    /// A `TimeStampResp` over the hash of `stamped`, signed by `key` in the authority's name.
    pub(super) fn stamp(&self, stamped: &[u8], at: Timestamp, key: &Key) -> Vec<u8> {
        self.stamp_hash(&sha256(stamped), at, key)
    }

    /// The same of what has this SHA-256.
    pub(super) fn stamp_hash(&self, hash: &[u8], at: Timestamp, key: &Key) -> Vec<u8> {
        let sha256_algorithm = der::sequence(&[&der::oid(SHA_256), &der::null()]);
        let imprint = der::sequence(&[&sha256_algorithm, &der::tlv(der::OCTET_STRING, hash)]);
        let info = der::sequence(&[
            &der::integer(&[1]),
            &der::oid("1.3.6.1.4.1.57264.2"),
            &imprint,
            &der::integer(&serial()),
            &der::generalized_time(at),
        ]);
        let attributes = vec![
            attribute(CONTENT_TYPE, &der::oid(TST_INFO)),
            attribute(SIGNING_TIME, &der::time(at)),
            attribute(MESSAGE_DIGEST, &der::tlv(der::OCTET_STRING, &sha256(&info))),
        ];
        let signed_attributes = der::set_of(attributes);
        let signature = key.sign(&signed_attributes);
        // Within the signer's info the same set stands under `[0] IMPLICIT`.
        let mut implicit = signed_attributes;
        implicit[0] = 0xa0;
        let signer_info = der::sequence(&[
            &der::integer(&[1]),
            &der::sequence(&[&self.root.name, &self.serial]),
            &sha256_algorithm,
            &implicit,
            &key.signature_algorithm(),
            &der::tlv(der::OCTET_STRING, &signature),
        ]);
        let content =
            der::sequence(&[&der::oid(TST_INFO), &der::context(0, &der::tlv(der::OCTET_STRING, &info))]);
        let signed_data = der::sequence(&[
            &der::integer(&[3]),
            &der::set_of(vec![sha256_algorithm.clone()]),
            &content,
            &der::context(0, &self.signer.certificate),
            &der::set_of(vec![signer_info]),
        ]);
        let token = der::sequence(&[&der::oid(SIGNED_DATA), &der::context(0, &signed_data)]);
        der::sequence(&[&der::sequence(&[&der::integer(&[0])]), &token])
    }
}

fn attribute(oid: &str, value: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(oid), &der::set_of(vec![value.to_vec()])])
}

/// The serial number element of a certificate, which follows the version.
fn serial_of(certificate: &[u8]) -> Vec<u8> {
    let parts = der::within_sequence(certificate).unwrap();
    der::within_sequence(parts[0].whole).unwrap()[1].whole.to_vec()
}
