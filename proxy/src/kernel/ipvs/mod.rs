//! IPVS of one network namespace, over generic netlink.
//!
//! Asking for the family makes the kernel load `ip_vs`; schedulers are loaded by it when a service names them. Changes are sent as
//! "new" first and as "set" where the object exists, many to a datagram.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

mod attr;
mod message;
#[cfg(test)]
mod tests;
mod timeouts;

use super::netlink::{Channel, Request, refused};
use super::{KernelError, Op, RealServer, VirtualServer, VirtualServerId};
use attr::{CMD_DEST, CMD_SERVICE, nested};
use message::{FAMILY, Ipvs, command};

/// Every virtual server with its real servers by address.
pub(super) type Servers =
    BTreeMap<VirtualServerId, (VirtualServer, BTreeMap<SocketAddr, RealServer>)>;

/// The family `IPVS` in one network namespace.
#[derive(Debug)]
pub(super) struct IpVs {
    channel: Channel,
    family: u16,
}

impl IpVs {
    /// Resolves the family, which loads `ip_vs`.
    pub(super) async fn open() -> Result<Self, KernelError> {
        let mut channel = Channel::open(NETLINK_GENERIC, "IPVS")?;
        let request = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
        });
        let answer = match channel.get(request).await? {
            Ok(answer) => answer,
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
        let family = answer
            .payload
            .nlas
            .iter()
            .find_map(|nla| match nla {
                GenlCtrlAttrs::FamilyId(id) => Some(*id),
                _ => None,
            })
            .ok_or_else(|| KernelError::Protocol {
                what: "find the netlink family IPVS".to_owned(),
                detail: "no family id".to_owned(),
            })?;
        let mut ipvs = Self { channel, family };
        // Anybody may ask for the family; only the administrator of the network gets an answer from it.
        let request = ipvs.message(command::GET_INFO, Vec::new());
        match ipvs.channel.get(request).await? {
            Ok(_) => Ok(ipvs),
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

    /// Reads all virtual servers and their real servers.
    pub(super) async fn read(&mut self) -> Result<Servers, KernelError> {
        let request = self.message(command::GET_SERVICE, Vec::new());
        let services = self
            .channel
            .dump(request, Vec::new, |out, m: GenlMessage<Ipvs>| {
                for nla in &m.payload.attributes {
                    if nla.kind() & !netlink_packet_core::NLA_F_NESTED == CMD_SERVICE {
                        out.extend(attr::service_from(&value(nla))?);
                    }
                }
                Ok(())
            })
            .await?;
        let mut servers = Servers::new();
        for service in services {
            let id = service.id;
            let request = self.message(
                command::GET_DEST,
                vec![nested(CMD_SERVICE, &attr::identity(id))],
            );
            let dests = self
                .channel
                .dump(request, BTreeMap::new, |out, m: GenlMessage<Ipvs>| {
                    for nla in &m.payload.attributes {
                        if nla.kind() & !netlink_packet_core::NLA_F_NESTED == CMD_DEST {
                            out.extend(attr::dest_from(id, &value(nla))?.map(|d| (d.addr, d)));
                        }
                    }
                    Ok(())
                })
                .await;
            match dests {
                Ok(dests) => {
                    servers.insert(id, (service, dests));
                }
                // Deleted since.
                Err(KernelError::Refused { source, .. }) if gone(&source) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(servers)
    }

    /// Whether a virtual server is there. One request.
    pub(super) async fn has(&mut self, id: VirtualServerId) -> Result<bool, KernelError> {
        let request = self.message(
            command::GET_SERVICE,
            vec![nested(CMD_SERVICE, &attr::identity(id))],
        );
        match self.channel.get(request).await? {
            Ok(_) => Ok(true),
            Err(e) if gone(&e) => Ok(false),
            Err(e) => Err(refused("look for a virtual server", e)),
        }
    }

    /// Applies the operations on servers in order; others are skipped.
    pub(super) async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let todo: Vec<usize> = (0..ops.len())
            .filter(|i| ops.get(*i).is_some_and(|op| Object::of(op).is_some()))
            .collect();
        // Where an object is deleted last: what was to be set before that needs no second try.
        let mut deleted = HashMap::new();
        for &i in &todo {
            if let Some(op @ (Op::DelVirtualServer(_) | Op::DelRealServer(..))) = ops.get(i) {
                deleted.insert(Object::of(op), i);
            }
        }
        let mut errors = Vec::new();
        let mut exists = BTreeSet::new();
        self.pass(ops, &todo, false, |i, op, error| {
            let set = matches!(op, Op::SetVirtualServer(_) | Op::SetRealServer(..));
            if set && error.raw_os_error() == Some(Errno::EEXIST as i32) {
                if deleted.get(&Object::of(op)).is_none_or(|d| *d < i) {
                    exists.insert(i);
                }
            } else if set || !gone(&error) {
                errors.push((i, refused(describe(op), error)));
            }
        })
        .await
        .unwrap_or_else(|e| errors.extend(todo.first().map(|i| (*i, e))));
        let exists: Vec<usize> = exists.into_iter().collect();
        self.pass(ops, &exists, true, |i, op, error| {
            errors.push((i, refused(describe(op), error)));
        })
        .await
        .unwrap_or_else(|e| errors.extend(exists.first().map(|i| (*i, e))));
        errors.sort_by_key(|(i, _)| *i);
        errors
    }

    /// Sends the operations with the given indices, as "set" where `existing`, and reports what was refused.
    async fn pass(
        &mut self,
        ops: &[Op],
        indices: &[usize],
        existing: bool,
        mut refused: impl FnMut(usize, &Op, io::Error),
    ) -> Result<(), KernelError> {
        if indices.is_empty() {
            return Ok(());
        }
        let requests: Vec<_> = indices
            .iter()
            .filter_map(|i| self.request(ops.get(*i)?, existing))
            .collect();
        let results = self.channel.pipeline(&requests).await?;
        for (i, error) in indices.iter().zip(results) {
            if let (Some(op), Some(error)) = (ops.get(*i), error) {
                refused(*i, op, error);
            }
        }
        Ok(())
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

/// What an operation is about.
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

fn value(nla: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; nla.value_len()];
    nla.emit_value(&mut value);
    value
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
