//! Certificates of clients. At the handshake any is accepted whose key the client has, and none at all: a handshake that fails is an error
//! that the API server may be told to ignore. Whether the certificate counts is decided for each review, and answered by a denial.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

use super::super::files;
use crate::domain::digest::{Digest, Hasher};

/// The most that the file of authorities may be long.
const FILE_LIMIT: usize = 256 * 1024;
/// How long a certificate that was verified counts as verified.
const VERIFIED: Duration = Duration::from_secs(10);
/// How many certificates are remembered as verified.
const REMEMBERED: u64 = 256;

/// The authorities that sign the certificates of API servers. Read from a file, and read again when it changes.
pub struct ClientAuthorities {
    path: PathBuf,
    verifier: ArcSwap<Verifier>,
    /// The last content that was looked at, good or not.
    seen: Mutex<Vec<u8>>,
    /// Chains that were verified a moment ago.
    verified: moka::sync::Cache<Digest, ()>,
}

#[derive(Debug)]
struct Verifier(Arc<dyn ClientCertVerifier>);

impl ClientAuthorities {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read, or holds no usable certificate.
    pub fn open(path: &Path) -> Result<Arc<Self>, String> {
        let content = read(path).map_err(|error| error.to_string())?;
        let verifier = verifier(&content)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            verifier: ArcSwap::from_pointee(Verifier(verifier)),
            seen: Mutex::new(content),
            verified: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(VERIFIED).build(),
        }))
    }

    /// Looks at the file again; what is of no use leaves the old authorities in force.
    pub fn poll(&self) {
        let mut seen = self.seen.lock();
        // Once per failure: an empty content is of no use either.
        let content = read(&self.path).unwrap_or_default();
        if *seen == content {
            return;
        }
        match verifier(&content) {
            Ok(verifier) => {
                self.verifier.store(Arc::new(Verifier(verifier)));
                self.verified.invalidate_all();
                tracing::info!("the new authorities of API servers are in force");
            }
            Err(error) => tracing::error!(error, "keeping the old authorities of API servers"),
        }
        *seen = content;
    }

    /// Whether this chain is of an authority, for a client, and valid now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err("it presents no client certificate".to_owned());
        };
        let mut content = Hasher::default();
        for certificate in chain {
            content.add(&certificate.len().to_be_bytes());
            content.add(certificate);
        }
        let content = content.digest();
        if self.verified.contains_key(&content) {
            return Ok(());
        }
        let current = self.verifier.load_full();
        let result = current.0.verify_client_cert(leaf, intermediates, UnixTime::now());
        result.map_err(|error| format!("its client certificate {}", words(&error)))?;
        // Not where other authorities came into force meanwhile.
        if Arc::ptr_eq(&current, &self.verifier.load()) {
            self.verified.insert(content, ());
        }
        Ok(())
    }
}

/// What is wrong with a certificate, for people.
fn words(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "is not signed by an authority of callers.clientCA"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "is not for clients"
            }
            _ => "is not valid",
        },
        _ => "is not valid",
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, FILE_LIMIT)
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no PEM certificate".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(|error| error.to_string())
}

/// At the handshake: whoever presents a certificate must have its key.
#[derive(Debug)]
pub(in crate::server) struct AtHandshake(pub(in crate::server) Arc<ClientAuthorities>);

impl std::fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuthorities").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AtHandshake {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client that is told of none presents what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier.load().0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier.load().0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.verifier.load().0.supported_verify_schemes()
    }
}
