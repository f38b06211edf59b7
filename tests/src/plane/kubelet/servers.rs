//! What runs in a Pod: the lab has no container runtime, so a Pod's labels say which server stands for its image.

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
    /// None yet; their logs go to `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            rows: Vec::new(),
            grace: None,
        }
    }

    /// Pods with this label run what `start` starts in them; it returns when the server listens, and then the Pod is ready. It gets the object, the
    /// pod's namespace and the folder for logs. The first row that fits counts.
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

    /// `app=web` is the lab's own small server on port 8000, with its echo ports.
    pub fn with_web(self) -> Self {
        self.with("app", "web", |_, pod, folder| {
            let (tcp, udp) = ECHO_PORTS;
            pod.serve(folder, &[8000], &[tcp], &[udp]);
        })
    }

    /// Servers go on for a while once they are asked to end, so that all nodes have heard of it before they do. Without this they use
    /// up the grace period of their Pod, half a minute mostly.
    pub fn short_grace(mut self) -> Self {
        self.grace = Some(Duration::from_secs(10) * wait::slowness().min(2));
        self
    }

    /// Starts the server that fits; false if none does.
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
