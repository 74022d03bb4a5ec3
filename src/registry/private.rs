//! Registries at private addresses, in a cluster: of their failures nothing is told but that they could not be reached. Whoever may name
//! an image would learn from more which ports of the network are open, and who answers there.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use url::{Host, Url};

use super::address::is_private;
use crate::{
    domain::evidence::{FetchError, FetchErrorKind},
    gather::weigh::{capped, held},
};

/// How many bytes of names are kept, of each kind, and for how long after they were used.
const NAMES: u64 = 1 << 20;
const KEPT: Duration = Duration::from_hours(1);
/// How many other hosts of one registry are remembered.
const HOSTS: usize = 32;
/// How many bytes these take at most, but for the longest names.
const HOSTS_BYTES: usize = 2 << 10;

/// What was met at private addresses.
#[derive(Clone)]
pub struct PrivateAddresses {
    /// Names that led to a private address.
    names: Cache<String, ()>,
    /// The hosts that a registry led to.
    hosts: Cache<String, Arc<Mutex<BTreeSet<String>>>>,
}

impl PrivateAddresses {
    /// Nothing was met yet.
    pub fn new() -> Self {
        // Least recently used: with moka's default policy, hosts that are named often would keep a new one out.
        let names = Cache::builder().eviction_policy(EvictionPolicy::lru());
        let names = names.max_capacity(NAMES).time_to_idle(KEPT);
        let hosts = Cache::builder().eviction_policy(EvictionPolicy::lru());
        let hosts = hosts.max_capacity(NAMES).time_to_idle(KEPT);
        Self {
            names: names.weigher(|name: &String, ()| capped(name.len())).build(),
            hosts: hosts
                .weigher(|registry: &String, _| capped(registry.len().saturating_add(HOSTS_BYTES)))
                .build(),
        }
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> u64 {
        held(&self.names).saturating_add(held(&self.hosts))
    }

    /// A name led to a private address.
    pub fn resolved(&self, name: &str) {
        self.names.insert(name.to_owned(), ());
    }

    /// A request to a registry goes to this host.
    pub fn goes_to(&self, registry: &str, url: &Url) {
        let Some(host) = url.host_str() else { return };
        let hosts = self.hosts.get_with_by_ref(registry, Arc::default);
        let mut hosts = hosts.lock();
        if hosts.len() < HOSTS {
            hosts.insert(host.to_owned());
        }
    }

    /// Whether a registry, or something that it led to, is at a private address.
    pub fn is_private(&self, registry: &str) -> bool {
        let hosts = self.hosts.get(registry).map(|hosts| hosts.lock().clone()).unwrap_or_default();
        // Of one that led to very many, nothing is told.
        hosts.len() >= HOSTS || hosts.iter().any(|host| self.is_private_host(host))
    }

    fn is_private_host(&self, host: &str) -> bool {
        match Host::parse(host) {
            Ok(Host::Ipv4(address)) => is_private(IpAddr::V4(address)),
            Ok(Host::Ipv6(address)) => is_private(IpAddr::V6(address)),
            Ok(Host::Domain(name)) => {
                self.names.contains_key(&name) || name == "localhost" || is_service(&name)
            }
            Err(_) => true,
        }
    }

    /// What is told of a failure; the log has the cause.
    pub fn tell(&self, registry: &str, error: FetchError) -> FetchError {
        let told = FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: format!("{registry} could not be reached"),
        };
        if error == told || !self.is_private(registry) {
            return error;
        }
        tracing::warn!(registry, cause = error.detail, "a registry at a private address failed");
        told
    }
}

/// Whether a name is of a Service of the cluster, whatever address that has.
fn is_service(name: &str) -> bool {
    name.split('.').skip(2).any(|label| label == "svc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_what_leads_to_a_private_address_is_known_however_much_was_met_before() {
        let private = PrivateAddresses::new();
        for _ in 0..4 {
            for n in 0..10_000 {
                let name = format!("{n}.{}.example", "x".repeat(100));
                private.resolved(&name);
                private.is_private_host(&name);
            }
        }
        private.resolved("intern.example");
        private.goes_to("intern.example", &"https://intern.example/v2/".parse().unwrap());
        private.bytes();
        assert!(private.is_private("intern.example"));
    }

    #[test]
    fn d_services_of_the_cluster_are_private_whatever_their_addresses_are() {
        let private = PrivateAddresses::new();
        for (host, expected) in [
            ("vault.security.svc", true),
            ("vault.security.svc.cluster.local:8200", true),
            ("registry.example", false),
            ("svc.example", false),
            ("registry.svc.example", false),
        ] {
            private.goes_to(host, &format!("https://{host}/v2/").parse().unwrap());
            assert_eq!(private.is_private(host), expected, "{host}");
        }
    }

    #[test]
    fn d_of_a_failure_at_a_private_address_nothing_is_told_but_that_it_failed() {
        let private = PrivateAddresses::new();
        let failure = || FetchError {
            kind: FetchErrorKind::NotFound,
            detail: "registry.example answered 404 Not Found".to_owned(),
        };
        let go = |registry: &str, url: &str| {
            private.goes_to(registry, &url.parse().unwrap());
            private.tell(registry, failure())
        };
        let told = |registry: &str| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: format!("{registry} could not be reached"),
        };
        assert_eq!(go("registry.example", "https://registry.example/v2/"), failure());
        assert_eq!(go("10.0.0.1:22", "https://10.0.0.1:22/v2/"), told("10.0.0.1:22"));
        assert_eq!(go("[fd00::1]", "https://[fd00::1]/v2/"), told("[fd00::1]"));
        private.resolved("intern.example");
        assert_eq!(go("intern.example:5000", "https://intern.example:5000/v2/"), told("intern.example:5000"));
        // A registry that leads there is told of no more than it.
        assert_eq!(go("other.example", "https://other.example/v2/"), failure());
        assert_eq!(go("other.example", "https://192.168.0.7/token"), told("other.example"));
        assert_eq!(go("registry.example", "https://cdn.example/x"), failure());
    }
}
