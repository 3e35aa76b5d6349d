//! Address filter: which addresses a host name may resolve to. The owner of a DNS name must not be able to direct a
//! credential to this machine or to its cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Parses a range of addresses (CIDR), for example `169.254.0.0/16`; a single address is a range of one. Addresses are
/// compared in canonical form, so an IPv4-mapped range becomes one of IPv4.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let mapped = |v6: Ipv6Net| {
        let bits = v6.prefix_len().checked_sub(96)?;
        Ipv4Net::new(v6.addr().to_ipv4_mapped()?, bits).ok()
    };
    Some(match network {
        IpNet::V6(v6) => mapped(v6).map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    })
}

/// Returns whether an endpoint may be reached at `address`. `local` means that the endpoint is configured as
/// this machine itself.
#[must_use]
pub fn is_allowed(address: IpAddr, local: bool, allowed: &[IpNet]) -> bool {
    let address = plain(address);
    if allowed.iter().any(|network| network.contains(&address)) {
        return true;
    }
    if address.is_loopback() {
        return local;
    }
    match address {
        IpAddr::V4(v4) => {
            // All of 0.0.0.0/8 means "this host", on Linux too.
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_link_local() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let metadata = v6 == METADATA;
            !v6.is_unspecified() && !v6.is_unicast_link_local() && !v6.is_multicast() && !metadata
        }
    }
}

/// The IPv6 address of a cloud's metadata service, besides 169.254.169.254. It serves secrets to its machines.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Unwraps an IPv4 address embedded in IPv6, mapped or translated (NAT64).
fn plain(address: IpAddr) -> IpAddr {
    let canonical = address.to_canonical();
    let IpAddr::V6(v6) = canonical else { return canonical };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => canonical,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn is_allowed_text(address: &str, local: bool, allowed: &[&str]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|network| parse_network(network).unwrap()).collect();
        is_allowed(address.parse().unwrap(), local, &allowed)
    }

    #[test]
    fn only_what_is_elsewhere_may_be_called() {
        for denied in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "224.0.0.1",
            "239.1.1.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!is_allowed_text(denied, false, &[]), "{denied}");
        }
        for text in
            ["10.0.0.1", "192.168.1.1", "172.16.0.1", "8.8.8.8", "::ffff:10.0.0.1", "2001:db8::1", "fd00::1"]
        {
            assert!(is_allowed_text(text, false, &[]), "{text}");
        }
    }

    #[test]
    fn this_machine_only_where_it_is_written() {
        assert!(is_allowed_text("127.0.0.1", true, &[]) && is_allowed_text("::1", true, &[]));
        assert!(is_allowed_text("::ffff:127.0.0.1", true, &[]));
        assert!(!is_allowed_text("169.254.169.254", true, &[]) && !is_allowed_text("0.0.0.0", true, &[]));
    }

    #[test]
    fn what_is_allowed_lifts_a_denial_for_its_range_alone() {
        assert!(is_allowed_text("169.254.7.7", false, &["169.254.0.0/16"]));
        assert!(is_allowed_text("::ffff:169.254.7.7", false, &["169.254.0.0/16"]));
        assert!(is_allowed_text("fe80::1", false, &["169.254.0.0/16", "fe80::/10"]));
        assert!(
            is_allowed_text("127.0.0.2", false, &["127.0.0.2"])
                && !is_allowed_text("127.0.0.3", false, &["127.0.0.2"])
        );
        assert!(
            !is_allowed_text("fe80::1", false, &["169.254.0.0/16"])
                && !is_allowed_text("127.0.0.1", false, &["128.0.0.0/1"])
        );
        assert!(is_allowed_text("127.0.0.1", false, &["::ffff:127.0.0.0/104"]));
        assert!(
            !is_allowed_text("127.0.0.1", false, &["::ffff:128.0.0.0/104"])
                && !is_allowed_text("127.0.0.1", false, &["::/0"])
        );
        assert!(
            is_allowed_text("127.0.0.1", false, &["0.0.0.0/0"])
                && !is_allowed_text("::1", false, &["0.0.0.0/0"])
        );
    }

    #[test]
    fn ranges_are_read_strictly() {
        for bad in
            ["", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::/129", "1.2.3.4/8/8", "host/8"]
        {
            assert!(parse_network(bad).is_none(), "{bad}");
        }
    }
}
