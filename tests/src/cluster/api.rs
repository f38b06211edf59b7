//! The users' cluster on a real control plane: their manifests go through `kubectl apply`, the kubelet runs their pods, and every
//! daemon uses the token of its own service account.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::confine::confinement;
use super::pod::{self, arguments, text};
use super::{Cluster, NGINX_PORTS, NODES};
use crate::lan::{Host, Lan};
use crate::manifests::Manifests;
use crate::node::{AgentSetup, AgentSource, Node, PodLinks};
use crate::paths::{TempDir, ferrolb, workspace};
use crate::plane::kubelet::{Kubelet, Servers};
use crate::plane::{Plane, Relay};
use crate::process::Process;
use crate::servers::{self, Nginx};
use crate::wait;

/// Namespace of the daemons.
pub const NAMESPACE: &str = "ferrolb-system";
/// The users' manifests: the namespace passed to `kubectl apply`, and the file.
const MANIFESTS: [(&str, &str); 6] = [
    ("default", "web-deploy.yaml"),
    ("default", "web-svc-cip.yaml"),
    ("default", "web-svc-headless.yaml"),
    ("default", "web-svc-lb.yaml"),
    ("kube-system", "kube-system/coredns-svc-lb.yaml"),
    ("ingress-nginx", "nginx-lb.yaml"),
];

/// The control plane and its parts. Fields are dropped in order: the daemons end before the servers that they use.
#[derive(Debug)]
pub struct Api {
    /// `ferrolb controller`, if it is running.
    pub controller: Option<Process>,
    /// The kubelet that runs the pods.
    pub kubelet: Kubelet,
    /// The nodes' path to the API server.
    pub relay: Relay,
    /// The host on which the controller runs.
    pub host: Host,
    /// The control plane.
    pub plane: Arc<Plane>,
    /// ClusterIP of web-svc-cip, for CoreDNS.
    web: Arc<Mutex<Option<Ipv4Addr>>>,
}

/// The limit for actions of controllers, kubelet and daemons.
const SOON: Duration = Duration::from_secs(40);

impl Cluster {
    /// Nodes, networks for pods, and an API server with the installation's own YAML. No daemon is running, and none of the users'
    /// manifests is applied.
    pub fn on_api(plane: Arc<Plane>, proxy: &str) -> Self {
        let folder = TempDir::new("api-cluster");
        let mut lan = Lan::new();
        let nodes: Vec<Node> = (1..=NODES)
            .map(|number| Node::new(&mut lan, number, PodLinks::Routed))
            .collect();
        let all: Vec<&Node> = nodes.iter().collect();
        for node in &nodes {
            node.routes_to(&all);
        }
        let client = lan.plug("client", 100);
        let host = lan.plug("controller", 50);
        let relay = Relay::start(&mut lan, plane.server());
        plane.install();
        let web = Arc::default();
        let kubelet = Kubelet::start(&plane, &all, pods_servers(folder.path(), Arc::clone(&web)));
        let manifests = Manifests::examples(&folder.path().join("manifests"));
        let mut setup = AgentSetup::new(folder.path(), manifests.path(), &nodes, proxy);
        let template = template(&plane, "daemonset", "ferrolb-node");
        let mut given = pod::given(&template, relay.address());
        if proxy != "none" {
            // The kubeconfig in the KubeProxyConfiguration, which exists only on a host, takes precedence over the server. This
            // setting takes precedence over both.
            setup.config = Some(manifests.path().join("kube-proxy-config.yaml"));
            let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "node", relay.address());
            let kubeconfig = kubeconfig.display().to_string();
            given
                .arguments
                .extend(["--kubeconfig".to_owned(), kubeconfig]);
        }
        setup.source = AgentSource::Api(given);
        let account = text(&template["spec"]["serviceAccountName"]);
        setup.confined = pod::credentials(&plane, folder.path(), NAMESPACE, &account);
        setup.confined.extend(confinement(&template));
        if wait::slowness() > 1 {
            let scale = wait::slowness().to_string();
            setup.extra.extend(["--timer-scale".to_owned(), scale]);
        }
        Self {
            nodes,
            client,
            web: Vec::new(),
            nginx: Vec::new(),
            pods: Vec::new(),
            api: Some(Api {
                controller: None,
                kubelet,
                relay,
                host,
                plane,
                web,
            }),
            manifests,
            setup,
            lan,
            folder,
        }
    }

    /// The control plane.
    pub fn api(&self) -> &Api {
        self.api.as_ref().expect("this cluster has an API server")
    }

    /// Starts or restarts `ferrolb controller` with its service account and the arguments of its Deployment.
    pub fn start_controller(&mut self) {
        let folder = self.folder().to_path_buf();
        let api = self.api.as_mut().expect("this cluster has an API server");
        let kubeconfig =
            api.plane
                .service_account_kubeconfig(NAMESPACE, "controller", api.relay.address());
        // It runs as an unprivileged user, which may not read root's files.
        let program = folder.join("ferrolb");
        if !program.exists() {
            std::fs::copy(ferrolb(), &program).expect("the program can be copied");
        }
        let template = template(&api.plane, "deployment", "ferrolb-controller");
        // In a pod, a variable holds its namespace.
        let mut given = vec![format!("POD_NAMESPACE={NAMESPACE}")];
        given.extend(confinement(&template));
        given.push(program.display().to_string());
        given.extend(arguments(&template));
        given.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
        api.controller = Some(Process::start(
            &api.host.netns,
            "controller",
            Path::new("/usr/bin/env"),
            &given,
            &folder.join("controller.log"),
        ));
    }

    /// Takes the members' key from the Secret that the controller created, and starts the nodes.
    pub fn start_nodes(&mut self) {
        let plane = Arc::clone(&self.api().plane);
        let key = wait::expect("the members' key", SOON, || {
            let template = "go-template={{.data.key | base64decode}}";
            let get = [
                "-n",
                NAMESPACE,
                "get",
                "secret",
                "ferrolb-members",
                "-o",
                template,
            ];
            let output = plane.kubectl_as(crate::plane::User::Admin, &get);
            if output.status.success() && output.stdout.len() >= 32 {
                Ok(output.stdout)
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        });
        std::fs::write(&self.setup.key_file, key).expect("the key can be written");
        self.start();
    }

    /// Runs `kubectl apply` on all of the users' manifests, byte for byte, and on the workloads behind their Services.
    pub fn apply_manifests(&mut self) {
        let folder = self.manifests.path().to_path_buf();
        let api = self.api();
        let shown = |file: &str| folder.join(file).display().to_string();
        let plane = &api.plane;
        plane.kubectl(&["apply", "-f", &shown("metallb-config.yaml")]);
        let more = workspace().join("tests/src/cluster/workloads.yaml");
        // This also creates the namespace of the ingress, so it comes first. CoreDNS waits for the address of the name that it
        // serves.
        plane.kubectl(&["apply", "-f", &more.display().to_string()]);
        for (namespace, file) in MANIFESTS {
            plane.kubectl(&["apply", "-n", namespace, "-f", &shown(file)]);
        }
        let path = "/api/v1/namespaces/default/services/web-svc-cip";
        let service = plane.get(path).expect("it was applied");
        let address = service["spec"]["clusterIP"]
            .as_str()
            .and_then(|ip| ip.parse().ok());
        *api.web.lock().unwrap_or_else(PoisonError::into_inner) = address;
        self.find_pods();
    }

    /// Waits for the users' pods and records where they are.
    pub fn find_pods(&mut self) {
        let ready = |namespace: &str, label: &str, count: usize| {
            wait::expect(&format!("{count} pods {label}"), SOON, || {
                let pods = self.api().ready_pods(namespace, label)?;
                if pods.len() == count {
                    Ok(pods)
                } else {
                    Err(format!("{}", pods.len()))
                }
            })
        };
        let web = ready("default", "app=web", 3);
        ready("kube-system", "k8s-app=kube-dns", 2);
        let nginx = ready("ingress-nginx", "app.kubernetes.io/name=ingress-nginx", 1);
        let address = |pod: &Value| pod["status"]["podIP"].as_str()?.parse().ok();
        let name = |pod: &Value| Some(pod["metadata"]["name"].as_str()?.to_owned());
        self.web = web.iter().filter_map(address).collect();
        let logs = self.folder().to_path_buf();
        let names = nginx.iter().filter_map(name);
        self.nginx = names.map(|name| Nginx::of(&logs, &name)).collect();
    }
}

impl Api {
    /// Pods with this label that are ready and not being deleted.
    pub fn ready_pods(&self, namespace: &str, label: &str) -> Result<Vec<Value>, String> {
        let selector = label.replace('=', "%3D").replace('/', "%2F");
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
        let list = self.plane.get(&path)?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut ready = conditions.filter(|c| c["type"] == "Ready" && c["status"] == "True");
            ready.next().is_some() && pod["metadata"]["deletionTimestamp"].is_null()
        };
        Ok(pods.into_iter().filter(ready).collect())
    }

    /// The EXTERNAL-IP that `kubectl get svc` prints.
    pub fn external_ip(&self, namespace: &str, name: &str) -> String {
        let line = self
            .plane
            .kubectl(&["get", "svc", "-n", namespace, name, "--no-headers"]);
        line.split_whitespace()
            .nth(3)
            .unwrap_or_default()
            .to_owned()
    }
}

/// Which server takes the place of which image.
fn pods_servers(folder: &Path, web: Arc<Mutex<Option<Ipv4Addr>>>) -> Servers {
    let name = "app.kubernetes.io/name";
    Servers::new(folder)
        .with_web()
        .with("k8s-app", "kube-dns", move |_, pod, folder| {
            let known = || *web.lock().unwrap_or_else(PoisonError::into_inner);
            let address = wait::expect("the ClusterIP of web-svc-cip", SOON, || {
                known().ok_or("not applied yet")
            });
            servers::coredns(pod, folder, address);
        })
        .with(name, "ingress-nginx", |_, pod, folder| {
            Nginx::start(pod, folder, NGINX_PORTS.0, NGINX_PORTS.1);
        })
        .short_grace()
}

/// The pod template of a workload of the installation.
fn template(plane: &Plane, kind: &str, name: &str) -> Value {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/{kind}s/{name}");
    let mut object = plane.get(&path).expect("the installation has it");
    object["spec"]["template"].take()
}
