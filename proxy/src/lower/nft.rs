//! Elements of the nftables sets and maps, as values: how a key, a class or a range is expressed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::kernel::rule::{Key, Value, Verdict};
use crate::kernel::table::set;
use crate::kernel::{Element, Family};
use crate::plan::FrontKey;
use crate::plan::ranges::{FamilyRanges, Interfaces};

/// An element and the name of its set.
pub type Item = (&'static str, Element);

fn server_key((addr, port, protocol): FrontKey) -> Vec<Key> {
    vec![Key::Addr(addr), Key::Proto(protocol), Key::Port(port)]
}

fn item(set: &'static str, key: Vec<Key>, value: Option<Value>) -> Item {
    (set, Element { key, value })
}

/// Makes the address a service address.
pub fn vip(addr: IpAddr) -> Item {
    item(set::vip(Family::of(addr)), vec![Key::Addr(addr)], None)
}

/// Class of a virtual server.
pub fn class(key: FrontKey, verdict: Verdict) -> Item {
    let set = set::svc(Family::of(key.0));
    item(set, server_key(key), Some(Value::Verdict(verdict)))
}

/// Masquerade class of a virtual server.
pub fn masquerade(key: FrontKey, chain: &'static str) -> Item {
    let verdict = Value::Verdict(Verdict::Goto(chain));
    item(set::masq(Family::of(key.0)), server_key(key), Some(verdict))
}

/// Firewall mark of a virtual server under a Local policy.
pub fn mark(key: FrontKey, mark: u32) -> Item {
    let set = set::mark(Family::of(key.0));
    item(set, server_key(key), Some(Value::Mark(mark)))
}

/// Allows an endpoint of this node to be its own client.
pub fn hairpin(addr: IpAddr) -> Item {
    let set = set::hairpin(Family::of(addr));
    item(set, vec![Key::Addr(addr), Key::Addr(addr)], None)
}

/// Limits a server to source ranges of its family. They must not overlap, because an interval set refuses that.
pub fn source_ranges(key: FrontKey, ranges: &[IpNet]) -> Vec<Item> {
    let family = Family::of(key.0);
    let limited = item(set::lbsrc(family), server_key(key), None);
    let allowed = ranges.iter().map(|net| {
        let mut parts = server_key(key);
        parts.push(Key::net(net));
        item(set::lballow(family), parts, None)
    });
    std::iter::once(limited).chain(allowed).collect()
}

/// The elements that belong to no Service: ranges of ClusterIPs and of pods.
pub fn globals(ranges: &FamilyRanges) -> Vec<Item> {
    let list = |set: fn(Family) -> &'static str, nets: &[IpNet]| {
        let one = |net: &IpNet| item(set(Family::of(net.addr())), vec![Key::net(net)], None);
        nets.iter().map(one).collect::<Vec<Item>>()
    };
    let single = [
        list(set::svccidr, &ranges.services),
        list(set::localsrc, &ranges.pods),
        list(set::nodesrc, &ranges.node),
        list(set::clusrc, &ranges.cluster),
    ];
    let bridged = ranges.bridged.iter().map(|net| {
        let both = vec![Key::net(net), Key::net(net)];
        item(set::l2pod(Family::of(net.addr())), both, None)
    });
    let interfaces = ranges.interfaces.map(|interfaces| {
        let key = match interfaces {
            Interfaces::Named(name) => Key::Interface(name),
            Interfaces::Beginning(name) => Key::Interfaces(name),
        };
        item(set::PODIF, vec![key], None)
    });
    let far = ranges.far.iter();
    let far = far.map(|name| item(set::FARIF, vec![Key::Interface(*name)], None));
    let single = single.into_iter().flatten();
    single.chain(bridged).chain(interfaces).chain(far).collect()
}
