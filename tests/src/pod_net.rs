//! The pods' side of a node's network, as a CNI provides it: gives each pod a namespace, a veth and addresses from the node's
//! prefixes, and reuses the addresses of deleted pods. The handle can be cloned: the node has one, and so does a kubelet.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::netns::Netns;
use crate::node::{PodLinks, gateway4, gateway6, pod6};
use crate::pod::Pod;

/// The capacity of a node in pods.
const ROOM: usize = 240;
/// The last octet of the first pod's address: 10.244.N.11.
const FIRST: u8 = 11;

/// The pod network of one node.
#[derive(Debug, Clone)]
pub struct PodNet {
    node: u8,
    netns: Netns,
    links: PodLinks,
    slots: Arc<Mutex<Slots>>,
}

/// The free places. A place goes to the end of the queue when its pod is gone, as in common CNIs.
#[derive(Debug)]
struct Slots {
    next: usize,
    pods: Vec<Weak<()>>,
}

impl Slots {
    fn new() -> Self {
        let pods = (0..ROOM).map(|_| Weak::new()).collect();
        Self { next: 0, pods }
    }

    fn take(&mut self) -> Option<(u8, Arc<()>)> {
        let mut order = (0..ROOM).map(|step| (self.next + step) % ROOM);
        let free = order.find(|&slot| self.pods[slot].strong_count() == 0)?;
        let taken = Arc::new(());
        self.pods[free] = Arc::downgrade(&taken);
        self.next = free + 1;
        Some((u8::try_from(free).ok()?, taken))
    }
}

impl PodNet {
    pub(crate) fn new(node: u8, netns: &Netns, links: PodLinks) -> Self {
        Self {
            node,
            netns: netns.clone(),
            links,
            slots: Arc::new(Mutex::new(Slots::new())),
        }
    }

    /// Creates a pod on the node, without a server.
    pub fn plug(&self, name: &str) -> Pod {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = slots.take();
        drop(slots);
        let (slot, held) =
            taken.unwrap_or_else(|| panic!("node-{} has {ROOM} pods already", self.node));
        let (v4, v6) = (
            Ipv4Addr::new(10, 244, self.node, FIRST + slot),
            pod6(self.node, u16::from(FIRST + slot)),
        );
        let netns = Netns::new(name);
        let _ = netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        self.link(&netns, &format!("veth{}", slot + 1), v4, v6);
        Pod::new(name, netns, v4, v6, held)
    }

    fn link(&self, netns: &Netns, veth: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
        let (gate4, gate6) = (gateway4(self.node), gateway6(self.node));
        let mut lines = format!(
            "link add {veth} type veth peer name eth0 netns {}\n",
            netns.tid()
        );
        match self.links {
            PodLinks::Routed => lines.push_str(&format!(
                "addr add {gate4}/32 dev {veth}\n\
                 addr add {gate6}/128 dev {veth} nodad\n\
                 link set {veth} up\n\
                 route add {v4}/32 dev {veth}\n\
                 route add {v6}/128 dev {veth}\n"
            )),
            PodLinks::Bridge => lines.push_str(&format!(
                "link set {veth} master cni0\nlink set {veth} up\n"
            )),
        }
        self.netns.ip(&lines);
        let (len4, len6) = if self.links == PodLinks::Routed {
            (32, 128)
        } else {
            (24, 64)
        };
        netns.ip(&format!(
            "link set eth0 up\n\
             addr add {v4}/{len4} dev eth0\n\
             addr add {v6}/{len6} dev eth0 nodad\n\
             route replace {gate4}/32 dev eth0\n\
             route add default via {gate4}\n\
             route replace {gate6}/128 dev eth0\n\
             route add default via {gate6}\n"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOM, Slots};

    #[test]
    fn a_place_is_given_again_when_its_pod_is_gone_and_all_others_had_their_turn() {
        let mut slots = Slots::new();
        let (first, held) = slots.take().unwrap();
        drop(held);
        let rest: Vec<_> = (1..ROOM).map(|_| slots.take().unwrap()).collect();
        assert!(rest.iter().all(|(slot, _)| *slot != first));
        let again = slots.take().unwrap();
        assert_eq!(again.0, first);
        assert!(slots.take().is_none());
    }
}
