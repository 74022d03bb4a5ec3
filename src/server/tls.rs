//! TLS for the webhook: a certificate from files, read again when they change, one made at start, or one that is handed over.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use der::Decode as _;
use jiff::Timestamp;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    callers::{AtHandshake, ClientAuthorities},
    files,
    metrics::{Metrics, Reload},
};

/// The most that a certificate chain or a key may be long.
const FILE_LIMIT: usize = 256 * 1024;
/// How long a certificate made at start is valid: it lives as long as the process.
const SELF_MADE_DAYS: i64 = 3650;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file has no PEM block of the kind that is needed, or one that does not parse.
    #[error("{} holds no usable PEM {what}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The two do not belong together, or the key is of a kind that cannot be used.
    #[error("the certificate in {} does not go with the key in {}: {problem}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One could not be made.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// Makes aws-lc-rs the process's crypto provider; nothing happens where it is already.
pub fn install_crypto_provider() {
    // An error means that one is installed; there is only this one in the program.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// A certificate with its key and the time it ends to be valid.
#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    not_after: Option<Timestamp>,
}

impl Pair {
    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, rustls::Error> {
        let not_after = chain.first().and_then(|leaf| {
            let leaf = x509_cert::Certificate::from_der(leaf).ok()?;
            let seconds = leaf.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
            Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
        });
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        Ok(Self { key, not_after })
    }
}

/// The certificate that is served, where there is one yet. It can be replaced at any time; connections are not disturbed.
#[derive(Debug)]
pub struct Certificate(ArcSwapOption<Pair>);

impl Certificate {
    fn new(pair: Pair) -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::from_pointee(pair)))
    }

    /// None yet: whoever connects is refused until one is handed over.
    pub fn pending() -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::empty()))
    }

    /// Serves with this chain and key (PEM) from now on. Where they are of no use, what was served stays in force.
    ///
    /// # Errors
    /// See [`CertificateError`]; the files that it names are `tls.crt` and `tls.key`, as in a Secret.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let content = Content { certificate: chain.to_vec(), key: key.to_vec() };
        let pair = content.parse(Path::new("tls.crt"), Path::new("tls.key"))?;
        self.0.store(Some(Arc::new(pair)));
        Ok(())
    }

    /// When it ends to be valid, where that can be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.0.load().as_ref()?.not_after
    }

    /// Whether there is one that a client can accept, as far as time goes.
    pub fn is_current(&self) -> bool {
        let pair = self.0.load();
        pair.as_ref().is_some_and(|pair| pair.not_after.is_none_or(|end| Timestamp::now() < end))
    }

    /// The TLS settings that serve it: 1.2 and 1.3, HTTP/2 and 1.1.
    ///
    /// # Errors
    /// Where the crypto provider supports none of these versions; aws-lc-rs does.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_for(None)
    }

    /// The same. Clients are asked for a certificate where somebody signs theirs; what they present is looked at in each review.
    ///
    /// # Errors
    /// As of [`Certificate::server_config`].
    pub fn server_config_for(
        self: &Arc<Self>,
        clients: Option<&Arc<ClientAuthorities>>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(AtHandshake(Arc::clone(clients)))),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().as_ref()?.key))
    }
}

/// A certificate and its key in two files that are read again when they change.
#[derive(Debug)]
pub struct CertificateFiles {
    certificate_path: PathBuf,
    key_path: PathBuf,
    certificate: Arc<Certificate>,
    /// The last content that was looked at, good or not; a bad one is reported once.
    seen: Mutex<Content>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn open(certificate: &Path, key: &Path, metrics: &Arc<Metrics>) -> Result<Self, CertificateError> {
        let content = Content::read(certificate, key)?;
        let pair = content.parse(certificate, key)?;
        let files = Self {
            certificate_path: certificate.to_owned(),
            key_path: key.to_owned(),
            certificate: Certificate::new(pair),
            seen: Mutex::new(content),
            metrics: Arc::clone(metrics),
        };
        Ok(files)
    }

    /// What is served.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.certificate)
    }

    /// Looks at the files again; a pair that is of no use leaves the old one in force. Whether a new one is in force.
    pub fn poll(&self) -> bool {
        let mut seen = self.seen.lock();
        let content = match Content::read(&self.certificate_path, &self.key_path) {
            Ok(content) => content,
            Err(error) => {
                // Once per failure, not once per second: nothing is compared with an empty content.
                let nothing = Content { certificate: Vec::new(), key: Vec::new() };
                if *seen != nothing {
                    *seen = nothing;
                    self.failed(&error);
                }
                return false;
            }
        };
        if *seen == content {
            return false;
        }
        let parsed = content.parse(&self.certificate_path, &self.key_path);
        *seen = content;
        match parsed {
            Ok(pair) => {
                let not_after = pair.not_after.map(|end| end.to_string());
                self.certificate.0.store(Some(Arc::new(pair)));
                self.metrics.certificate_reloaded(Reload::Applied);
                tracing::info!(not_after, "serving the new certificate");
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn failed(&self, error: &CertificateError) {
        self.metrics.certificate_reloaded(Reload::Failed);
        tracing::error!(error = error.to_string(), "keeping the old certificate");
    }
}

impl Content {
    fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            files::read(path, FILE_LIMIT)
                .map_err(|error| CertificateError::Unreadable { path: path.to_owned(), error })
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    fn parse(&self, certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
        let malformed = |path: &Path, what, problem: String| CertificateError::Malformed {
            path: path.to_owned(),
            what,
            problem,
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed(certificate, "certificate", error.to_string()))?;
        if chain.is_empty() {
            return Err(malformed(certificate, "certificate", "there is none".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| malformed(key, "private key", error.to_string()))?;
        Pair::new(chain, private).map_err(|error| CertificateError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            problem: error.to_string(),
        })
    }
}

/// Makes a certificate authority and a certificate of it for this machine's loopback and for `host`. Gives back what is served, and
/// the authority's certificate as PEM; the authority's key is forgotten, so that nothing else can be signed with it.
///
/// # Errors
/// Where no key can be made.
pub fn self_made(host: IpAddr) -> Result<(Arc<Certificate>, String), CertificateError> {
    let mut authority = params("Bonafide, made at start", Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut names = vec!["localhost".to_owned()];
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if !host.is_unspecified() && !addresses.contains(&host) {
        addresses.push(host);
    }
    names.extend(addresses.iter().map(ToString::to_string));
    let mut leaf = params("bonafide", names)?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let chain = vec![leaf.signed_by(&key, &issuer)?.der().clone()];

    let pem = authority_certificate.pem();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let pair = Pair::new(chain, key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok((Certificate::new(pair), pem))
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = std::time::SystemTime::now();
    // Clocks differ; a client whose clock is behind must be able to use it too.
    let begin = now.checked_sub(Duration::from_hours(1)).unwrap_or(now);
    let days = u64::try_from(SELF_MADE_DAYS).unwrap_or_default();
    let end = now.checked_add(Duration::from_secs(days.saturating_mul(86_400))).unwrap_or(now);
    params.not_before = begin.into();
    params.not_after = end.into();
    Ok(params)
}
