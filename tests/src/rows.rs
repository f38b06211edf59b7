//! The expected behaviour of each of the users' manifests, one function per row of their table: it returns what was seen, or why
//! the check failed. The demo shows these, the kernel tier asserts them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::client::{self, Ask};
use crate::cluster::Cluster;
use crate::dns;
use crate::netns::Netns;
use crate::node::{Node, problems};
use crate::servers::{DNS_NAME, Nginx};
use crate::wait;

/// The address of web-svc-lb.
pub const WEB: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 1);
/// The address that both DNS Services share.
pub const DNS: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 2);
/// The address of the ingress.
pub const INGRESS: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 3);
/// All three addresses.
pub const ADDRESSES: [Ipv4Addr; 3] = [WEB, DNS, INGRESS];

/// What was seen, or why the check failed.
pub type Seen = Result<String, String>;

/// Services whose external address the manifests determine: namespace, name, address.
const EXTERNAL: [(&str, &str, Ipv4Addr); 4] = [
    ("default", "web-svc-lb", WEB),
    ("kube-system", "coredns-svc-lb-tcp", DNS),
    ("kube-system", "coredns-svc-lb-udp", DNS),
    ("ingress-nginx", "ingress-nginx", INGRESS),
];

/// metallb-config.yaml: the legacy pool is loaded unmodified, and every address comes from it.
pub fn legacy_pool(cluster: &Cluster) -> Seen {
    for node in &cluster.nodes {
        let problems = problems(&node.status(&cluster.setup)?);
        if !problems.is_empty() {
            return Err(format!("{} reports problems: {problems:?}", node.name));
        }
        for (namespace, name, _) in EXTERNAL {
            let service = cluster.service(node, namespace, name)?;
            if service["pool"] != "default" {
                return Err(format!(
                    "{namespace}/{name} on {}: pool {}",
                    node.name, service["pool"]
                ));
            }
        }
    }
    Ok("pool \"default\" gives every address, no node reports a problem".to_owned())
}

/// The EXTERNAL-IP of one Service, as every node shows it.
pub fn external_ip(cluster: &Cluster, namespace: &str, name: &str) -> Seen {
    let wanted = EXTERNAL
        .iter()
        .find(|row| (row.0, row.1) == (namespace, name))
        .map(|row| row.2);
    let wanted = wanted.ok_or_else(|| format!("no address is fixed for {namespace}/{name}"))?;
    for node in &cluster.nodes {
        let has = cluster.external_ips(node, namespace, name)?;
        if has != [IpAddr::V4(wanted)] {
            return Err(format!("{} shows {has:?}, not {wanted}", node.name));
        }
    }
    Ok(wanted.to_string())
}

/// Waits until every address has an announcer and every Service serves on every node.
pub fn settled(cluster: &Cluster) -> Seen {
    cluster.settle(&ADDRESSES)?;
    for node in &cluster.nodes {
        for (namespace, name, _) in EXTERNAL {
            wait::value(
                &format!("{namespace}/{name} serves, says {}", node.name),
                Duration::from_secs(20),
                || {
                    let service = cluster.service(node, namespace, name)?;
                    if service["state"] == "Serving" {
                        Ok(())
                    } else {
                        Err(service.to_string())
                    }
                },
            )?;
        }
        wait::value(
            &format!("web-svc-cip serves, says {}", node.name),
            Duration::from_secs(20),
            || cluster.cluster_ip(node, "default", "web-svc-cip"),
        )?;
    }
    Ok("each address has one announcer".to_owned())
}

/// web-svc-cip.yaml: curl of the ClusterIP from a node.
pub fn cluster_ip_curl(cluster: &Cluster, node: &Node) -> Seen {
    let address = cluster.cluster_ip(node, "default", "web-svc-cip")?;
    let answer = curl(
        node.netns(),
        &["-sS", "-m", "10", &format!("http://{address}/index.html")],
    )?;
    if answer.starts_with("pod=web-") {
        Ok(format!("{}: {}", node.name, answer.trim()))
    } else {
        Err(answer)
    }
}

/// web-svc-cip.yaml: ping of the ClusterIP from a node.
pub fn cluster_ip_ping(cluster: &Cluster, node: &Node) -> Seen {
    let address = cluster.cluster_ip(node, "default", "web-svc-cip")?;
    if client::ping(node.netns(), address.into()) {
        Ok(format!("{address} answers"))
    } else {
        Err(format!("{address} is silent"))
    }
}

/// web-svc-cip.yaml: `ipvsadm -Ln` lists the ClusterIP with rr and three masq servers.
pub fn cluster_ip_in_ipvsadm(cluster: &Cluster, node: &Node) -> Seen {
    let address = cluster.cluster_ip(node, "default", "web-svc-cip")?;
    let servers = virtual_servers(node);
    let server = servers
        .get(&format!("TCP {address}:80"))
        .ok_or_else(|| format!("none for {address}:80 in {servers:?}"))?;
    let wanted: BTreeSet<String> = cluster
        .web
        .iter()
        .map(|address| format!("{address}:8000"))
        .collect();
    let masq: BTreeSet<String> = server
        .real
        .iter()
        .filter(|(_, forward)| forward == "Masq")
        .map(|(to, _)| to.clone())
        .collect();
    if server.scheduler == "rr" && masq == wanted {
        Ok(format!("{address}:80 rr, {} masq servers", masq.len()))
    } else {
        Err(format!("{server:?}, not rr with {wanted:?}"))
    }
}

/// web-svc-cip.yaml: the address is on kube-ipvs0.
pub fn cluster_ip_on_dummy(cluster: &Cluster, node: &Node) -> Seen {
    let address = cluster.cluster_ip(node, "default", "web-svc-cip")?;
    let output = node
        .netns()
        .output("ip", &["-4", "-o", "addr", "show", "dev", "kube-ipvs0"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains(&format!(" {address}/32 ")) {
        Ok(format!("{address}/32"))
    } else {
        Err(format!("kube-ipvs0 has {text:?}"))
    }
}

/// web-svc-lb.yaml: repeated requests from the client reach the three pods in a fixed order.
pub fn fixed_order(cluster: &Cluster) -> Seen {
    let mut visited = Vec::new();
    for _ in 0..9 {
        let answer = cluster
            .client
            .netns
            .run(|| client::http(SocketAddr::from((WEB, 80)), Ask::default()));
        visited.push(
            answer
                .map_err(|error| format!("after {visited:?}: {error}"))?
                .pod,
        );
    }
    let round: BTreeSet<&String> = visited[..3].iter().collect();
    let repeats = (3..9).all(|turn| visited[turn] == visited[turn - 3]);
    if round.len() == 3 && repeats {
        Ok(visited.join(" "))
    } else {
        Err(visited.join(" "))
    }
}

/// coredns-svc-lb.yaml: a lookup from outside the cluster, over UDP and over TCP, at the shared address.
pub fn dns_lookup(cluster: &Cluster, tcp: bool) -> Seen {
    let server = SocketAddr::from((DNS, 53));
    let ask = if tcp { dns::over_tcp } else { dns::over_udp };
    let found = cluster
        .client
        .netns
        .run(move || ask(server, DNS_NAME, Ask::default()))
        .map_err(|error| error.to_string())?;
    let real = cluster.cluster_ip(&cluster.nodes[0], "default", "web-svc-cip")?;
    if found != [real] {
        Err(format!("{DNS_NAME} is {found:?} and not {real}"))
    } else {
        Ok(format!("{DNS_NAME} is {found:?}"))
    }
}

/// nginx-lb.yaml: the ingress answers on 80 or 443, and its access log shows the client's own address.
pub fn ingress(cluster: &Cluster, https: bool) -> Seen {
    let (url, port) = if https {
        (format!("https://{INGRESS}/"), 8443)
    } else {
        (format!("http://{INGRESS}/"), 8080)
    };
    let answer = curl(&cluster.client.netns, &["-sSk", "-m", "20", &url])?;
    let wanted = format!("{} {port} ", cluster.client.v4);
    let lines = || {
        cluster
            .nginx
            .iter()
            .flat_map(Nginx::access_log)
            .collect::<Vec<_>>()
    };
    let logged = wait::value("the access log has it", Duration::from_secs(3), || {
        lines()
            .into_iter()
            .find(|line| line.starts_with(&wanted))
            .ok_or_else(lines)
    })?;
    Ok(format!("{}; access log: {logged}", answer.trim()))
}

/// web-svc-headless.yaml: it has no virtual server; exactly those of the other Services exist.
pub fn headless(cluster: &Cluster, node: &Node) -> Seen {
    let service = cluster.service(node, "default", "web-svc")?;
    let mut owners = BTreeSet::from(ADDRESSES.map(|address| address.to_string()));
    // A real API server assigns node ports to load balancers, and each is served on every address of the node.
    let shown = node.netns().sh("ip", &["-o", "-4", "addr", "show"]);
    let own = shown.lines().filter(|line| !line.contains(" kube-ipvs0 "));
    let own = own.filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    owners.extend(own.map(str::to_owned));
    let status = node.status(&cluster.setup)?;
    for service in status["services"].as_array().into_iter().flatten() {
        if (&service["namespace"], &service["name"]) != (&"default".into(), &"web-svc".into()) {
            let addresses = service["clusterIps"].as_array().into_iter().flatten();
            owners.extend(addresses.filter_map(|a| a.as_str()).map(str::to_owned));
        }
    }
    for server in virtual_servers(node)
        .keys()
        .filter(|server| !server.starts_with("FWM"))
    {
        let address = server.split([' ', ':']).nth(1).unwrap_or_default();
        if !owners.contains(address) {
            return Err(format!("whose is {server}?"));
        }
    }
    if service["state"] == "Ignored" {
        Ok(format!("{}", service["reason"])
            .trim_matches('"')
            .to_owned())
    } else {
        Err(service.to_string())
    }
}

/// kube-proxy-config.yaml: its strictARP and its scheduler are in effect.
pub fn proxy_config(cluster: &Cluster, node: &Node) -> Seen {
    let knob = |name: &str| {
        node.netns()
            .read_sysctl(&format!("net/ipv4/conf/all/{name}"))
            .map_err(|error| error.to_string())
    };
    let (ignore, announce) = (knob("arp_ignore")?, knob("arp_announce")?);
    if (ignore.as_str(), announce.as_str()) != ("1", "2") {
        return Err(format!(
            "strictARP wants arp_ignore 1 and arp_announce 2, not {ignore} and {announce}"
        ));
    }
    cluster_ip_in_ipvsadm(cluster, node)?;
    let mode = node.status(&cluster.setup)?["proxy"].clone();
    if mode == "ipvs" {
        Ok("mode ipvs, strictARP: arp_ignore 1, arp_announce 2".to_owned())
    } else {
        Err(format!("proxy {mode}"))
    }
}

/// ARP as the client sees it: one MAC for an address, that of the announcing node.
pub fn one_mac(cluster: &Cluster, address: Ipv4Addr) -> Seen {
    let name = cluster.announcer(address.into())?;
    let what = format!("somebody answers for {address}");
    let macs = wait::value(&what, Duration::from_secs(5), || {
        let macs = client::arp(&cluster.client.netns, address);
        (!macs.is_empty()).then_some(macs).ok_or("silence")
    })?;
    let wanted = client::mac(cluster.node(&name).netns(), "eth0");
    if macs == [wanted] {
        Ok(format!("{address} is at {} ({name})", macs[0]))
    } else {
        Err(format!("{macs:?}; {name} announces it"))
    }
}

/// A virtual server in `ipvsadm -Ln`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Scheduler.
    pub scheduler: String,
    /// Real servers with their forwarding method.
    pub real: Vec<(String, String)>,
}

/// The virtual servers in a node's `ipvsadm -Ln`, keyed like `TCP 10.96.0.1:80`.
pub fn virtual_servers(node: &Node) -> BTreeMap<String, Listed> {
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    let mut last = String::new();
    for line in node.netns().sh("ipvsadm", &["-Ln"]).lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["->", to, forward, ..] => found
                .entry(last.clone())
                .or_default()
                .real
                .push(((*to).to_owned(), (*forward).to_owned())),
            [protocol, address, scheduler, ..] => {
                last = format!("{protocol} {address}");
                found.entry(last.clone()).or_default().scheduler = (*scheduler).to_owned();
            }
            _ => {}
        }
    }
    found
}

fn curl(netns: &Netns, arguments: &[&str]) -> Seen {
    let output = netns.output("curl", arguments);
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
