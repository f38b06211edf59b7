//! The path of a packet through the hooks, with IPVS at the priorities of Linux 6.1: LOCAL_IN 98/99, LOCAL_OUT -99/-98. What IPVS
//! forwards passes LOCAL_OUT again with the endpoint as its destination, then POSTROUTING.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ferrolb_api::proxy_config::InterfaceName;
use ferrolb_api::view::Protocol;

use super::Memory;
use super::filter::{End, Filter, View};
use crate::kernel::rule::HookPoint;
use crate::kernel::{Family, VirtualServerId};

/// Where a packet enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    /// From the network or from a pod of this node, so it arrives at an interface.
    Wire,
    /// The same, at the interface of this name.
    Interface(InterfaceName),
    /// From a process of this node.
    Node,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payload {
    /// A transport protocol with ports.
    Ports(Protocol),
    /// ICMP or ICMPv6 with this type.
    Icmp(u8),
}

impl Payload {
    /// Its protocol, if it has ports.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Ports(protocol) => Some(protocol),
            Self::Icmp(_) => None,
        }
    }
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Where it enters.
    pub from: From,
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// Payload.
    pub payload: Payload,
}

/// The client address that the endpoint sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The client itself.
    Kept,
    /// The node.
    Masqueraded,
}

/// The outcome of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An endpoint received it.
    Delivered(SocketAddr, Source),
    /// TCP reset by our rules.
    Reset,
    /// ICMP port unreachable by our rules.
    Unreachable,
    /// Nothing came back.
    Dropped,
    /// IPVS had no server for it and sent its own ICMP.
    RefusedByIpvs,
    /// The flow's real server is gone: reset.
    Expired,
    /// A socket of the host, or its ICMP, answers.
    Host,
    /// Forwarded to another host.
    Forwarded,
}

type FlowKey = (Packet, Protocol);

#[derive(Debug, Clone, Copy)]
struct Flow {
    server: VirtualServerId,
    real: SocketAddr,
    source: Source,
}

/// Connections, affinity and round-robin positions.
#[derive(Debug, Clone, Default)]
pub(super) struct Flows {
    flows: BTreeMap<FlowKey, Flow>,
    sticky: BTreeMap<(VirtualServerId, IpAddr), SocketAddr>,
    turn: BTreeMap<VirtualServerId, usize>,
}

/// What IPVS does with a packet.
enum Ipvs {
    NotMine,
    NoServer,
    Expired,
    To(VirtualServerId, SocketAddr),
}

impl Memory {
    /// Sends a packet. If one with the same addresses and ports was delivered before, this one belongs to the established flow.
    pub fn send(&mut self, packet: Packet) -> Outcome {
        let flow = packet
            .payload
            .protocol()
            .and_then(|p| self.flows.flows.get(&(packet, p)))
            .copied();
        let mut view = View {
            src: packet.src.ip(),
            dst: packet.dst.ip(),
            dport: packet.dst.port(),
            payload: packet.payload,
            original: (packet.dst.ip(), packet.dst.port()),
            new: flow.is_none(),
            source_is_local: self.is_local(packet.src.ip()),
            input: match packet.from {
                From::Wire => InterfaceName::new("eth"),
                From::Interface(name) => Some(name),
                From::Node => None,
            },
            output: None,
            mark: 0,
        };
        let outcome = match packet.from {
            From::Wire | From::Interface(_) => self.arrives(&mut view, flow),
            From::Node => self.leaves(&mut view, flow),
        };
        match outcome {
            Ok((server, real, source)) => {
                if let Some(protocol) = packet.payload.protocol() {
                    let flow = Flow {
                        server,
                        real,
                        source,
                    };
                    self.flows.flows.insert((packet, protocol), flow);
                }
                Outcome::Delivered(real, source)
            }
            Err(outcome) => {
                if outcome == Outcome::Expired {
                    self.flows.flows.retain(|(p, _), _| *p != packet);
                }
                outcome
            }
        }
    }

    fn arrives(&mut self, view: &mut View, flow: Option<Flow>) -> Delivery {
        self.hook(HookPoint::Prerouting, true, i32::MIN..=i32::MAX, view)?;
        if !self.is_local(view.dst) {
            self.hook(HookPoint::Forward, false, i32::MIN..=i32::MAX, view)?;
            return Err(Outcome::Forwarded);
        }
        self.input(view, flow)
    }

    fn input(&mut self, view: &mut View, flow: Option<Flow>) -> Delivery {
        self.hook(HookPoint::Input, false, i32::MIN..=97, view)?;
        match self.ipvs(view, flow) {
            Ipvs::NoServer => Err(Outcome::RefusedByIpvs),
            Ipvs::Expired => Err(Outcome::Expired),
            Ipvs::NotMine => {
                self.hook(HookPoint::Input, false, 100..=i32::MAX, view)?;
                Err(Outcome::Host)
            }
            Ipvs::To(server, real) => {
                to(view, real);
                if self.is_local(real.ip()) {
                    self.hook(HookPoint::Input, false, 100..=i32::MAX, view)?;
                    return Ok((server, real, Source::Kept));
                }
                self.out(view, "eth", server, real, flow)
            }
        }
    }

    fn leaves(&mut self, view: &mut View, flow: Option<Flow>) -> Delivery {
        self.hook(HookPoint::Output, true, i32::MIN..=i32::MAX, view)?;
        self.hook(HookPoint::Output, false, i32::MIN..=-100, view)?;
        match self.ipvs(view, flow) {
            Ipvs::NoServer => Err(Outcome::RefusedByIpvs),
            Ipvs::Expired => Err(Outcome::Expired),
            Ipvs::NotMine => {
                self.hook(HookPoint::Output, false, -97..=i32::MAX, view)?;
                if self.is_local(view.dst) {
                    self.input(view, flow)
                } else {
                    Err(Outcome::Forwarded)
                }
            }
            Ipvs::To(server, real) => {
                to(view, real);
                self.hook(HookPoint::Output, false, -97..=i32::MAX, view)?;
                let output = if self.is_local(real.ip()) {
                    "lo"
                } else {
                    "eth"
                };
                self.out(view, output, server, real, flow)
            }
        }
    }

    /// LOCAL_OUT from the start with the endpoint as destination, then POSTROUTING. NAT is decided once per flow.
    fn out(
        &mut self,
        view: &mut View,
        output: &'static str,
        server: VirtualServerId,
        real: SocketAddr,
        flow: Option<Flow>,
    ) -> Delivery {
        self.hook(HookPoint::Output, false, i32::MIN..=i32::MAX, view)?;
        view.output = Some(output);
        view.input = None;
        if let Some(flow) = flow {
            return Ok((server, real, flow.source));
        }
        let filter = Filter {
            table: &self.table,
            held: &self.held,
        };
        match filter.hook(HookPoint::Postrouting, true, i32::MIN..=i32::MAX, view) {
            End::Masquerade => Ok((server, real, Source::Masqueraded)),
            _ => Ok((server, real, Source::Kept)),
        }
    }

    fn hook(
        &self,
        point: HookPoint,
        nat: bool,
        priorities: std::ops::RangeInclusive<i32>,
        view: &mut View,
    ) -> Result<(), Outcome> {
        let filter = Filter {
            table: &self.table,
            held: &self.held,
        };
        match filter.hook(point, nat, priorities, view) {
            End::Accept | End::Kept | End::Masquerade => Ok(()),
            End::Drop => Err(Outcome::Dropped),
            End::Reset => Err(Outcome::Reset),
            End::Unreachable => Err(Outcome::Unreachable),
        }
    }

    /// `ip_vs_in`: an established flow first, then the server of the mark, then that of the address.
    fn ipvs(&mut self, view: &View, flow: Option<Flow>) -> Ipvs {
        let Some(protocol) = view.payload.protocol() else {
            return Ipvs::NotMine;
        };
        if let Some(flow) = flow {
            let server = self.held.servers.get(&flow.server);
            return if server.is_some_and(|(_, reals)| reals.contains_key(&flow.real)) {
                Ipvs::To(flow.server, flow.real)
            } else {
                Ipvs::Expired
            };
        }
        let marked = VirtualServerId::Fwmark {
            mark: view.mark,
            family: Family::of(view.dst),
        };
        let address = VirtualServerId::Address {
            addr: view.dst,
            port: view.dport,
            protocol,
        };
        let found = [marked, address]
            .into_iter()
            .find_map(|id| self.held.servers.get(&id));
        let Some((server, reals)) = found else {
            return Ipvs::NotMine;
        };
        let usable: Vec<SocketAddr> = reals
            .values()
            .filter(|r| r.weight > 0)
            .map(|r| r.addr)
            .collect();
        let sticky = (server.id, view.src);
        if server.persistence.is_some()
            && let Some(real) = self.flows.sticky.get(&sticky)
            && usable.contains(real)
        {
            return Ipvs::To(server.id, *real);
        }
        let turn = self.flows.turn.entry(server.id).or_default();
        *turn += 1;
        let Some(real) = usable.iter().cycle().nth((*turn - 1) % usable.len().max(1)) else {
            return Ipvs::NoServer;
        };
        if server.persistence.is_some() {
            self.flows.sticky.insert(sticky, *real);
        }
        Ipvs::To(server.id, *real)
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        self.node.contains(&addr) || self.held.addresses.contains(&addr)
    }
}

type Delivery = Result<(VirtualServerId, SocketAddr, Source), Outcome>;

fn to(view: &mut View, real: SocketAddr) {
    view.dst = real.ip();
    view.dport = real.port();
}
