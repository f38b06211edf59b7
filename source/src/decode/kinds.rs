//! Which kinds are read, and what is said of others: one that is not used, one in the wrong group or version, one that does not exist.

use ferrolb_api::object::Kind;
use ferrolb_api::problem::shown;
use ferrolb_api::quote::quoted;

use super::FieldError;
use ferrolb_api::near::nearest;

/// The kind for a name in a group and version; `None` for kinds that are not read at all.
pub(super) fn kind(name: &str, api_version: &str) -> Result<Option<Kind>, FieldError> {
    let (kind, group, version) = match name {
        "Service" => (Kind::Service, "", "v1"),
        "Node" => (Kind::Node, "", "v1"),
        "Namespace" => (Kind::Namespace, "", "v1"),
        "ServiceCIDR" => (Kind::ServiceCidr, "networking.k8s.io", "v1"),
        "Pod" => (Kind::Pod, "", "v1"),
        "ConfigMap" => (Kind::LegacyConfig, "", "v1"),
        "EndpointSlice" => (Kind::EndpointSlice, "discovery.k8s.io", "v1"),
        "IPAddressPool" => (Kind::IpAddressPool, "metallb.io", "v1beta1"),
        "L2Advertisement" => (Kind::L2Advertisement, "metallb.io", "v1beta1"),
        "KubeProxyConfiguration" => (Kind::ProxyConfig, "kubeproxy.config.k8s.io", "v1alpha1"),
        _ => return absent_kind(name, api_version),
    };
    let (given_group, given_version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if given_group != group {
        // Knative's Service is not Kubernetes', but Kubernetes' own groups have each of these kinds once.
        if !given_group.contains('.') || given_group.ends_with(".k8s.io") {
            let wanted = [group, version].join("/");
            let message = format!(
                "{name} is a kind of {}, not of {}: change apiVersion",
                wanted.trim_start_matches('/'),
                quoted(api_version)
            );
            return Err(FieldError::new("apiVersion", message));
        }
        return Ok(None);
    }
    if given_version != version {
        let wanted = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        return Err(FieldError::new(
            "apiVersion",
            format!(
                "{name} is read as {wanted}, not as {}: change the version",
                quoted(api_version)
            ),
        ));
    }
    Ok(Some(kind))
}

/// The kinds in the groups whose kinds are all known: Kubernetes' own ones and MetalLB's.
const KINDS: [(&str, &[&str]); 4] = [
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "List",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("kubeproxy.config.k8s.io", &["KubeProxyConfiguration"]),
    (
        "metallb.io",
        &[
            "AddressPool",
            "BFDProfile",
            "BGPAdvertisement",
            "BGPPeer",
            "BGPSessionStatus",
            "Community",
            "ConfigurationState",
            "IPAddressPool",
            "L2Advertisement",
            "MetalLB",
            "ServiceBGPStatus",
            "ServiceL2Status",
        ],
    ),
];

/// A kind that is not read. One that its group does not have is a slip: it may be any object that was there before.
fn absent_kind(name: &str, api_version: &str) -> Result<Option<Kind>, FieldError> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let Some((_, kinds)) = KINDS.iter().find(|(of, _)| *of == group) else {
        return Ok(None);
    };
    let single = name.strip_suffix("List").filter(|kind| !kind.is_empty());
    if kinds.contains(&single.unwrap_or(name)) || kinds.contains(&name) {
        return Ok(None);
    }
    let what = match nearest(name, kinds) {
        Some(near) => format!("did you mean {near}?"),
        None => "correct it".to_owned(),
    };
    let (name, version) = (quoted(name), shown(api_version));
    let message = format!("{name} is not a kind of {version}: {what}");
    Err(FieldError::new("kind", message))
}

/// A note for kinds that an owner may expect to have an effect.
pub(super) fn ignored_note(kind: &str, api_version: &str) -> Option<FieldError> {
    let message = match (kind, api_version.split('/').next()) {
        ("Endpoints", Some("v1")) => {
            "Endpoints are not read: write a discovery.k8s.io/v1 EndpointSlice"
        }
        ("AddressPool", Some("metallb.io")) => {
            "AddressPool is not read: write a metallb.io/v1beta1 IPAddressPool and an L2Advertisement"
        }
        ("BGPPeer" | "BGPAdvertisement" | "BFDProfile" | "Community", Some("metallb.io")) => {
            "this kind is not used: addresses are announced at layer 2 only, by an L2Advertisement"
        }
        _ => return None,
    };
    Some(FieldError::new("kind", message))
}
