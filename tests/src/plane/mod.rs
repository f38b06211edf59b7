//! A real control plane: etcd, the API server and the controller manager of the lab's own build, ready in seconds, with RBAC, a token for each
//! component and an audit log. It runs on this machine's loopback, beside the lab's namespaces; a [`Relay`] is its place on the LAN. What makes
//! Pods run is the lab's [`kubelet`].
//!
//! In a VM it would start twenty times slower: there the one that `lab run --plane` runs on the host is used ([`Plane::connect_or_start`]).

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
use crate::paths::TempDir;

/// Where the lab's nodes reach the API server, and what the Service `kubernetes` leads to.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The port there.
pub const API_PORT: u16 = 6443;

/// A control plane. It ends with this value, unless it was given.
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
    /// Starts one and waits until it is ready.
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

    /// The one that `lab run --plane` gave, else one of its own. A given one may hold what other tests left.
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

    /// A folder for what belongs to the plane's users; removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the API server, as a crash does: clients lose their connections and then find nobody.
    pub fn stop_apiserver(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).stop_apiserver(),
            Backend::Given(remote) => drop(remote.ask("stop-apiserver")),
        }
    }

    /// Starts it again, on the same port and the same etcd, and waits until it is ready.
    pub fn start_apiserver(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).start_apiserver(),
            Backend::Given(remote) => drop(remote.ask("start-apiserver")),
        }
    }

    /// Makes etcd forget the past. What the API server still has in its own cache of events it goes on giving; see [`Plane::expire_watches`].
    pub fn compact_etcd(&self) {
        match &self.backend {
            Backend::Own(daemons) => lock(daemons).compact_etcd(),
            Backend::Given(remote) => drop(remote.ask("compact-etcd")),
        }
    }

    /// Restarts the API server on a compacted etcd: every client loses its watch, and one that was not up to date gets 410 Gone for its version.
    pub fn expire_watches(&self) {
        self.stop_apiserver();
        self.compact_etcd();
        self.start_apiserver();
    }

    /// What the API server was asked so far. An event is written when its answer is complete, which a client may know a moment earlier: wait for
    /// what must be there ([`crate::wait`]).
    pub fn audit(&self) -> Vec<AuditEvent> {
        audit::parse(&match &self.backend {
            Backend::Own(daemons) => lock(daemons).audit_log(),
            Backend::Given(remote) => remote.ask("audit"),
        })
    }

    /// The completed writes of one user, refused ones too.
    pub fn writes(&self, username: &str) -> Vec<AuditEvent> {
        let mut events = self.audit();
        events.retain(|event| {
            event.is_write() && event.user.username == username && event.stage == "ResponseComplete"
        });
        events
    }

    /// A kubeconfig for a user, from this machine.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.access.kubeconfig(user)
    }

    /// A kubeconfig for a service account, by way of any address of the API server.
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

    /// A token for a service account, by TokenRequest, good for an hour.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> String {
        self.kubectl(&["create", "token", "-n", namespace, name])
            .trim()
            .to_owned()
    }

    /// Runs kubectl as the admin, who must succeed, and gives what it printed.
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

    /// `kubectl apply` of a file or a folder.
    #[track_caller]
    pub fn apply(&self, path: &Path) -> String {
        self.kubectl(&["apply", "-f", &path.display().to_string()])
    }

    /// An object or a list by its path in the API, as the admin.
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
