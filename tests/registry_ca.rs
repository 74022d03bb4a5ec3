//! Registries whose certificates nobody but the operator vouches for. A loopback registry speaks http by itself, so that it leads on to one
//! that speaks TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod registry_support;
mod tls_support;

use bonafide::{domain::evidence::FetchErrorKind, registry::Authorities};
use bonafide_kit::registry::{Fault, On};
use registry_support::setup_of;
use tls_support::TlsServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves this body over TLS to whoever comes, and gives its URL and the authority of its certificate.
async fn serve(body: Vec<u8>) -> (String, String) {
    let server = TlsServer::bind().await;
    let url = server.url();
    let TlsServer { listener, acceptor, authority } = server;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, authority)
}

#[tokio::test]
async fn a_registrys_own_authority_is_believed_where_it_is_named() {
    let plain = setup_of("{}", |_| ()).await;
    let manifest = manifest_of(&plain).await;
    let (url, authority) = serve(manifest).await;
    let (_, other) = serve(Vec::new()).await;
    for (pem, expected) in [
        (Some(&authority), Ok(plain.digest)),
        (Some(&other), Err(FetchErrorKind::Unavailable)),
        (None, Err(FetchErrorKind::Unavailable)),
    ] {
        let client = setup_of("{}", |config| {
            let mut authorities = Authorities::default();
            if let Some(pem) = pem {
                authorities.add_pem(pem.as_bytes()).unwrap();
            }
            config.authorities = authorities;
        });
        let setup = registry_support::Setup { digest: plain.digest, ..client.await };
        setup.registry.fault(On::manifests(), Fault::Redirect(url.clone()));
        assert_eq!(setup.manifest().await, expected);
    }
}

/// What the registry would have given itself.
async fn manifest_of(setup: &registry_support::Setup) -> Vec<u8> {
    use bonafide::gather::ports::Images as _;
    setup.client.manifest(&setup.repository, &setup.digest).await.unwrap().bytes.to_vec()
}

#[test]
fn a_file_without_a_certificate_is_an_error() {
    for text in ["", "hello", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        assert!(Authorities::default().add_pem(text.as_bytes()).is_err(), "{text}");
    }
}
