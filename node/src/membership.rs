//! Determines who the members are. The speaker, the agreement on addresses and the status all use this one answer, which is kept
//! up to date while the node runs.
//!
//! A member is a node on which an agent runs or is meant to run. The number of members is the denominator of every majority. If
//! the members are listed by hand, the list is the answer. Otherwise the Node objects name the nodes. The EndpointSlices of a
//! headless Service over the agents' pods (`publishNotReadyAddresses: true`) name the nodes with an agent:
//!
//! - The slices count once they name this node, because only then are they known to be about these agents. Until then, every Node
//!   counts.
//! - A node that once had an agent stays a member until its Node object is deleted. So nobody is forgotten when a rollout
//!   replaces a pod or when a slice is empty for a moment.
//! - A member listens on the first InternalIP of its Node, IPv4 before IPv6. If its Node has none, it listens on the address of
//!   its agent's pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::view::{EndpointSlice, Node};

#[cfg(test)]
mod tests;

/// A known node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Where its agent listens; `None` if unknown.
    pub address: Option<IpAddr>,
    /// An agent runs there or is meant to run there, so the node is a member.
    pub agent: bool,
}

/// The names and addresses of the members.
pub type Members = BTreeMap<String, Option<IpAddr>>;

/// The known nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    me: String,
    /// Where this node listens, if no object says so.
    own: Option<IpAddr>,
    roll: Roll,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Roll {
    Listed(BTreeMap<String, IpAddr>),
    Followed(Box<Followed>),
}

/// What the objects say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Followed {
    /// The headless Service over the agents' pods.
    service: Option<ObjectKey>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    /// By slice: the nodes, with the address of their agent.
    slices: BTreeMap<ObjectKey, Vec<(String, IpAddr)>>,
    /// Nodes that have or had an agent, with the agent's last address.
    agents: BTreeMap<String, IpAddr>,
    /// The slices have named this node.
    trusted: bool,
}

impl Membership {
    /// Members that are listed by hand.
    pub fn listed(me: &str, members: BTreeMap<String, IpAddr>) -> Self {
        Self {
            me: me.to_owned(),
            own: None,
            roll: Roll::Listed(members),
        }
    }

    /// Members that the objects name. `agents`: the headless Service over the agents' pods, if there may be one.
    pub fn followed(me: &str, own: Option<IpAddr>, agents: Option<ObjectKey>) -> Self {
        Self {
            me: me.to_owned(),
            own,
            roll: Roll::Followed(Box::new(Followed {
                service: agents,
                ..Followed::default()
            })),
        }
    }

    /// Takes in a change.
    pub fn apply(&mut self, change: &Change) {
        let Roll::Followed(roll) = &mut self.roll else {
            return;
        };
        match change {
            Change::Upsert(Object::Node(node)) => roll.node(node),
            Change::Remove(Kind::Node, key) => {
                roll.nodes.remove(&key.name);
                roll.agents.remove(&key.name);
            }
            Change::Upsert(Object::EndpointSlice(slice)) => roll.slice(slice, &self.me),
            Change::Remove(Kind::EndpointSlice, key) => {
                roll.slices.remove(key);
            }
            _ => {}
        }
    }

    /// Every known node, including this one.
    pub fn known(&self) -> BTreeMap<String, Known> {
        let mut known: BTreeMap<String, Known> = match &self.roll {
            Roll::Listed(list) => list
                .iter()
                .map(|(name, ip)| {
                    let known = Known {
                        address: Some(*ip),
                        agent: true,
                    };
                    (name.clone(), known)
                })
                .collect(),
            Roll::Followed(roll) => roll.known(),
        };
        let me = known.entry(self.me.clone()).or_insert(Known {
            address: None,
            agent: true,
        });
        me.agent = true;
        me.address = me.address.or(self.own);
        known
    }

    /// The members, including this node.
    pub fn members(&self) -> Members {
        let known = self.known().into_iter();
        known
            .filter(|(_, k)| k.agent)
            .map(|(name, k)| (name, k.address))
            .collect()
    }
}

impl Followed {
    fn node(&mut self, node: &Node) {
        let ips = node.internal_ips.clone();
        if self.nodes.insert(node.name.clone(), ips).is_none() {
            // The node's slice may have arrived before the Node object, or stayed when the Node object was deleted.
            let mut named = self.slices.values().flatten();
            let agent = named.rfind(|(name, _)| *name == node.name);
            self.agents.extend(agent.cloned());
        }
    }

    fn slice(&mut self, slice: &EndpointSlice, me: &str) {
        if self.service.as_ref() != Some(&slice.service_key()) {
            // The slice may have belonged to the Service before its label changed.
            self.slices.remove(&slice.key);
            return;
        }
        let endpoints = slice.endpoints.iter();
        let named: Vec<(String, IpAddr)> = endpoints
            .filter_map(|e| Some((e.node.clone()?, e.address)))
            .collect();
        self.trusted |= named.iter().any(|(name, _)| name == me);
        self.agents.extend(named.iter().cloned());
        self.slices.insert(slice.key.clone(), named);
    }

    fn known(&self) -> BTreeMap<String, Known> {
        // An agent whose Node is gone is not a member, even if a slice still names it.
        let nodes = self.nodes.iter().map(|(name, ips)| {
            let agent = self.agents.get(name);
            let known = Known {
                address: listening(ips).or(agent.copied()),
                agent: !self.trusted || agent.is_some(),
            };
            (name.clone(), known)
        });
        nodes.collect()
    }
}

/// The address on which a node with these InternalIPs listens.
fn listening(ips: &[IpAddr]) -> Option<IpAddr> {
    let v4 = ips.iter().find(|ip| ip.is_ipv4());
    v4.or(ips.first()).copied()
}
