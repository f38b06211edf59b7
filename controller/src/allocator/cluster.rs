//! ClusterIPs in standalone mode, where ferrolb takes the API server's role. They come from `--service-cidr` and never move once
//! assigned.
//!
//! Like the API server, it grants any address that a Service names, inside or outside the ranges. Unlike the API server, it
//! assigns the lowest free address. It assigns the network address and the first address after it (the Service `kubernetes`) only
//! on request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{Service, ServiceType};
use ipnet::IpNet;

use super::request::{FAMILIES_FIELD, FAMILY_FIELD, Family};
use crate::desired::Outcome;
use crate::pool::range::{Runs, next, previous};

const FIELD: &str = "spec.clusterIP";

/// Whether a Service uses ClusterIPs at all.
pub(super) fn has_any(service: &Service) -> bool {
    !service.headless && service.service_type != ServiceType::ExternalName
}

/// Which Service holds which ClusterIP.
#[derive(Debug, Default)]
pub(super) struct ClusterIps {
    holders: BTreeMap<IpAddr, ObjectKey>,
    taken: Runs,
}

impl ClusterIps {
    pub(super) fn insert(&mut self, ips: &[IpAddr], key: &ObjectKey) {
        for ip in ips {
            self.holders.insert(*ip, key.clone());
            self.taken.insert(*ip);
        }
    }

    pub(super) fn remove(&mut self, ips: &[IpAddr], key: &ObjectKey) {
        for ip in ips {
            if self.holders.get(ip) == Some(key) {
                self.holders.remove(ip);
                self.taken.remove(*ip);
            }
        }
    }

    /// The Service that has this ClusterIP.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&ObjectKey> {
        self.holders.get(&ip)
    }

    fn other(&self, ip: IpAddr, key: &ObjectKey) -> Option<&ObjectKey> {
        self.holders.get(&ip).filter(|holder| *holder != key)
    }

    /// Adopts the Service's existing addresses, except those that another Service already holds.
    pub(super) fn adopt(&mut self, service: &Service, old: &[IpAddr]) -> Vec<IpAddr> {
        if !has_any(service) {
            return Vec::new();
        }
        let key = &service.key;
        let mut kept: Vec<IpAddr> = old
            .iter()
            .copied()
            .filter(|ip| self.other(*ip, key).is_none())
            .collect();
        let single = service.dual_stack == DualStack::Single && service.cluster_ips.len() < 2;
        if let Some(first) = service.primary_family {
            // Of a family that is asked for no more nothing is kept, unless the Service names it.
            kept.retain(|ip| {
                !single || Family::of(*ip) == first || service.cluster_ips.contains(ip)
            });
            kept.sort_by_key(|ip| Family::of(*ip) != first);
        }
        if single {
            kept.truncate(1);
        }
        self.insert(&kept, key);
        kept
    }

    /// Grants the ClusterIPs that the Service names. `held` is what it has, and keeps if it cannot have those. `taken`: why an
    /// address is left to load balancers.
    pub(super) fn grant(
        &mut self,
        service: &Service,
        held: &mut Vec<IpAddr>,
        taken: impl Fn(IpAddr) -> Option<String>,
    ) -> Result<(), Outcome> {
        let key = &service.key;
        for ip in &service.cluster_ips {
            if let Some(holder) = self.other(*ip, key) {
                return Err(Outcome::new(
                    Reason::AddressInUse,
                    FIELD,
                    format!("it names {ip}, which Service {holder} has: name another one, or none"),
                ));
            }
        }
        for ip in &service.cluster_ips {
            if let Some(why) = taken(*ip) {
                let text = format!("it names {ip}, {why}: name another one, or none");
                return Err(Outcome::new(Reason::AddressOwned, FIELD, text));
            }
        }
        self.remove(held, key);
        held.clone_from(&service.cluster_ips);
        self.insert(held, key);
        Ok(())
    }

    /// Adds the lowest free ClusterIP of each family that the Service still needs. `balanced`: load-balancer addresses within
    /// `cidrs`.
    pub(super) fn fill(
        &mut self,
        service: &Service,
        held: &mut Vec<IpAddr>,
        cidrs: &[IpNet],
        balanced: &BTreeSet<IpAddr>,
    ) -> Result<(), Outcome> {
        let single = service.dual_stack == DualStack::Single;
        if cidrs.is_empty() {
            // A load balancer can be announced without a ClusterIP; a plain Service has no other address.
            if held.is_empty() && service.service_type != ServiceType::LoadBalancer {
                return Err(Outcome::new(
                    Reason::NoClusterIp,
                    FIELD,
                    "no range for ClusterIPs is configured: set --service-cidr, or name an address",
                ));
            }
            return Ok(());
        }
        if single && !held.is_empty() {
            return Ok(());
        }
        let first = service.primary_family;
        if let Some(family) = first
            && !cidrs.iter().any(|cidr| Family::of(cidr.addr()) == family)
        {
            return Err(Outcome::new(
                Reason::NoClusterIp,
                FAMILIES_FIELD,
                format!(
                    "it asks for {family}, of which --service-cidr has no range: add one, or ask for the other family"
                ),
            ));
        }
        let mut cidrs: Vec<&IpNet> = cidrs.iter().collect();
        cidrs.sort_by_key(|cidr| first.is_some_and(|f| Family::of(cidr.addr()) != f));
        let mut full = Vec::new();
        for cidr in cidrs.iter().take(if single { 1 } else { cidrs.len() }) {
            let family = Family::of(cidr.addr());
            if held.iter().any(|ip| Family::of(*ip) == family) {
                continue;
            }
            match self.lowest_free(cidr, balanced) {
                Some(ip) => {
                    self.insert(&[ip], &service.key);
                    held.push(ip);
                }
                None => full.push(cidr.to_string()),
            }
        }
        held.sort_by_key(|ip| first.is_some_and(|f| Family::of(*ip) != f));
        if !full.is_empty() {
            return Err(Outcome::new(
                Reason::NoClusterIp,
                FIELD,
                format!(
                    "no address is left in {}: widen --service-cidr",
                    full.join(" and ")
                ),
            ));
        }
        if service.dual_stack == DualStack::Require && held.len() < 2 {
            return Err(Outcome::new(
                Reason::NoClusterIp,
                FAMILY_FIELD,
                "RequireDualStack needs --service-cidr with a range of each family",
            ));
        }
        Ok(())
    }

    fn lowest_free(&self, cidr: &IpNet, held: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let first = next(next(cidr.network())?)?;
        let last = match cidr {
            IpNet::V4(_) => previous(cidr.broadcast())?,
            IpNet::V6(_) => cidr.broadcast(),
        };
        let usable = |ip| match held.contains(&ip) {
            true => Err(ip),
            false => Ok(()),
        };
        self.taken.first_free(first, last, usable)
    }
}
