//! Which addresses may be dialled. Checked on the address itself, after names were resolved.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A text that is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a block of addresses such as 10.20.0.0/16 or fd00::/8")]
pub(crate) struct InvalidBlock;

/// Reads a block of addresses such as `10.20.0.0/16`.
///
/// # Errors
/// When the text is none.
pub(crate) fn block(text: &str) -> Result<IpNet, InvalidBlock> {
    text.parse().map_err(|_| InvalidBlock)
}

/// Which addresses the operator dials.
#[derive(Clone, Debug, Default)]
pub struct DialPolicy {
    /// Allowed although they are refused otherwise.
    pub allow: Vec<IpNet>,
    /// Refused in any case.
    pub deny: Vec<IpNet>,
}

/// Addresses of cloud metadata services outside the link-local range.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(std::net::Ipv4Addr::new(168, 63, 129, 16)),
];

impl DialPolicy {
    /// Whether an address may be dialled. `--deny-cidr` counts before `--allow-cidr`.
    #[must_use]
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let listed = |list: &[IpNet]| list.iter().any(|block| block.contains(&address));
        let itself = !listed(&self.deny) && (listed(&self.allow) || !is_special(address));
        itself && embedded(address).is_none_or(|inner| self.allows(inner.into()))
    }
}

/// The IPv4 address that an IPv6 address leads to: NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible (RFC 4291).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let bits = v6.to_bits();
    let last = u32::try_from(bits & u128::from(u32::MAX)).ok();
    match bits >> 32 {
        0x0064_ff9b_0000_0000_0000_0000 => last,
        0 if bits > 1 => last,
        _ if bits >> 112 == 0x2002 => u32::try_from((bits >> 80) & u128::from(u32::MAX)).ok(),
        _ => None,
    }
    .map(Ipv4Addr::from_bits)
}

fn is_special(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().starts_with(&[0]),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    local
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unspecified()
        || METADATA.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_special_addresses_unless_allowed() {
        let policy = DialPolicy::default();
        for refused in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:127.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!policy.allows(refused.parse().unwrap()), "{refused}");
        }
        // What DNS64 makes of a metadata address, and other ways to write an IPv4 address into an IPv6 one.
        for refused in ["64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:a9fe:a9fe::1", "::127.0.0.1"] {
            assert!(!policy.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in ["64:ff9b::a14:b", "10.20.0.11", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd12::1"] {
            assert!(policy.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn lists_count() {
        let policy = DialPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            deny: vec![
                "127.0.0.9/32".parse().unwrap(),
                "10.0.0.0/8".parse().unwrap(),
                "::/0".parse().unwrap(),
            ],
        };
        assert!(policy.allows("127.0.0.1".parse().unwrap()));
        assert!(!policy.allows("127.0.0.9".parse().unwrap()));
        assert!(!policy.allows("10.1.2.3".parse().unwrap()));
        assert!(!policy.allows("2001:db8::1".parse().unwrap()));
        assert_eq!(block("10.0.0.0/33"), Err(InvalidBlock));
        assert_eq!(block("10.0.0.1"), Err(InvalidBlock));
    }
}
