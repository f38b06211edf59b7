//! What the Leases of the agents say: each node renews one, with its version and the addresses that it found to belong to
//! somebody else. Those addresses are not given to Services.
//!
//! The Leases are listed now and then instead of watched, because each of them changes all the time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::Backoff;
use ferrolb_api::ownership::Owner;
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::warn;

use super::chance;

/// The label of the Leases of all nodes, with its value.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", "ferrolb");
/// The annotation with the version of the agent.
pub const VERSION: &str = "ferrolb.io/version";
/// The annotation with the addresses that belong to somebody else, each with its owner: `192.0.2.5=host 02:00:00:00:00:01` or
/// `192.0.2.0=network 192.0.2.0/24` or `192.0.2.1=gateway`, separated by commas.
pub const FOUND: &str = "ferrolb.io/found-addresses";

/// The most addresses of one Lease that count.
const MOST: usize = 64;
/// A Lease that was not renewed for longer than this says nothing about the network any more.
const OLD: i64 = 600;
/// How often the Leases are listed.
const EVERY: Duration = Duration::from_secs(10);
/// The pauses after a failure.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Addresses that nodes found to belong to somebody else.
pub type Found = BTreeMap<IpAddr, Owner>;

/// The value of the annotation; `None` if there is nothing to say.
pub fn text(found: &Found) -> Option<String> {
    let mut text = String::new();
    for (addr, owner) in found.iter().take(MOST) {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match owner {
            Owner::Host(link) => write!(text, "{comma}{addr}=host {link}"),
            Owner::Gateway => write!(text, "{comma}{addr}=gateway"),
            Owner::Network(net) => write!(text, "{comma}{addr}=network {net}"),
            Owner::Broadcast(net) => write!(text, "{comma}{addr}=broadcast {net}"),
            _ => Ok(()),
        };
    }
    (!text.is_empty()).then_some(text)
}

/// The addresses in an annotation. What is not understood says nothing.
pub fn parse(text: &str) -> Found {
    let entries = text.split(',').take(MOST);
    entries.filter_map(entry).collect()
}

fn entry(text: &str) -> Option<(IpAddr, Owner)> {
    let (addr, owner) = text.split_once('=')?;
    let (kind, value) = owner.split_once(' ').unwrap_or((owner, ""));
    let owner = match kind {
        "host" => Owner::Host(link(value)?),
        "gateway" => Owner::Gateway,
        "network" => Owner::Network(value.parse().ok()?),
        "broadcast" => Owner::Broadcast(value.parse().ok()?),
        _ => return None,
    };
    Some((addr.parse().ok()?, owner))
}

fn link(text: &str) -> Option<LinkAddress> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().ok()?;
    (bytes.len() <= LONGEST).then_some(LinkAddress(bytes))
}

/// The longest link-layer address in bytes (`MAX_ADDR_LEN` of `linux/netdevice.h`).
const LONGEST: usize = 32;

/// What all of these Leases say together.
fn all(leases: Vec<Lease>, now: Timestamp) -> Found {
    let fresh = leases.into_iter().filter(|lease| {
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|at| now.duration_since(at.0).as_secs() <= OLD)
    });
    let annotations = fresh.filter_map(|lease| lease.metadata.annotations?.remove(FOUND));
    annotations.flat_map(|text| parse(&text)).collect()
}

/// Follows the Leases in a namespace. It never returns, unless nobody listens any more.
pub async fn follow(client: Client, namespace: String, tell: watch::Sender<Found>) {
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let (label, value) = LABEL;
    // A list from the API server's cache is recent enough.
    let of_agents = ListParams::default()
        .labels(&format!("{label}={value}"))
        .match_any();
    let mut backoff = PAUSES;
    let mut failed = false;
    while !tell.is_closed() {
        let pause = match leases.list(&of_agents).await {
            Ok(list) => {
                let found = all(list.items, Timestamp::now());
                tell.send_if_modified(|known| {
                    let changed = *known != found;
                    *known = found;
                    changed
                });
                failed = false;
                backoff.reset();
                EVERY
            }
            Err(error) => {
                let refusal = refusal(&error, "list leases.coordination.k8s.io");
                if !std::mem::replace(&mut failed, true) {
                    warn!(
                        "the Leases of the nodes could not be listed: {refusal}; an address that a host on the network has may be given to \
                         a Service"
                    );
                }
                backoff.next(chance())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
    use k8s_openapi::jiff::SignedDuration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn some() -> Found {
        Found::from([
            (
                ip("192.0.2.0"),
                Owner::Network("192.0.2.0/24".parse().unwrap()),
            ),
            (
                ip("192.0.2.5"),
                Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 0x1f])),
            ),
            (
                ip("192.0.2.255"),
                Owner::Broadcast("192.0.2.0/24".parse().unwrap()),
            ),
            (ip("192.0.2.1"), Owner::Gateway),
            (
                ip("fd00::5"),
                Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 1])),
            ),
        ])
    }

    #[test]
    fn what_a_node_writes_is_what_the_controller_reads() {
        let text = text(&some()).unwrap();
        assert!(text.contains("192.0.2.5=host 02:00:00:00:00:1f"), "{text}");
        assert_eq!(parse(&text), some());
        assert_eq!(super::text(&Found::new()), None);
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for wrong in [
            "",
            ",,,",
            "192.0.2.5",
            "192.0.2.5=",
            "192.0.2.5=host",
            "192.0.2.5=host 02:xx",
            "192.0.2.5=owner 02:00",
            "192.0.2.=host 02:00",
            "192.0.2.0=network 192.0.2.0/99",
        ] {
            assert_eq!(parse(wrong), Found::new(), "{wrong:?}");
        }
        let long = format!("192.0.2.5=host {}", ["02"; LONGEST + 1].join(":"));
        assert_eq!(parse(&long), Found::new());
        assert_eq!(parse("x,192.0.2.5=host 02:00").len(), 1);
        let many: Vec<String> = (0..1000).map(|n| format!("fd00::{n:x}=host 02")).collect();
        assert_eq!(parse(&many.join(",")).len(), MOST);
    }

    #[test]
    fn a_lease_that_nobody_renews_says_nothing() {
        let now = Timestamp::now();
        let lease = |ago: i64| Lease {
            metadata: ObjectMeta {
                annotations: Some([(FOUND.to_owned(), text(&some()).unwrap())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(now - SignedDuration::from_secs(ago))),
                ..LeaseSpec::default()
            }),
        };
        assert_eq!(all(vec![lease(60)], now), some());
        assert_eq!(
            all(vec![lease(OLD + 1), Lease::default()], now),
            Found::new()
        );
    }
}
