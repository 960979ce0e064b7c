//! Which addresses a tunnel may connect to: public ones, and this machine only if the base is on this
//! machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the host may dial this address for the sandbox.
///
/// THREAT: a name resolves to the cloud's metadata service, a router or a neighbour, and the sandbox
/// reaches it through the host. Tried by `gate::address::tests::only_public_addresses_are_dialled`.
pub(super) fn may_be_dialled(address: IpAddr, is_base_loopback: bool) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() {
        return is_base_loopback;
    }
    if is_base_loopback {
        return false;
    }
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0) // IETF protocols
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 198 && (b == 18 || b == 19)); // benchmarks
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    // Global unicast is 2000::/3, without some special blocks.
    if a & 0xe000 != 0x2000 {
        // A translated IPv4 address (64:ff9b::/96) is public if the IPv4 address is.
        let [g1, g2] = g.to_be_bytes();
        let [h1, h2] = h.to_be_bytes();
        let is_translated = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
        return is_translated && is_public_v4(Ipv4Addr::new(g1, g2, h1, h2));
    }
    let is_special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) // Teredo, ORCHID, benchmarks; documentation
        || (a == 0x3fff && b < 0x1000) // documentation
        || a == 0x2002; // 6to4 contains an IPv4 address of any kind
    !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_dialled() {
        let private = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "100::1",
        ];
        for text in private {
            assert!(!may_be_dialled(text.parse().expect(text), false), "{text}");
        }
        for text in
            ["1.1.1.1", "104.18.32.47", "2606:4700::1", "64:ff9b::101:101", "::ffff:1.1.1.1"]
        {
            assert!(may_be_dialled(text.parse().expect(text), false), "{text}");
        }
    }

    #[test]
    fn this_machine_only_where_the_base_is_this_machine() {
        for text in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            let address = text.parse().expect(text);
            assert!(may_be_dialled(address, true) && !may_be_dialled(address, false), "{text}");
        }
        assert!(!may_be_dialled("10.0.0.1".parse().expect("an address"), true));
        assert!(!may_be_dialled("1.1.1.1".parse().expect("an address"), true));
    }
}
