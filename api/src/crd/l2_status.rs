//! `ServiceL2Status` (metallb.io/v1beta1): which node announces a Service. It is the only kind that the daemons write but do not
//! read; it is for users of the API.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ObjectKey;
use crate::family::Family;

/// Label with the name of the node.
pub const NODE: &str = "metallb.io/node";
/// Label with the name of the Service.
pub const SERVICE_NAME: &str = "metallb.io/service-name";
/// Label with the namespace of the Service.
pub const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";

/// The status of a ServiceL2Status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L2Status {
    /// The node that announces the Service.
    pub node: String,
    /// Name of the Service.
    pub service_name: String,
    /// Namespace of the Service.
    pub service_namespace: String,
    /// The interfaces that the Service is announced on.
    pub interfaces: Vec<Interface>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Name.
    pub name: String,
}

impl L2Status {
    /// Reads the status from an object's fields (those other than the metadata); `None` if there is no readable status.
    pub fn of(object: &Value) -> Option<Self> {
        serde_json::from_value(object.get("status")?.clone()).ok()
    }

    /// The Service that the status is about.
    pub fn service(&self) -> ObjectKey {
        ObjectKey::new(self.service_namespace.clone(), self.service_name.clone())
    }
}

/// The name of the object for a Service (by uid) and a family. It is the same on every node, so the next announcer finds the
/// object.
pub fn name(uid: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("l2-{uid}"),
        Family::V6 => format!("l2-{uid}-v6"),
    }
}
