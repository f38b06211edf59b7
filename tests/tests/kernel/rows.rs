//! The rows of the users' table of manifests, with one test each, on one cluster that they share and leave unchanged. The test
//! program decides where the nodes get the manifests from: a directory or an API server.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::rows::{self, ADDRESSES, Seen};

/// The cluster, settled. It ends with the test program: its processes die with the program, and its namespaces die with them.
pub(crate) fn cluster() -> MutexGuard<'static, Cluster> {
    static SHARED: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Mutex::new(crate::users_cluster()));
    // A failed test leaves the cluster unchanged: the tests only observe it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(test: &str, row: impl Fn(&Cluster) -> Seen) {
    need!(
        test,
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("ipvsadm")
    );
    if let Err(why) = row(&cluster()) {
        panic!("{test}: {why}");
    }
}

#[test]
fn metallb_config_the_legacy_pool_is_loaded_as_it_is() {
    look(
        "metallb_config_the_legacy_pool_is_loaded_as_it_is",
        rows::legacy_pool,
    );
}

#[test]
fn web_svc_cip_answers_curl_from_every_node() {
    look("web_svc_cip_answers_curl_from_every_node", |cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| rows::cluster_ip_curl(cluster, node))
            .collect()
    });
}

#[test]
fn web_svc_cip_answers_ping_from_every_node() {
    look("web_svc_cip_answers_ping_from_every_node", |cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| rows::cluster_ip_ping(cluster, node))
            .collect()
    });
}

#[test]
fn web_svc_cip_is_listed_with_rr_and_three_masq_servers() {
    look(
        "web_svc_cip_is_listed_with_rr_and_three_masq_servers",
        |cluster| {
            cluster
                .nodes
                .iter()
                .map(|node| rows::cluster_ip_in_ipvsadm(cluster, node))
                .collect()
        },
    );
}

#[test]
fn web_svc_cip_is_on_kube_ipvs0() {
    look("web_svc_cip_is_on_kube_ipvs0", |cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| rows::cluster_ip_on_dummy(cluster, node))
            .collect()
    });
}

#[test]
fn web_svc_lb_gets_the_first_address() {
    look("web_svc_lb_gets_the_first_address", |cluster| {
        rows::external_ip(cluster, "default", "web-svc-lb")
    });
}

#[test]
fn web_svc_lb_visits_the_pods_in_a_fixed_order() {
    look(
        "web_svc_lb_visits_the_pods_in_a_fixed_order",
        rows::fixed_order,
    );
}

#[test]
fn coredns_svc_lb_both_services_get_the_shared_address() {
    look(
        "coredns_svc_lb_both_services_get_the_shared_address",
        |cluster| {
            rows::external_ip(cluster, "kube-system", "coredns-svc-lb-tcp")?;
            rows::external_ip(cluster, "kube-system", "coredns-svc-lb-udp")
        },
    );
}

#[test]
fn coredns_svc_lb_answers_a_lookup_over_udp() {
    look("coredns_svc_lb_answers_a_lookup_over_udp", |cluster| {
        rows::dns_lookup(cluster, false)
    });
}

#[test]
fn coredns_svc_lb_answers_a_lookup_over_tcp() {
    look("coredns_svc_lb_answers_a_lookup_over_tcp", |cluster| {
        rows::dns_lookup(cluster, true)
    });
}

#[test]
fn nginx_lb_gets_the_third_address() {
    look("nginx_lb_gets_the_third_address", |cluster| {
        rows::external_ip(cluster, "ingress-nginx", "ingress-nginx")
    });
}

#[test]
fn nginx_lb_answers_on_80_and_logs_the_clients_own_address() {
    look(
        "nginx_lb_answers_on_80_and_logs_the_clients_own_address",
        |cluster| rows::ingress(cluster, false),
    );
}

#[test]
fn nginx_lb_answers_on_443_and_logs_the_clients_own_address() {
    look(
        "nginx_lb_answers_on_443_and_logs_the_clients_own_address",
        |cluster| rows::ingress(cluster, true),
    );
}

#[test]
fn web_svc_headless_has_no_virtual_server() {
    look("web_svc_headless_has_no_virtual_server", |cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| rows::headless(cluster, node))
            .collect()
    });
}

#[test]
fn kube_proxy_config_is_read_as_it_is() {
    look("kube_proxy_config_is_read_as_it_is", |cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| rows::proxy_config(cluster, node))
            .collect()
    });
}

#[test]
fn the_client_sees_one_mac_for_each_address() {
    look("the_client_sees_one_mac_for_each_address", |cluster| {
        ADDRESSES
            .iter()
            .map(|&address| rows::one_mac(cluster, address))
            .collect()
    });
}
