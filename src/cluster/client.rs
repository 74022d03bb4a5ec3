//! The client of the API server.

mod away;

use std::time::Duration;

use away::TellWhenAway;
use kube::{Client, Config, client::ClientBuilder};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may say nothing. Watches are ended by the server before.
const SILENCE: Duration = Duration::from_secs(75);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's service account tells where the API server is.
    #[error("no cluster is configured: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// What is configured cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// The client that `KUBECONFIG`, else the pod's service account, configures. Nothing is asked of the API server yet.
///
/// # Errors
/// See [`ClientError`].
pub async fn infer() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(SILENCE);
    Ok(ClientBuilder::try_from(config)?.with_layer(&TellWhenAway::default()).build())
}
