//! Where requests may go: the scheme of a registry, and addresses that are never asked.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::evidence::{FetchError, FetchErrorKind};

/// Docker Hub's images are served under another name than they are known by.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The rules for addresses.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Registries that are spoken to without TLS.
    pub insecure: BTreeSet<String>,
    /// Whether link-local addresses may be asked.
    pub allow_link_local: bool,
}

impl Addresses {
    /// The root of a registry's API. Loopback and insecure registries speak http, all others https.
    ///
    /// # Errors
    /// A host that no request may go to.
    pub fn base(&self, registry: &str) -> Result<Url, FetchError> {
        let host = if registry == HUB.0 { HUB.1 } else { registry };
        let plain = self.insecure.contains(registry) || is_loopback_name(host_of(host));
        let scheme = if plain { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|error| refused(format!("{registry} is no host: {error}")))?;
        self.check_host(&url)?;
        Ok(url)
    }

    /// Whether a request that began at `from` may go on to `to`: never down to http, never from elsewhere into this machine.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn check_hop(&self, from: &Url, to: &Url) -> Result<(), FetchError> {
        let (from_loopback, to_loopback) = (is_loopback(from), is_loopback(to));
        let shown = || format!("{} leads to {}", origin(from), origin(to));
        if to_loopback && !from_loopback {
            return Err(refused(format!("{}, which is this machine itself", shown())));
        }
        let named = to.host_str().is_some_and(|host| {
            let with_port = to.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            self.insecure.contains(&with_port)
        });
        match to.scheme() {
            "https" => {}
            "http" if to_loopback || named || (from.scheme() == "http" && origin(from) == origin(to)) => {}
            _ => return Err(refused(format!("{}, which is not https", shown()))),
        }
        self.check_host(to)
    }

    fn check_host(&self, url: &Url) -> Result<(), FetchError> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(refused(format!("{url} has no host"))),
        };
        if !self.allow_link_local && is_forbidden(address) {
            return Err(refused(format!(
                "{address} is a link-local or metadata address, which is never asked"
            )));
        }
        Ok(())
    }
}

fn refused(detail: String) -> FetchError {
    FetchError { kind: FetchErrorKind::Unavailable, detail }
}

/// Scheme, host and port, for comparing and for messages.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the URL is of this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    }
}

fn is_loopback_name(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Link-local addresses and where clouds keep their metadata.
fn is_forbidden(address: IpAddr) -> bool {
    const AWS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GOOGLE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    match address {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_unspecified() || [ALIBABA, AZURE].contains(&address)
        }
        IpAddr::V6(address) => match embedded(address) {
            Some(v4) => is_forbidden(IpAddr::V4(v4)),
            None => {
                address.is_unicast_link_local()
                    || address.is_unspecified()
                    || [AWS_IPV6, GOOGLE_IPV6].contains(&address)
            }
        },
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, or by NAT64 (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] if high != 0 => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Resolves names and leaves out what may not be asked: a name may lead anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    /// Whether link-local addresses may be asked.
    pub allow_link_local: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.allow_link_local;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow || !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err(format!("{host} leads to no address that may be asked").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(registry: &str) -> Result<String, FetchError> {
        let insecure = BTreeSet::from(["plain.example:5000".to_owned()]);
        Addresses { insecure, allow_link_local: false }.base(registry).map(|url| url.to_string())
    }

    #[test]
    fn only_loopback_and_named_registries_speak_http() {
        for (registry, url) in [
            ("ghcr.io", "https://ghcr.io/v2/"),
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("plain.example:5000", "http://plain.example:5000/v2/"),
            ("plain.example", "https://plain.example/v2/"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
            ("127.8.9.1", "http://127.8.9.1/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("localhost:1", "http://localhost:1/v2/"),
            ("localhost.evil.example", "https://localhost.evil.example/v2/"),
            ("127.0.0.1.evil.example", "https://127.0.0.1.evil.example/v2/"),
            ("10.0.0.1", "https://10.0.0.1/v2/"),
        ] {
            assert_eq!(base(registry).unwrap(), url);
        }
    }

    #[test]
    fn metadata_addresses_are_never_asked() {
        for registry in [
            "169.254.169.254",
            "169.254.1.1:80",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "0.0.0.0",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd20:ce::254]",
            "100.100.100.200",
            "168.63.129.16",
            "2852039166",
        ] {
            assert!(base(registry).is_err(), "{registry}");
        }
        assert!(Addresses { allow_link_local: true, ..Addresses::default() }.base("169.254.1.1").is_ok());
    }

    #[test]
    fn a_hop_never_goes_down_to_http_nor_into_this_machine() {
        let rules =
            Addresses { insecure: BTreeSet::from(["plain.example".to_owned()]), allow_link_local: false };
        let hop =
            |from: &str, to: &str| rules.check_hop(&from.parse().unwrap(), &to.parse().unwrap()).is_ok();
        assert!(hop("https://a.example/", "https://cdn.example/x"));
        assert!(hop("http://127.0.0.1:1/", "http://127.0.0.1:2/"));
        assert!(hop("https://a.example/", "http://plain.example/"));
        assert!(!hop("https://a.example/", "http://a.example/"));
        assert!(!hop("https://a.example/", "http://127.0.0.1/"));
        assert!(!hop("https://a.example/", "https://localhost/"));
        assert!(!hop("https://a.example/", "https://169.254.169.254/"));
        assert!(!hop("http://plain.example/", "http://other.example/"));
        assert!(!hop("https://a.example/", "ftp://a.example/"));
    }
}
