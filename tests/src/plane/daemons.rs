//! The processes of a plane, on the loopback interface of this machine: etcd, the API server, the controller manager. They end
//! when their handle is dropped, and with the lab.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::access::{Access, curl};
use super::programs::program;
use super::users::{self, User};
use super::{API_ADDRESS, API_PORT, audit, pki, ports};
use crate::netns::Netns;
use crate::node::SERVICE_CIDR;
use crate::process::Process;
use crate::wait;

/// The controllers that the users' workloads need. There are no node and volume controllers.
const CONTROLLERS: [&str; 9] = [
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "endpointslice-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
];
/// The time limit for each process.
const WHILE: Duration = Duration::from_secs(60);

/// The running plane.
#[derive(Debug)]
pub(super) struct Daemons {
    // Fields are in the order of shutdown.
    manager: Option<Process>,
    apiserver: Option<Process>,
    // Held only to keep the process running.
    _etcd: Process,
    etcd_port: u16,
    access: Access,
    host: Netns,
    folder: PathBuf,
}

impl Daemons {
    /// Starts everything and waits until it is ready: the API server reports so, and the default namespace has its service
    /// account.
    pub(super) fn start(folder: &Path) -> Self {
        let begun = Instant::now();
        fs::create_dir_all(folder).expect("a folder can be made");
        pki::make(folder);
        users::write(folder);
        fs::write(folder.join("audit-policy.json"), audit::POLICY).expect("a file can be written");
        let host = Netns::host();
        let (etcd_port, peer_port) = (ports::free(), ports::free());
        let etcd = start(
            &host,
            folder,
            "etcd",
            &etcd_arguments(folder, etcd_port, peer_port),
        );
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let mut daemons = Self {
            manager: None,
            apiserver: None,
            _etcd: etcd,
            etcd_port,
            access: Access::new(server, folder, folder),
            host,
            folder: folder.to_path_buf(),
        };
        daemons.start_apiserver();
        daemons.publish_address();
        daemons.start_manager();
        println!(
            "control plane: ready in {:.1} s",
            begun.elapsed().as_secs_f32()
        );
        daemons
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Kills the API server. With a graceful stop it would wait for its clients' watches, for up to a minute.
    pub(super) fn stop_apiserver(&mut self) {
        if let Some(mut apiserver) = self.apiserver.take() {
            apiserver.kill();
        }
    }

    /// Starts the API server on the same port and waits until it is ready.
    pub(super) fn start_apiserver(&mut self) {
        let arguments = self.apiserver_arguments();
        self.apiserver = Some(start(
            &self.host,
            &self.folder,
            "kube-apiserver",
            &arguments,
        ));
        self.wait_for("/readyz");
        self.wait_for("/api/v1/namespaces/default");
    }

    fn start_manager(&mut self) {
        let arguments = self.manager_arguments();
        self.manager = Some(start(
            &self.host,
            &self.folder,
            "kube-controller-manager",
            &arguments,
        ));
        self.wait_for("/api/v1/namespaces/default/serviceaccounts/default");
    }

    /// Waits until a path returns 200.
    fn wait_for(&mut self, path: &str) {
        let (apiserver, access) = (&mut self.apiserver, &self.access);
        wait::expect(path, WHILE, || {
            if !apiserver.as_mut().is_some_and(Process::running) {
                panic!("the API server ended");
            }
            match access.request(User::Admin, "GET", path, None)? {
                (200, _) => Ok(()),
                (code, body) => Err(format!("{code}: {body}")),
            }
        });
    }

    /// Publishes the address at which the lab's nodes reach the API server as the endpoint of the Service `kubernetes`. The
    /// server itself would publish its own port, which differs.
    fn publish_address(&self) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [API_ADDRESS], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "protocol": "TCP", "port": API_PORT }],
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let answer = self
            .access
            .request(User::Admin, "POST", path, Some(&slice))
            .expect("the API server answers");
        assert_eq!(answer.0, 201, "{}", answer.1);
    }

    /// Makes etcd discard everything except the current state.
    pub(super) fn compact_etcd(&self) {
        let now = self.etcd("kv/range", &json!({ "key": "AA==" }));
        let revision = &now["header"]["revision"];
        self.etcd(
            "kv/compaction",
            &json!({ "revision": revision, "physical": true }),
        );
    }

    /// Sends a request to the JSON gateway of etcd's gRPC API.
    fn etcd(&self, method: &str, body: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}/v3/{method}", self.etcd_port);
        let answer = curl(&["--data".to_owned(), body.to_string(), url]);
        let (code, text) = answer.unwrap_or_else(|error| panic!("etcd: {error}"));
        assert_eq!(code, 200, "etcd {method}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("etcd {method}: {error}: {text}"))
    }

    /// The content of the audit log so far.
    pub(super) fn audit_log(&self) -> String {
        fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default()
    }

    fn apiserver_arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        [
            (
                "etcd-servers",
                format!("http://127.0.0.1:{}", self.etcd_port),
            ),
            ("bind-address", self.access.server.ip().to_string()),
            ("secure-port", self.access.server.port().to_string()),
            ("advertise-address", API_ADDRESS.to_string()),
            // The server's own endpoint would have the wrong port; publish_address sets the right one.
            ("endpoint-reconciler-type", "none".to_owned()),
            ("tls-cert-file", file("server.crt")),
            ("tls-private-key-file", file("server.key")),
            ("token-auth-file", file(users::FILE)),
            ("authorization-mode", "RBAC".to_owned()),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc".to_owned(),
            ),
            ("service-account-key-file", file("sa.pub")),
            ("service-account-signing-key-file", file("sa.key")),
            ("service-cluster-ip-range", SERVICE_CIDR.to_owned()),
            ("audit-policy-file", file("audit-policy.json")),
            ("audit-log-path", file("audit.log")),
            ("allow-privileged", "true".to_owned()),
            ("profiling", "false".to_owned()),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .to_vec()
    }

    fn manager_arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let kubeconfig = self.access.kubeconfig(User::ControllerManager);
        [
            ("kubeconfig", kubeconfig.display().to_string()),
            ("controllers", CONTROLLERS.join(",")),
            // Each controller uses its own role, and appears under its own name in the audit log.
            ("use-service-account-credentials", "true".to_owned()),
            ("service-account-private-key-file", file("sa.key")),
            ("root-ca-file", file("ca.crt")),
            ("leader-elect", "false".to_owned()),
            // It needs no port, since nothing queries it.
            ("secure-port", "0".to_owned()),
            // Tests wait for its requests, and the server has no other load.
            ("kube-api-qps", "200".to_owned()),
            ("kube-api-burst", "400".to_owned()),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .to_vec()
    }
}

fn etcd_arguments(folder: &Path, port: u16, peer_port: u16) -> Vec<String> {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    [
        ("name", "lab".to_owned()),
        ("data-dir", folder.join("etcd").display().to_string()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("lab={peer}")),
        ("log-level", "warn".to_owned()),
        // The data need not survive a crash of the machine.
        ("unsafe-no-fsync", "true".to_owned()),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .to_vec()
}

fn start(host: &Netns, folder: &Path, name: &str, arguments: &[String]) -> Process {
    let log = folder.join(format!("{name}.log"));
    Process::start(host, name, &program(name), arguments, &log)
}
