//! Label selectors.

use std::collections::BTreeMap;

use ferrolb_api::crd::LabelSelector;
use ferrolb_api::crd::selector::{Operator, Requirement};
use serde::Deserialize;

use super::FieldError;
use super::raw::{one_of, strings};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw {
    match_labels: Option<BTreeMap<String, Option<String>>>,
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize)]
struct Expression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

/// Decodes a list of selectors.
pub(super) fn list(field: &str, raw: Option<Vec<Raw>>) -> Result<Vec<LabelSelector>, FieldError> {
    raw.unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(i, raw)| one(&format!("{field}[{i}]"), raw))
        .collect()
}

fn one(field: &str, raw: Raw) -> Result<LabelSelector, FieldError> {
    let mut match_expressions = Vec::new();
    for (i, e) in raw
        .match_expressions
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let field = |name: &str| format!("{field}.matchExpressions[{i}].{name}");
        let operator = match e.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(one_of(
                    field("operator"),
                    other,
                    "In, NotIn, Exists or DoesNotExist",
                ));
            }
        };
        let values = e.values.unwrap_or_default();
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        if takes_values == values.is_empty() {
            let message = if takes_values {
                format!("is empty: {} needs at least one value", e.operator)
            } else {
                format!("{} takes no values: remove them", e.operator)
            };
            return Err(FieldError::new(field("values"), message));
        }
        match_expressions.push(Requirement {
            key: e.key,
            operator,
            values,
        });
    }
    Ok(LabelSelector {
        match_labels: strings(raw.match_labels),
        match_expressions,
    })
}
