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

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Request, Version},
    response::Response,
};
use axum_server::accept::Accept;
use futures::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tower::Service;

use super::{Connection, Connections, InRequest};

/// How many bytes of an answer are handed over at once where a client may open its window by as little as it likes.
const PIECE: usize = 1024;

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
        let is_multiplexed = request.version() >= Version::HTTP_2;
        let answered = self.inner.call(request);
        Box::pin(async move {
            let Ok(answer) = answered.await;
            if !is_multiplexed {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            let body = Untaken { body, rest: Bytes::new(), _in_request: in_request };
            Ok(Response::from_parts(head, Body::new(body)))
        })
    }
}

/// The body of an answer that a client takes when it likes. The request counts until then.
struct Untaken {
    body: Body,
    /// What of the body was not handed over yet.
    rest: Bytes,
    _in_request: InRequest,
}

impl HttpBody for Untaken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
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
