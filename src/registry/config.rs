//! How the registry client is set up.

use std::{sync::Arc, time::Duration};

use super::{client::Authorities, credentials::DockerConfig};
use crate::gather::ports::{Observer, Unobserved};

/// How the client is set up.
pub struct ClientConfig {
    /// Registries that are spoken to without TLS, as `host[:port]`; loopback ones are anyway.
    pub insecure_registries: Vec<String>,
    /// Credentials.
    pub credentials: DockerConfig,
    /// Whether link-local addresses may be asked.
    pub allow_link_local: bool,
    /// In a cluster: the registries (`host`, or `host:port`) at loopback and link-local addresses that are asked. No others are, and
    /// failures at private addresses are told as such alone. `None` outside of a cluster, where loopback registries are asked.
    pub local_registries: Option<Vec<String>>,
    /// Who vouches for registries beside those whom the system trusts.
    pub authorities: Authorities,
    /// How long one request may take, its body included.
    pub request_timeout: Duration,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            credentials: DockerConfig::default(),
            allow_link_local: false,
            local_registries: None,
            authorities: Authorities::default(),
            request_timeout: Duration::from_secs(20),
            observer: Arc::new(Unobserved),
        }
    }
}
