//! Registries asked in the name of whoever brings a pull secret. Connections, and what is known of a registry's ways, are shared; what is
//! shown to one credential is not.

use std::{sync::Arc, time::Duration};

use super::{client::Client, credentials::DockerConfig};
use crate::{
    domain::{
        digest::{Digest, Hasher},
        reference::Repository,
    },
    gather::{
        ports::{Acting, Agents, PullSecret},
        weigh::{capped, held},
    },
};

/// How many bytes of secrets are kept parsed, and for how long after they were used.
const SECRETS: u64 = 4 << 20;
const UNUSED: Duration = Duration::from_mins(10);

/// Whoever brings these secrets.
#[derive(Clone)]
struct Agent {
    config: Arc<DockerConfig>,
    client: Arc<Client>,
}

/// The client, for others too.
pub struct SecretAgents {
    client: Arc<Client>,
    /// By all their secrets, in their order.
    agents: moka::sync::Cache<Digest, (Agent, u32)>,
}

impl SecretAgents {
    /// Agents that ask as `client` does, but for the credentials.
    pub fn new(client: Arc<Client>) -> Self {
        let agents = moka::sync::Cache::builder()
            .max_capacity(SECRETS)
            .weigher(|_, (_, weight): &(Agent, u32)| *weight)
            .time_to_idle(UNUSED)
            .build();
        Self { client, agents }
    }

    fn agent(&self, secrets: &[PullSecret]) -> Agent {
        let mut all = Hasher::default();
        for secret in secrets {
            all.add(&secret.config.len().to_be_bytes());
            all.add(secret.config.as_bytes());
        }
        let all = all.digest();
        let read = || {
            let configs: Vec<DockerConfig> = secrets.iter().filter_map(config).collect();
            let config = Arc::new(DockerConfig::merged(configs.iter()));
            let agent = Agent { client: Arc::new(self.client.with(Arc::clone(&config), all)), config };
            let bytes = secrets.iter().map(|secret| secret.config.len()).fold(0, usize::saturating_add);
            // An entry takes a few times its text, most of all where it is short.
            (agent, capped(bytes.saturating_mul(4).saturating_add(size_of::<Client>())))
        };
        self.agents.get_with(all, read).0
    }
}

fn config(secret: &PullSecret) -> Option<DockerConfig> {
    let read = DockerConfig::from_json(&secret.config);
    if let Err(error) = &read {
        tracing::warn!(error = error.to_string(), "a pull secret cannot be used");
    }
    read.ok()
}

impl Agents for SecretAgents {
    fn acting_for(&self, secrets: &[PullSecret], repository: &Repository) -> Option<Acting> {
        if secrets.is_empty() {
            return None;
        }
        let agent = self.agent(secrets);
        // What is seen with some credentials is told to those who have the same and would try them in the same order.
        let mut all = Hasher::default();
        let fitting = agent.config.credentials(repository);
        for credential in &fitting {
            all.add(credential.fingerprint().bytes());
        }
        (!fitting.is_empty()).then(|| Acting { credential: all.digest(), source: agent.client })
    }

    fn bytes(&self) -> u64 {
        held(&self.agents)
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
    fn b_what_is_remembered_for_credentials_is_bounded_for_all_of_them_together() {
        let client = Arc::new(Client::new(ClientConfig::default()).unwrap());
        let agents = SecretAgents::new(Arc::clone(&client));
        let repository =
            |n: usize| format!("ghcr.io/a/{n}-{}", "b".repeat(200)).parse::<Repository>().unwrap();
        for user in 0..20 {
            let agent = agents.agent(&[secret("ghcr.io", &user.to_string())]);
            for n in 0..500 {
                agent.client.lacking.had(&repository(n), &Digest::of(b"manifest"));
                agent.client.lacking.unanswered(&repository(n), &Digest::of(b"manifest"));
            }
            assert!(agent.client.lacking.is_certain(&repository(499)), "{user}");
        }
        // Of another who asks, nothing is known.
        assert!(!client.lacking.is_certain(&repository(499)));
        let bytes = client.lacking.bytes();
        assert!((4 << 20..=6 << 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn c3_what_is_seen_is_told_to_those_who_have_the_same_credentials_for_the_repository() {
        let agents = SecretAgents::new(Arc::new(Client::new(ClientConfig::default()).unwrap()));
        let acting = |secrets: &[PullSecret], repository: &str| {
            agents.acting_for(secrets, &repository.parse().unwrap()).map(|acting| acting.credential)
        };
        let broken = PullSecret { config: "{".into() };
        let all = [
            broken,
            secret("ghcr.io", "one"),
            secret("ghcr.io", "two"),
            secret("quay.io/team", "three"),
            secret("ghcr.io", "one"),
        ];
        let one = acting(&all[1..2], "ghcr.io/a/b");
        let both = acting(&all[1..3], "ghcr.io/a/b");
        assert!(one.is_some() && both.is_some());
        assert_ne!(both, one);
        // What is for another registry, broken or there twice makes no difference.
        assert_eq!(acting(&all, "ghcr.io/a/b"), both);
        assert_eq!(acting(&[all[0].clone(), all[1].clone(), all[4].clone()], "ghcr.io/a/b"), one);
        assert_ne!(acting(&all[2..3], "ghcr.io/a/b"), one);
        assert_ne!(acting(&[all[2].clone(), all[1].clone()], "ghcr.io/a/b"), both);
        assert!(acting(&all, "quay.io/team/b").is_some());
        for none in ["quay.io/other/b", "docker.io/library/nginx"] {
            assert_eq!(acting(&all, none), None, "{none}");
        }
        assert_eq!(acting(&[], "ghcr.io/a/b"), None);
    }
}
