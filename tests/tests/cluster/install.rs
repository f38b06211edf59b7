//! The parts of the installation that no other test applies.

use ferrolb_tests::paths::workspace;

use crate::{needs, shared};

#[test]
fn the_overlay_gives_the_nodes_the_clusters_kube_proxy_configuration_and_changes_nothing_else() {
    needs!(
        "the_overlay_gives_the_nodes_the_clusters_kube_proxy_configuration_and_changes_nothing_else"
    );
    let (plane, _running) = shared();
    let built = |folder: &str| {
        let path = workspace().join("deploy/kustomize").join(folder);
        plane.kubectl(&["kustomize", &path.display().to_string()])
    };
    let (base, overlay) = (built("base"), built("kube-proxy-config"));
    let mut base = base.lines();
    let more: Vec<&str> = overlay
        .lines()
        .filter(|line| {
            let mut rest = base.clone();
            let same = rest.next() == Some(*line);
            if same {
                base = rest;
            }
            !same
        })
        .map(str::trim)
        .collect();
    assert_eq!(base.next(), None, "{more:?}");
    let added = "- --config=/var/lib/kube-proxy/config.conf - mountPath: /var/lib/kube-proxy name: kube-proxy readOnly: true \
                 - configMap: name: kube-proxy name: kube-proxy";
    assert_eq!(more.join(" "), added);
}
