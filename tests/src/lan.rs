//! One Ethernet segment: a bridge in its own namespace, with the nodes and clients connected to it. The addresses match the
//! users' manifests: their pool is 172.17.255.1-172.17.255.255, so the LAN is 172.17.0.0/16. Pods of node N are in 10.244.N.0/24.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netns::Netns;

/// The segment's IPv4 prefix length.
pub const PREFIX4: u8 = 16;
/// The segment's IPv6 prefix length.
pub const PREFIX6: u8 = 64;
/// The router's IPv4 address, which is the bridge's own. All hosts use it as their default route.
pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// The router's IPv6 address.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, 1);

/// The segment.
#[derive(Debug)]
pub struct Lan {
    netns: Netns,
    ports: u16,
}

/// A host on the segment: a namespace whose `eth0` is connected to it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its namespace.
    pub netns: Netns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// The bridge port that it is connected to.
    pub port: String,
}

impl Lan {
    /// Creates the bridge, with the router's addresses, and brings it up.
    pub fn new() -> Self {
        let netns = Netns::new("lan");
        let _ = netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.ip(&format!(
            "link add br0 type bridge\n\
             addr add {ROUTER4}/{PREFIX4} dev br0\n\
             addr add {ROUTER6}/{PREFIX6} dev br0 nodad\n\
             link set br0 up\n"
        ));
        Self { netns, ports: 0 }
    }

    /// The segment's own namespace, which is the router.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Creates a namespace with `eth0` on the segment at 172.17.0.`number` and fd00:17::`number`.
    pub fn plug(&mut self, name: &str, number: u8) -> Host {
        self.ports += 1;
        let netns = Netns::new(name);
        let _ = netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        let port = format!("port{}", self.ports);
        let v4 = Ipv4Addr::new(172, 17, 0, number);
        let v6 = Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, u16::from(number));
        self.netns.ip(&format!(
            "link add {port} type veth peer name eth0 netns {}\n\
             link set {port} master br0\n\
             link set {port} up\n",
            netns.tid()
        ));
        netns.ip(&format!(
            "link set eth0 up\n\
             addr add {v4}/{PREFIX4} dev eth0\n\
             addr add {v6}/{PREFIX6} dev eth0 nodad\n\
             route add default via {ROUTER4}\n\
             route add default via {ROUTER6}\n"
        ));
        Host {
            netns,
            v4,
            v6,
            port,
        }
    }

    /// Unplugs a host's cable: the segment's side goes down, and the host loses its carrier.
    pub fn unplug(&self, host: &Host) {
        self.netns.ip(&format!("link set {} down\n", host.port));
    }

    /// Plugs the cable in again.
    pub fn replug(&self, host: &Host) {
        self.netns.ip(&format!("link set {} up\n", host.port));
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

/// The host's address of the same family as the other address.
pub fn same_family(host: &Host, other: IpAddr) -> IpAddr {
    if other.is_ipv4() {
        host.v4.into()
    } else {
        host.v6.into()
    }
}
