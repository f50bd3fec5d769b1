//! Which addresses may be dialled. Checked on the address itself, after names were resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A text that is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a block of addresses such as 10.20.0.0/16 or fd00::/8")]
pub(crate) struct InvalidBlock;

/// Reads a block of addresses such as `10.20.0.0/16`. One of IPv4 addresses in IPv6 form is the block of these addresses.
///
/// # Errors
/// When the text is none.
pub(crate) fn block(text: &str) -> Result<IpNet, InvalidBlock> {
    let block: IpNet = text.parse().map_err(|_| InvalidBlock)?;
    let mapped = block.prefix_len().checked_sub(96).zip(match block.network() {
        IpAddr::V6(network) => network.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    });
    let Some((prefix, network)) = mapped else { return Ok(block) };
    IpNet::new(network.into(), prefix).map_err(|_| InvalidBlock)
}

/// Which addresses the operator dials.
#[derive(Clone, Debug, Default)]
pub struct DialPolicy {
    /// Allowed although they are refused otherwise.
    pub allow: Vec<IpNet>,
    /// Refused in any case.
    pub deny: Vec<IpNet>,
}

/// Addresses of cloud metadata services outside the link-local range: of AWS (also for the identities of Pods) and Google over
/// IPv6, Alibaba, Azure and Oracle.
const METADATA: [IpAddr; 6] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

impl DialPolicy {
    /// Whether an address may be dialled. `--deny-cidr` counts before `--allow-cidr`.
    #[must_use]
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let listed = |list: &[IpNet]| list.iter().any(|block| block.contains(&address));
        let itself = !listed(&self.deny) && (listed(&self.allow) || !is_special(address));
        itself && embedded(address).into_iter().flatten().all(|inner| self.allows(inner.into()))
    }
}

/// The IPv4 addresses that an IPv6 address may lead to: by NAT64 (RFC 6052, RFC 8215), SIIT (RFC 2765), 6to4 (RFC 3056),
/// Teredo (RFC 4380: the server, and the client's address inverted), ISATAP (RFC 5214), or as an IPv4-compatible one (RFC 4291).
fn embedded(address: IpAddr) -> [Option<Ipv4Addr>; 2] {
    let IpAddr::V6(v6) = address else { return [None; 2] };
    let bits = v6.to_bits();
    // Those that begin at this bit, counted from the last.
    let at = |shift: u32| u32::try_from((bits >> shift) & u128::from(u32::MAX)).ok().map(Ipv4Addr::from_bits);
    let last = at(0);
    match v6.segments() {
        // Of a prefix of 48 bits, the ninth byte is left out. Networks may use a longer prefix, too.
        [0x64, 0xff9b, 1, high, low, rest, ..] => {
            let [[a, b], [_, c], [d, _]] = [high, low, rest].map(u16::to_be_bytes);
            [Some(Ipv4Addr::new(a, b, c, d)), last]
        }
        [0x2002, ..] => [at(80), None],
        [0x2001, 0, ..] => [at(64), last.map(|client| Ipv4Addr::from_bits(!client.to_bits()))],
        [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [last, None],
        [0, 0, 0, 0, 0, 0, ..] if bits > 1 => [last, None],
        _ => [None; 2],
    }
}

fn is_special(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().starts_with(&[0]),
        // The second was meant for sites, and is not assigned anymore.
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.segments().first().is_some_and(|first| first & 0xffc0 == 0xfec0)
        }
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
            "fd00:ec2::23",
            "fd20:ce::254",
            "fec0::1",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:127.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!policy.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in [
            "64:ff9b::a14:b",
            "10.20.0.11",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd12::1",
            "2002:a14:b::1",
        ] {
            assert!(policy.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    /// All that a name may resolve to in place of a refused address.
    fn disguises(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        vec![
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, c, d << 8, 0, 0),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0xffff, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2002, high, low, 7, 0, 0, 0, 9),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xf5eb, 0xfff4),
            Ipv6Addr::new(0x2001, 0, 0x0a14, 0x000b, 0, 0, !high, !low),
            Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0x5efe, high, low),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x200, 0x5efe, high, low),
        ]
    }

    #[test]
    fn a_refused_address_is_refused_in_every_disguise_and_others_are_not() {
        let deny = vec!["172.16.0.0/12".parse().unwrap(), block("::ffff:192.168.0.0/112").unwrap()];
        let policy = DialPolicy { allow: Vec::new(), deny };
        let refused = [
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "172.16.0.1",
            "172.20.30.40",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.255.255",
            "127.1.1.1",
            "169.254.42.42",
            "233.1.1.1",
            "0.255.255.255",
        ];
        let mut forms = 0;
        for text in refused {
            let v4: Ipv4Addr = text.parse().unwrap();
            assert!(!policy.allows(v4.into()), "{v4}");
            for form in disguises(v4) {
                assert!(!policy.allows(form.into()), "{v4} as {form}");
                forms += 1;
            }
        }
        assert!(forms >= 300, "{forms}");
        for text in ["10.20.0.11", "8.8.8.8", "100.64.0.1", "172.15.255.255", "192.167.255.255"] {
            let v4: Ipv4Addr = text.parse().unwrap();
            // Through a local-use NAT64 that puts it elsewhere, this one would lead to 0.0.0.0.
            for form in disguises(v4).into_iter().filter(|form| form.segments()[..3] != [0x64, 0xff9b, 1]) {
                assert!(policy.allows(form.into()), "{v4} as {form}");
            }
        }
    }

    #[test]
    fn a_denied_block_of_mapped_addresses_denies_them() {
        for (text, block_of) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.20.0.11/128", "10.20.0.11/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(block(text), Ok(block_of.parse().unwrap()), "{text}");
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
