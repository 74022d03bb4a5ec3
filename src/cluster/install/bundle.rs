//! Reading a bundle of authorities from a file.

use std::path::PathBuf;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::cluster::certificates::Bundle;

/// The most bytes that a bundle in a file may have.
const BUNDLE_LIMIT: u64 = 256 * 1024;

pub(super) async fn read_bundle(path: PathBuf) -> Result<Bundle, String> {
    let read = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&path)?.len();
        if length > BUNDLE_LIMIT {
            return Err(std::io::Error::other(format!("it is longer than {BUNDLE_LIMIT} bytes")));
        }
        std::fs::read(&path)
    });
    let bytes = read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(bytes.into()),
        Ok(_) => Err("it holds no PEM certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
