//! Addresses, and blocks of them as a `NetworkPolicy` names them.

use std::{net::IpAddr, str::FromStr};

/// A block of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether an address is in it. An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let same = network.to_bits() ^ address.to_bits();
                u32::from(self.prefix) <= same.leading_zeros()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let same = network.to_bits() ^ address.to_bits();
                u32::from(self.prefix) <= same.leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a block of addresses, such as 10.0.0.0/8 or fd00::/8".to_owned();
        let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?;
        let beyond = match network {
            IpAddr::V4(network) => network.to_bits().checked_shl(prefix.into()).unwrap_or_default() != 0,
            IpAddr::V6(network) => network.to_bits().checked_shl(prefix.into()).unwrap_or_default() != 0,
        };
        if beyond {
            return Err(format!("the address has bits beyond its first {prefix}, which say nothing"));
        }
        Ok(Self { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_an_address_is_in_the_blocks_that_have_its_first_bits() {
        for (block, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("192.168.0.0/23", "192.168.1.255", "192.168.2.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("fd00::/8", "fd12::1", "fc00::1"),
            ("::1/128", "::1", "::2"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "::1", "8.8.8.8"),
        ] {
            let parsed: Cidr = block.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{block} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{block} {outside}");
        }
        for wrong in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.1/8", "::1/64", "a/8", "10.0.0.0/-1", "fd00::/129"]
        {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
