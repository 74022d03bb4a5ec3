//! Who calls the webhook, each from an address of its own on the loopback network.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long a client waits: the machine may have other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the webhook is.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    pub http1: TlsConnector,
    pub http2: TlsConnector,
}

impl Target {
    pub fn new(address: SocketAddr, authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let connector = |protocol: &[u8]| {
            let mut config =
                ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self { address, http1: connector(b"http/1.1"), http2: connector(b"h2") }
    }

    pub async fn connect(&self, from: u8, tls: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into())?;
        let stream = timeout(PATIENCE, socket.connect(self.address)).await??;
        stream.set_nodelay(true)?;
        timeout(PATIENCE, tls.connect(ServerName::try_from("localhost").unwrap(), stream)).await?
    }

    /// Sends a review on a connection of its own, and reads the answer.
    pub async fn review(&self, from: u8, review: &[u8]) -> std::io::Result<String> {
        let mut stream = self.connect(from, &self.http1).await?;
        send(&mut stream, review, "connection: close\r\n").await?;
        let mut answer = Vec::new();
        // Whoever closes a connection need not say so before.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Sends a review on a connection.
pub async fn send(stream: &mut TlsStream<TcpStream>, review: &[u8], header: &str) -> std::io::Result<()> {
    let head = format!(
        "POST /validate?timeout=10s HTTP/1.1\r\nhost: localhost\r\n{header}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        review.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(review).await
}

/// One connection of a user who goes on asking.
pub struct Connection(pub TlsStream<TcpStream>);

impl Connection {
    /// The answer to a review.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn review(&mut self, review: &[u8]) -> std::io::Result<String> {
        send(&mut self.0, review, "").await?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = timeout(PATIENCE, self.0.read(&mut part)).await??;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
            {
                return Ok(body.to_owned());
            }
        }
    }
}
