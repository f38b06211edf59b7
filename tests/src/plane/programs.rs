//! Where the control plane's programs are, each for itself: `KUBEBUILDER_ASSETS` wins, as everywhere where envtest's programs are used; what it lacks
//! (the controller manager, mostly) is what `hack/setup` built.

use std::path::{Path, PathBuf};

use crate::paths::lab_dir;

/// All that a plane is made of.
pub const ALL: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The path of one of them, whether it is there or not.
pub fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(name));
    given
        .filter(|path| path.is_file())
        .unwrap_or_else(|| lab_dir().join("plane").join(name))
}

/// Whether none is missing.
pub fn all_there() -> bool {
    ALL.iter().all(|name| program(name).is_file())
}
