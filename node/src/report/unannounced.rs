//! Explains why no node announces an address, in one sentence that names the object, the field and what to do.

use std::net::IpAddr;

use ferrolb_api::ownership::Owner;
use ferrolb_api::reason::Reason;
use ferrolb_speaker::snapshot::Advertised;

/// What the sentence is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unannounced<'a> {
    /// The address.
    pub(crate) ip: IpAddr,
    /// Its pool, if known.
    pub(crate) pool: Option<&'a str>,
    /// The node that reports it.
    pub(crate) node: &'a str,
    /// Why this node does not announce the address.
    pub(crate) reason: Reason,
    /// To whom the address belongs, if that is why.
    pub(crate) owned: Option<&'a Owner>,
    /// What covers the address and does not fit this node, if that is why.
    pub(crate) advertised: Option<&'a Advertised>,
}

impl Unannounced<'_> {
    /// The sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { ip, node, .. } = self;
        format!("no node announces {ip}. Node {node}: {}", self.why())
    }

    fn why(&self) -> String {
        let Self {
            ip, node, reason, ..
        } = self;
        let pool = match self.pool {
            Some(pool) => format!("pool {pool:?}"),
            None => "its pool".to_owned(),
        };
        match reason {
            Reason::AddressOwned => format!(
                "{ip} belongs to {}, so no node announces it. Take it out of {pool}, or away from its owner{}",
                self.owned.map_or_else(|| "somebody else".to_owned(), ToString::to_string),
                match self.owned {
                    Some(Owner::Host(_)) => ". If that is a router that answers for every address, start the nodes with --no-probes",
                    _ => "",
                }
            ),
            Reason::AddressUnchecked => {
                "it asks the network whether a host has the address, which takes a fifth of a second".to_owned()
            }
            Reason::NoAdvertisement => format!(
                "no L2Advertisement selects {pool}. Add one, or select the pool in spec.ipAddressPools or spec.ipAddressPoolSelectors of one"
            ),
            Reason::NodeNotSelected => format!(
                "spec.nodeSelectors of {} selects other nodes for {pool}. Check that those nodes run ferrolb, or select this one",
                self.advertisements()
            ),
            Reason::NodeExcluded => format!(
                "the Node has the label node.kubernetes.io/exclude-from-external-load-balancers. Remove it with \
                 `kubectl label node {node} node.kubernetes.io/exclude-from-external-load-balancers-`"
            ),
            Reason::NetworkUnavailable => {
                "its Node has the condition NetworkUnavailable. Check the network plugin of the node".to_owned()
            }
            Reason::NodeLeaving => {
                "the Node is being deleted or drained, or has no Node object".to_owned()
            }
            Reason::NoLocalEndpoint => {
                "spec.externalTrafficPolicy of the Service is Local and no ready endpoint runs here. Check the pods of the Service".to_owned()
            }
            Reason::NotProgrammed => {
                "the address is not in the kernel yet. If this lasts, the problems of this node say why".to_owned()
            }
            Reason::NoInterface => match self.advertised.map(|a| &a.on) {
                Some(on) if !on.is_empty() => format!(
                    "spec.interfaces of {} names {}, and no such interface of this node is up and has an address in the subnet of {ip}. Name \
                     one that has, or check the addresses of the interfaces",
                    self.advertisements(),
                    on.join(", ")
                ),
                _ => format!(
                    "no interface that is up has an address in the subnet of {ip}. Check the addresses of the interfaces and the range of {pool}"
                ),
            },
            Reason::NotSettled => {
                "it has not heard from the other members yet. If this lasts, check that the UDP port of the members is open between the nodes".to_owned()
            }
            Reason::NoOwner => {
                "it may announce the address and waits until the elected member gives it to a node".to_owned()
            }
            other => format!("{other}"),
        }
    }
}

impl Unannounced<'_> {
    /// The advertisements that cover the address.
    fn advertisements(&self) -> String {
        match self.advertised.map(|a| a.by.as_slice()) {
            None | Some([]) => "the L2Advertisements".to_owned(),
            Some([one]) => format!("L2Advertisement {one}"),
            Some(all) => format!("L2Advertisements {}", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_the_speaker_gives_has_a_sentence_with_something_to_do() {
        for reason in [
            Reason::AddressOwned,
            Reason::AddressUnchecked,
            Reason::NoAdvertisement,
            Reason::NodeNotSelected,
            Reason::NodeExcluded,
            Reason::NetworkUnavailable,
            Reason::NodeLeaving,
            Reason::NoLocalEndpoint,
            Reason::NotProgrammed,
            Reason::NoInterface,
            Reason::NotSettled,
            Reason::NoOwner,
        ] {
            let about = Unannounced {
                ip: IpAddr::from([192, 0, 2, 7]),
                pool: Some("lan"),
                node: "a",
                reason,
                owned: Some(&Owner::Gateway),
                advertised: None,
            };
            let sentence = about.sentence();
            assert!(sentence.starts_with("no node announces 192.0.2.7. Node a: "));
            let why = about.why();
            assert_ne!(why, reason.to_string());
            assert!(why.split(' ').count() > 8, "{why}");
        }
    }

    #[test]
    fn what_does_not_fit_this_node_is_named() {
        let advertised = Advertised {
            by: vec!["metallb-system/lan".into()],
            on: vec!["eth7".into(), "eth8".into()],
        };
        let why = |reason, advertised| {
            let about = Unannounced {
                ip: IpAddr::from([192, 0, 2, 7]),
                pool: Some("lan"),
                node: "a",
                reason,
                owned: None,
                advertised: Some(advertised),
            };
            about.why()
        };
        assert!(
            why(Reason::NodeNotSelected, &advertised)
                .starts_with("spec.nodeSelectors of L2Advertisement metallb-system/lan selects other nodes for pool \"lan\"")
        );
        assert!(
            why(Reason::NoInterface, &advertised)
                .starts_with("spec.interfaces of L2Advertisement metallb-system/lan names eth7, eth8, and no such interface")
        );
        let everywhere = Advertised {
            on: vec![],
            by: advertised.by.clone(),
        };
        assert!(why(Reason::NoInterface, &everywhere).ends_with("and the range of pool \"lan\""));
    }
}
