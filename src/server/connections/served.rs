//! What connections are served with: a stream that can be closed from outside, and a service that knows its peer.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{http::Request, response::Response};
use axum_server::accept::Accept;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tower::Service;

use super::{Connection, Connections};

/// The address that a request came from; an extension of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// A service for the requests of one connection.
#[derive(Debug, Clone)]
pub struct PeerService<S> {
    peer: IpAddr,
    inner: S,
    /// There once the connection has its place.
    connection: Option<Arc<Connection>>,
}

impl<S> PeerService<S> {
    /// For a connection from here.
    pub const fn new(peer: SocketAddr, inner: S) -> Self {
        Self { peer: peer.ip().to_canonical(), inner, connection: None }
    }
}

impl<S> Service<Request<Incoming>> for PeerService<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx).map_err(|never| match never {})
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let Some(in_request) = self.connection.as_ref().and_then(Connection::begin) else {
            return Box::pin(std::future::ready(Err(io::Error::other("too many requests of one peer"))));
        };
        request.extensions_mut().insert(PeerAddress(self.peer));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answered = answered.await;
            drop(in_request);
            answered.map_err(|never| match never {})
        })
    }
}

/// Gives each connection its place, before anything is read from it.
#[derive(Debug, Clone)]
pub struct PeerAcceptor(pub Arc<Connections>);

impl<S: Send + 'static> Accept<TcpStream, PeerService<S>> for PeerAcceptor {
    type Stream = PeerStream;
    type Service = PeerService<S>;
    type Future = BoxFuture<'static, io::Result<(PeerStream, PeerService<S>)>>;

    fn accept(&self, stream: TcpStream, mut service: PeerService<S>) -> Self::Future {
        let connections = Arc::clone(&self.0);
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let (connection, closed) = connections
                .open(service.peer)
                .await
                .ok_or_else(|| io::Error::other("too many connections"))?;
            service.connection = Some(Arc::new(connection));
            Ok((PeerStream { stream, closed: Some(closed) }, service))
        })
    }
}

/// A stream that ends when its connection is closed for others' sake.
#[derive(Debug)]
pub struct PeerStream {
    stream: TcpStream,
    closed: Option<oneshot::Receiver<()>>,
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(closed) = self.closed.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        if Pin::new(closed).poll(cx).is_ready() {
            self.closed = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
