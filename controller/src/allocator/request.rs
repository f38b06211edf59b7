//! What a Service requests, read from its fields and annotations.

use std::net::IpAddr;

pub(super) use ferrolb_api::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::DualStack;

use crate::desired::Outcome;

/// The field of a requested address.
pub(super) const SPEC_FIELD: &str = "spec.loadBalancerIP";
/// The annotation of requested addresses (the older prefix `metallb.universe.tf/` is equivalent).
pub(super) const ANNOTATION_FIELD: &str = "metadata.annotations[metallb.io/loadBalancerIPs]";
/// The annotation of a requested pool.
pub(super) const POOL_FIELD: &str = "metadata.annotations[metallb.io/address-pool]";
/// The field that names the families.
pub(super) const FAMILIES_FIELD: &str = "spec.ipFamilies";
/// The field that determines how many families.
pub(super) const FAMILY_FIELD: &str = "spec.ipFamilyPolicy";

pub(super) const V4: Family = Family::V4;
pub(super) const V6: Family = Family::V6;

/// The address families that a Service needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// This one.
    One(Family),
    /// Both, from one pool.
    Both,
    /// Both from one pool if possible, else one of them, preferably this one.
    Prefer(Family),
}

impl Families {
    /// Derives the families from the ClusterIPs; if there are none, from `spec.ipFamilies`, then from the request; otherwise IPv4.
    fn of(service: &Service, cluster_ips: &[IpAddr], asked: &[IpAddr]) -> Self {
        let policy = service.dual_stack;
        let of = |ips: &[IpAddr]| ips.first().map(|ip| Family::of(*ip));
        let first = of(cluster_ips).or(service.primary_family);
        let first = first.or_else(|| of(asked)).unwrap_or(V4);
        let single =
            !cluster_ips.is_empty() && cluster_ips.iter().all(|ip| Family::of(*ip) == first);
        match policy {
            DualStack::Require => Self::Both,
            DualStack::Prefer if !single => Self::Prefer(first),
            DualStack::Single if !single && cluster_ips.len() > 1 => Self::Both,
            _ => Self::One(first),
        }
    }

    /// Whether these addresses (at most one per family) satisfy the requirement.
    pub(super) fn fit(self, ips: &[IpAddr]) -> bool {
        match self {
            Self::One(f) => matches!(ips, [ip] if Family::of(*ip) == f),
            Self::Both => ips.len() == 2,
            Self::Prefer(_) => !ips.is_empty(),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::One(f) => format!("one {f} address"),
            Self::Both => "one IPv4 and one IPv6 address".to_owned(),
            Self::Prefer(_) => "one address of a family, or of each".to_owned(),
        }
    }
}

/// Where the addresses must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Exactly these, from this pool if one is named.
    Addresses(Vec<IpAddr>, Option<String>),
    /// Any address of this pool.
    Pool(String),
    /// Any address.
    Any,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) source: Source,
    pub(super) families: Families,
    /// The field that holds the request.
    pub(super) field: &'static str,
}

impl Request {
    /// The order of service: Services with few choices come before those with many.
    pub(super) fn rank(&self) -> u8 {
        match self.source {
            Source::Addresses(..) => 0,
            Source::Pool(_) => 1,
            Source::Any => 2,
        }
    }

    /// Reads the request of a Service with these ClusterIPs.
    pub(super) fn of(service: &Service, cluster_ips: &[IpAddr]) -> Result<Self, Outcome> {
        let notes = &service.annotations;
        if let Some(what) = &notes.invalid {
            // The text already names the field.
            return Err(Outcome::new(Reason::InvalidRequest, "", what.clone()));
        }
        let (asked, field): (Vec<IpAddr>, _) = match service.load_balancer_ip {
            Some(ip) if notes.requested.is_empty() => (vec![ip], SPEC_FIELD),
            Some(_) => {
                return Err(Outcome::new(
                    Reason::InvalidRequest,
                    SPEC_FIELD,
                    "addresses are asked for in spec.loadBalancerIP and in the annotation loadBalancerIPs: keep one of them",
                ));
            }
            None => (notes.requested.clone(), ANNOTATION_FIELD),
        };
        let v4 = asked.iter().filter(|ip| ip.is_ipv4()).count();
        if v4 > 1 || asked.len() - v4 > 1 {
            return Err(Outcome::new(
                Reason::InvalidRequest,
                field,
                format!(
                    "it asks for {}: keep at most one address per family",
                    list(&asked)
                ),
            ));
        }
        let families = Families::of(service, cluster_ips, &asked);
        if !asked.is_empty() && !families.fit(&asked) {
            return Err(Outcome::new(
                Reason::FamilyMismatch,
                field,
                format!(
                    "it asks for {}, but by its ClusterIPs and spec.ipFamilyPolicy it needs {}: change one of them",
                    list(&asked),
                    families.describe()
                ),
            ));
        }
        Ok(match (&notes.pool, asked.is_empty()) {
            (pool, false) => Self {
                source: Source::Addresses(asked, pool.clone()),
                families,
                field,
            },
            (Some(pool), true) => Self {
                source: Source::Pool(pool.clone()),
                families,
                field: POOL_FIELD,
            },
            (None, true) => Self {
                source: Source::Any,
                families,
                field: "",
            },
        })
    }
}

/// Formats addresses for a message.
pub(super) fn list(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}
