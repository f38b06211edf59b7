//! Two nodes with their pods, a client, and one Service for each case of the matrix. The client's routes to all service addresses
//! go through node A, so its results do not depend on which node announces an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::lan::{Host, Lan};
use ferrolb_tests::manifests::{Manifests, PodMeta};
use ferrolb_tests::netns::Netns;
use ferrolb_tests::node::{AgentSetup, Node, PodLinks, SERVICE_CIDR};
use ferrolb_tests::paths::{TempDir, own_program};
use ferrolb_tests::pod::Pod;
use ferrolb_tests::process::Process;
use ferrolb_tests::wait;

use super::objects::{host_pod, name, node_port, pool, programmed, proxy_config, service, yaml};
use super::table::{CASES, Dest};

/// The port on which the pods and the host-network servers listen. The Services' port is [`PORT`].
pub(crate) const TARGET: u16 = 8000;
/// The port of every Service.
pub(crate) const PORT: u16 = 80;
/// The ports on which the nodes' own servers listen besides [`TARGET`]. One of them is the Services' port. None may be reachable
/// through a service address.
pub(crate) const HOST_PORTS: [u16; 3] = [22, PORT, 8080];
/// The node port of the first case; the others follow.
pub(crate) const NODE_PORT: u16 = 30080;
/// The range of the IPv6 ClusterIPs.
const SERVICE_CIDR6: &str = "fd00:96::/112";

/// A sender or a possible answerer.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its name, with which its server answers.
    pub(crate) name: &'static str,
    /// The namespace that it is in.
    pub(crate) netns: Netns,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    /// The node that handles what it sends: 0 is A, 1 is B.
    pub(crate) handler: usize,
}

impl Place {
    /// Its address in a family.
    pub(crate) fn address(&self, six: bool) -> IpAddr {
        pick(six, self.v4, self.v6)
    }
}

/// The whole world. Fields are dropped in order: agents and servers end before their namespaces.
pub(crate) struct World {
    /// The nodes, A first.
    pub(crate) nodes: [Node; 2],
    /// The senders, in the order of the table's columns.
    pub(crate) places: Vec<Place>,
    setup: AgentSetup,
    _servers: Vec<Process>,
    _pods: Vec<Pod>,
    _client: Host,
    _lan: Lan,
    _folder: TempDir,
}

impl World {
    /// Builds the world, starts `ferrolb node` on both nodes, and waits until both have programmed every Service.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new("matrix");
        let logs = folder.path();
        let mut lan = Lan::new();
        let mut nodes = [1, 2].map(|number| Node::new(&mut lan, number, PodLinks::Routed));
        nodes[0].routes_to(&[&nodes[1]]);
        nodes[1].routes_to(&[&nodes[0]]);
        let client = lan.plug("client", 100);
        client.netns.ip(&client_routes(&nodes[0].host));
        let manifests = Manifests::empty(&logs.join("manifests"));
        manifests.write("kube-proxy-config.yaml", &proxy_config());
        manifests.write("pool.yaml", &yaml(&pool()));
        let mut servers = Vec::new();
        for (node, name) in nodes.iter().zip(["A", "B"]) {
            unlimited_errors(node.netns());
            manifests.node(node);
            manifests.write(
                &format!("host-{name}.yaml"),
                &yaml(&host_pod(&node.name, name, &node.host)),
            );
            servers.push(host_server(node, name, logs));
        }
        let mut pods = Vec::new();
        for (node, name, labels) in [
            (0, "a1", vec![("both", "yes")]),
            (0, "a2", vec![]),
            (1, "b1", vec![("both", "yes"), ("remote", "yes")]),
        ] {
            let mut pod = nodes[node].pod(name);
            nodes[node].netns().ip(&source_routes(&nodes[node], &pod));
            pod.serve(logs, &[TARGET], &[], &[TARGET]);
            let meta = PodMeta {
                namespace: "default".to_owned(),
                labels,
                ports: vec![],
            };
            manifests.pod(&nodes[node], &pod, &meta, true);
            pods.push(pod);
        }
        for (index, case) in CASES.iter().enumerate() {
            let object = service(index, case, &client, &nodes[0].host);
            manifests.write(&format!("{}.yaml", name(index)), &yaml(&object));
        }
        let mut setup = AgentSetup::new(logs, manifests.path(), &nodes, "ipvs");
        setup.extra = vec!["--service-cidr".to_owned(), SERVICE_CIDR6.to_owned()];
        if wait::slowness() > 1 {
            setup
                .extra
                .extend(["--timer-scale".to_owned(), wait::slowness().to_string()]);
        }
        let host = |name, host: &Host, handler| Place {
            name,
            netns: host.netns.clone(),
            v4: host.v4,
            v6: host.v6,
            handler,
        };
        let pod = |name, pod: &Pod, handler| Place {
            name,
            netns: pod.netns.clone(),
            v4: pod.v4,
            v6: pod.v6,
            handler,
        };
        let places = vec![
            host("client", &client, 0),
            host("A", &nodes[0].host, 0),
            host("B", &nodes[1].host, 1),
            pod("a1", &pods[0], 0),
            pod("a2", &pods[1], 0),
            pod("b1", &pods[2], 1),
        ];
        let mut world = Self {
            nodes,
            places,
            setup,
            _servers: servers,
            _pods: pods,
            _client: client,
            _lan: lan,
            _folder: folder,
        };
        for node in &mut world.nodes {
            node.start_agent(&world.setup);
        }
        for node in &world.nodes {
            wait::expect(
                &format!("{} has programmed every Service", node.name),
                Duration::from_secs(30),
                || programmed(&node.status(&world.setup)?),
            );
        }
        world
    }

    /// The sender or answerer with this name.
    pub(crate) fn place(&self, name: &str) -> &Place {
        self.places
            .iter()
            .find(|place| place.name == name)
            .unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    /// The address to which requests for a case go. For node ports, this is an address of A.
    pub(crate) fn address(&self, case: usize, dest: Dest, six: bool) -> SocketAddr {
        let host = u8::try_from(10 + case).expect("few cases");
        let low = u16::from(host);
        let [v4, v6] = match dest {
            Dest::ClusterIp => [
                IpAddr::from([10, 96, 1, host]),
                [0xfd00, 0x96, 0, 0, 0, 0, 0, low].into(),
            ],
            Dest::External => [
                IpAddr::from([198, 51, 100, host]),
                [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, low].into(),
            ],
            Dest::LoadBalancer => [
                IpAddr::from([172, 17, 255, host]),
                [0xfd00, 0x17, 0x255, 0, 0, 0, 0, low].into(),
            ],
            Dest::NodePort => [
                self.place("A").address(false),
                self.place("A").address(true),
            ],
        };
        let port = match dest {
            Dest::NodePort => node_port(case),
            _ => PORT,
        };
        SocketAddr::new(if six { v6 } else { v4 }, port)
    }

    /// The source address of a masqueraded request on its way from a node to the answerer: the address of the interface by which
    /// it leaves.
    pub(crate) fn masqueraded(&self, handler: usize, to: &Place, six: bool) -> IpAddr {
        let node = &self.nodes[handler];
        let is_pod = !["A", "B"].contains(&to.name);
        if is_pod && to.handler == handler {
            let gateway = Ipv6Addr::new(0xfd00, 0x10, 0x244, node.number.into(), 0, 0, 0, 1);
            pick(six, Ipv4Addr::new(10, 244, node.number, 1), gateway)
        } else {
            pick(six, node.host.v4, node.host.v6)
        }
    }
}

fn pick(six: bool, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
    if six { v6.into() } else { v4.into() }
}

/// An address in the range of ClusterIPs that no Service has.
pub(crate) fn unallocated(six: bool) -> IpAddr {
    pick(
        six,
        Ipv4Addr::new(10, 96, 99, 99),
        Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x9999),
    )
}

/// Each probe waits for its own ICMP error, but the kernel limits how many errors it sends, per address and in total (a thousand
/// per second, which a fast machine exceeds). The limits apply only to the types in these masks. So the masks here contain no
/// error: one is empty, and the other has a type that nobody sends.
fn unlimited_errors(netns: &Netns) {
    for (mask, types) in [("ipv4/icmp_ratemask", "0"), ("ipv6/icmp/ratemask", "255")] {
        netns
            .sysctl(&format!("net/{mask}"), types)
            .expect("a sysctl of the namespace");
    }
}

fn client_routes(a: &Host) -> String {
    let (v4, v6) = (a.v4, a.v6);
    format!(
        "route replace {SERVICE_CIDR} via {v4}\n\
         route replace 198.51.100.0/24 via {v4}\n\
         route replace 172.17.255.0/24 via {v4}\n\
         route replace {SERVICE_CIDR6} via {v6}\n\
         route replace 2001:db8:51::/64 via {v6}\n\
         route replace fd00:17:255::/64 via {v6}\n"
    )
}

/// The node communicates with a pod from its own address, as with CNIs whose links have no addresses. A wildcard UDP server
/// answers from the address that its route prefers, which has to be the endpoint's.
fn source_routes(node: &Node, pod: &Pod) -> String {
    let Host { v4, v6, .. } = &node.host;
    let link = node
        .netns()
        .sh("ip", &["-o", "route", "get", &pod.v4.to_string()]);
    let link = link
        .split_whitespace()
        .skip_while(|word| *word != "dev")
        .nth(1);
    let link = link.expect("a pod has a route");
    format!(
        "route replace {}/32 dev {link} src {v4}\n\
         route replace {}/128 dev {link} src {v6}\n",
        pod.v4, pod.v6
    )
}

/// The node's own servers: its host-network pod, and servers that listen for other reasons.
fn host_server(node: &Node, name: &str, logs: &std::path::Path) -> Process {
    let mut arguments = vec![name.to_owned()];
    for port in HOST_PORTS.iter().chain([&TARGET]) {
        arguments.extend([format!("http:{port}"), format!("udp:{port}")]);
    }
    let log = logs.join(format!("host-{name}.log"));
    let server = Process::start(
        node.netns(),
        name,
        &own_program("lab-http"),
        &arguments,
        &log,
    );
    for port in HOST_PORTS.into_iter().chain([TARGET]) {
        wait::expect(
            &format!("{name} listens on {port}"),
            Duration::from_secs(10),
            || {
                node.netns()
                    .run(move || std::net::TcpStream::connect(("127.0.0.1", port)).map(drop))
            },
        );
    }
    server
}
