//! A load generator: HTTP/1.1 over TLS, written by hand so that little of what is measured is its own.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Where to send what.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: TlsConnector,
}

/// One keep-alive connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// What a run of requests took.
pub struct Run {
    /// Sorted.
    pub latencies: Vec<Duration>,
    pub took: Duration,
}

impl Target {
    /// A target whose certificate is checked under `authority` (PEM).
    pub fn new(address: SocketAddr, authority: &str) -> Self {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    pub async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = self.tls.connect(name, stream).await.unwrap();
        Connection { stream, buffer: vec![0; 64 * 1024] }
    }

    /// As many requests as `time` allows on each of `connections`, one after another.
    pub async fn load(&self, request: Arc<Vec<u8>>, connections: usize, time: Duration) -> Run {
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(self.connect().await);
        }
        let begin = Instant::now();
        let tasks: Vec<_> = opened
            .into_iter()
            .map(|mut connection| {
                let request = Arc::clone(&request);
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while begin.elapsed() < time {
                        let start = Instant::now();
                        assert!(connection.ask(&request).await, "the webhook denied what it must admit");
                        latencies.push(start.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.unwrap());
        }
        let took = begin.elapsed();
        latencies.sort_unstable();
        Run { latencies, took }
    }
}

impl Connection {
    /// Sends one request and reads its answer; whether it is `"allowed":true`.
    pub async fn ask(&mut self, request: &[u8]) -> bool {
        self.stream.write_all(request).await.unwrap();
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            let Some(head) = find(&self.buffer[..filled], b"\r\n\r\n") else { continue };
            let headers = std::str::from_utf8(&self.buffer[..head]).unwrap().to_ascii_lowercase();
            assert!(headers.starts_with("http/1.1 200"), "{headers}");
            let length =
                headers.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
            let end = head + 4 + length.parse::<usize>().unwrap();
            if filled >= end {
                return find(&self.buffer[head..end], b"\"allowed\":true").is_some();
            }
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

impl Run {
    pub fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// A POST of `body`, as bytes.
pub fn post(body: &str) -> Vec<u8> {
    format!(
        "POST /validate?timeout=10s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
