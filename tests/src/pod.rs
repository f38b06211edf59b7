//! A pod: a namespace on a veth of its node, with the servers in it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use crate::netns::Netns;
use crate::paths::own_program;
use crate::process::Process;

/// One pod.
#[derive(Debug)]
pub struct Pod {
    /// Its name, which its servers include in their answers.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Its IPv4 address, 10.244.N.x.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, fd00:10:244:N::x.
    pub v6: Ipv6Addr,
    servers: Vec<Process>,
    // Keeps its address reserved until the pod is gone.
    _place: Arc<()>,
}

impl Pod {
    /// Creates a pod without a server; [`crate::pod_net::PodNet`] connects it.
    pub(crate) fn new(
        name: &str,
        netns: Netns,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
        place: Arc<()>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            netns,
            v4,
            v6,
            servers: Vec::new(),
            _place: place,
        }
    }

    /// Starts `lab-http` in it: HTTP on some ports, echo servers on others (see its documentation).
    pub fn serve(&mut self, logs: &Path, http: &[u16], tcp: &[u16], udp: &[u16]) {
        let mut arguments = vec![self.name.clone()];
        for (kind, ports) in [("http", http), ("tcp", tcp), ("udp", udp)] {
            arguments.extend(ports.iter().map(|port| format!("{kind}:{port}")));
        }
        let program = own_program("lab-http");
        self.run(&program, &arguments, logs);
        let open: Vec<u16> = http.iter().chain(tcp).copied().collect();
        self.wait_for(&open);
    }

    /// Starts any server in it.
    pub fn run(&mut self, program: &Path, arguments: &[String], logs: &Path) {
        let log = logs.join(format!("{}.log", self.name));
        self.servers.push(Process::start(
            &self.netns,
            &self.name,
            program,
            arguments,
            &log,
        ));
    }

    /// Waits until its TCP ports accept.
    pub fn wait_for(&self, ports: &[u16]) {
        for &port in ports {
            let what = format!("{} listens on {port}", self.name);
            crate::wait::expect(&what, std::time::Duration::from_secs(10), || {
                self.netns
                    .run(move || std::net::TcpStream::connect(("127.0.0.1", port)).map(drop))
            });
        }
    }

    /// Kills its servers; its address stays.
    pub fn kill_servers(&mut self) {
        self.servers.clear();
    }
}
