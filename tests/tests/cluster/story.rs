//! The users' story on the real control plane: they apply their manifests with `kubectl apply`, see their addresses in `kubectl
//! get svc`, and three nodes announce them. Here the nodes announce alongside another proxy, so this runs natively everywhere.
//! Traffic is left to the tests that need IPVS.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, RwLockWriteGuard};
use std::time::Duration;

use ferrolb_tests::client::{arp, mac};
use ferrolb_tests::cluster::{Cluster, NAMESPACE};
use ferrolb_tests::plane::{AuditEvent, Plane};
use ferrolb_tests::rows::{ADDRESSES, DNS, INGRESS, WEB};
use ferrolb_tests::wait;

use crate::{announcers, needs, turn};

pub(super) const SOON: Duration = Duration::from_secs(40);
/// Services of the manifests with an external address.
pub(super) const EXTERNAL: [(&str, &str, Ipv4Addr); 4] = [
    ("default", "web-svc-lb", WEB),
    ("kube-system", "coredns-svc-lb-tcp", DNS),
    ("kube-system", "coredns-svc-lb-udp", DNS),
    ("ingress-nginx", "ingress-nginx", INGRESS),
];

/// A cluster with the users' manifests, served. The API server is this test's own.
pub(super) struct Story {
    pub(super) cluster: Cluster,
    pub(super) plane: Arc<Plane>,
    _turn: RwLockWriteGuard<'static, ()>,
}

fn account(name: &str) -> String {
    format!("system:serviceaccount:{NAMESPACE}:{name}")
}

fn is_about_announcers(write: &AuditEvent) -> bool {
    write.object_ref.resource == "servicel2statuses"
}

impl Story {
    pub(super) fn begin() -> Self {
        let turn = turn();
        let plane = Arc::new(Plane::start());
        let mut cluster = Cluster::on_api(Arc::clone(&plane), "none");
        cluster.start_controller();
        cluster.start_nodes();
        cluster.apply_manifests();
        let story = Self {
            cluster,
            plane,
            _turn: turn,
        };
        story.has_addresses();
        story.is_announced();
        story
    }

    pub(super) fn has_addresses(&self) {
        for (namespace, name, address) in EXTERNAL {
            self.is_given(namespace, name, address);
        }
    }

    /// Waits until `kubectl get svc` shows this address.
    pub(super) fn is_given(&self, namespace: &str, name: &str, address: Ipv4Addr) {
        wait::expect(&format!("{namespace}/{name} has {address}"), SOON, || {
            let shown = self.cluster.api().external_ip(namespace, name);
            if shown == address.to_string() {
                Ok(())
            } else {
                Err(shown)
            }
        });
    }

    /// Creates one more Service of type LoadBalancer, in the namespace `default`.
    pub(super) fn create(&self, name: &str) {
        self.kubectl(&["create", "service", "loadbalancer", name, "--tcp=80:8000"]);
    }

    fn is_announced(&self) {
        for address in ADDRESSES {
            self.is_answered(address);
        }
    }

    /// Waits until one node announces the address, all nodes agree, and the client sees that node's MAC address and no other.
    pub(super) fn is_answered(&self, address: Ipv4Addr) -> String {
        wait::expect(&format!("{address} is answered"), SOON, || {
            let name = self.cluster.announcer(IpAddr::V4(address))?;
            let wanted = mac(self.cluster.node(&name).netns(), "eth0");
            let macs = arp(&self.cluster.client.netns, address);
            if macs == [wanted] {
                Ok(name)
            } else {
                Err(format!("{macs:?}"))
            }
        })
    }

    pub(super) fn announcers(&self) -> BTreeMap<Ipv4Addr, String> {
        let of = |a: &Ipv4Addr| (*a, self.is_answered(*a));
        ADDRESSES.iter().map(of).collect()
    }

    /// What the daemons have written so far, except events, heartbeats and what they report about announcers.
    pub(super) fn writes(&self) -> Vec<AuditEvent> {
        let of = |name: &str| self.plane.writes(&account(name));
        let all = of("controller").into_iter().chain(of("node"));
        let other = |w: &AuditEvent| {
            let resource = w.resource();
            resource.contains("events") || resource == "leases" || is_about_announcers(w)
        };
        all.filter(|w| !other(w)).collect()
    }

    /// How often the nodes have written about announcers so far.
    pub(super) fn writes_of_announcers(&self) -> usize {
        let all = self.plane.writes(&account("node"));
        all.into_iter().filter(is_about_announcers).count()
    }

    pub(super) fn events(&self) -> usize {
        let of = |name: &str| self.plane.writes(&account(name));
        let all = of("controller").into_iter().chain(of("node"));
        all.filter(|w| w.resource().contains("events")).count()
    }

    /// How often a daemon's account has listed something.
    pub(super) fn lists(&self, name: &str, resource: &str) -> usize {
        let audit = self.plane.audit();
        let lists = audit
            .iter()
            .filter(|e| e.is(&account(name), "list", resource));
        lists.filter(|e| e.response_status.code == 200).count()
    }

    /// Which node reports that it announces which Service: `namespace/name` of the Service, and the node.
    pub(super) fn told_announcers(&self) -> BTreeMap<String, String> {
        let list = self
            .plane
            .get("/apis/metallb.io/v1beta1/namespaces/metallb-system/servicel2statuses");
        let items = list.unwrap()["items"].take();
        let items = items.as_array().unwrap().iter();
        let of = |item: &serde_json::Value| {
            let text = |field: &str| {
                item["status"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            (
                format!("{}/{}", text("serviceNamespace"), text("serviceName")),
                text("node"),
            )
        };
        items.map(of).collect()
    }

    /// Waits until the API shows every announcer as the nodes know it.
    pub(super) fn has_announcers(&self) {
        wait::expect("the API shows who announces what", SOON, || {
            let told = self.told_announcers();
            let mut known = BTreeMap::new();
            for (namespace, name, address) in EXTERNAL {
                known.insert(
                    format!("{namespace}/{name}"),
                    self.cluster.announcer(IpAddr::V4(address))?,
                );
            }
            if told == known {
                Ok(())
            } else {
                Err(format!("{told:?}, but {known:?}"))
            }
        });
    }

    fn status_writes(&self, name: &str) -> usize {
        let writes = self.writes();
        let about = writes.iter().filter(|w| w.object_ref.name == name);
        about.count()
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.kubectl(arguments)
    }
}

#[test]
fn the_users_manifests_get_their_addresses_and_three_nodes_announce_them() {
    needs!("the_users_manifests_get_their_addresses_and_three_nodes_announce_them");
    let story = Story::begin();
    for (_, name, _) in EXTERNAL {
        let writes = story.status_writes(name);
        assert!((1..=2).contains(&writes), "{writes} writes for {name}");
    }
    let described = story.kubectl(&["describe", "svc", "web-svc-lb"]);
    assert!(described.contains("IPAllocated"), "{described}");
    wait::expect("the announcement is an event", SOON, || {
        let described = story.kubectl(&["describe", "svc", "web-svc-lb"]);
        if described.contains("nodeAssigned") {
            Ok(())
        } else {
            Err(described)
        }
    });
    let pool = "jsonpath={.metadata.annotations.metallb\\.io/ip-allocated-from-pool}";
    let pool = story.kubectl(&["get", "svc", "web-svc-lb", "-o", pool]);
    assert_eq!(pool, "default");
    assert_eq!(story.cluster.api().kubelet.problems(), Vec::<String>::new());
}

#[test]
fn an_update_that_changes_nothing_is_not_answered_with_a_write() {
    needs!("an_update_that_changes_nothing_is_not_answered_with_a_write");
    let story = Story::begin();
    story.has_announcers();
    let (before, told) = (story.writes().len(), story.writes_of_announcers());
    for number in 0..3 {
        story.kubectl(&[
            "label",
            "svc",
            "web-svc-lb",
            "--overwrite",
            &format!("number={number}"),
        ]);
    }
    // A Service that comes later gets its address after those updates were seen.
    story.create("later");
    story.is_given("default", "later", Ipv4Addr::new(172, 17, 255, 4));
    let writes = story.writes();
    let new: Vec<_> = writes[before..]
        .iter()
        .map(|w| w.object_ref.name.clone())
        .collect();
    assert!(new.iter().all(|name| name == "later"), "{new:?}");
    assert!((1..=2).contains(&new.len()), "{new:?}");
    // A node announces the later Service: it writes an object and its status.
    let told = story.writes_of_announcers() - told;
    assert!(told <= 2, "{told} writes about announcers");
}

#[test]
fn an_edited_configmap_counts_while_everything_runs() {
    needs!("an_edited_configmap_counts_while_everything_runs");
    let story = Story::begin();
    let pool = "address-pools:\n- {name: default, protocol: layer2, addresses: [172.17.255.1-172.17.255.3]}\n\
                - {name: more, protocol: layer2, addresses: [172.17.254.7-172.17.254.9]}\n";
    let patch = serde_json::json!({"data": {"config": pool}}).to_string();
    story.kubectl(&[
        "patch",
        "cm",
        "-n",
        "metallb-system",
        "config",
        "--type=merge",
        "-p",
        &patch,
    ]);
    story.create("later");
    story.is_answered(Ipv4Addr::new(172, 17, 254, 7));
    story.has_addresses();
}

#[test]
fn a_service_deleted_created_anew_and_changed_in_type_gives_and_takes_its_address() {
    needs!("a_service_deleted_created_anew_and_changed_in_type_gives_and_takes_its_address");
    let story = Story::begin();
    let path = story.cluster.manifests.path().join("web-svc-lb.yaml");
    let silent = |address: Ipv4Addr| {
        wait::expect(&format!("{address} is silent"), SOON, || {
            match arp(&story.cluster.client.netns, address) {
                macs if macs.is_empty() => Ok(()),
                macs => Err(format!("{macs:?}")),
            }
        });
    };
    story.kubectl(&["delete", "svc", "web-svc-lb"]);
    silent(WEB);
    story.plane.apply(&path);
    story.has_addresses();
    story.is_answered(WEB);
    story.kubectl(&[
        "patch",
        "svc",
        "web-svc-lb",
        "-p",
        r#"{"spec":{"type":"ClusterIP"}}"#,
    ]);
    silent(WEB);
    wait::expect("its status and annotation are gone", SOON, || {
        let text = story.kubectl(&["get", "svc", "web-svc-lb", "-o", "json"]);
        if text.contains("172.17.255.1") || text.contains("ip-allocated-from-pool") {
            Err(text)
        } else {
            Ok(())
        }
    });
    story.kubectl(&[
        "patch",
        "svc",
        "web-svc-lb",
        "-p",
        r#"{"spec":{"type":"LoadBalancer"}}"#,
    ]);
    story.has_addresses();
    story.is_answered(WEB);
}

#[test]
fn the_reason_that_status_shows_is_an_event_on_the_service() {
    needs!("the_reason_that_status_shows_is_an_event_on_the_service");
    let story = Story::begin();
    // A Service without a selector has no endpoints. No Service can have an address outside the pool.
    let idle = r#"{"spec":{"type":"LoadBalancer","ports":[{"port":80}]}}"#;
    let outside =
        r#"{"spec":{"type":"LoadBalancer","loadBalancerIP":"192.0.2.1","ports":[{"port":80}]}}"#;
    for (name, spec) in [("idle", idle), ("outside", outside)] {
        let head =
            format!(r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}},"#);
        story
            .cluster
            .manifests
            .write(&format!("{name}.yaml"), &(head + &spec[1..]));
        story
            .plane
            .apply(&story.cluster.manifests.path().join(format!("{name}.yaml")));
    }
    for (name, reason, event) in [
        ("idle", "NoEndpoints", "NoEndpoints"),
        ("outside", "OutsidePools", "AllocationFailed"),
    ] {
        for node in &story.cluster.nodes {
            wait::expect(
                &format!("{} shows {reason} for {name}", node.name),
                SOON,
                || {
                    let service = story.cluster.service(node, "default", name)?;
                    if service["reason"] == reason {
                        Ok(())
                    } else {
                        Err(service.to_string())
                    }
                },
            );
        }
        wait::expect(
            &format!("the cluster shows {reason} for {name}"),
            SOON,
            || {
                let shown = announcers::service(&story, "default", name);
                if shown["reason"] == reason {
                    Ok(())
                } else {
                    Err(shown.to_string())
                }
            },
        );
        wait::expect(&format!("an event on {name}"), SOON, || {
            let described = story.kubectl(&["describe", "svc", name]);
            let line = described
                .lines()
                .find(|line| line.contains("Warning") && line.contains(event));
            match line {
                Some(line) if event == reason || line.contains(reason) => Ok(()),
                _ => Err(described),
            }
        });
    }
}
