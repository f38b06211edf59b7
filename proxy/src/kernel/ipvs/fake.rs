//! A fake IPVS for tests, at the level of generic netlink messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use netlink_packet_core::{DefaultNla, Emitable};
use nix::errno::Errno;

use super::super::netlink::attr::{attributes, behind};
use super::super::netlink::faulty::{Message, Peer, Said, nla};
use super::attr::{self, CMD_DEST, CMD_SERVICE};
use super::message::{HEADER, command};
use super::{CTRL_FAMILY_ID, Servers};

const GENL_ID_CTRL: u16 = 16;
const FAMILY_ID: u16 = 0x20;

/// The virtual servers.
#[derive(Debug, Default)]
pub(in crate::kernel) struct FakeIpvs {
    pub(in crate::kernel) servers: Servers,
    /// The schedulers that are not there.
    pub(in crate::kernel) lacks: Vec<&'static str>,
}

fn emit(kind: u16, inner: &[DefaultNla]) -> Vec<u8> {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    nla(kind, &value)
}

impl Peer for FakeIpvs {
    fn answer(&mut self, messages: &[Message]) -> Vec<Said> {
        messages.iter().map(|m| self.one(m)).collect()
    }
}

impl FakeIpvs {
    fn one(&mut self, message: &Message) -> Said {
        let header = || vec![0; HEADER];
        let payload = &message.payload;
        if message.kind == GENL_ID_CTRL {
            let id = nla(CTRL_FAMILY_ID, &FAMILY_ID.to_ne_bytes());
            return Ok(vec![(GENL_ID_CTRL, [header(), id].concat())]);
        }
        assert_eq!(message.kind, FAMILY_ID);
        let found: BTreeMap<u16, &[u8]> = attributes(behind(payload, HEADER).unwrap())
            .map(Result::unwrap)
            .collect();
        let service = || attr::service_from(found[&CMD_SERVICE]).unwrap().unwrap();
        let dest = |id| attr::dest_from(id, found[&CMD_DEST]).unwrap().unwrap();
        let reply = |attributes: Vec<u8>| (FAMILY_ID, [header(), attributes].concat());
        match payload[0] {
            command::GET_INFO => Ok(vec![reply(Vec::new())]),
            command::GET_SERVICE if message.is_dump() => {
                let each = self.servers.values();
                Ok(each
                    .map(|(s, _)| reply(emit(CMD_SERVICE, &attr::service(s))))
                    .collect())
            }
            command::GET_SERVICE => {
                let (server, _) = self.servers.get(&service().id).ok_or(Errno::ESRCH)?;
                Ok(vec![reply(emit(CMD_SERVICE, &attr::service(server)))])
            }
            command::GET_DEST => {
                let (_, reals) = self.servers.get(&service().id).ok_or(Errno::ESRCH)?;
                let each = reals.values();
                Ok(each
                    .map(|d| reply(emit(CMD_DEST, &attr::dest(d))))
                    .collect())
            }
            command::NEW_SERVICE => {
                let server = service();
                if self.servers.contains_key(&server.id) {
                    return Err(Errno::EEXIST);
                }
                if self.lacks.contains(&server.scheduler.as_str()) {
                    return Err(Errno::ENOENT);
                }
                self.servers.insert(server.id, (server, BTreeMap::new()));
                Ok(Vec::new())
            }
            command::SET_SERVICE => {
                let server = service();
                let place = self.servers.get_mut(&server.id);
                place.ok_or(Errno::ESRCH)?.0 = server;
                Ok(Vec::new())
            }
            command::DEL_SERVICE => {
                let gone = self.servers.remove(&service().id);
                gone.map(|_| Vec::new()).ok_or(Errno::ESRCH)
            }
            command @ (command::NEW_DEST | command::SET_DEST | command::DEL_DEST) => {
                let id = service().id;
                let dest = dest(id);
                let (_, reals) = self.servers.get_mut(&id).ok_or(Errno::ESRCH)?;
                match (command, reals.contains_key(&dest.addr)) {
                    (command::NEW_DEST, true) => return Err(Errno::EEXIST),
                    (command::SET_DEST | command::DEL_DEST, false) => return Err(Errno::ENOENT),
                    (command::DEL_DEST, true) => {
                        reals.remove(&dest.addr);
                    }
                    _ => {
                        reals.insert(dest.addr, dest);
                    }
                }
                Ok(Vec::new())
            }
            other => panic!("command {other}"),
        }
    }
}

impl<S: super::Socket> super::IpVs<S> {
    /// The same kernel over another socket.
    pub(in crate::kernel) fn with_socket<T: super::Socket>(self, socket: T) -> super::IpVs<T> {
        super::IpVs {
            channel: super::Channel::new(socket, "test"),
            family: self.family,
        }
    }
}
