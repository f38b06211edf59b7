//! Bad input: there is one message with file, object and field, everything else continues, and nothing that was announced is
//! lost.

use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::{self, PodLinks};
use ferrolb_tests::rows::{ADDRESSES, WEB, one_mac};
use ferrolb_tests::wait;
use serde_json::Value;

fn problems(cluster: &Cluster) -> Result<Vec<Value>, String> {
    Ok(node::problems(&cluster.nodes[0].status(&cluster.setup)?))
}

/// Waits for one problem in this file whose object, field and message contain the given texts.
fn reported(cluster: &Cluster, file: &str, object: &str, field: &str, message: &str) {
    wait::expect(
        &format!("a problem with {file}"),
        Duration::from_secs(10),
        || {
            let all = problems(cluster)?;
            let has = |problem: &Value, key: &str, text: &str| {
                problem[key]
                    .as_str()
                    .is_some_and(|value| value.contains(text))
            };
            let fits = |problem: &&Value| {
                has(problem, "origin", file)
                    && has(problem, "object", object)
                    && has(problem, "field", field)
                    && has(problem, "message", message)
            };
            if all.iter().filter(fits).count() == 1 {
                Ok(())
            } else {
                Err(format!("{all:?}"))
            }
        },
    );
}

#[test]
fn each_bad_manifest_is_named_and_the_rest_keeps_working() {
    need!(
        "each_bad_manifest_is_named_and_the_rest_keeps_working",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    let pool = |name: &str, range: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, namespace: metallb-system}}\nspec: {{addresses: [\"{range}\"]}}\n"
        )
    };
    cluster.manifests.write("no-yaml.yaml", "kind: [Service\n");
    reported(&cluster, "no-yaml.yaml", "", "", "");
    cluster.manifests.write(
        "backwards.yaml",
        &pool("backwards", "172.18.0.9-172.18.0.1"),
    );
    reported(
        &cluster,
        "backwards.yaml",
        "backwards",
        "addresses",
        "172.18.0.9",
    );
    cluster
        .manifests
        .write("overlap.yaml", &pool("overlap", "172.17.255.128/25"));
    reported(&cluster, "overlap.yaml", "overlap", "", "default");
    for address in ADDRESSES {
        one_mac(&cluster, address).unwrap();
    }
    for file in ["no-yaml.yaml", "backwards.yaml", "overlap.yaml"] {
        cluster.manifests.remove(file);
    }
    wait::expect(
        "no problem is left",
        Duration::from_secs(10),
        || match problems(&cluster)?.as_slice() {
            [] => Ok(()),
            rest => Err(format!("{rest:?}")),
        },
    );
}

#[test]
fn a_service_that_cannot_be_served_says_why_and_others_keep_theirs() {
    need!(
        "a_service_that_cannot_be_served_says_why_and_others_keep_theirs",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  type: LoadBalancer\n  selector: {{app: web}}\n{spec}"
        )
    };
    cluster.manifests.write(
        "outside.yaml",
        &service(
            "outside",
            "  loadBalancerIP: 203.0.113.9\n  ports: [{port: 80}]\n",
        ),
    );
    // Port 53 of the address is taken, and this Service does not share with any other.
    cluster.manifests.write(
        "clash.yaml",
        &service(
            "clash",
            "  loadBalancerIP: 172.17.255.2\n  ports: [{port: 53}]\n",
        ),
    );
    for (name, said) in [("outside", "203.0.113.9"), ("clash", "172.17.255.2")] {
        wait::expect(
            &format!("{name} is refused"),
            Duration::from_secs(10),
            || {
                let service = cluster.service(&cluster.nodes[0], "default", name)?;
                let named = service["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(said));
                if service["state"] == "Refused" && named {
                    Ok(())
                } else {
                    Err(service.to_string())
                }
            },
        );
    }
    for address in ADDRESSES {
        one_mac(&cluster, address).unwrap();
    }
}

#[test]
fn a_manifests_folder_that_vanishes_withdraws_nothing() {
    need!(
        "a_manifests_folder_that_vanishes_withdraws_nothing",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    let owner = cluster.announcer(WEB.into()).unwrap();
    let (path, aside) = (
        cluster.manifests.path().to_path_buf(),
        cluster.folder().join("aside"),
    );
    std::fs::rename(&path, &aside).unwrap();
    wait::holds("the address stays", Duration::from_secs(2), || {
        cluster
            .announcer(WEB.into())
            .is_ok_and(|name| name == owner)
    })
    .unwrap();
    std::fs::rename(&aside, &path).unwrap();
    wait::holds("the address stays", Duration::from_secs(1), || {
        cluster
            .announcer(WEB.into())
            .is_ok_and(|name| name == owner)
    })
    .unwrap();
    one_mac(&cluster, WEB).unwrap();
}
