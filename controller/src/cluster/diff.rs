//! What must be written on one Service so that it shows its assignment: pure.
//!
//! | the Service | what it should show |
//! |---|---|
//! | a load balancer of our class | its assignment, perhaps none |
//! | no load balancer, with our annotation | nothing: it was one |
//! | anything else, above all one of another class | is left alone, whatever it shows |

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;

use crate::assignment::Assignment;

/// One write: the whole of what a controller says on a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which Service.
    pub key: ObjectKey,
    /// `metadata.uid` of the Service that was decided on; one that was made anew under its name is not meant.
    pub uid: String,
    /// `status.loadBalancer.ingress`, all of it.
    pub addresses: Vec<IpAddr>,
    /// The annotation `ip-allocated-from-pool`; `None`: it is removed.
    pub pool: Option<String>,
    /// What the status showed when this was decided.
    pub before: Vec<IpAddr>,
}

impl Write {
    /// Whether it leads to the same as another one, whatever was there before.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.addresses == other.addresses && self.pool == other.pool
    }
}

/// What must be written on the Service, if anything. `class`: that of this controller.
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
