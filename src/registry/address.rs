//! Where requests may go: the scheme of a registry, and addresses that are never asked.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::private::PrivateAddresses;
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
    /// In a cluster: the registries at loopback and link-local addresses that may be asked, and no others. `None` outside of one, where
    /// loopback addresses may be asked.
    pub listed: Option<BTreeSet<String>>,
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
        if to_loopback && !from_loopback && !self.is_listed(to) {
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

    /// Whether a registry at a loopback or link-local address is one of those that may be asked: by its host with any port, or with one.
    pub fn is_listed(&self, url: &Url) -> bool {
        let (Some(listed), Some(host)) = (&self.listed, url.host_str()) else { return false };
        let host = host.trim_end_matches('.');
        let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
        listed.contains(host) || with_port.is_some_and(|text| listed.contains(&text))
    }

    fn check_host(&self, url: &Url) -> Result<(), FetchError> {
        let in_cluster = self.listed.is_some();
        let (is_local, shown) = match url.host() {
            Some(Host::Ipv4(address)) => (self.is_local(IpAddr::V4(address)), address.to_string()),
            Some(Host::Ipv6(address)) => (self.is_local(IpAddr::V6(address)), address.to_string()),
            // Other names are known when they are resolved.
            Some(Host::Domain(name)) => (in_cluster && is_localhost(name), name.to_owned()),
            None => return Err(refused(format!("{url} has no host"))),
        };
        if !is_local || self.is_listed(url) {
            return Ok(());
        }
        Err(refused(if in_cluster {
            format!(
                "{shown} is a loopback, link-local or metadata address, which is asked only where registries.local lists it"
            )
        } else {
            format!("{shown} is a link-local or metadata address, which is never asked")
        }))
    }

    fn is_local(&self, address: IpAddr) -> bool {
        let is_refused_loopback = self.listed.is_some() && is_loopback_address(address);
        is_refused_loopback || (!self.allow_link_local && is_forbidden(address))
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

/// `localhost` and what is below it (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether an address is of this machine, however it is written. A connection to the unspecified address is one to this machine.
fn is_loopback_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified(),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || embedded(address).is_some_and(|address| is_loopback_address(IpAddr::V4(address)))
        }
    }
}

/// Whether an address is of a private network (RFC 1918, RFC 6598, RFC 4193), of this machine or of its link, or one that is reserved
/// (RFC 1112) and that clouds give to pods: what is there is nobody's business who may name an image.
pub fn is_private(address: IpAddr) -> bool {
    if is_loopback_address(address) || is_forbidden(address) {
        return true;
    }
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private()
                || a >= 240
                || is_gke_service(address)
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(address) => {
            let [first, second, third, ..] = address.segments();
            let is_site_local = first & 0xffc0 == 0xfec0;
            let is_local_nat64 = (first, second, third) == (0x64, 0xff9b, 1);
            address.is_unique_local()
                || is_site_local
                || is_local_nat64
                || embedded(address).is_some_and(|address| is_private(IpAddr::V4(address)))
        }
    }
}

/// Whether an address is of the range that GKE gives to Services by default: 34.118.224.0/20.
fn is_gke_service(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    (a, b, c & 0xf0) == (34, 118, 224)
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
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Resolves names and leaves out what may not be asked: a name may lead anywhere.
#[derive(Clone)]
pub struct Resolver {
    /// Whether link-local addresses may be asked.
    pub allow_link_local: bool,
    /// Whether loopback addresses may be asked.
    pub allow_loopback: bool,
    /// Who is told of private addresses.
    pub private: Option<PrivateAddresses>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { allow_link_local, allow_loopback, private } = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let is_allowed = |address: &SocketAddr| {
                (allow_link_local || !is_forbidden(address.ip()))
                    && (allow_loopback || !is_loopback_address(address.ip()))
            };
            let allowed: Vec<SocketAddr> = found.into_iter().filter(is_allowed).collect();
            if allowed.is_empty() {
                return Err(format!("{host} leads to no address that may be asked").into());
            }
            if let Some(private) = private.filter(|_| allowed.iter().any(|address| is_private(address.ip())))
            {
                private.resolved(&host);
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
        Addresses { insecure, ..Addresses::default() }.base(registry).map(|url| url.to_string())
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
            "[::ffff:0.0.0.0]",
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
            Addresses { insecure: BTreeSet::from(["plain.example".to_owned()]), ..Addresses::default() };
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

    #[test]
    fn d_in_a_cluster_loopback_and_link_local_are_asked_only_where_they_are_listed() {
        let listed = ["127.0.0.1:5000", "localhost", "[::1]:5000", "169.254.1.1"].map(str::to_owned);
        let in_cluster = Addresses { listed: Some(BTreeSet::from(listed)), ..Addresses::default() };
        for (registry, is_asked) in [
            ("127.0.0.1:5000", true),
            ("localhost:1234", true),
            ("localhost", true),
            ("[::1]:5000", true),
            ("169.254.1.1:80", true),
            ("ghcr.io", true),
            ("10.0.0.1:5000", true),
            ("127.0.0.1:5001", false),
            ("127.0.0.1", false),
            ("127.0.0.2:5000", false),
            ("127.1:5000", true),
            ("127.1:5001", false),
            ("2130706433:5001", false),
            ("0x7f.1:5001", false),
            ("[::1]:5001", false),
            ("[::ffff:127.0.0.1]:5000", false),
            ("[::ffff:7f00:1]:5001", false),
            ("[64:ff9b::7f00:1]", false),
            ("0.0.0.0:5000", false),
            // A connection to it is one to this machine.
            ("[::ffff:0.0.0.0]:5000", false),
            ("[::]:5000", false),
            ("x.localhost:5000", false),
            ("169.254.169.254", false),
            ("[fe80::1]", false),
        ] {
            assert_eq!(in_cluster.base(registry).is_ok(), is_asked, "{registry}");
        }
        let hop =
            |from: &str, to: &str| in_cluster.check_hop(&from.parse().unwrap(), &to.parse().unwrap()).is_ok();
        assert!(hop("https://a.example/", "http://127.0.0.1:5000/token"));
        assert!(hop("http://127.0.0.1:5000/", "http://127.0.0.1:5000/token"));
        assert!(!hop("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token"));
        assert!(!hop("https://a.example/", "https://[::1]/"));
        assert!(!hop("https://a.example/", "https://[::ffff:0:0]/"));
        let with_link_local = Addresses { allow_link_local: true, ..in_cluster };
        assert!(with_link_local.base("169.254.1.2").is_ok());
        for this_machine in ["0.0.0.0:5000", "[::]:5000", "[::ffff:0.0.0.0]:5000"] {
            assert!(with_link_local.base(this_machine).is_err(), "{this_machine}");
        }
    }

    #[test]
    fn d_private_addresses_are_known_however_they_are_written() {
        for (address, expected) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("8.8.8.8", false),
            ("240.10.0.1", true),
            ("34.118.224.10", true),
            ("34.118.239.255", true),
            ("34.118.240.0", false),
            ("::1", true),
            ("fd12::1", true),
            ("fe80::1", true),
            ("2001:4860:4860::8888", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:0.0.0.0", true),
            ("0.0.0.0", true),
            ("64:ff9b::a00:1", true),
            ("64:ff9b::808:808", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[tokio::test]
    async fn d_a_name_leads_to_this_machine_only_where_it_may() {
        let resolve = async |allow_loopback: bool, private: Option<PrivateAddresses>| {
            let resolver = Resolver { allow_link_local: false, allow_loopback, private };
            resolver.resolve("localhost".parse().unwrap()).await.map(Iterator::count).unwrap_or_default()
        };
        assert_eq!(resolve(false, None).await, 0);
        let private = PrivateAddresses::new();
        assert!(resolve(true, Some(private.clone())).await > 0);
        private.goes_to("r", &"https://localhost/".parse().unwrap());
        assert!(private.is_private("r"));
    }
}
