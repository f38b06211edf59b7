//! Whose address it is: addresses of nodes are given to nobody, and one that is left on an interface is reported. A changed
//! Ethernet address is announced at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use ferrolb_tests::client::mac;
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::rows::{ADDRESSES, WEB};
use ferrolb_tests::wait;
use serde_json::Value;

const WHILE: Duration = Duration::from_secs(15);

macro_rules! needs {
    ($test:expr) => {
        need!(
            $test,
            Need::Root,
            Need::Ferrolb,
            Need::CoreDns,
            Need::Tool("nginx"),
            Need::Tool("arping")
        )
    };
}

fn announcing() -> Cluster {
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster
        .settle(&ADDRESSES)
        .expect("every address is announced");
    cluster
}

/// The messages of the problems that a node has with an object whose name contains this text.
fn problems(cluster: &Cluster, node: &str, about: &str) -> Result<Vec<String>, String> {
    let status = cluster.node(node).status(&cluster.setup)?;
    let all = status["problems"].as_array().cloned().unwrap_or_default();
    let concerns = |p: &&Value| p["object"].as_str().is_some_and(|o| o.contains(about));
    let found = all.iter().filter(concerns);
    Ok(found
        .map(|p| p["message"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// The Ethernet address that the client has for an address.
fn neighbour(cluster: &Cluster, address: Ipv4Addr) -> Result<String, String> {
    let shown = cluster
        .client
        .netns
        .sh("ip", &["-o", "neigh", "show", &address.to_string()]);
    let mut words = shown.split(' ').skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned).ok_or(shown.clone())
}

#[test]
fn a_changed_ethernet_address_is_announced_at_once() {
    needs!("a_changed_ethernet_address_is_announced_at_once");
    let cluster = announcing();
    let owner = cluster.announcer(WEB.into()).unwrap();
    // The entry of a neighbour outlives the burst of a new announcement, and the next round is a minute away.
    wait::expect("the client knows the address", WHILE, || {
        cluster
            .client
            .netns
            .output("ping", &["-c1", "-W1", &WEB.to_string()]);
        neighbour(&cluster, WEB)
    });
    std::thread::sleep(Duration::from_secs(6));
    let new = "02:00:00:00:99:01";
    cluster
        .node(&owner)
        .netns()
        .ip(&format!("link set eth0 address {new}"));
    wait::expect("the client has the new Ethernet address", WHILE, || {
        let known = neighbour(&cluster, WEB)?;
        if known == new { Ok(()) } else { Err(known) }
    });
}

#[test]
fn an_address_that_is_left_on_an_interface_is_reported_with_what_to_do() {
    needs!("an_address_that_is_left_on_an_interface_is_reported_with_what_to_do");
    let cluster = announcing();
    let owner = cluster.announcer(WEB.into()).unwrap();
    let names = ["node-1", "node-2", "node-3"];
    let other = names.into_iter().find(|name| *name != owner).unwrap();
    let wrong = cluster.node(other).netns();
    wrong.ip(&format!("addr add {WEB}/32 dev eth0"));
    wait::expect("the node reports it", WHILE, || {
        let said = problems(&cluster, other, &WEB.to_string())?;
        let right = format!("beside node {owner}, which announces it");
        let remedy = format!("`ip address del {WEB}/32 dev eth0`");
        let fits = |p: &String| p.contains(&right) && p.contains(&remedy);
        if said.iter().any(fits) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    wrong.ip(&format!("addr del {WEB}/32 dev eth0"));
    wait::expect("nothing is reported any more", WHILE, || {
        let said = problems(&cluster, other, &WEB.to_string())?;
        if said.is_empty() {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
}

#[test]
fn a_pool_with_the_address_of_a_node_gives_it_to_nobody() {
    needs!("a_pool_with_the_address_of_a_node_gives_it_to_nobody");
    let cluster = announcing();
    let node = cluster.nodes[1].host.v4;
    let pool = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: nodes, namespace: metallb-system}}\nspec: {{addresses: [{node}/32]}}\n"
    );
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: asks, namespace: default, annotations: {metallb.io/address-pool: nodes}}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n";
    cluster
        .manifests
        .write("nodes.yaml", &format!("{pool}---\n{service}"));
    wait::expect("the pool and the Service say why", WHILE, || {
        let of_pool = problems(&cluster, "node-1", "metallb-system/nodes")?;
        let of_service = problems(&cluster, "node-1", "default/asks")?;
        let named = format!("{node} belongs to Node node-2. No Service gets these addresses");
        if of_pool.iter().any(|p| p.contains(&named)) && of_service.len() == 1 {
            Ok(())
        } else {
            Err(format!("{of_pool:?} {of_service:?}"))
        }
    });
    assert!(
        cluster
            .external_ips(&cluster.nodes[0], "default", "asks")
            .unwrap()
            .is_empty()
    );
    assert_eq!(cluster.announcer(WEB.into()).map(|_| ()), Ok(()));
}

#[test]
fn a_gateway_keeps_its_address_even_where_it_does_not_answer() {
    needs!("a_gateway_keeps_its_address_even_where_it_does_not_answer");
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    let (gateway, next) = ("172.17.255.4", "172.17.255.5");
    for node in &cluster.nodes {
        node.netns()
            .ip(&format!("route add 198.51.100.0/24 via {gateway}\n"));
    }
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    cluster.manifests.write(
        "new.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: any, namespace: default}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n",
    );
    wait::expect("another address is announced", WHILE, || {
        let given = cluster.external_ips(&cluster.nodes[0], "default", "any")?;
        if given != [next.parse::<Ipv4Addr>().unwrap()] {
            return Err(format!("{given:?}"));
        }
        cluster.announcer(next.parse().unwrap())
    });
    wait::expect("every node warns about the pool", WHILE, || {
        let right = format!("{gateway} belongs to a gateway in the routes of the nodes");
        for node in &cluster.nodes {
            let said = problems(&cluster, &node.name, "metallb-system/config")?;
            if !said.iter().any(|text| text.contains(&right)) {
                return Err(format!("{}: {said:?}", node.name));
            }
        }
        Ok(())
    });
}

#[test]
fn a_host_that_takes_an_announced_address_is_named_by_its_ethernet_address() {
    needs!("a_host_that_takes_an_announced_address_is_named_by_its_ethernet_address");
    let cluster = announcing();
    let announcer = cluster.announcer(WEB.into()).unwrap();
    let client = &cluster.client.netns;
    client.ip(&format!("addr add {WEB}/32 dev eth0\n"));
    let right = format!(
        "a host with the Ethernet address {}, which is not one that a member is known by, claims this too",
        mac(client, "eth0")
    );
    let web = WEB.to_string();
    wait::expect("the announcer names the host", WHILE, || {
        client.sh("arping", &["-U", "-c", "1", "-I", "eth0", &web]);
        let said = problems(&cluster, &announcer, &web)?;
        let found = said.iter().any(|text| text.contains(&right));
        found.then_some(()).ok_or(format!("{said:?}"))
    });
}

#[test]
fn an_address_that_a_host_has_is_announced_by_nobody_and_another_one_is_given() {
    needs!("an_address_that_a_host_has_is_announced_by_nobody_and_another_one_is_given");
    let cluster = announcing();
    let (free, asked, next) = ("172.17.255.4", "172.17.255.6", "172.17.255.5");
    let client = &cluster.client.netns;
    client.ip(&format!(
        "addr add {free}/32 dev eth0\naddr add {asked}/32 dev eth0\n"
    ));
    let service = |name: &str, annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, annotations: {{{annotation}}}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
        )
    };
    let asks = service("asks", &format!("metallb.io/loadBalancerIPs: {asked}"));
    cluster
        .manifests
        .write("new.yaml", &format!("{asks}---\n{}", service("any", "")));
    wait::expect("another address is announced", WHILE, || {
        let given = cluster.external_ips(&cluster.nodes[0], "default", "any")?;
        if given != [next.parse::<Ipv4Addr>().unwrap()] {
            return Err(format!("{given:?}"));
        }
        cluster.announcer(next.parse().unwrap())
    });
    let mac = mac(client, "eth0");
    wait::expect(
        "the Service that asks for it says whose it is",
        WHILE,
        || {
            let said = problems(&cluster, "node-1", "default/asks")?;
            let right = format!("{asked}, which belongs to the host {mac}");
            if said.iter().any(|p| p.contains(&right)) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        },
    );
    assert!(cluster.announcer(asked.parse().unwrap()).is_err());
    client.ip(&format!("addr del {asked}/32 dev eth0\n"));
    wait::expect("it is announced when the host is gone", 2 * WHILE, || {
        cluster.announcer(asked.parse().unwrap())
    });
}
