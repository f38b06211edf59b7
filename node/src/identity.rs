//! Determines which node this is and who the others are at the start. It uses the settings, the KubeProxyConfiguration and the
//! first objects, in this order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::view::Node;

use crate::config::Config;
use crate::error::Error;
use crate::membership::Membership;

/// This node and the known nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name of this node.
    pub(crate) me: String,
    /// Its addresses, at most one per family.
    pub(crate) addresses: Vec<IpAddr>,
    /// The uid of its Node object, if there is one.
    pub(crate) uid: Option<String>,
    /// The members, including what the first objects say.
    pub(crate) membership: Membership,
}

/// What the machine itself says about the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The host name.
    pub(crate) name: String,
    /// The address from which the machine reaches others by its default route, if it has one.
    pub(crate) address: Option<IpAddr>,
}

/// Determines the identity. `first` is the source's first batch.
pub(crate) fn identify(
    args: &Config,
    config: Option<&ProxyConfig>,
    host: &Host,
    first: &[Change],
) -> Result<Identity, Error> {
    let me = args
        .node_name
        .clone()
        .or_else(|| config.and_then(|c| c.hostname_override.clone()))
        .unwrap_or_else(|| host.name.to_ascii_lowercase());
    let listed = listed(&args.members)?;
    let mut addresses = args.node_ip.clone();
    if addresses.is_empty() {
        addresses.extend(listed.get(&me));
        addresses.extend(
            own_node(&me, first)
                .into_iter()
                .flat_map(|n| &n.internal_ips),
        );
    }
    if addresses.is_empty() && listed.is_empty() {
        addresses.extend(host.address);
    }
    one_per_family(&mut addresses);
    let Some(own) = addresses.first().copied() else {
        return Err(Error::Usage(format!(
            "no address is known for this node ({me}): give --node-ip, a --member {me}=IP, or a Node object of that name with an InternalIP"
        )));
    };
    let mut membership = if listed.is_empty() {
        Membership::followed(&me, Some(own), args.agents.clone())
    } else {
        Membership::listed(&me, listed)
    };
    let others = |membership: &Membership| {
        let names = membership.known().into_keys();
        names.filter(|name| *name != me).collect::<Vec<_>>()
    };
    if own_node(&me, first).is_none() && args.members.iter().all(|(name, _)| *name != me) {
        let mut all = membership.clone();
        first.iter().for_each(|change| all.apply(change));
        let others = others(&all);
        if !others.is_empty() {
            return Err(Error::Usage(format!(
                "this node ({me}) is not among the known ones ({}): give --node-name, or add it",
                others.join(", ")
            )));
        }
    }
    first.iter().for_each(|change| membership.apply(change));
    if membership.members().len() > 1 && args.key_file.is_none() {
        return Err(Error::Usage(
            "more than one member is known, so they need a key: make one with `(umask 077; head -c 32 /dev/urandom > FILE)`, copy it to every \
             node and give --key-file FILE"
                .into(),
        ));
    }
    let uid = own_node(&me, first).map(|node| node.uid.clone());
    Ok(Identity {
        uid: uid.filter(|uid| !uid.is_empty()),
        me,
        addresses,
        membership,
    })
}

/// Refuses an address of this node that the settings give and that is not among the addresses of this machine. An address of its
/// Node object may be one that a router translates.
pub(crate) fn on_this_machine(args: &Config, me: &str, local: &[IpAddr]) -> Result<(), Error> {
    let given = args
        .node_ip
        .iter()
        .map(|ip| (*ip, format!("--node-ip {ip}")));
    let listed = args.members.iter().filter(|(name, _)| name == me);
    let listed = listed.map(|(name, ip)| (*ip, format!("--member {name}={ip}")));
    let Some((_, option)) = given.chain(listed).find(|(ip, _)| !local.contains(ip)) else {
        return Ok(());
    };
    let usable: Vec<String> = local
        .iter()
        .filter(|ip| !ip.is_loopback())
        .map(ToString::to_string)
        .collect();
    Err(Error::Usage(format!(
        "{option}: no interface of this machine has this address; the machine has {}. Give one of these, or bring the interface up first",
        if usable.is_empty() {
            "none".to_owned()
        } else {
            usable.join(", ")
        }
    )))
}

fn listed(members: &[(String, IpAddr)]) -> Result<BTreeMap<String, IpAddr>, Error> {
    let mut listed = BTreeMap::new();
    for (name, ip) in members {
        if let Some((other, _)) = listed.iter().find(|(_, at)| *at == ip) {
            return Err(Error::Usage(format!(
                "--member {other}={ip} and --member {name}={ip} give two members one address: give each its own"
            )));
        }
        if listed.insert(name.clone(), *ip).is_some() {
            return Err(Error::Usage(format!("--member {name} is given twice")));
        }
    }
    Ok(listed)
}

fn own_node<'a>(me: &str, objects: &'a [Change]) -> Option<&'a Node> {
    objects.iter().find_map(|c| match c {
        Change::Upsert(Object::Node(node)) if node.name == me => Some(&**node),
        _ => None,
    })
}

/// Keeps only the first address of each family.
fn one_per_family(addresses: &mut Vec<IpAddr>) {
    let (mut v4, mut v6) = (false, false);
    addresses.retain(|a| {
        let seen = if a.is_ipv4() { &mut v4 } else { &mut v6 };
        !std::mem::replace(seen, true)
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn host(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            address: None,
        }
    }

    fn named(name: &str) -> Config {
        let mut config = Config::new("s");
        config.node_name = Some(name.to_owned());
        config
    }

    fn with_members(mut config: Config, members: &[(&str, &str)]) -> Config {
        let members = members.iter();
        config.members = members
            .map(|(name, ip)| ((*name).to_owned(), ip.parse().unwrap()))
            .collect();
        config
    }

    fn node(name: &str, ip: &str) -> Change {
        Change::Upsert(Object::Node(
            Node {
                name: name.into(),
                internal_ips: vec![ip.parse().unwrap()],
                ..Node::default()
            }
            .into(),
        ))
    }

    #[test]
    fn a_single_node_needs_only_its_address() {
        let mut config = Config::new("s");
        config.node_ip = vec!["192.0.2.1".parse().unwrap()];
        let found = identify(&config, None, &host("Box"), &[]).unwrap();
        assert_eq!(found.me, "box");
        let address = Some("192.0.2.1".parse().unwrap());
        assert_eq!(
            found.membership.members(),
            [("box".to_owned(), address)].into()
        );
    }

    #[test]
    fn a_single_node_has_the_address_of_its_default_route_unless_something_names_one() {
        let host = Host {
            name: "box".into(),
            address: Some("192.0.2.7".parse().unwrap()),
        };
        let mut config = Config::new("s");
        let found = identify(&config, None, &host, &[]).unwrap();
        assert_eq!(found.addresses, [host.address.unwrap()]);
        let found = identify(&config, None, &host, &[node("box", "192.0.2.1")]).unwrap();
        assert_eq!(found.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        config.node_ip = vec!["192.0.2.2".parse().unwrap()];
        let found = identify(&config, None, &host, &[]).unwrap();
        assert_eq!(found.addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn node_objects_are_the_members_where_none_is_listed() {
        let nodes = [node("a", "192.0.2.1"), node("b", "192.0.2.2")];
        let mut config = named("b");
        config.key_file = Some("k".into());
        let found = identify(&config, None, &host("box"), &nodes).unwrap();
        assert_eq!(found.membership.members().len(), 2);
        assert_eq!(found.addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn several_members_without_a_key_are_refused_with_the_way_to_make_one() {
        let error = identify(
            &with_members(named("a"), &[("a", "192.0.2.1"), ("b", "192.0.2.2")]),
            None,
            &host("box"),
            &[],
        );
        assert!(error.unwrap_err().to_string().contains("/dev/urandom"));
    }

    #[test]
    fn a_node_that_is_not_among_the_members_is_refused() {
        let mut config = with_members(named("c"), &[("a", "192.0.2.1")]);
        config.node_ip = vec!["192.0.2.3".parse().unwrap()];
        let error = identify(&config, None, &host("box"), &[]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "this node (c) is not among the known ones (a): give --node-name, or add it"
        );
    }

    #[test]
    fn a_node_without_any_address_is_told_where_to_give_one() {
        let error = identify(&named("c"), None, &host("box"), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no address is known for this node (c): give --node-ip")
        );
    }

    #[test]
    fn two_members_with_one_address_are_refused() {
        let config = with_members(named("a"), &[("a", "192.0.2.1"), ("b", "192.0.2.1")]);
        assert_eq!(
            identify(&config, None, &host("box"), &[])
                .unwrap_err()
                .to_string(),
            "--member a=192.0.2.1 and --member b=192.0.2.1 give two members one address: give each its own"
        );
    }

    #[test]
    fn an_address_that_this_machine_does_not_have_is_refused_with_those_that_it_has() {
        let local = ["127.0.0.1", "192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let mut config = named("a");
        for (ip, right) in [
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.2.9", false),
        ] {
            config.node_ip = vec![ip.parse().unwrap()];
            assert_eq!(on_this_machine(&config, "a", &local).is_ok(), right, "{ip}");
        }
        assert_eq!(
            on_this_machine(&config, "a", &local)
                .unwrap_err()
                .to_string(),
            "--node-ip 192.0.2.9: no interface of this machine has this address; the machine has 192.0.2.1, 2001:db8::1. Give one of \
             these, or bring the interface up first"
        );
        let listed = with_members(named("a"), &[("a", "192.0.2.9"), ("b", "192.0.2.2")]);
        let error = on_this_machine(&listed, "a", &local).unwrap_err();
        assert!(error.to_string().starts_with("--member a=192.0.2.9: "));
        assert!(on_this_machine(&listed, "c", &local).is_ok());
    }
}
