//! Sysctls: the values that the datapath needs in `/proc/sys/net`, and their previous values.
//!
//! A value that is already right is not written, so a read-only `/proc/sys` works if somebody else has set it. The first time
//! that a value is changed, the old one is written to `sysctls.json` in the state directory. A cleanup restores it, unless
//! somebody has changed it since. `/proc/sys/net` belongs to the network namespace of the thread that opens a file in it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_api::proxy_config::ProxyConfig;

#[cfg(test)]
mod tests;

use super::netlink::refused;
use super::record::{Change, Record};
use super::{KernelError, Mended};

/// The path of the sysctls.
pub const NET: &str = "/proc/sys/net";
/// File in the state directory with the old values.
const FILE: &str = "sysctls.json";

/// Conntrack settings of a KubeProxyConfiguration. `None` and zero keep the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// `nf_conntrack_max`, only ever raised.
    pub max: Option<u32>,
    /// `nf_conntrack_tcp_timeout_established`.
    pub tcp_established: Duration,
    /// `nf_conntrack_tcp_timeout_close_wait`.
    pub tcp_close_wait: Duration,
    /// `nf_conntrack_udp_timeout`.
    pub udp: Duration,
    /// `nf_conntrack_udp_timeout_stream`.
    pub udp_stream: Duration,
    /// `nf_conntrack_tcp_be_liberal`, only ever turned on.
    pub tcp_be_liberal: bool,
}

impl Conntrack {
    /// The settings of a configuration on a machine with this many cores.
    pub fn of(config: &ProxyConfig, cores: u32) -> Self {
        let asked = config.conntrack;
        let max = asked.max_per_core.saturating_mul(cores).max(asked.min);
        Self {
            max: (asked.max_per_core > 0).then_some(max),
            tcp_established: asked.tcp_established,
            tcp_close_wait: asked.tcp_close_wait,
            udp: asked.udp,
            udp_stream: asked.udp_stream,
            tcp_be_liberal: asked.tcp_be_liberal,
        }
    }
}

/// One setting.
struct Setting {
    /// Below `/proc/sys/net`.
    path: &'static str,
    value: u64,
    /// Whether any larger value is accepted too.
    at_least: bool,
    /// Whether packets cannot flow without it.
    needed: bool,
}

/// The sysctls under one path, with the record of changes.
#[derive(Debug)]
pub(super) struct Sysctls {
    net: PathBuf,
    record: Record,
}

/// The settings that the datapath needs. Each was tested. IPv6 forwarding is set only if the node has an IPv6 address, because it
/// turns off router advertisements.
fn settings(v6: bool, conntrack: &Conntrack) -> Vec<Setting> {
    let exact = |path, value| Setting {
        path,
        value,
        at_least: false,
        needed: true,
    };
    let wish = |path, value, at_least| Setting {
        path,
        value,
        at_least,
        needed: false,
    };
    let mut out = vec![
        // Masquerading and `ct original` depend on it.
        exact("ipv4/vs/conntrack", 1),
        // A connection from a reused client port is scheduled again.
        exact("ipv4/vs/conn_reuse_mode", 1),
        // Connections to a removed server are reset; UDP moves to another server.
        exact("ipv4/vs/expire_nodest_conn", 1),
        // Affinity to a server with weight 0 ends, as kube-proxy sets it.
        exact("ipv4/vs/expire_quiescent_template", 1),
        exact("ipv4/ip_forward", 1),
        // Only the announcing node answers ARP for an address on the dummy.
        exact("ipv4/conf/all/arp_ignore", 1),
        exact("ipv4/conf/all/arp_announce", 2),
    ];
    if v6 {
        out.push(exact("ipv6/conf/all/forwarding", 1));
    }
    if let Some(max) = conntrack.max {
        out.push(wish("netfilter/nf_conntrack_max", max.into(), true));
    }
    if conntrack.tcp_be_liberal {
        out.push(wish("netfilter/nf_conntrack_tcp_be_liberal", 1, false));
    }
    let timeouts = [
        (
            "netfilter/nf_conntrack_tcp_timeout_established",
            conntrack.tcp_established,
        ),
        (
            "netfilter/nf_conntrack_tcp_timeout_close_wait",
            conntrack.tcp_close_wait,
        ),
        ("netfilter/nf_conntrack_udp_timeout", conntrack.udp),
        (
            "netfilter/nf_conntrack_udp_timeout_stream",
            conntrack.udp_stream,
        ),
    ];
    out.extend(
        timeouts
            .into_iter()
            .filter(|(_, t)| !t.is_zero())
            .map(|(path, t)| wish(path, t.as_secs(), false)),
    );
    out
}

impl Sysctls {
    pub(super) fn new(net: PathBuf, state_dir: &Path) -> Self {
        Self {
            net,
            record: Record::new(state_dir.join(FILE)),
        }
    }

    /// Sets the values that are not right yet, and logs which of those that are only wished for cannot be set.
    pub(super) fn prepare(&self, v6: bool, conntrack: &Conntrack) -> Result<(), KernelError> {
        self.set_all(v6, conntrack, |setting, error| {
            tracing::warn!(sysctl = setting.path, value = setting.value, %error, "left as it is");
        })
        .map(drop)
    }

    /// Sets the values that are not right any more, and returns them.
    pub(super) fn mend(&self, v6: bool, conntrack: &Conntrack) -> Result<Vec<Mended>, KernelError> {
        self.set_all(v6, conntrack, |_, _| {})
    }

    fn set_all(
        &self,
        v6: bool,
        conntrack: &Conntrack,
        unfulfilled: impl Fn(&Setting, &io::Error),
    ) -> Result<Vec<Mended>, KernelError> {
        let mut mended = Vec::new();
        for setting in settings(v6, conntrack) {
            match self.set(&setting) {
                Ok(changed) => mended.extend(changed),
                Err(error) if !setting.needed => unfulfilled(&setting, &error),
                Err(error) => {
                    let what = format!(
                        "sysctl {} (should be {})",
                        self.net.join(setting.path).display(),
                        setting.value
                    );
                    // A container gets EROFS, an unprivileged process EACCES.
                    return Err(match error.kind() {
                        io::ErrorKind::ReadOnlyFilesystem => KernelError::Permission {
                            what: format!("{what}, its file system is read-only"),
                        },
                        io::ErrorKind::PermissionDenied => KernelError::Permission { what },
                        _ => refused(what, error),
                    });
                }
            }
        }
        Ok(mended)
    }

    fn set(&self, setting: &Setting) -> io::Result<Option<Mended>> {
        let path = self.net.join(setting.path);
        let before = std::fs::read_to_string(&path)?.trim().to_owned();
        let enough = match before.parse::<u64>() {
            Ok(now) => now == setting.value || setting.at_least && now > setting.value,
            Err(_) => false,
        };
        if enough {
            return Ok(None);
        }
        let set = setting.value.to_string();
        let change = Change {
            before: before.clone(),
            set: set.clone(),
        };
        self.record.note([(setting.path.to_owned(), change)])?;
        write(&path, &set)?;
        Ok(Some(Mended {
            what: format!("sysctl net/{}", setting.path),
            was: before,
            is: set,
        }))
    }

    /// Restores the old values and clears the record.
    pub(super) fn restore(&self) -> Vec<KernelError> {
        let changes = match self.record.load() {
            Ok(changes) => changes,
            Err(e) => return vec![refused(format!("read {}", self.record.file().display()), e)],
        };
        let mut errors = Vec::new();
        let mut kept = BTreeMap::new();
        for (name, change) in changes {
            let path = self.net.join(&name);
            let now = match std::fs::read_to_string(&path) {
                Ok(now) => now,
                // The module that provided it is gone.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    errors.push(refused(format!("read {}", path.display()), e));
                    kept.insert(name, change);
                    continue;
                }
            };
            if now.trim() == change.set
                && let Err(e) = write(&path, &change.before)
            {
                errors.push(refused(format!("restore {}", path.display()), e));
                kept.insert(name, change);
            }
        }
        errors.extend(
            self.record
                .store(&kept)
                .err()
                .map(|e| refused(format!("write {}", self.record.file().display()), e)),
        );
        errors
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    // A sysctl is written completely or not at all, and never created.
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}
