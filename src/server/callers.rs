//! Who may call the webhook. Whoever reaches it may otherwise have registries asked in the name of any namespace.
//!
//! Three things can be required, each by itself or together: the address that a connection comes from, a client certificate, and a token
//! of the API server. What is required is checked here and answered by a denial: an HTTP error may be ignored.

mod cidr;
mod clients;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use axum_server::tls::TlsInfo;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

pub(super) use self::clients::AtHandshake;
pub use self::{cidr::Cidr, clients::ClientAuthorities};
use super::{caller::Caller, connections::PeerAddress};
use crate::cluster::callers::ApiServerTokens;

/// How often the log tells of refused callers.
const TOLD: Duration = Duration::from_secs(10);

/// What may be wrong with a caller.
pub const REASONS: [&str; 3] = ["address", "certificate", "token"];

/// Why a caller is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCaller {
    /// What is wrong: `address`, `certificate` or `token`.
    pub what: &'static str,
    /// The same in a sentence without a subject.
    pub why: String,
}

impl UnknownCaller {
    /// What is answered.
    pub fn message(&self) -> String {
        format!("bonafide does not know who sent this review: {}", self.why)
    }
}

/// What is required of callers. By default nothing is.
#[derive(Default)]
pub struct Callers {
    /// Where connections may come from; empty: from anywhere.
    pub cidrs: Vec<Cidr>,
    /// Who signs the client certificates that are required.
    pub clients: Option<Arc<ClientAuthorities>>,
    /// Whose tokens are required.
    pub tokens: Option<Arc<ApiServerTokens>>,
    told: Mutex<Option<Instant>>,
}

impl Callers {
    /// These are required.
    pub fn new(
        cidrs: Vec<Cidr>,
        clients: Option<Arc<ClientAuthorities>>,
        tokens: Option<Arc<ApiServerTokens>>,
    ) -> Self {
        Self { cidrs, clients, tokens, told: Mutex::default() }
    }

    /// Whether a certificate or a token is required.
    pub const fn are_authenticated(&self) -> bool {
        self.clients.is_some() || self.tokens.is_some()
    }

    /// Whose request this is, by its head.
    ///
    /// # Errors
    /// What is wrong, where something that is required is missing or does not hold.
    pub fn check<'a>(
        &'a self,
        request: &Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Caller, UnknownCaller>> + Send + use<'a> {
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        let head = self.check_head(request, peer).map(|token| token.map(ToOwned::to_owned));
        // Of a request nothing is held while its token is verified: it cannot be shared between threads.
        let needs_path = self.tokens.is_some() || head.is_err();
        let path = if needs_path { request.uri().path().to_owned() } else { String::new() };
        async move {
            let checked = match (head, &self.tokens) {
                (Ok(Some(token)), Some(tokens)) => {
                    let why = |why| format!("its token does not count: {why}");
                    let verified = tokens.verify(&token, &path, deadline).await;
                    verified.map_err(|error| UnknownCaller { what: "token", why: why(error) })
                }
                (Ok(_), _) => Ok(()),
                (Err(unknown), _) => Err(unknown),
            };
            match checked {
                Ok(()) if self.are_authenticated() => Ok(Caller::Authenticated),
                Ok(()) => Ok(Caller::Unchecked),
                Err(unknown) => {
                    self.tell(&path, peer, &unknown);
                    Err(unknown)
                }
            }
        }
    }

    /// Checks all but the token, which is given back where one is required.
    fn check_head<'a>(
        &self,
        request: &'a Request,
        peer: Option<IpAddr>,
    ) -> Result<Option<&'a str>, UnknownCaller> {
        if !self.cidrs.is_empty() {
            self.check_address(peer).map_err(|why| UnknownCaller { what: "address", why })?;
        }
        if let Some(clients) = &self.clients {
            let info = request.extensions().get::<Arc<TlsInfo>>();
            let chain = info.map(|info| info.peer_certificates.as_slice()).unwrap_or_default();
            let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
            clients.verify(&chain).map_err(|why| UnknownCaller { what: "certificate", why })?;
        }
        if self.tokens.is_none() {
            return Ok(None);
        }
        let token = bearer(request.headers());
        token.map(Some).map_err(|why| UnknownCaller { what: "token", why: why.to_owned() })
    }

    fn check_address(&self, peer: Option<IpAddr>) -> Result<(), String> {
        let Some(peer) = peer else { return Err("its address is not known".to_owned()) };
        if self.cidrs.iter().any(|cidr| cidr.contains(peer)) {
            return Ok(());
        }
        Err(format!("its address {} is not one of callers.cidrs", peer.to_canonical()))
    }

    /// Who is refused chooses how often: the log has a line now and then, the metrics have each.
    fn tell(&self, path: &str, peer: Option<IpAddr>, unknown: &UnknownCaller) {
        let mut told = self.told.lock();
        if told.is_some_and(|at| at.elapsed() < TOLD) {
            return;
        }
        *told = Some(Instant::now());
        let peer = peer.map(|peer| peer.to_string());
        tracing::warn!(path, peer, why = unknown.why, "refusing reviews of a caller that is not known");
    }
}

/// The one token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err("it presents no token");
    };
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or("it presents no token")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("it presents no token");
    }
    Ok(token.trim_matches(' '))
}
