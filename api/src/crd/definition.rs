//! The CustomResourceDefinitions, for clusters without a MetalLB installation.
//!
//! Names, versions and columns are MetalLB's, so its objects apply unmodified and both programs can read them. The schema of
//! a specification is complete: the API server reports any other field, and `kubectl apply` refuses it. What others write into a
//! status is preserved.

use serde_json::{Value, json};

/// The definitions, as objects of kind CustomResourceDefinition.
pub fn all() -> [Value; 3] {
    [pool(), advertisement(), l2_status()]
}

fn pool() -> Value {
    let allocation = json!({
        "type": "object",
        "description": "Which Services may use the pool: those in one of the namespaces that match one of the selectors.",
        "properties": {
            "priority": {"type": "integer", "description": "Lower goes first; 0 goes last."},
            "namespaces": texts("Namespaces by name."),
            "namespaceSelectors": selectors("Namespaces by label."),
            "serviceSelectors": selectors("Services by label."),
        },
    });
    let spec = json!({
        "type": "object",
        "required": ["addresses"],
        "properties": {
            "addresses": texts("Prefixes (192.0.2.0/28) and ranges (192.0.2.1-192.0.2.9), of either family."),
            "autoAssign": {
                "type": "boolean",
                "default": true,
                "description": "Whether Services that name no pool get addresses of it.",
            },
            "avoidBuggyIPs": {
                "type": "boolean",
                "default": false,
                "description": "Leave out addresses that end in .0 and .255.",
            },
            "serviceAllocation": allocation,
        },
    });
    definition(
        "IPAddressPool",
        "Addresses for Services of type LoadBalancer.",
        &json!(["spec"]),
        &spec,
        &json!([
            column("Auto Assign", "boolean", ".spec.autoAssign"),
            column("Avoid Buggy IPs", "boolean", ".spec.avoidBuggyIPs"),
            column("Addresses", "string", ".spec.addresses"),
        ]),
    )
}

fn advertisement() -> Value {
    let spec = json!({
        "type": "object",
        "properties": {
            "ipAddressPools": texts("Pools by name; no pools by name or label: all pools."),
            "ipAddressPoolSelectors": selectors("Pools by label."),
            "nodeSelectors": selectors("Nodes that may announce; none: all."),
            "interfaces": texts("Interfaces to announce on; none: all."),
            "serviceSelectors": selectors("Services by label; none: all."),
        },
    });
    definition(
        "L2Advertisement",
        "Which pools are announced on the local network, and from where.",
        &json!([]),
        &spec,
        &json!([
            column("IPAddressPools", "string", ".spec.ipAddressPools"),
            column(
                "IPAddressPool Selectors",
                "string",
                ".spec.ipAddressPoolSelectors"
            ),
            column("Interfaces", "string", ".spec.interfaces"),
        ]),
    )
}

fn l2_status() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    let status = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "node": text("The node that announces."),
            "serviceName": text("Name of the Service."),
            "serviceNamespace": text("Namespace of the Service."),
            "interfaces": {
                "type": "array",
                "description": "The interfaces that it is announced on.",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
        },
    });
    let mut definition = definition(
        "ServiceL2Status",
        "Which node announces a Service; written by that node.",
        &json!([]),
        &json!({"type": "object"}),
        &json!([
            column("Allocated Node", "string", ".status.node"),
            column("Service Name", "string", ".status.serviceName"),
            column("Service Namespace", "string", ".status.serviceNamespace"),
        ]),
    );
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"] = status;
    definition
}

fn definition(kind: &str, what: &str, required: &Value, spec: &Value, columns: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = match singular.strip_suffix('s') {
        Some(stem) => format!("{stem}ses"),
        None => format!("{singular}s"),
    };
    let mut schema = json!({
        "type": "object",
        "description": what,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    if required.as_array().is_some_and(|r| !r.is_empty()) {
        schema["required"] = required.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.metallb.io")},
        "spec": {
            "group": "metallb.io",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": singular,
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1beta1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

fn texts(what: &str) -> Value {
    json!({"type": "array", "description": what, "items": {"type": "string"}})
}

fn selectors(what: &str) -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "array",
        "description": what,
        "items": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {
                "matchLabels": {"type": "object", "additionalProperties": text},
                "matchExpressions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": text,
                            "operator": text,
                            "values": {"type": "array", "items": text},
                        },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_kinds_are_those_that_are_watched_and_the_one_that_is_written() {
        let names = all().map(|d| d["metadata"]["name"].clone());
        assert_eq!(
            names,
            [
                "ipaddresspools.metallb.io",
                "l2advertisements.metallb.io",
                "servicel2statuses.metallb.io"
            ]
        );
        for definition in all() {
            let version = &definition["spec"]["versions"][0];
            assert_eq!(version["name"], "v1beta1");
            assert!(version["subresources"]["status"].is_object());
        }
    }
}
