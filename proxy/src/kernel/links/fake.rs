//! A fake dummy for tests, with its addresses and local routes, at the level of rtnetlink messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::Family;
use nix::errno::Errno;

use super::super::netlink::faulty::{Message, Peer, Said, nla};
use super::decode::{
    ADDRESS, DESTINATION, INFO_KIND, LINK_INFO, LOCAL, NEW_ADDRESS, NEW_LINK, NEW_ROUTE, OUT,
    SOURCE, interface_address, route,
};
use super::message::{TABLE_LOCAL, af};

const INDEX: u32 = 7;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

/// One link, and what is on it.
#[derive(Debug, Default)]
pub(in crate::kernel) struct FakeRoutes {
    up: bool,
    pub(in crate::kernel) addresses: BTreeMap<IpAddr, u8>,
    pub(in crate::kernel) routes: BTreeMap<IpAddr, Option<IpAddr>>,
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn number(addr: IpAddr) -> u8 {
    af(Family::of(addr)).into()
}

pub(super) fn address_message(addr: IpAddr, scope: u8) -> Vec<u8> {
    let mut out = vec![number(addr), Family::of(addr).bits(), 0, scope];
    out.extend(INDEX.to_ne_bytes());
    out.extend(nla(ADDRESS, &octets(addr)));
    if addr.is_ipv4() {
        out.extend(nla(LOCAL, &octets(addr)));
    }
    out
}

pub(super) fn route_message(addr: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let length = Family::of(addr).bits();
    let mut out = vec![
        number(addr),
        length,
        0,
        0,
        TABLE_LOCAL,
        4,
        254,
        2,
        0,
        0,
        0,
        0,
    ];
    out.extend(nla(DESTINATION, &octets(addr)));
    out.extend(nla(OUT, &INDEX.to_ne_bytes()));
    out.extend(source.into_iter().flat_map(|s| nla(SOURCE, &octets(s))));
    out
}

pub(super) fn link_message(up: bool) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(INDEX.to_ne_bytes());
    out.extend(u32::from(up).to_ne_bytes());
    out.extend([0; 4]);
    out.extend(nla(LINK_INFO, &nla(INFO_KIND, b"dummy\0")));
    out
}

impl Peer for FakeRoutes {
    fn answer(&mut self, messages: &[Message]) -> Vec<Said> {
        messages.iter().map(|m| self.one(m)).collect()
    }
}

impl FakeRoutes {
    /// The service addresses: IPv4 addresses that have their route, and IPv6 routes.
    pub(in crate::kernel) fn served(&self) -> BTreeSet<IpAddr> {
        let v6 = self.routes.keys().filter(|a| a.is_ipv6());
        self.addresses.keys().chain(v6).copied().collect()
    }

    fn one(&mut self, message: &Message) -> Said {
        let payload = &message.payload;
        let same = |addr: &IpAddr| number(*addr) == payload[0];
        match message.kind {
            NEW_LINK => {
                self.up = true;
                Ok(Vec::new())
            }
            DEL_LINK => {
                *self = Self::default();
                Ok(Vec::new())
            }
            GET_LINK if self.up => Ok(vec![(NEW_LINK, link_message(true))]),
            _ if !self.up => Err(Errno::ENODEV),
            NEW_ADDRESS => {
                let found = interface_address(payload).unwrap().unwrap();
                assert_eq!(found.index, INDEX);
                let fresh = self.addresses.insert(found.addr, found.scope).is_none();
                if fresh {
                    // The kernel's own route, without a source.
                    self.routes.insert(found.addr, None);
                }
                Ok(Vec::new())
            }
            DEL_ADDRESS => {
                let addr = interface_address(payload).unwrap().unwrap().addr;
                self.addresses.remove(&addr).ok_or(Errno::EADDRNOTAVAIL)?;
                self.routes.remove(&addr);
                Ok(Vec::new())
            }
            NEW_ROUTE => {
                let (addr, source) = route(payload).unwrap().unwrap().host(INDEX).unwrap();
                self.routes.insert(addr, source);
                Ok(Vec::new())
            }
            DEL_ROUTE => {
                let (addr, _) = route(payload).unwrap().unwrap().host(INDEX).unwrap();
                let gone = self.routes.remove(&addr);
                gone.map(|_| Vec::new()).ok_or(Errno::ESRCH)
            }
            GET_ADDRESS => {
                let all = self.addresses.iter().filter(|(a, _)| same(a));
                Ok(all
                    .map(|(a, scope)| (NEW_ADDRESS, address_message(*a, *scope)))
                    .collect())
            }
            GET_ROUTE if message.is_dump() => {
                let all = self.routes.iter().filter(|(a, _)| same(a));
                Ok(all
                    .map(|(a, source)| (NEW_ROUTE, route_message(*a, *source)))
                    .collect())
            }
            GET_ROUTE => {
                let addr = route(payload).unwrap().unwrap().destination.unwrap();
                let source = self.routes.get(&addr).ok_or(Errno::ENETUNREACH)?;
                let mut answer = route_message(addr, *source);
                // The kernel answers a lookup as if from the table `main`.
                answer[4] = 254;
                Ok(vec![(NEW_ROUTE, answer)])
            }
            other => panic!("message {other}"),
        }
    }
}
