//! The ServiceCIDR.

use ferrolb_api::ObjectKey;
use ferrolb_api::view::ServiceCidr;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::FieldError;
use super::raw::{Raw, net, typed};

#[derive(Default, Deserialize)]
struct Spec {
    cidrs: Option<Vec<String>>,
}

/// Decodes a ServiceCIDR.
pub(super) fn decode(value: &Value, key: ObjectKey) -> Result<ServiceCidr, FieldError> {
    let raw: Raw<Spec, IgnoredAny> = typed(value)?;
    let texts = raw.spec.unwrap_or_default().cidrs.unwrap_or_default();
    let texts = texts.iter().enumerate();
    let cidrs = texts.map(|(i, text)| net(format!("spec.cidrs[{i}]"), text));
    Ok(ServiceCidr {
        name: key.name.clone(),
        cidrs: cidrs.collect::<Result<_, _>>()?,
    })
}
