//! Certificates for the names of Services.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate with its key and its authority, all PEM.
pub struct Certificate {
    pub authority: String,
    pub chain: String,
    pub key: String,
}

impl Certificate {
    /// For one DNS name.
    pub fn of(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        Self { authority: authority_pem, chain: chain.pem(), key: key.serialize_pem() }
    }

    /// As a webhook configuration has it.
    pub fn ca_bundle(&self) -> String {
        BASE64_STANDARD.encode(&self.authority)
    }
}
