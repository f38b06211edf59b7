//! A Service with a scheduler of its own, and endpoints with weights.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{Ask, Flow, fresh_port};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::wait;

use crate::restart_solo::{Solo, service};

const SPLIT: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 3);

fn open() -> Result<Flow, String> {
    let ask = Ask {
        source_port: fresh_port(),
        ..Ask::default()
    };
    Flow::open(SocketAddr::from((SPLIT, 9000)), ask).map_err(|error| error.to_string())
}

/// The Service, with or without a scheduler.
fn split(solo: &Solo, scheduler: Option<&str>) {
    let annotation =
        scheduler.map(|name| format!("annotations: {{ferrolb.io/scheduler: '{name}'}}, "));
    let text = service("split", SPLIT, "", "  - {name: echo, port: 9000}\n");
    let text = text.replace(
        "metadata: {",
        &format!("metadata: {{{}", annotation.unwrap_or_default()),
    );
    solo.manifests.write("split.yaml", &text);
}

/// Waits until the virtual server is listed like this; returns its real servers with their weights.
fn listed(solo: &Solo, as_what: &str) -> BTreeMap<String, String> {
    let wanted = format!("TCP  {SPLIT}:9000 {as_what}");
    wait::expect(&wanted, Duration::from_secs(20), || {
        let all = solo.node.netns().sh("ipvsadm", &["-Ln"]);
        let mut lines = all.lines().map(str::trim_end);
        if !lines.any(|line| line == wanted) {
            return Err(all);
        }
        let reals = lines.take_while(|line| line.trim_start().starts_with("->"));
        let reals = reals.filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
        });
        Ok(reals.collect())
    })
}

#[test]
fn a_scheduler_of_a_service_and_weights_of_its_endpoints_are_followed_in_place() {
    need!(
        "a_scheduler_of_a_service_and_weights_of_its_endpoints_are_followed_in_place",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let mut solo = Solo::new("scheduler");
    for (name, pod, weight) in [("stable", 0, 3), ("canary", 1, 1)] {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: split-{name}\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: split}}\n  annotations: {{ferrolb.io/weight: '{weight}'}}\naddressType: IPv4\n\
             ports: [{{name: echo, port: 9000}}]\nendpoints: [{{addresses: [{}], nodeName: node-1}}]\n",
            solo.servers[pod].v4
        );
        solo.manifests.write(&format!("split-{name}.yaml"), &slice);
    }
    split(&solo, Some("wrr"));
    solo.start();
    let at = |pod: usize| format!("{}:9000", solo.servers[pod].v4);
    let weights = |stable: &str, canary: &str| -> BTreeMap<String, String> {
        [(at(0), stable.to_owned()), (at(1), canary.to_owned())].into()
    };
    assert_eq!(listed(&solo, "wrr"), weights("3", "1"));
    let client = solo.client.netns.clone();
    let mut flow = wait::expect("an answer", Duration::from_secs(20), || client.run(open));
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..8 {
        *taken
            .entry(client.run(open).unwrap().answer.pod)
            .or_default() += 1;
    }
    assert_eq!(
        taken,
        [("web-1".to_owned(), 6), ("web-2".to_owned(), 2)].into()
    );
    for (scheduler, as_what) in [
        (Some("sh,sh-port"), "sh (sh-fallback,sh-port)"),
        (Some("lc"), "lc"),
        (None, "rr"),
    ] {
        split(&solo, scheduler);
        assert_eq!(listed(&solo, as_what), weights("3", "1"));
        let pinged = flow.ping();
        assert!(pinged.is_ok(), "{as_what}: {pinged:?}");
    }
    // A slip of the pen leaves the usual scheduler, and everything else of the Service.
    split(&solo, Some("wlcc"));
    let said = wait::expect("the reason", Duration::from_secs(20), || {
        let service = solo.service("split")?;
        match service["reason"] == "NoScheduler" {
            true => Ok(service["message"].as_str().unwrap_or_default().to_owned()),
            false => Err(service.to_string()),
        }
    });
    assert_eq!(
        said,
        "metadata.annotations[ferrolb.io/scheduler]: rr is used, because there is no scheduler \"wlcc\": did you mean wlc?"
    );
    assert_eq!(listed(&solo, "rr"), weights("3", "1"));
    assert!(client.run(open).is_ok());
    split(&solo, Some("wlc"));
    listed(&solo, "wlc");
    let pinged = flow.ping();
    assert!(pinged.is_ok(), "{pinged:?}");
}
