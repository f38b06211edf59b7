//! `ServiceL2Status` (metallb.io/v1beta1): which node announces a Service. The one kind that is written and not read by the daemons; it
//! is there for those who ask the API.

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

/// Its status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L2Status {
    /// The node that announces.
    pub node: String,
    /// Name of the Service.
    pub service_name: String,
    /// Namespace of the Service.
    pub service_namespace: String,
    /// The interfaces that it is announced on.
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
    /// What an object (its fields beside the metadata) says; `None` where it has no status that can be read.
    pub fn of(object: &Value) -> Option<Self> {
        serde_json::from_value(object.get("status")?.clone()).ok()
    }

    /// Which Service.
    pub fn service(&self) -> ObjectKey {
        ObjectKey::new(self.service_namespace.clone(), self.service_name.clone())
    }
}

/// The name of the object about a Service (by its uid) in a family: the same on every node, so that the next announcer finds it.
pub fn name(uid: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("l2-{uid}"),
        Family::V6 => format!("l2-{uid}-v6"),
    }
}
