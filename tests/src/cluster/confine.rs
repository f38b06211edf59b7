//! Applies the security context of a workload's only container to a process: the `setpriv` command line that confines a command
//! in the way that a container runtime would.

use serde_json::Value;

use crate::need::find_tool;

/// `setpriv` with the user, group, capabilities and privileges of the pod template.
pub(super) fn confinement(template: &Value) -> Vec<String> {
    let pod = &template["spec"]["securityContext"];
    let own = &template["spec"]["containers"][0]["securityContext"];
    let id = |field: &str| {
        let set = own[field].as_u64().or_else(|| pod[field].as_u64());
        // The image does not set a user.
        set.unwrap_or_default().to_string()
    };
    let mut words = vec![find_tool("setpriv").expect("setpriv").display().to_string()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--reuid", id("runAsUser"));
    option("--regid", id("runAsGroup"));
    assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]));
    let added = own["capabilities"]["add"].as_array().into_iter().flatten();
    let added = added.filter_map(Value::as_str);
    let added: String = added.map(|c| format!(",+{}", c.to_lowercase())).collect();
    option("--bounding-set", format!("-all{added}"));
    option("--inh-caps", "-all".to_owned());
    // This setting is lost when the user changes.
    option("--pdeathsig", "KILL".to_owned());
    words.push("--clear-groups".to_owned());
    if own["allowPrivilegeEscalation"] == false {
        words.push("--no-new-privs".to_owned());
    }
    words
}
