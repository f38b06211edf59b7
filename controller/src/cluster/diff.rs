//! What must be written to a Service so that it shows its assignment. Pure.
//!
//! | Service | what it should show |
//! |---|---|
//! | load balancer of our class | its assignment, possibly none |
//! | not a load balancer, but has our annotation | nothing: it used to be one |
//! | anything else, in particular another class | left alone, whatever it shows |

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;

use crate::assignment::Assignment;

/// One write: everything that a controller sets on a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which Service.
    pub key: ObjectKey,
    /// `metadata.uid` of the Service that was decided on. The write does not apply to a recreated Service of the same name.
    pub uid: String,
    /// `status.loadBalancer.ingress`, the complete list.
    pub addresses: Vec<IpAddr>,
    /// The annotation `ip-allocated-from-pool`; `None` removes it.
    pub pool: Option<String>,
    /// What the status showed at the time of the decision.
    pub before: Vec<IpAddr>,
}

impl Write {
    /// Whether both writes have the same result, regardless of the previous status.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.addresses == other.addresses && self.pool == other.pool
    }
}

/// What must be written to the Service, if anything. `class` is the class of this controller.
pub fn diff(
    service: &Service,
    assignment: Option<&Assignment>,
    class: Option<&str>,
) -> Option<Write> {
    let noted = &service.annotations.allocated_from;
    let (addresses, pool) = match service.balancer(class) {
        Balancer::Ours => assignment.map_or((&[][..], &None), |a| (&a.addresses[..], &a.pool)),
        Balancer::None if noted.is_some() => (&[][..], &None),
        Balancer::None | Balancer::Other => return None,
    };
    let shown = service.ingress.iter();
    let same = shown.clone().map(|i| i.ip).eq(addresses.iter().copied());
    let shows = same && shown.clone().all(|i| i.vip) && !service.ingress_is_mixed;
    (!shows || noted != pool).then(|| Write {
        key: service.key.clone(),
        uid: service.uid.clone(),
        addresses: addresses.to_vec(),
        pool: pool.clone(),
        before: shown.map(|i| i.ip).collect(),
    })
}
