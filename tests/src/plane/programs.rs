//! The paths of the control plane's programs. `KUBEBUILDER_ASSETS` takes precedence, as everywhere where envtest's programs are
//! used. What is missing there (usually the controller manager) comes from `hack/setup`.

use std::path::{Path, PathBuf};

use crate::paths::lab_dir;

/// The programs of a plane.
pub const ALL: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The path of a program, whether or not it exists.
pub fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("KUBEBUILDER_ASSETS");
    chosen(
        given.as_ref().map(Path::new),
        &lab_dir().join("plane"),
        name,
    )
}

fn chosen(given: Option<&Path>, built: &Path, name: &str) -> PathBuf {
    given
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| built.join(name))
}

/// Whether all of them exist.
pub fn all_there() -> bool {
    ALL.iter().all(|name| program(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::TempDir;

    #[test]
    fn what_kubebuilder_assets_has_wins_and_what_it_lacks_is_the_one_that_was_built() {
        let assets = TempDir::new("assets");
        std::fs::write(assets.path().join("etcd"), "").expect("a file");
        let built = Path::new("/built");
        assert_eq!(
            chosen(Some(assets.path()), built, "etcd"),
            assets.path().join("etcd")
        );
        assert_eq!(
            chosen(Some(assets.path()), built, "kube-controller-manager"),
            built.join("kube-controller-manager")
        );
        assert_eq!(chosen(None, built, "etcd"), built.join("etcd"));
    }
}
