//! The two listeners: reviews over HTTPS, health over HTTP; and how they end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use futures::future::Either;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{ServiceExt as _, service_fn};

use super::{
    admission::Admission,
    callers::ClientAuthorities,
    connections::{self, Connections, PeerAcceptor, PeerService},
    health::Readiness,
    metrics::Metrics,
    tls::Certificate,
};

/// How long a client may take for the TLS handshake, and then for its first request.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long a connection may be idle; longer than the 90 s of Go's clients, so that they end it and no request meets a closing door.
const IDLE: Duration = Duration::from_mins(2);
/// How long reviews in flight get when the server ends.
pub const DRAIN: Duration = Duration::from_secs(20);
/// How long a scrape in flight gets.
const HEALTH_DRAIN: Duration = Duration::from_millis(200);

/// What a connection holds of what it reads: the head of a request, or bytes of a body that nobody has taken yet.
const HTTP1_BUFFER: usize = 16 * 1024;
const HTTP2_WINDOW: u32 = 64 * 1024;
const HTTP2_HEADERS: u32 = 8 * 1024;
/// How many requests an HTTP/2 connection has at once. API servers ask webhooks by HTTP/1.1.
const HTTP2_STREAMS: u32 = 16;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A listener ended by itself.
    #[error("the listener ended: {0}")]
    Ended(#[source] io::Error),
}

/// Both listeners, bound and not yet served.
#[derive(Debug)]
pub struct Listeners {
    webhook: TcpListener,
    health: TcpListener,
    webhook_address: SocketAddr,
    health_address: SocketAddr,
    clients: Option<Arc<ClientAuthorities>>,
}

/// What is served.
pub struct Service {
    /// Reviews, and whatever else is asked of the webhook.
    pub admission: Router,
    /// Who answers nearly every request, without the router: its layers of boxed futures take as long as the verdict.
    pub validate: Option<Arc<Admission>>,
    /// Health and metrics.
    pub health: Router,
    /// Told when the end begins.
    pub readiness: Arc<Readiness>,
    /// What the webhook is served with.
    pub certificate: Arc<Certificate>,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

impl Listeners {
    /// Binds both; port 0 is any that is free.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub async fn bind(webhook: SocketAddr, health: SocketAddr) -> Result<Self, ListenError> {
        let (webhook, webhook_address) = bind(webhook).await?;
        let (health, health_address) = bind(health).await?;
        Ok(Self { webhook, health, webhook_address, health_address, clients: None })
    }

    /// Clients are asked for certificates of these authorities.
    #[must_use]
    pub fn with_clients(self, clients: Option<Arc<ClientAuthorities>>) -> Self {
        Self { clients, ..self }
    }

    /// Where reviews are answered.
    pub const fn webhook_address(&self) -> SocketAddr {
        self.webhook_address
    }

    /// Where health is told.
    pub const fn health_address(&self) -> SocketAddr {
        self.health_address
    }

    /// Serves until `shutdown` is over; then takes no more connections, closes idle ones, and gives reviews in flight `drain`.
    ///
    /// # Errors
    /// A listener that ended by itself.
    pub async fn serve(
        self,
        service: Service,
        shutdown: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<(), ListenError> {
        let Service { admission, validate, health, readiness, certificate, metrics } = service;
        let reviews = counted(&metrics, "reviews", connections::REVIEWS);
        let probes = counted(&metrics, "health", connections::HEALTH);
        let webhook_handle = Handle::new();
        let health_handle = Handle::new();
        let tls = certificate.server_config_for(self.clients.as_ref())?;
        let mut webhook =
            serve_https(self.webhook, admission, validate, tls, reviews, webhook_handle.clone());
        let mut health = serve_http(self.health, health, probes, health_handle.clone());

        tokio::select! {
            () = shutdown => {}
            ended = &mut webhook => return Err(early(ended)),
            ended = &mut health => return Err(early(ended)),
        }
        readiness.drain();
        tracing::info!(connections = webhook_handle.connection_count(), "shutting down");
        webhook_handle.graceful_shutdown(Some(drain));
        // Probes are answered until the last review is.
        let _ = webhook.await;
        health_handle.graceful_shutdown(Some(HEALTH_DRAIN));
        let _ = health.await;
        Ok(())
    }
}

/// Connections that are shown as metrics.
fn counted(
    metrics: &Metrics,
    listener: &'static str,
    limits: connections::ConnectionLimits,
) -> Arc<Connections> {
    let all = Connections::new(limits);
    let shown = Arc::clone(&all);
    metrics
        .before_scrape(move |metrics| metrics.set_connections(listener, shown.load(), shown.turned_away()));
    all
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |error| ListenError::Bind { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn early(ended: Result<io::Result<()>, tokio::task::JoinError>) -> ListenError {
    ListenError::Ended(match ended {
        Ok(Ok(())) => io::Error::other("without an error"),
        Ok(Err(error)) => error,
        Err(error) => io::Error::other(error),
    })
}

fn serve_https(
    listener: TcpListener,
    router: Router,
    validate: Option<Arc<Admission>>,
    tls: Arc<ServerConfig>,
    connections: Arc<Connections>,
    handle: Handle<SocketAddr>,
) -> JoinHandle<io::Result<()>> {
    let config = RustlsConfig::from_config(tls);
    let acceptor =
        RustlsAcceptor::new(config).handshake_timeout(FIRST_WORD).acceptor(PeerAcceptor(connections));
    let mut server = axum_server::Server::<SocketAddr>::from_listener(listener)
        .acceptor(acceptor)
        .handle(handle)
        .first_request_timeout(FIRST_WORD)
        .accept_error_handler(|peer: Option<&SocketAddr>, error: &io::Error| {
            let peer = peer.map(ToString::to_string);
            tracing::debug!(peer, error = error.to_string(), "a connection was not accepted");
        });
    server.http_builder().http1().header_read_timeout(IDLE).max_buf_size(HTTP1_BUFFER);
    server
        .http_builder()
        .http2()
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADERS)
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let answer = service_fn(move |request: Request<Incoming>| {
        match validate.as_ref().filter(|_| Admission::is_validation(&request)).cloned() {
            Some(admission) => {
                Either::Left(async move { Ok(admission.validated(request.map(Body::new)).await) })
            }
            None => Either::Right(router.clone().oneshot(request)),
        }
    });
    let connected = service_fn(move |peer: SocketAddr| {
        std::future::ready(Ok::<_, Infallible>(PeerService::new(peer, answer.clone())))
    });
    tokio::spawn(server.serve(connected))
}

fn serve_http(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    handle: Handle<SocketAddr>,
) -> JoinHandle<io::Result<()>> {
    let mut server = axum_server::Server::<SocketAddr>::from_listener(listener)
        .acceptor(PeerAcceptor(connections))
        .handle(handle)
        .first_request_timeout(FIRST_WORD);
    server.http_builder().http1().header_read_timeout(IDLE).max_buf_size(HTTP1_BUFFER);
    server.http_builder().http2().max_concurrent_streams(HTTP2_STREAMS).max_header_list_size(HTTP2_HEADERS);
    let answer = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request));
    let connected = service_fn(move |peer: SocketAddr| {
        std::future::ready(Ok::<_, Infallible>(PeerService::new(peer, answer.clone())))
    });
    tokio::spawn(server.serve(connected))
}
