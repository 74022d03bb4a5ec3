//! The OCI distribution client, and the layout folder that stands for a registry.
//!
//! Both implement the ports of `gather`. Whatever a registry says is bounded while it is read and hashed before it is believed; each
//! kind of failure keeps its name.
#![warn(clippy::arithmetic_side_effects)]

mod address;
mod agents;
mod answer;
mod auth;
mod challenge;
mod client;
mod config;
mod credentials;
mod lacking;
mod layout;
mod list;
mod media_type;
mod private;
mod referrers;
mod transport;

pub use agents::SecretAgents;
pub use client::{Authorities, AuthoritiesError, Client, ClientError};
pub use config::ClientConfig;
pub use credentials::{CredentialsError, DockerConfig};
pub use layout::{Layout, LayoutError};
