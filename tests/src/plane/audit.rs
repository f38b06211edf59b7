//! The audit log (audit.k8s.io/v1): which requests the API server received, from which user, and for writes with which body.
//! Tests use it to count a component's writes.

use serde::Deserialize;
use serde_json::Value;

/// Answers are logged once, when they are complete; a watch also when it starts. Bodies are logged for writes, except for secrets
/// and tokens.
pub(super) const POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [
    { "level": "Metadata", "verbs": ["get", "list", "watch"] },
    { "level": "Metadata", "resources": [{ "group": "", "resources": ["secrets", "serviceaccounts/token"] }, { "group": "authentication.k8s.io" }] },
    { "level": "Request" }
  ]
}"#;

/// One event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditEvent {
    /// `ResponseComplete`, or `ResponseStarted` for a watch that continues.
    pub stage: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`, `get`, `list`, `watch`.
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The client's user agent.
    pub user_agent: String,
    /// Who asked.
    pub user: AuditUser,
    /// The object of the request; empty for paths that do not name an object.
    pub object_ref: AuditObject,
    /// The answer.
    pub response_status: AuditStatus,
    /// The body of a write: the object, or the patch.
    pub request_object: Value,
    /// When the answer was complete (RFC 3339).
    pub stage_timestamp: String,
}

/// Who asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuditUser {
    /// `system:serviceaccount:NAMESPACE:NAME` for a service account.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// What was asked about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// API group, empty for the core.
    pub api_group: String,
    /// Plural: `services`.
    pub resource: String,
    /// `status`, `binding`; empty for the object itself.
    pub subresource: String,
    /// Namespace; empty if there is none.
    pub namespace: String,
    /// Name; empty for lists and for names that the server generates.
    pub name: String,
}

/// The answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuditStatus {
    /// HTTP status code.
    pub code: u16,
    /// The reason for a refusal.
    pub reason: String,
}

impl AuditEvent {
    /// Whether the request is a write; refused ones count.
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }

    /// Whether the request has this user, verb, resource and subresource (`services/status`).
    pub fn is(&self, user: &str, verb: &str, resource: &str) -> bool {
        self.user.username == user && self.verb == verb && self.resource() == resource
    }

    /// The resource with its subresource: `services`, `services/status`.
    pub fn resource(&self) -> String {
        let AuditObject {
            resource,
            subresource,
            ..
        } = &self.object_ref;
        if subresource.is_empty() {
            resource.clone()
        } else {
            format!("{resource}/{subresource}")
        }
    }
}

/// Parses a log. A last line without a line end is still being written, so it is skipped.
pub fn parse(log: &str) -> Vec<AuditEvent> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("audit log: {error}: {line}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_event_says_who_did_what_and_a_line_that_is_not_whole_is_left_for_later() {
        let line = r#"{"kind":"Event","stage":"ResponseComplete","verb":"patch","user":{"username":"lab-kubelet"},"objectRef":{"resource":"pods","subresource":"status","namespace":"default","name":"web-1"},"responseStatus":{"metadata":{},"code":200}}"#;
        let events = super::parse(&format!("{line}\n{}", &line[..40]));
        assert_eq!(events.len(), 1);
        assert!(events[0].is("lab-kubelet", "patch", "pods/status") && events[0].is_write());
        assert_eq!(events[0].response_status.code, 200);
    }
}
