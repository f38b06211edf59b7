//! A node whose state directory is on a full disk: another node allocates, and every status says why.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::rows::ADDRESSES;
use ferrolb_tests::wait;
use serde_json::Value;

const WHILE: Duration = Duration::from_secs(15);

/// Starts the first node, which is the elected one, with its state on a small disk of its own, and the others as usual. Returns
/// the path of this disk as seen from outside.
fn start_with_a_small_disk(cluster: &mut Cluster) -> PathBuf {
    let setup = cluster.setup.clone();
    let state = cluster.folder().join("node-1/state");
    let mut small = setup.clone();
    let script = format!(
        "mkdir -p {0} && mount -t tmpfs -o size=64k tmpfs {0} && exec \"$@\"",
        state.display()
    );
    // The mount ends with the process.
    small.confined = ["unshare", "--mount", "sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .to_vec();
    small.confined[0] = need::find_tool("unshare").unwrap().display().to_string();
    cluster.nodes[0].start_agent(&small);
    for node in &mut cluster.nodes[1..] {
        node.start_agent(&setup);
    }
    cluster.settle(&ADDRESSES).unwrap();
    let pid = cluster.nodes[0].agent().unwrap().pid();
    PathBuf::from(format!("/proc/{pid}/root{}", state.display()))
}

/// What a node's status says about an object.
fn said_of(cluster: &Cluster, node: usize, object: &str) -> Result<Vec<String>, String> {
    let status = cluster.nodes[node].status(&cluster.setup)?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let of = problems.iter().filter(|p| p["object"] == object);
    Ok(of
        .filter_map(|p| p["message"].as_str().map(str::to_owned))
        .collect())
}

fn elected(status: &Value) -> Vec<&str> {
    let members = status["members"].as_array().into_iter().flatten();
    let elected = members.filter(|m| m["elected"] == true);
    elected.filter_map(|m| m["name"].as_str()).collect()
}

/// Adds a Service and waits until every node shows its address.
fn a_new_service_gets_an_address(cluster: &Cluster, name: &str) {
    cluster.manifests.write(
        &format!("{name}.yaml"),
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80}}]}}\n"
        ),
    );
    for node in &cluster.nodes {
        wait::expect(&format!("{} shows {name}", node.name), WHILE, || {
            let addresses = cluster.external_ips(node, "default", name)?;
            if addresses.is_empty() {
                return Err(cluster.service(node, "default", name)?.to_string());
            }
            Ok(addresses)
        });
    }
}

#[test]
fn a_full_disk_of_the_elected_node_does_not_stop_allocation_and_is_reported() {
    need!(
        "a_full_disk_of_the_elected_node_does_not_stop_allocation_and_is_reported",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("unshare")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    let disk = start_with_a_small_disk(&mut cluster);
    let status = cluster.nodes[1].status(&cluster.setup).unwrap();
    assert_eq!(elected(&status), ["node-1"]);
    let filler = disk.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    for name in ["one", "two", "three"] {
        a_new_service_gets_an_address(&cluster, name);
    }
    let folder = cluster.folder().join("node-1/state");
    let object = format!("State folder {}", folder.display());
    wait::expect("node-1 says what is wrong", WHILE, || {
        match said_of(&cluster, 0, &object)?.as_slice() {
            [one] if one.contains("No space left on device") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for other in [1, 2] {
        wait::expect("the others say who cannot write", WHILE, || match said_of(
            &cluster,
            other,
            "Node node-1",
        )?
        .as_slice()
        {
            [one] if one.contains("cannot save assignments") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let log = cluster.nodes[0].agent().unwrap().log();
    assert_eq!(log.matches("cannot be saved").count(), 1, "{log}");
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    wait::expect("no problem is left", WHILE, || {
        let mut left = said_of(&cluster, 0, &object)?;
        left.extend(said_of(&cluster, 1, "Node node-1")?);
        left.extend(said_of(&cluster, 2, "Node node-1")?);
        if left.is_empty() { Ok(()) } else { Err(left) }.map_err(|left| format!("{left:?}"))
    });
    a_new_service_gets_an_address(&cluster, "four");
    let log = cluster.nodes[0].agent().unwrap().log();
    assert_eq!(log.matches("can be saved again").count(), 1, "{log}");
}
