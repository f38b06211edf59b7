//! The kind `ServiceL2Status` for requests. The daemons write it but do not watch it.

use kube::core::ApiResource;

/// The kind, for requests.
pub fn l2_status_kind() -> ApiResource {
    ApiResource {
        group: "metallb.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "metallb.io/v1beta1".to_owned(),
        kind: "ServiceL2Status".to_owned(),
        plural: "servicel2statuses".to_owned(),
    }
}
