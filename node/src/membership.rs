//! Who the members are: one answer for the speaker, for the agreement on addresses and for the status, followed while the node runs.
//!
//! A member is a node on which an agent runs or is meant to run, and the number of members is the denominator of every majority.
//! Where the members are listed by hand, the list is the answer. Elsewhere the Node objects name the nodes, and the
//! EndpointSlices of a headless Service over the agents' pods (`publishNotReadyAddresses: true`) name those with an agent:
//!
//! - The slices count once they name this node, for then they are known to be about these agents. Before that every Node counts.
//! - A node that had an agent once stays a member until its Node object is deleted. A pod that is replaced in a roll-out, or a slice
//!   that is empty for a moment, forgets nobody.
//! - A member listens on the first InternalIP of its Node, IPv4 before IPv6; where its Node says none, on the address of its agent's pod.

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
    /// Where its agent listens; `None` where nothing says it.
    pub address: Option<IpAddr>,
    /// An agent runs there or is meant to: it is a member.
    pub agent: bool,
}

/// Names and addresses of the members.
pub type Members = BTreeMap<String, Option<IpAddr>>;

/// The known nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    me: String,
    /// Where this node listens, if nothing else says it.
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
    /// Nodes with the address of their agent, by slice.
    slices: BTreeMap<ObjectKey, Vec<(String, IpAddr)>>,
    /// Nodes that have or had an agent, and the last address of it.
    agents: BTreeMap<String, IpAddr>,
    /// The slices have named this node.
    trusted: bool,
}

impl Membership {
    /// The members that somebody listed.
    pub fn listed(me: &str, members: BTreeMap<String, IpAddr>) -> Self {
        Self {
            me: me.to_owned(),
            own: None,
            roll: Roll::Listed(members),
        }
    }

    /// The members that the objects name. `agents`: the headless Service over the agents' pods, where there may be one.
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

    /// Every known node, this one included.
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

    /// The members, this node included.
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
            // Its slice may have come before it, or stayed when it was deleted.
            let mut named = self.slices.values().flatten();
            let agent = named.rfind(|(name, _)| *name == node.name);
            self.agents.extend(agent.cloned());
        }
    }

    fn slice(&mut self, slice: &EndpointSlice, me: &str) {
        if self.service.as_ref() != Some(&slice.service_key()) {
            // It may have been of the Service before its label changed.
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
        // An agent whose Node is gone is no member, whatever a slice still says.
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

/// The address that a node with these InternalIPs listens on.
fn listening(ips: &[IpAddr]) -> Option<IpAddr> {
    let v4 = ips.iter().find(|ip| ip.is_ipv4());
    v4.or(ips.first()).copied()
}
