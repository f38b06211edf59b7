//! What runs in a Pod: the lab has no container runtime, so a Pod's labels determine which server takes the place of its image.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;

use crate::cluster::ECHO_PORTS;
use crate::pod::Pod;
use crate::wait;

type Start = Box<dyn Fn(&core::Pod, &mut Pod, &Path) + Send + Sync>;

/// Servers by label.
pub struct Servers {
    folder: PathBuf,
    rows: Vec<(String, String, Start)>,
    pub(super) grace: Option<Duration>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self
            .rows
            .iter()
            .map(|(key, value, _)| format!("{key}={value}"))
            .collect();
        write!(f, "Servers({})", labels.join(", "))
    }
}

impl Servers {
    /// Starts without servers; logs go to `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            rows: Vec::new(),
            grace: None,
        }
    }

    /// Pods with this label run what `start` starts in them. It must return once the server listens; the Pod is then ready. It
    /// receives the object, the pod's namespace and the folder for logs. The first matching label wins.
    pub fn with(
        mut self,
        key: &str,
        value: &str,
        start: impl Fn(&core::Pod, &mut Pod, &Path) + Send + Sync + 'static,
    ) -> Self {
        self.rows
            .push((key.to_owned(), value.to_owned(), Box::new(start)));
        self
    }

    /// Uses the lab's own small server for `app=web`, on port 8000 and its echo ports.
    pub fn with_web(self) -> Self {
        self.with("app", "web", |_, pod, folder| {
            let (tcp, udp) = ECHO_PORTS;
            pod.serve(folder, &[8000], &[tcp], &[udp]);
        })
    }

    /// After they are asked to end, servers continue for a short time, so that all nodes learn of it first. Without this setting
    /// they use the whole grace period of their Pod, usually half a minute.
    pub fn short_grace(mut self) -> Self {
        self.grace = Some(Duration::from_secs(10) * wait::slowness().min(2));
        self
    }

    /// Starts the matching server; returns false if there is none.
    pub(super) fn start(&self, object: &core::Pod, pod: &mut Pod) -> bool {
        let labels = object.metadata.labels.as_ref();
        let fits = |key: &str, value: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
                == Some(value)
        };
        let row = self.rows.iter().find(|(key, value, _)| fits(key, value));
        if let Some((_, _, start)) = row {
            start(object, pod, &self.folder);
        }
        row.is_some()
    }
}
