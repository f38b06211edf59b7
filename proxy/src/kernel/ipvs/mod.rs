//! IPVS of one network namespace, over generic netlink.
//!
//! The request for the family makes the kernel load `ip_vs`. It loads a scheduler when a service names it. Changes are first sent
//! as "new", and as "set" if the object exists, many to a datagram.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

mod attr;
#[cfg(test)]
pub(super) mod fake;
mod message;
#[cfg(test)]
mod tests;
mod timeouts;

use super::netlink::attr::{Malformed, attributes, behind, u16_of};
use super::netlink::{Channel, NetlinkSocket, Outcome, Request, Socket, refused};
use super::{KernelError, Op, RealServer, Traffic, VirtualServer, VirtualServerId};
use attr::{CMD_DEST, CMD_SERVICE, nested};
use message::{FAMILY, HEADER, Ipvs, command};

/// `CTRL_ATTR_FAMILY_ID`.
const CTRL_FAMILY_ID: u16 = 1;

/// Every virtual server with its real servers by address.
pub(super) type Servers =
    BTreeMap<VirtualServerId, (VirtualServer, BTreeMap<SocketAddr, RealServer>)>;

/// The family `IPVS` in one network namespace.
#[derive(Debug)]
pub(super) struct IpVs<S> {
    channel: Channel<S>,
    family: u16,
}

impl IpVs<NetlinkSocket> {
    /// Resolves the family, which loads `ip_vs`.
    pub(super) async fn open() -> Result<Self, KernelError> {
        Self::over(Channel::open(NETLINK_GENERIC, "IPVS", false)?).await
    }
}

impl<S: Socket> IpVs<S> {
    /// The same, over an existing channel.
    pub(super) async fn over(mut channel: Channel<S>) -> Result<Self, KernelError> {
        let request = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
        });
        let answer = channel.get(request, |_, payload| {
            let mut id = None;
            for attribute in attributes(behind(payload, HEADER)?) {
                let (kind, value) = attribute?;
                if kind == CTRL_FAMILY_ID {
                    id = u16_of(value);
                }
            }
            id.ok_or(Malformed("no id of the netlink family IPVS"))
        });
        let family = match answer.await? {
            Ok(family) => family,
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
                return Err(KernelError::Missing {
                    what: "IPVS (module ip_vs)".to_owned(),
                    hint: "run `modprobe ip_vs` or install the package with the full set of modules (linux-image-amd64, \
                           linux-modules-extra-$(uname -r), kernel-modules-extra), or announce only with --proxy none"
                        .to_owned(),
                });
            }
            Err(e) => return Err(refused("find the netlink family IPVS", e)),
        };
        let mut ipvs = Self { channel, family };
        // Any process may resolve the family, but only one with CAP_NET_ADMIN gets an answer from it.
        let request = ipvs.message(command::GET_INFO, Vec::new());
        match ipvs.channel.get(request, |_, _| Ok(())).await? {
            Ok(()) => Ok(ipvs),
            Err(e) => Err(refused("use IPVS", e)),
        }
    }

    fn message(&self, command: u8, attributes: Vec<DefaultNla>) -> GenlMessage<Ipvs> {
        let mut message = GenlMessage::from_payload(Ipvs {
            command,
            attributes,
        });
        message.set_resolved_family_id(self.family);
        message
    }

    /// Reads all virtual servers, their real servers, and what they have carried.
    pub(super) async fn read(
        &mut self,
    ) -> Result<(Servers, BTreeMap<VirtualServerId, Traffic>), KernelError> {
        let request = self.message(command::GET_SERVICE, Vec::new());
        let services = self.channel.dump(request, Vec::new, |out, _, payload| {
            for value in of_kind(payload, CMD_SERVICE) {
                let value = value?;
                let service = attr::service_from(value)?;
                let traffic = attr::traffic_from(value)?;
                out.extend(service.map(|service| (service, traffic)));
            }
            Ok(())
        });
        let (mut servers, mut carried) = (Servers::new(), BTreeMap::new());
        for (service, traffic) in services.await? {
            let id = service.id;
            if !traffic.is_empty() {
                carried.insert(id, traffic);
            }
            let request = self.message(
                command::GET_DEST,
                vec![nested(CMD_SERVICE, &attr::identity(id))],
            );
            let dests = self
                .channel
                .dump(request, BTreeMap::new, |out, _, payload| {
                    for value in of_kind(payload, CMD_DEST) {
                        out.extend(attr::dest_from(id, value?)?.map(|d| (d.addr, d)));
                    }
                    Ok(())
                });
            match dests.await {
                Ok(dests) => {
                    servers.insert(id, (service, dests));
                }
                // Deleted in the meantime.
                Err(KernelError::Refused { source, .. }) if gone(&source) => {}
                Err(e) => return Err(e),
            }
        }
        Ok((servers, carried))
    }

    /// Whether a virtual server exists. One request.
    pub(super) async fn has(&mut self, id: VirtualServerId) -> Result<bool, KernelError> {
        let request = self.message(
            command::GET_SERVICE,
            vec![nested(CMD_SERVICE, &attr::identity(id))],
        );
        match self.channel.get(request, |_, _| Ok(())).await? {
            Ok(()) => Ok(true),
            Err(e) if gone(&e) => Ok(false),
            Err(e) => Err(refused("look for a virtual server", e)),
        }
    }

    /// Applies the operations on servers in order and skips all others. Returns those that were not done.
    pub(super) async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let todo: Vec<usize> = (0..ops.len())
            .filter(|i| ops.get(*i).is_some_and(|op| Object::of(op).is_some()))
            .collect();
        // The last deletion of each object. A "set" from before that needs no second try.
        let mut deleted = HashMap::new();
        for &i in &todo {
            if let Some(op @ (Op::DelVirtualServer(_) | Op::DelRealServer(..))) = ops.get(i) {
                deleted.insert(Object::of(op), i);
            }
        }
        let mut errors = BTreeMap::new();
        let mut exists = Vec::new();
        let mut silent = false;
        for (i, op, outcome) in self.pass(ops, &todo, false).await {
            let set = matches!(op, Op::SetVirtualServer(_) | Op::SetRealServer(..));
            silent |= matches!(outcome, Outcome::Unanswered);
            match outcome {
                Outcome::Refused(e) if set && e.raw_os_error() == Some(Errno::EEXIST as i32) => {
                    if deleted.get(&Object::of(op)).is_none_or(|d| *d < i) {
                        exists.push(i);
                    }
                }
                Outcome::Refused(e) if !set && gone(&e) => {}
                outcome => errors.extend(why(op, outcome).map(|e| (i, e))),
            }
        }
        // A kernel that did not answer gets no more requests until it has been read.
        let second = if silent {
            let unsent = |&i: &usize| Some((i, ops.get(i)?, Outcome::Unsent));
            exists.iter().filter_map(unsent).collect()
        } else {
            self.pass(ops, &exists, true).await
        };
        for (i, op, outcome) in second {
            errors.extend(why(op, outcome).map(|e| (i, e)));
        }
        errors.into_iter().collect()
    }

    /// Sends the operations with the given indices, as "set" if `existing`, and reports the result of each.
    async fn pass<'a>(
        &mut self,
        ops: &'a [Op],
        indices: &[usize],
        existing: bool,
    ) -> Vec<(usize, &'a Op, Outcome)> {
        let (mut sent, mut requests) = (Vec::new(), Vec::new());
        for &i in indices {
            if let Some(op) = ops.get(i)
                && let Some(request) = self.request(op, existing)
            {
                sent.push((i, op));
                requests.push(request);
            }
        }
        let outcomes = self.channel.pipeline(&requests).await;
        let pairs = sent.into_iter().zip(outcomes);
        pairs.map(|((i, op), outcome)| (i, op, outcome)).collect()
    }

    fn request(&self, op: &Op, existing: bool) -> Option<Request<GenlMessage<Ipvs>>> {
        let service = |id| nested(CMD_SERVICE, &attr::identity(id));
        let (command, attributes) = match op {
            Op::SetVirtualServer(server) => (
                if existing {
                    command::SET_SERVICE
                } else {
                    command::NEW_SERVICE
                },
                vec![nested(CMD_SERVICE, &attr::service(server))],
            ),
            Op::DelVirtualServer(id) => (command::DEL_SERVICE, vec![service(*id)]),
            Op::SetRealServer(id, server) => (
                if existing {
                    command::SET_DEST
                } else {
                    command::NEW_DEST
                },
                vec![service(*id), nested(CMD_DEST, &attr::dest(server))],
            ),
            Op::DelRealServer(id, addr) => (
                command::DEL_DEST,
                vec![service(*id), nested(CMD_DEST, &attr::dest_identity(*addr))],
            ),
            _ => return None,
        };
        Some(Request::new(0, self.message(command, attributes)))
    }
}

/// The object of an operation.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Object {
    Service(VirtualServerId),
    Dest(VirtualServerId, SocketAddr),
}

impl Object {
    fn of(op: &Op) -> Option<Self> {
        match op {
            Op::SetVirtualServer(s) => Some(Self::Service(s.id)),
            Op::DelVirtualServer(id) => Some(Self::Service(*id)),
            Op::SetRealServer(id, s) => Some(Self::Dest(*id, s.addr)),
            Op::DelRealServer(id, addr) => Some(Self::Dest(*id, *addr)),
            _ => None,
        }
    }
}

/// `ESRCH`: no such service; `ENOENT`: no such destination.
fn gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ESRCH | Errno::ENOENT)
    )
}

/// The values of a message's attributes of one kind.
fn of_kind(payload: &[u8], wanted: u16) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let (block, short) = match behind(payload, HEADER) {
        Ok(block) => (block, None),
        Err(error) => (&[][..], Some(Err(error))),
    };
    let values = attributes(block).filter_map(move |attribute| match attribute {
        Ok((kind, value)) => (kind == wanted).then_some(Ok(value)),
        Err(error) => Some(Err(error)),
    });
    short.into_iter().chain(values)
}

/// Why an operation was not done. For a virtual server, `ENOENT` says that its scheduler is neither built in nor a module that can
/// be loaded (`ip_vs_add_service`, `ip_vs_edit_service`).
fn why(op: &Op, outcome: Outcome) -> Option<KernelError> {
    match (op, &outcome) {
        (Op::SetVirtualServer(server), Outcome::Refused(e))
            if e.raw_os_error() == Some(Errno::ENOENT as i32) =>
        {
            Some(KernelError::NoScheduler {
                name: server.scheduler.clone(),
            })
        }
        _ => outcome.error(|| describe(op)),
    }
}

fn describe(op: &Op) -> String {
    let name = |id: &VirtualServerId| match id {
        VirtualServerId::Address {
            addr,
            port,
            protocol,
        } => format!(
            "virtual server {protocol:?} {}",
            SocketAddr::new(*addr, *port)
        ),
        VirtualServerId::Fwmark { mark, family } => {
            format!("virtual server fwmark {mark} {family:?}")
        }
    };
    match op {
        Op::SetVirtualServer(s) => format!("set {} (scheduler {})", name(&s.id), s.scheduler),
        Op::DelVirtualServer(id) => format!("delete {}", name(id)),
        Op::SetRealServer(id, s) => format!("set real server {} of {}", s.addr, name(id)),
        Op::DelRealServer(id, addr) => format!("delete real server {addr} of {}", name(id)),
        other => format!("{other:?}"),
    }
}
