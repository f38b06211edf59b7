//! Chooses the endpoints of all ports of a Service at once.
//!
//! Which endpoints a node may use depends on the endpoints, not on the port. So ports that are served by the same slices share
//! one choice and differ only in the number of the target port. The work is ports + endpoints, whereas [`select`] for each port
//! would take ports x endpoints: 1,000 ports with 5,000 endpoints take milliseconds instead of seconds.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{Selection, Target, choose, precedence, select};
use crate::Family;
use crate::view::{EndpointPort, EndpointSlice, Protocol, Service, ServicePort};

#[cfg(test)]
mod tests;

/// The endpoints of one Service in one family, for each of its ports.
#[derive(Debug, Clone, Default)]
pub struct Choices<'a> {
    shared: Vec<Selection<'a>>,
    ports: Vec<Chosen>,
}

/// The endpoints of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The index into [`Choices::shared`].
    pub choice: usize,
    /// The target port numbers.
    pub numbers: Numbers,
}

/// The target port of each endpoint in a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// The same number for all of them.
    One(u16),
    /// The port lists in the slices assign different numbers; indexed by port list.
    ByList(Vec<u16>),
    /// The targets already include the port. Only this port uses the choice.
    Given,
}

impl Numbers {
    /// The address and port of a target, from its own address and [`Target::list`].
    pub fn resolve(&self, addr: SocketAddr, list: usize) -> SocketAddr {
        let port = match self {
            Self::One(number) => *number,
            Self::ByList(numbers) => numbers.get(list).copied().unwrap_or_default(),
            Self::Given => addr.port(),
        };
        SocketAddr::new(addr.ip(), port)
    }
}

impl<'a> Choices<'a> {
    /// For every port of a Service, chooses what [`select`] would choose for it.
    pub fn new(
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
        service: &Service,
        family: Family,
        node: &str,
        zone: Option<&str>,
    ) -> Self {
        let lists = Lists::new(slices.clone(), family, node);
        let mut known: HashMap<Vec<usize>, Shared> = HashMap::new();
        let mut out = Self::default();
        for port in &service.ports {
            let chosen = lists.numbers(port).and_then(|(which, numbers)| {
                let shared = known.entry(which).or_insert_with_key(|which| {
                    let (targets, twice) = lists.targets(which);
                    out.shared.push(choose(&targets, service, node, zone));
                    let choice = out.shared.len() - 1;
                    Shared { choice, twice }
                });
                // An address with several port numbers counts as several targets.
                let fits = !shared.twice || matches!(numbers, Numbers::One(_));
                fits.then_some(Chosen {
                    choice: shared.choice,
                    numbers,
                })
            });
            let chosen = chosen.unwrap_or_else(|| {
                let slices = slices.clone();
                out.shared
                    .push(select(slices, service, port, family, node, zone));
                Chosen {
                    choice: out.shared.len() - 1,
                    numbers: Numbers::Given,
                }
            });
            out.ports.push(chosen);
        }
        out
    }

    /// The distinct choices. The ports in their targets are meaningful only with [`Numbers::Given`].
    pub fn shared(&self) -> &[Selection<'a>] {
        &self.shared
    }

    /// Whether a port, by its index, has an endpoint for new connections.
    pub fn serves(&self, port: usize) -> bool {
        let choice = self.ports.get(port).and_then(|p| self.shared.get(p.choice));
        choice.is_some_and(|selection| !selection.cluster.is_empty())
    }

    /// What each port of the Service uses, in port order.
    pub fn ports(&self) -> &[Chosen] {
        &self.ports
    }
}

/// A choice that several ports may use.
struct Shared {
    choice: usize,
    /// An address appears under several port lists.
    twice: bool,
}

/// The slices of a Service, grouped by port list.
struct Lists<'a> {
    /// For each list, its port numbers by name and protocol; `None` if one name has several.
    numbers: Vec<HashMap<(&'a str, Protocol), Option<u16>>>,
    /// All endpoints in slice order, each with its port list.
    targets: Vec<Target<'a>>,
}

impl<'a> Lists<'a> {
    fn new(slices: impl Iterator<Item = &'a EndpointSlice>, family: Family, node: &str) -> Self {
        let mut known: HashMap<&[EndpointPort], usize> = HashMap::new();
        let mut lists = Self {
            numbers: Vec::new(),
            targets: Vec::new(),
        };
        for slice in slices {
            let list = *known.entry(slice.ports.as_slice()).or_insert_with(|| {
                let mut numbers = HashMap::with_capacity(slice.ports.len());
                for port in slice.ports.iter().filter(|p| p.port != 0) {
                    let several = |known: &mut Option<u16>| {
                        *known = known.filter(|number| *number == port.port);
                    };
                    numbers
                        .entry((port.name.as_str(), port.protocol))
                        .and_modify(several)
                        .or_insert(Some(port.port));
                }
                lists.numbers.push(numbers);
                lists.numbers.len() - 1
            });
            let of_family = slice.endpoints.iter();
            let of_family = of_family.filter(|e| Family::of(e.address) == family);
            lists.targets.extend(of_family.map(|endpoint| Target {
                addr: SocketAddr::new(endpoint.address, 0),
                endpoint,
                local: endpoint.node.as_deref() == Some(node),
                list,
            }));
        }
        lists
    }

    /// The lists that contain the port, and its number in each; `None` if one of them has several numbers for it.
    fn numbers(&self, port: &ServicePort) -> Option<(Vec<usize>, Numbers)> {
        let mut which = Vec::new();
        let mut numbers = vec![0; self.numbers.len()];
        let mut one = None;
        let mut differ = false;
        for (list, known) in self.numbers.iter().enumerate() {
            if let Some(number) = known.get(&(port.name.as_str(), port.protocol)) {
                let number = (*number)?;
                which.push(list);
                differ |= *one.get_or_insert(number) != number;
                if let Some(slot) = numbers.get_mut(list) {
                    *slot = number;
                }
            }
        }
        let numbers = if differ {
            Numbers::ByList(numbers)
        } else {
            Numbers::One(one.unwrap_or_default())
        };
        Some((which, numbers))
    }

    /// The targets under these lists, each address once, in order; and whether an address appears under several lists.
    fn targets(&self, which: &[usize]) -> (Vec<Target<'a>>, bool) {
        let all = which.len() == self.numbers.len();
        let mine = self.targets.iter();
        let mine = mine.filter(|t| all || which.binary_search(&t.list).is_ok());
        let mut targets: Vec<Target<'a>> = mine.copied().collect();
        targets.sort_by_key(|t| (t.addr.ip(), precedence(t)));
        let twice = targets
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.addr == b.addr && a.list != b.list));
        targets.dedup_by_key(|t| t.addr);
        (targets, twice)
    }
}
