//! Registries asked in the name of whoever brings a pull secret. Connections, and what is known of a registry's ways, are shared; what is
//! shown to one credential is not.

use std::{sync::Arc, time::Duration};

use super::{client::Client, credentials::DockerConfig};
use crate::{
    domain::{digest::Digest, reference::Repository},
    gather::{
        ports::{Acting, Agents, PullSecret},
        weigh::capped,
    },
};

/// How many bytes of secrets are kept parsed, and for how long after they were used.
const SECRETS: u64 = 4 << 20;
const UNUSED: Duration = Duration::from_mins(10);

/// Whoever brings a secret.
#[derive(Clone)]
struct Agent {
    config: Arc<DockerConfig>,
    client: Arc<Client>,
}

/// The client, for others too.
pub struct SecretAgents {
    client: Arc<Client>,
    agents: moka::sync::Cache<Digest, (Option<Agent>, u32)>,
}

impl SecretAgents {
    /// Agents that ask as `client` does, but for the credentials.
    pub fn new(client: Arc<Client>) -> Self {
        let agents = moka::sync::Cache::builder()
            .max_capacity(SECRETS)
            .weigher(|_, (_, weight): &(Option<Agent>, u32)| *weight)
            .time_to_idle(UNUSED)
            .build();
        Self { client, agents }
    }

    fn agent(&self, secret: &PullSecret) -> Option<Agent> {
        let read = || {
            let agent = match DockerConfig::from_json(&secret.config) {
                Ok(config) => {
                    let config = Arc::new(config);
                    Some(Agent { client: Arc::new(self.client.with(Arc::clone(&config))), config })
                }
                Err(error) => {
                    tracing::warn!(error = error.to_string(), "a pull secret cannot be used");
                    None
                }
            };
            // An entry takes a few times its text, most of all where it is short.
            (agent, capped(secret.config.len().saturating_mul(4).saturating_add(size_of::<Client>())))
        };
        self.agents.get_with(Digest::of(secret.config.as_bytes()), read).0
    }
}

impl Agents for SecretAgents {
    fn acting_for(&self, secrets: &[PullSecret], repository: &Repository) -> Option<Acting> {
        secrets.iter().filter_map(|secret| self.agent(secret)).find_map(|agent| {
            let credential = agent.config.credential(repository)?.fingerprint();
            Some(Acting { credential, source: agent.client })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ClientConfig;

    fn secret(registry: &str, user: &str) -> PullSecret {
        let config = format!(r#"{{"auths": {{"{registry}": {{"username": "{user}", "password": "p"}}}}}}"#);
        PullSecret { config: config.into() }
    }

    #[test]
    fn secrets_are_kept_up_to_so_many_bytes() {
        let agents = SecretAgents::new(Arc::new(Client::new(ClientConfig::default()).unwrap()));
        let repository = "ghcr.io/a/b".parse().unwrap();
        for (length, most) in [(10, u64::MAX), (500_000, SECRETS)] {
            for n in 0..20 {
                let user = format!("{n}-{}", "u".repeat(length));
                assert!(agents.acting_for(&[secret("ghcr.io", &user)], &repository).is_some());
            }
            agents.agents.run_pending_tasks();
            assert!(agents.agents.weighted_size() <= most && agents.agents.entry_count() > 0);
        }
    }

    #[test]
    fn the_first_secret_with_a_credential_for_the_repository_serves() {
        let agents = SecretAgents::new(Arc::new(Client::new(ClientConfig::default()).unwrap()));
        let acting = |secrets: &[PullSecret], repository: &str| {
            agents.acting_for(secrets, &repository.parse().unwrap()).map(|acting| acting.credential)
        };
        let broken = PullSecret { config: "{".into() };
        let all =
            [broken, secret("ghcr.io", "one"), secret("ghcr.io", "two"), secret("quay.io/team", "three")];
        let one = acting(&all[1..2], "ghcr.io/a/b");
        assert!(one.is_some());
        assert_eq!(acting(&all, "ghcr.io/a/b"), one);
        assert_ne!(acting(&all[2..], "ghcr.io/a/b"), one);
        assert!(acting(&all, "quay.io/team/b").is_some());
        for none in ["quay.io/other/b", "docker.io/library/nginx"] {
            assert_eq!(acting(&all, none), None, "{none}");
        }
    }
}
