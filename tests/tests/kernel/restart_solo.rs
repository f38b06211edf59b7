//! The smallest world with the whole datapath: one node with two servers and a pod that sends requests, a client on the LAN, and
//! Services of both traffic policies with TCP and UDP ports. It reads the state of the node's kernel for comparisons.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Output;
use std::time::Duration;

use ferrolb_tests::lan::{Host, Lan};
use ferrolb_tests::manifests::{Manifests, PodMeta};
use ferrolb_tests::netns::Netns;
use ferrolb_tests::node::{AgentSetup, Node, PodLinks};
use ferrolb_tests::paths::{TempDir, ferrolb, workspace};
use ferrolb_tests::pod::Pod;
use ferrolb_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::restart_load::{Kind, Stream};

/// Address of the Service `web`, externalTrafficPolicy Cluster.
pub(crate) const WEB: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 1);
/// Address of the Service `kept`, externalTrafficPolicy Local.
pub(crate) const KEPT: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 2);
/// How long a program that ends by itself may take.
pub(crate) const ENDS: Duration = Duration::from_secs(10);

const POOL: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [172.17.255.1-172.17.255.99]}
";

const ADVERTISEMENT: &str = "\
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: default, namespace: metallb-system}
spec: {}
";

/// One node, started or not. Fields are dropped in order: processes end before their namespaces.
pub(crate) struct Solo {
    pub(crate) node: Node,
    pub(crate) client: Host,
    pub(crate) asker: Pod,
    pub(crate) servers: Vec<Pod>,
    pub(crate) manifests: Manifests,
    pub(crate) setup: AgentSetup,
    _lan: Lan,
    folder: TempDir,
}

/// The state of the node's kernel, as texts that are equal if nothing changed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Virtual and real servers.
    pub(crate) ipvs: String,
    /// The table `inet ferrolb` with all handles and elements.
    pub(crate) table: String,
    /// The dummy interface: its index, addresses and routes.
    pub(crate) dummy: String,
}

/// A Service with the pods `app: web`.
pub(crate) fn service(name: &str, address: Ipv4Addr, more: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  type: LoadBalancer\n  \
         selector: {{app: web}}\n  loadBalancerIP: {address}\n{more}  ports:\n{ports}"
    )
}

impl Solo {
    /// Builds everything but the agent.
    pub(crate) fn new(what: &str) -> Self {
        let folder = TempDir::new(what);
        let mut lan = Lan::new();
        let mut node = Node::new(&mut lan, 1, PodLinks::Routed);
        let client = lan.plug("client", 100);
        let manifests = Manifests::empty(&folder.path().join("manifests"));
        manifests.node(&node);
        let meta = PodMeta {
            namespace: "default".to_owned(),
            labels: vec![("app", "web")],
            ports: vec![],
        };
        let mut servers = Vec::new();
        for number in 1..=2 {
            let mut pod = node.pod(&format!("web-{number}"));
            pod.serve(folder.path(), &[8000], &[9000], &[9001]);
            manifests.pod(&node, &pod, &meta, true);
            servers.push(pod);
        }
        let asker = node.pod("asker");
        let proxy = workspace().join("deploy/examples/kube-proxy-config.yaml");
        let proxy = std::fs::read_to_string(&proxy).expect("the example is there");
        manifests.write("kube-proxy-config.yaml", &proxy);
        manifests.write("pool.yaml", POOL);
        manifests.write("advertisement.yaml", ADVERTISEMENT);
        let ports = "  - {name: http, port: 80, targetPort: 8000}\n  - {name: echo, port: 9000}\n  \
                     - {name: datagrams, port: 9001, protocol: UDP}\n";
        manifests.write("web.yaml", &service("web", WEB, "", ports));
        let local = "  externalTrafficPolicy: Local\n";
        manifests.write("kept.yaml", &service("kept", KEPT, local, ports));
        let nodes = [node];
        let mut setup = AgentSetup::new(folder.path(), manifests.path(), &nodes, "ipvs");
        let [node] = nodes;
        if wait::slowness() > 1 {
            // What is left to the kernel must stay there until an emulated machine has had time to look at it.
            setup
                .extra
                .extend(["--timer-scale", "3"].map(str::to_owned));
        }
        Self {
            node,
            client,
            asker,
            servers,
            manifests,
            setup,
            _lan: lan,
            folder,
        }
    }

    /// The directory of its files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts the agent, or starts it again, and waits until both Services are served.
    pub(crate) fn start(&mut self) {
        self.node.start_agent(&self.setup);
        self.serving();
    }

    /// Waits until both Services are served.
    pub(crate) fn serving(&self) {
        for name in ["web", "kept"] {
            let what = format!("{name} serves");
            wait::expect(&what, Duration::from_secs(20), || {
                let service = self.service(name)?;
                if service["state"] == "Serving" {
                    Ok(())
                } else {
                    Err(service.to_string())
                }
            });
        }
    }

    /// Ends the agent with a signal. It must end by itself, and cleanly if the signal asks for that.
    pub(crate) fn end(&mut self, signal: Signal) {
        let agent = self.node.agent().expect("an agent runs");
        agent.signal(signal);
        let status = agent.wait(ENDS);
        let status = status.unwrap_or_else(|| panic!("it did not end: {}", agent.log()));
        if signal == Signal::SIGTERM {
            assert!(status.success(), "{status}: {}", agent.log());
        }
    }

    /// A Service as the node knows it.
    pub(crate) fn service(&self, name: &str) -> Result<Value, String> {
        let status = self.node.status(&self.setup)?;
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let found = services.into_iter().find(|service| service["name"] == name);
        found.ok_or_else(|| format!("no Service {name}: {status}"))
    }

    /// The ClusterIP of a Service.
    pub(crate) fn cluster_ip(&self, name: &str) -> Ipv4Addr {
        let service = self.service(name).expect("the node answers");
        let text = service["clusterIps"][0].as_str().unwrap_or_default();
        text.parse().unwrap_or_else(|_| panic!("{service}"))
    }

    /// The current state of the kernel.
    pub(crate) fn kernel(&self) -> Kernel {
        let netns = self.node.netns();
        let addresses = netns.sh("ip", &["-o", "addr", "show", "dev", "kube-ipvs0"]);
        let routes = netns.sh(
            "ip",
            &["-N", "route", "show", "table", "all", "dev", "kube-ipvs0"],
        );
        Kernel {
            ipvs: netns.sh("ipvsadm", &["-Sn"]),
            table: netns.sh("nft", &["-s", "-a", "list", "table", "inet", "ferrolb"]),
            dummy: addresses + &routes,
        }
    }

    /// Runs the program under test on the node.
    pub(crate) fn ferrolb(&self, arguments: &[&str]) -> Output {
        let program = ferrolb().display().to_string();
        self.node.netns().output(&program, arguments)
    }

    /// Runs `ferrolb cleanup` with the node's state directory.
    pub(crate) fn cleanup(&self) -> Output {
        let state = self.folder().join("node-1/state").display().to_string();
        self.ferrolb(&["cleanup", "--state", &state])
    }

    /// Every kind of traffic that the node carries: requests on connections of their own, and long-lived flows.
    pub(crate) fn traffic(&self) -> Vec<Stream> {
        let (client, node) = (&self.client.netns, self.node.netns());
        let pod = &self.asker.netns;
        let inside = self.cluster_ip("web");
        let to = |address: Ipv4Addr, port: u16| SocketAddr::from((address, port));
        let stream = |name: &'static str, netns: &Netns, kind: Kind, to: SocketAddr| Stream {
            name,
            netns: netns.clone(),
            kind,
            to,
        };
        vec![
            stream("client to VIP", client, Kind::Requests, to(WEB, 80)),
            stream("client to Local VIP", client, Kind::Requests, to(KEPT, 80)),
            stream("node to ClusterIP", node, Kind::Requests, to(inside, 80)),
            stream("pod to ClusterIP", pod, Kind::Requests, to(inside, 80)),
            stream(
                "client to VIP, datagrams",
                client,
                Kind::Datagrams,
                to(WEB, 9001),
            ),
            stream("client to VIP, TCP", client, Kind::Flow, to(WEB, 9000)),
            stream(
                "client to Local VIP, TCP",
                client,
                Kind::Flow,
                to(KEPT, 9000),
            ),
            stream("node to ClusterIP, TCP", node, Kind::Flow, to(inside, 9000)),
            stream("pod to ClusterIP, TCP", pod, Kind::Flow, to(inside, 9000)),
            stream("pod to Local VIP, TCP", pod, Kind::Flow, to(KEPT, 9000)),
            stream(
                "client to VIP, UDP",
                client,
                Kind::DatagramFlow,
                to(WEB, 9001),
            ),
            stream(
                "node to ClusterIP, UDP",
                node,
                Kind::DatagramFlow,
                to(inside, 9001),
            ),
            stream(
                "pod to ClusterIP, UDP",
                pod,
                Kind::DatagramFlow,
                to(inside, 9001),
            ),
        ]
    }
}

impl Kernel {
    /// Panics with the differences, line by line.
    #[track_caller]
    pub(crate) fn same(&self, now: &Self, when: &str) {
        let parts = [
            ("ipvsadm -Sn", &self.ipvs, &now.ipvs),
            ("nft list table", &self.table, &now.table),
            ("kube-ipvs0", &self.dummy, &now.dummy),
        ];
        for (what, old, new) in parts {
            assert!(
                old == new,
                "{what} is another one {when}:\n{}",
                changed(old, new)
            );
        }
    }
}

/// The lines that are in only one of two texts.
pub(crate) fn changed(old: &str, new: &str) -> String {
    let only = |one: &str, other: &str, sign: char| -> String {
        let missing = |line: &&str| !other.lines().any(|there| there == *line);
        let lines = one.lines().filter(missing);
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    only(old, new, '-') + &only(new, old, '+')
}
