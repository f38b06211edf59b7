//! The Namespace.

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Namespace;
use ferrolb_api::view::namespace::NAME_LABEL;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::FieldError;
use super::raw::{Raw, typed};

/// Decodes a Namespace. An API server adds the label with the name; a file need not have it.
pub(super) fn decode(value: &Value, key: ObjectKey) -> Result<Namespace, FieldError> {
    let raw: Raw<IgnoredAny, IgnoredAny> = typed(value)?;
    let labels = raw.metadata.unwrap_or_default().labels();
    let own = labels
        .iter()
        .filter(|(label, _)| label.as_str() != NAME_LABEL);
    let own = own.map(|(label, value)| (label.clone(), value.clone()));
    let name = (NAME_LABEL.to_owned(), key.name.clone());
    Ok(Namespace {
        labels: own.chain([name]).collect(),
        name: key.name.clone(),
    })
}
