//! Settings of kube-proxy that are read and not followed.

use super::super::FieldError;
use super::Raw;

/// A note for each setting that asks for something else than what is done. A value that says what is done anyway, or kube-proxy's
/// default, needs none.
pub(super) fn not_followed(raw: &Raw) -> Vec<FieldError> {
    let some = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    let ipvs = raw.ipvs.as_ref();
    let mode = raw.detect_local_mode.as_deref().unwrap_or_default();
    [
        (
            ipvs.is_some_and(|i| i.strict_arp == Some(false)),
            "ipvs.strictARP",
            "false is not followed: the addresses of Services are never answered for on a LAN by the kernel alone, so arp_ignore is 1 and arp_announce is 2",
        ),
        (
            mode != "BridgeInterface" && some(&raw.detect_local.bridge_interface),
            "detectLocal.bridgeInterface",
            "is not followed: detectLocalMode does not ask for it, so set that to BridgeInterface or remove this",
        ),
        (
            mode != "InterfaceNamePrefix" && some(&raw.detect_local.interface_name_prefix),
            "detectLocal.interfaceNamePrefix",
            "is not followed: detectLocalMode does not ask for it, so set that to InterfaceNamePrefix or remove this",
        ),
    ]
    .into_iter()
    .filter(|(asked, ..)| *asked)
    .map(|(_, field, message)| FieldError::new(field, message))
    .collect()
}
