//! Who this node is and who the others are: from the command line, the KubeProxyConfiguration and the Node objects, in this order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::view::Node;

use crate::args::{Member, NodeArgs};
use crate::error::Error;

/// This node among the known ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Name of this node.
    pub(super) me: String,
    /// Its addresses, at most one per family.
    pub(super) addresses: Vec<IpAddr>,
    /// Transport address of every known node by name, this one included.
    pub(super) members: BTreeMap<String, IpAddr>,
}

/// Finds out; `first` is the source's first batch.
pub(super) fn identify(
    args: &NodeArgs,
    config: Option<&ProxyConfig>,
    host_name: &str,
    first: &[Change],
) -> Result<Identity, Error> {
    let me = args
        .node_name
        .clone()
        .or_else(|| config.and_then(|c| c.hostname_override.clone()))
        .unwrap_or_else(|| host_name.to_ascii_lowercase());
    let nodes = first.iter().filter_map(|c| match c {
        Change::Upsert(Object::Node(node)) => Some(node),
        _ => None,
    });
    let nodes: BTreeMap<&str, &Node> = nodes.map(|n| (n.name.as_str(), n)).collect();
    let mut members = BTreeMap::new();
    for Member { name, ip } in &args.members {
        if members.insert(name.clone(), *ip).is_some() {
            return Err(Error::Usage(format!("--member {name} is given twice")));
        }
    }
    if members.is_empty() {
        let known = nodes
            .values()
            .filter_map(|n| Some((n.name.clone(), *n.internal_ips.first()?)));
        members.extend(known);
    }
    let mut addresses = args.node_ip.clone();
    if addresses.is_empty() {
        let own = nodes.get(me.as_str()).map(|n| &n.internal_ips);
        addresses.extend(members.get(&me));
        addresses.extend(own.into_iter().flatten());
    }
    one_per_family(&mut addresses);
    let Some(first) = addresses.first().copied() else {
        return Err(Error::Usage(format!(
            "no address is known for this node ({me}): give --node-ip, a --member {me}=IP, or a Node object of that name with an InternalIP"
        )));
    };
    if !members.is_empty() && !members.contains_key(&me) {
        let names: Vec<_> = members.keys().map(String::as_str).collect();
        return Err(Error::Usage(format!(
            "this node ({me}) is not among the known ones ({}): give --node-name, or add it",
            names.join(", ")
        )));
    }
    members.entry(me.clone()).or_insert(first);
    if members.len() > 1 && args.key_file.is_none() {
        return Err(Error::Usage(
            "more than one member is known, so they need a key: make one with `(umask 077; head -c 32 /dev/urandom > FILE)`, copy it to every \
             node and give --key-file FILE"
                .into(),
        ));
    }
    Ok(Identity {
        me,
        addresses,
        members,
    })
}

/// Keeps the first of each family.
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
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(more: &str) -> NodeArgs {
        let line = format!("ferrolb node --manifests m --state s {more}");
        match Cli::parse_from(line.split_whitespace()).command {
            Command::Node(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn node(name: &str, ip: &str) -> Change {
        Change::Upsert(Object::Node(Node {
            name: name.into(),
            internal_ips: vec![ip.parse().unwrap()],
            ..Node::default()
        }))
    }

    #[test]
    fn a_single_node_needs_only_its_address() {
        let found = identify(&args("--node-ip 192.0.2.1"), None, "Box", &[]).unwrap();
        assert_eq!(found.me, "box");
        assert_eq!(
            found.members,
            [("box".to_owned(), "192.0.2.1".parse().unwrap())].into()
        );
    }

    #[test]
    fn node_objects_are_the_members_where_none_is_listed() {
        let nodes = [node("a", "192.0.2.1"), node("b", "192.0.2.2")];
        let found = identify(&args("--node-name b --key-file k"), None, "box", &nodes).unwrap();
        assert_eq!(found.members.len(), 2);
        assert_eq!(found.addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn several_members_without_a_key_are_refused_with_the_way_to_make_one() {
        let error = identify(
            &args("--node-name a --member a=192.0.2.1 --member b=192.0.2.2"),
            None,
            "box",
            &[],
        );
        assert!(error.unwrap_err().to_string().contains("/dev/urandom"));
    }

    #[test]
    fn a_node_that_is_not_among_the_members_is_refused() {
        let error = identify(
            &args("--node-name c --node-ip 192.0.2.3 --member a=192.0.2.1"),
            None,
            "box",
            &[],
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "this node (c) is not among the known ones (a): give --node-name, or add it"
        );
    }

    #[test]
    fn a_node_without_any_address_is_told_where_to_give_one() {
        let error = identify(&args("--node-name c"), None, "box", &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no address is known for this node (c): give --node-ip")
        );
    }
}
