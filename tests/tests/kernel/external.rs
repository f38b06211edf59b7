//! A tenant writes other people's addresses into `spec.externalIPs`: the owners must keep them. The scene has two nodes, a client
//! and another host on the LAN.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use ferrolb_tests::client::{Ask, http};
use ferrolb_tests::lan::{Host, Lan};
use ferrolb_tests::manifests::{Manifests, PodMeta};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use ferrolb_tests::node::{AgentSetup, Node, PodLinks, SERVICE_CIDR};
use ferrolb_tests::paths::{TempDir, own_program, workspace};
use ferrolb_tests::pod::Pod;
use ferrolb_tests::process::Process;
use ferrolb_tests::wait;

/// The port on which the pods listen.
const TARGET: u16 = 8000;
/// The ClusterIP and the load-balancer address of the victims, both on port 80.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 10);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 1);
/// A port on which nothing listens on the nodes.
const FREE: u16 = 8088;

/// Fields are dropped in order: processes end before their namespaces.
struct Scene {
    nodes: [Node; 2],
    client: Host,
    /// A host on the LAN that is not a member; it stands for an API server.
    host: Host,
    victim: Pod,
    setup: AgentSetup,
    manifests: Manifests,
    _servers: Vec<Process>,
    _attackers: Vec<Pod>,
    _lan: Lan,
    folder: TempDir,
}

fn service(namespace: &str, name: &str, app: &str, spec: &str, ports: &[u16]) -> String {
    let ports: String = ports
        .iter()
        .map(|port| format!("  - {{name: p{port}, port: {port}, targetPort: {TARGET}}}\n"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{app: {app}}}\n{spec}  \
         ports:\n{ports}"
    )
}

/// `lab-http` outside a pod; it answers with its name.
fn serve(netns: &Netns, name: &str, ports: &[u16], folder: &TempDir) -> Process {
    let mut arguments = vec![name.to_owned()];
    arguments.extend(ports.iter().map(|port| format!("http:{port}")));
    let log = folder.path().join(format!("{name}.log"));
    let server = Process::start(netns, name, &own_program("lab-http"), &arguments, &log);
    for port in ports.iter().copied() {
        wait::expect(
            &format!("{name} listens on {port}"),
            Duration::from_secs(10),
            || netns.run(move || TcpStream::connect(("127.0.0.1", port)).map(drop)),
        );
    }
    server
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new("external");
        let logs = folder.path();
        let mut lan = Lan::new();
        let mut nodes = [1, 2].map(|number| Node::new(&mut lan, number, PodLinks::Routed));
        nodes[0].routes_to(&[&nodes[1]]);
        nodes[1].routes_to(&[&nodes[0]]);
        let client = lan.plug("client", 100);
        let host = lan.plug("host", 50);
        client.netns.ip(&format!(
            "route replace {SERVICE_CIDR} via {0}\nroute replace 172.17.255.0/24 via {0}\n",
            nodes[0].host.v4
        ));
        let servers = vec![
            serve(&host.netns, "host", &[6443], &folder),
            serve(nodes[0].netns(), "node-1", &[22], &folder),
        ];
        // The nodes have had contact with the host, as with an API server that they use.
        for node in &nodes {
            let to = (host.v4, 6443);
            let seen = node.netns().run(move || TcpStream::connect(to).map(drop));
            seen.expect("the host answers");
        }
        let manifests = Manifests::empty(&logs.join("manifests"));
        nodes.iter().for_each(|node| manifests.node(node));
        let proxy = workspace().join("deploy/examples/kube-proxy-config.yaml");
        let proxy = std::fs::read_to_string(&proxy).expect("the example is there");
        manifests.write("kube-proxy-config.yaml", &proxy);
        manifests.write(
            "pool.yaml",
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: default, namespace: metallb-system}\nspec: {addresses: \
             [172.17.255.1-172.17.255.9]}\n",
        );
        let mut pod = |node: usize, name: &str, namespace: &str, app: &'static str| {
            let mut pod = nodes[node].pod(name);
            pod.serve(logs, &[TARGET], &[], &[]);
            let meta = PodMeta {
                namespace: namespace.to_owned(),
                labels: vec![("app", app)],
                ports: vec![],
            };
            manifests.pod(&nodes[node], &pod, &meta, true);
            pod
        };
        let victim = pod(0, "victim", "kube-system", "victim");
        let attackers = ["a-tenant", "z-tenant"].map(|namespace| {
            let name = format!("attacker-{}", &namespace[..1]);
            pod(1, &name, namespace, "attacker")
        });
        let dns = format!("  clusterIP: {DNS}\n");
        manifests.write(
            "dns.yaml",
            &service("kube-system", "dns", "victim", &dns, &[80]),
        );
        let lb = format!("  type: LoadBalancer\n  loadBalancerIP: {VIP}\n");
        manifests.write(
            "lb.yaml",
            &service("kube-system", "lb", "victim", &lb, &[80]),
        );
        let setup = {
            let mut setup = AgentSetup::new(logs, manifests.path(), &nodes, "ipvs");
            setup.extra.extend(["--audit", "1"].map(str::to_owned));
            if wait::slowness() > 1 {
                let scale = ["--timer-scale".to_owned(), wait::slowness().to_string()];
                setup.extra.extend(scale);
            }
            setup
        };
        Self {
            nodes,
            client,
            host,
            victim,
            setup,
            manifests,
            _servers: servers,
            _attackers: attackers.into(),
            _lan: lan,
            folder,
        }
    }

    /// Writes a tenant's Service that names these external addresses.
    fn attack(&self, namespace: &str, name: &str, addresses: &[IpAddr], ports: &[u16]) {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let spec = format!("  externalIPs: [{}]\n", list.join(", "));
        let text = service(namespace, name, "attacker", &spec, ports);
        self.manifests
            .write(&format!("{namespace}-{name}.yaml"), &text);
    }

    fn start(&mut self) {
        for node in &mut self.nodes {
            node.start_agent(&self.setup);
        }
    }

    /// Waits until both nodes have decided about the tenants' Services.
    fn settled(&self, names: &[&str]) {
        for node in &self.nodes {
            let what = format!("{} has decided on {names:?}", node.name);
            wait::expect(&what, Duration::from_secs(60), || {
                let status = node.status(&self.setup)?;
                let services = status["services"].as_array().cloned().unwrap_or_default();
                let waits = [
                    "NotSettled",
                    "NoMajority",
                    "NotProgrammed",
                    "AddressUnchecked",
                ];
                let known = names.iter().all(|name| {
                    services.iter().any(|s| {
                        let reason = s["reason"].as_str().unwrap_or_default();
                        s["name"] == *name && !waits.contains(&reason)
                    })
                });
                if known {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            });
        }
    }

    /// Which server answers on an address, as seen from a namespace. It asks several times, so that a server that gets only a
    /// share of the connections is found too.
    fn answers(&self, from: &Netns, addr: IpAddr, port: u16) -> String {
        let to = SocketAddr::new(addr, port);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(match from.run(move || http(to, Ask::default())) {
                Ok(answer) => answer.pod,
                Err(error) => error.kind().to_string(),
            });
        }
        seen.sort();
        seen.dedup();
        seen.join(" ")
    }

    /// The addresses that a node has taken.
    fn taken(&self, node: usize) -> String {
        let netns = self.nodes[node].netns();
        netns.sh("ip", &["-o", "addr", "show", "dev", "kube-ipvs0"])
    }

    /// The problems that a node reports about a Service, one per line.
    fn problems(&self, node: usize, service: &str) -> String {
        let status = self.nodes[node]
            .status(&self.setup)
            .expect("the node answers");
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let mine = problems
            .iter()
            .filter(|p| p["object"] == format!("Service {service}"));
        let lines = mine.map(|p| format!("{}: {}", p["field"], p["message"]));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn external_ips_of_a_tenant_take_nobodys_address() {
    need!(
        "external_ips_of_a_tenant_take_nobodys_address",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let mut scene = Scene::new();
    let (host, victim) = (scene.host.v4, scene.victim.v4);
    for namespace in ["a-tenant", "z-tenant"] {
        scene.attack(namespace, "thief", &[DNS.into(), VIP.into()], &[80]);
    }
    scene.attack("a-tenant", "host", &[host.into()], &[6443, 9999]);
    scene.attack("a-tenant", "pod", &[victim.into()], &[TARGET, 9999]);
    scene.start();
    scene.settled(&["dns", "lb", "thief", "host", "pod"]);
    // From the LAN, from both nodes and from a pod.
    let places = [
        &scene.client.netns,
        scene.nodes[0].netns(),
        scene.nodes[1].netns(),
        &scene.victim.netns,
    ];
    for place in places {
        for addr in [DNS, VIP] {
            assert_eq!(
                scene.answers(place, addr.into(), 80),
                "victim",
                "{addr} from {place:?}"
            );
        }
    }
    for node in 0..2 {
        let netns = scene.nodes[node].netns();
        assert_eq!(
            scene.answers(netns, host.into(), 6443),
            "host",
            "node {node}"
        );
        assert_eq!(
            scene.answers(netns, victim.into(), TARGET),
            "victim",
            "node {node}"
        );
        let taken = scene.taken(node);
        for addr in [host, victim] {
            assert!(
                !taken.contains(&addr.to_string()),
                "node {node} has {addr}: {taken}"
            );
        }
        let told = scene.problems(node, "a-tenant/thief");
        assert!(
            told.contains("Service kube-system/dns as its ClusterIP"),
            "{told}"
        );
        assert!(
            told.contains("Service kube-system/lb as its load-balancer address"),
            "{told}"
        );
        let told = scene.problems(node, "a-tenant/host");
        assert!(
            told.contains("spec.externalIPs[0]") && told.contains("the host"),
            "{told}"
        );
        let told = scene.problems(node, "a-tenant/pod");
        assert!(told.contains("belongs to a pod"), "{told}");
    }
}

#[test]
fn a_nodes_own_address_serves_on_that_node_alone_and_not_where_it_listens_itself() {
    need!(
        "a_nodes_own_address_serves_on_that_node_alone_and_not_where_it_listens_itself",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let mut scene = Scene::new();
    let own = IpAddr::V4(scene.nodes[0].host.v4);
    scene.attack("a-tenant", "own", &[own], &[22, FREE]);
    scene.start();
    scene.settled(&["dns", "lb", "own"]);
    let client = &scene.client.netns;
    assert_eq!(scene.answers(client, own, 22), "node-1");
    assert_eq!(scene.answers(client, own, FREE), "attacker-a");
    // The other node does not take the address and does not block it for anybody.
    assert_eq!(
        scene.answers(scene.nodes[1].netns(), own, FREE),
        "attacker-a"
    );
    assert_eq!(scene.answers(scene.nodes[1].netns(), own, 22), "node-1");
    let other = IpAddr::V4(scene.nodes[1].host.v4);
    assert_eq!(scene.answers(client, other, FREE), "connection refused");
    for node in 0..2 {
        let taken = scene.taken(node);
        assert!(!taken.contains(&format!("{own}/")), "node {node}: {taken}");
    }
    let told = scene.problems(0, "a-tenant/own");
    assert!(told.contains("listens on port 22/TCP"), "{told}");
    assert_eq!(scene.problems(1, "a-tenant/own"), "");

    // When the host begins to listen, an audit gives the port back. When that ends, the Service gets the port again.
    let listener = serve(scene.nodes[0].netns(), "late", &[FREE], &scene.folder);
    let reached = |name: &str| {
        let seen = scene.answers(client, own, FREE);
        if seen == name { Ok(()) } else { Err(seen) }
    };
    wait::expect("the node has its port", Duration::from_secs(10), || {
        reached("late")
    });
    drop(listener);
    wait::expect(
        "the Service has the port again",
        Duration::from_secs(10),
        || reached("attacker-a"),
    );
}
