//! Chooses the node for a Pod, in place of the scheduler: in rotation, the next ready one that the Pod's node selector and the
//! affinity of DaemonSets allow. Resources, taints and preferences are ignored.

use k8s_openapi::api::core::v1::{Node, Pod};

/// The name of the node, if one is ready and allowed. `turn` is the number of Pods placed before this one.
pub(super) fn choose(nodes: &[Node], pod: &Pod, turn: usize) -> Option<String> {
    let mut fit: Vec<&str> = nodes
        .iter()
        .filter(|node| is_ready(node) && selected(node, pod) && required(node, pod))
        .filter_map(|node| node.metadata.name.as_deref())
        .collect();
    fit.sort_unstable();
    (!fit.is_empty()).then(|| fit[turn % fit.len()].to_owned())
}

fn is_ready(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let mut conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    !cordoned && conditions.any(|is| is.type_ == "Ready" && is.status == "True")
}

fn selected(node: &Node, pod: &Pod) -> bool {
    let selector = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_selector.as_ref());
    let labels = node.metadata.labels.as_ref();
    selector.is_none_or(|selector| {
        selector
            .iter()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

/// A DaemonSet's Pod is bound to one node: `matchFields` with `metadata.name` in a list of one. Other required affinities contain
/// no node name.
fn required(node: &Node, pod: &Pod) -> bool {
    let terms = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let mut names = terms
        .iter()
        .flat_map(|terms| &terms.node_selector_terms)
        .flat_map(|term| term.match_fields.iter().flatten())
        .filter(|field| field.key == "metadata.name" && field.operator == "In")
        .flat_map(|field| field.values.iter().flatten())
        .peekable();
    names.peek().is_none() || names.any(|name| Some(name) == node.metadata.name.as_ref())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use super::choose;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "name": name } },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn pods_go_to_the_ready_nodes_in_turn() {
        let nodes = [node("c", "True"), node("a", "True"), node("b", "False")];
        let any = pod(&json!({ "containers": [] }));
        let turns: Vec<_> = (0..4)
            .filter_map(|turn| choose(&nodes, &any, turn))
            .collect();
        assert_eq!(turns, ["a", "c", "a", "c"]);
        assert_eq!(choose(&nodes[2..], &any, 0), None);
    }

    #[test]
    fn a_daemon_sets_pod_goes_to_its_node_and_a_selector_is_kept_to() {
        let nodes = [node("a", "True"), node("b", "True")];
        let term = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] });
        let daemon = pod(&json!({ "containers": [], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } } }));
        let selecting = pod(&json!({ "containers": [], "nodeSelector": { "name": "b" } }));
        for turn in 0..2 {
            assert_eq!(choose(&nodes, &daemon, turn).as_deref(), Some("b"));
            assert_eq!(choose(&nodes, &selecting, turn).as_deref(), Some("b"));
        }
    }
}
