//! A real control plane: etcd, the API server and the controller manager from the lab's own build. It is ready in seconds, with
//! RBAC, a token for each component and an audit log. It runs on this machine's loopback interface, beside the lab's namespaces;
//! a [`Relay`] makes it reachable on the LAN. The lab's [`kubelet`] runs the Pods.
//!
//! A VM would start it twenty times more slowly, so in a VM the control plane that `lab run --plane` runs on the host is used
//! ([`Plane::connect_or_start`]).

mod access;
pub mod audit;
mod daemons;
pub mod kubelet;
mod pki;
mod ports;
pub mod programs;
mod relay;
mod share;
mod users;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use self::access::Access;
pub use self::audit::AuditEvent;
use self::daemons::Daemons;
pub use self::relay::Relay;
use self::share::Remote;
pub use self::share::{GUEST_VIEW, Shared};
pub use self::users::{USERS, User};
use crate::paths::{TempDir, workspace};

/// The address at which the lab's nodes reach the API server, and to which the Service `kubernetes` leads.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The port at this address.
pub const API_PORT: u16 = 6443;

/// A control plane. It ends when this value is dropped, unless it belongs to another process.
#[derive(Debug)]
pub struct Plane {
    backend: Backend,
    access: Access,
    folder: TempDir,
}

#[derive(Debug)]
enum Backend {
    Own(Box<Mutex<Daemons>>),
    Given(Remote),
}

impl Plane {
    /// Starts a control plane and waits until it is ready.
    pub fn start() -> Self {
        let folder = TempDir::new("plane");
        let daemons = Daemons::start(folder.path());
        let access = daemons.access().clone();
        let backend = Backend::Own(Box::new(Mutex::new(daemons)));
        Self {
            backend,
            access,
            folder,
        }
    }

    /// Uses the control plane that `lab run --plane` provides, otherwise starts one. A provided one may contain objects of other
    /// tests.
    pub fn connect_or_start() -> Self {
        let Some(remote) = Remote::given() else {
            return Self::start();
        };
        let folder = TempDir::new("plane");
        let access = Access::new(remote.server, &remote.folder, folder.path());
        let backend = Backend::Given(remote);
        Self {
            backend,
            access,
            folder,
        }
    }

    /// Address, authority, tokens, kubeconfigs.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Where the API server listens, as seen from this machine.
    pub fn server(&self) -> SocketAddr {
        self.access.server
    }

    /// A folder for files of the plane's users; removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the API server, as in a crash: clients lose their connections and cannot reconnect.
    pub fn stop_apiserver(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).stop_apiserver(),
            Backend::Given(remote) => drop(remote.ask("stop-apiserver")),
        }
    }

    /// Restarts the API server on the same port and the same etcd, and waits until it is ready.
    pub fn start_apiserver(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).start_apiserver(),
            Backend::Given(remote) => drop(remote.ask("start-apiserver")),
        }
    }

    /// Makes etcd discard its history. The API server can still serve events from its own cache; see [`Plane::expire_watches`].
    pub fn compact_etcd(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).compact_etcd(),
            Backend::Given(remote) => drop(remote.ask("compact-etcd")),
        }
    }

    /// Restarts the API server on a compacted etcd: every client loses its watch, and a client that was not up to date gets 410
    /// Gone for its version.
    pub fn expire_watches(&self) {
        self.stop_apiserver();
        self.compact_etcd();
        self.start_apiserver();
    }

    /// The requests that the API server has received so far. An event is written when its answer is complete, and a client may
    /// see the answer a moment earlier. So wait for events that must be there ([`crate::wait`]).
    pub fn audit(&self) -> Vec<AuditEvent> {
        audit::parse(&match &self.backend {
            Backend::Own(daemons) => lock(daemons).audit_log(),
            Backend::Given(remote) => remote.ask("audit"),
        })
    }

    /// The completed writes of one user, including refused ones.
    pub fn writes(&self, username: &str) -> Vec<AuditEvent> {
        let mut events = self.audit();
        events.retain(|event| {
            event.is_write() && event.user.username == username && event.stage == "ResponseComplete"
        });
        events
    }

    /// A kubeconfig for a user on this machine.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.access.kubeconfig(user)
    }

    /// A kubeconfig for a service account, with any address of the API server.
    pub fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        server: SocketAddr,
    ) -> PathBuf {
        let token = self.service_account_token(namespace, name);
        self.access
            .kubeconfig_with(&format!("{namespace}-{name}"), &token, server)
    }

    /// A token for a service account from TokenRequest, valid for an hour.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> String {
        self.kubectl(&["create", "token", "-n", namespace, name])
            .trim()
            .to_owned()
    }

    /// Runs kubectl as the admin, which must succeed, and returns its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.kubectl_as(User::Admin, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {}: {}\n{errors}",
            arguments.join(" "),
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl as any user.
    pub fn kubectl_as(&self, user: User, arguments: &[&str]) -> Output {
        self.access.kubectl(user, arguments)
    }

    /// Runs `kubectl apply` on a file or a folder.
    #[track_caller]
    pub fn apply(&self, path: &Path) -> String {
        self.kubectl(&["apply", "-f", &path.display().to_string()])
    }

    /// Installs the definitions and the workloads, as the README says.
    #[track_caller]
    pub fn install(&self) {
        for part in ["crds", "base"] {
            self.kustomization("apply", part);
        }
    }

    /// Runs a verb of kubectl on a part of the installation.
    #[track_caller]
    pub fn kustomization(&self, verb: &str, part: &str) -> String {
        let path = workspace().join("deploy/kustomize").join(part);
        self.kubectl(&[verb, "-k", &path.display().to_string()])
    }

    /// Gets an object or a list by its path in the API, as the admin.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let (code, body) = self.access.request(User::Admin, "GET", path, None)?;
        if code != 200 {
            return Err(format!("{code}: {body}"));
        }
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
    }
}

fn lock(daemons: &Mutex<Daemons>) -> MutexGuard<'_, Daemons> {
    daemons.lock().unwrap_or_else(PoisonError::into_inner)
}
