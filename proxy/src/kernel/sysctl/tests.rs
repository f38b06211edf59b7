#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use super::*;

/// A separate folder in the temporary directory, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("ferrolb-sysctl-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with_sysctls(name: &str) -> Self {
        let dir = Self::new(name);
        let all = Conntrack {
            max: Some(1),
            tcp_established: Duration::from_secs(1),
            tcp_close_wait: Duration::from_secs(1),
            udp: Duration::from_secs(1),
            udp_stream: Duration::from_secs(1),
            tcp_be_liberal: true,
        };
        for setting in settings(true, &all) {
            let path = dir.0.join("net").join(setting.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "0\n").unwrap();
        }
        dir
    }

    fn sysctls(&self) -> Sysctls {
        Sysctls::new(self.0.join("net"), &self.0.join("state"))
    }

    fn read(&self, name: &str) -> String {
        let path: &Path = &self.0.join("net").join(name);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_changed_is_put_back_and_forgotten() {
    let dir = Dir::with_sysctls("back");
    dir.sysctls().prepare(false, &Conntrack::default()).unwrap();
    assert_eq!(dir.read("ipv4/vs/conntrack"), "1");
    assert_eq!(dir.read("ipv4/conf/all/arp_announce"), "2");
    assert_eq!(dir.read("ipv6/conf/all/forwarding"), "0");
    // A second start remembers the value from before the first.
    dir.sysctls().prepare(false, &Conntrack::default()).unwrap();
    assert!(dir.sysctls().restore().is_empty());
    assert_eq!(dir.read("ipv4/conf/all/arp_announce"), "0");
    assert!(!dir.0.join("state/sysctls.json").exists());
    assert!(dir.sysctls().restore().is_empty());
}

#[test]
fn what_somebody_changed_since_is_left_alone() {
    let dir = Dir::with_sysctls("since");
    dir.sysctls().prepare(false, &Conntrack::default()).unwrap();
    std::fs::write(dir.0.join("net/ipv4/ip_forward"), "7\n").unwrap();
    assert!(dir.sysctls().restore().is_empty());
    assert_eq!(dir.read("ipv4/ip_forward"), "7");
}

#[test]
fn a_larger_conntrack_table_is_not_made_smaller() {
    let dir = Dir::with_sysctls("max");
    std::fs::write(dir.0.join("net/netfilter/nf_conntrack_max"), "500000\n").unwrap();
    let conntrack = Conntrack {
        max: Some(131_072),
        ..Conntrack::default()
    };
    dir.sysctls().prepare(false, &conntrack).unwrap();
    assert_eq!(dir.read("netfilter/nf_conntrack_max"), "500000");
}

#[test]
fn a_wish_that_cannot_be_fulfilled_is_no_error_and_a_need_is() {
    let dir = Dir::with_sysctls("missing");
    let wish = dir.0.join("net/netfilter/nf_conntrack_max");
    std::fs::remove_file(wish).unwrap();
    let conntrack = Conntrack {
        max: Some(131_072),
        ..Conntrack::default()
    };
    dir.sysctls().prepare(false, &conntrack).unwrap();
    std::fs::remove_file(dir.0.join("net/ipv4/vs/conntrack")).unwrap();
    let error = dir.sysctls().prepare(false, &conntrack).unwrap_err();
    assert!(error.to_string().contains("ipv4/vs/conntrack"), "{error}");
}

#[test]
fn what_somebody_sets_later_is_put_right_and_named_and_the_first_value_comes_back() {
    let dir = Dir::with_sysctls("meddled");
    let path = dir.0.join("net/ipv4/vs/conntrack");
    std::fs::write(&path, "5\n").unwrap();
    dir.sysctls().prepare(false, &Conntrack::default()).unwrap();
    assert_eq!(
        dir.sysctls().mend(false, &Conntrack::default()).unwrap(),
        []
    );
    std::fs::write(&path, "0\n").unwrap();
    let mended = dir.sysctls().mend(false, &Conntrack::default()).unwrap();
    let expected = Mended {
        what: "sysctl net/ipv4/vs/conntrack".into(),
        was: "0".into(),
        is: "1".into(),
    };
    assert_eq!(mended, [expected]);
    assert_eq!(dir.read("ipv4/vs/conntrack"), "1");
    assert!(dir.sysctls().restore().is_empty());
    assert_eq!(dir.read("ipv4/vs/conntrack"), "5");
}

#[test]
fn every_conntrack_setting_of_a_configuration_is_followed() {
    let dir = Dir::with_sysctls("conntrack");
    let config = ProxyConfig {
        conntrack: ferrolb_api::proxy_config::Conntrack {
            max_per_core: 10,
            min: 5,
            tcp_established: Duration::from_secs(6),
            tcp_close_wait: Duration::from_secs(7),
            udp: Duration::from_secs(8),
            udp_stream: Duration::from_secs(9),
            tcp_be_liberal: true,
        },
        ..ProxyConfig::default()
    };
    let prepare = |config| {
        dir.sysctls()
            .prepare(false, &Conntrack::of(config, 2))
            .unwrap()
    };
    prepare(&config);
    for (name, expected) in [
        ("nf_conntrack_max", "20"),
        ("nf_conntrack_tcp_timeout_established", "6"),
        ("nf_conntrack_tcp_timeout_close_wait", "7"),
        ("nf_conntrack_udp_timeout", "8"),
        ("nf_conntrack_udp_timeout_stream", "9"),
        ("nf_conntrack_tcp_be_liberal", "1"),
    ] {
        assert_eq!(dir.read(&format!("netfilter/{name}")), expected, "{name}");
    }
    // Zero and false keep what the kernel has.
    prepare(&ProxyConfig::default());
    assert_eq!(dir.read("netfilter/nf_conntrack_udp_timeout"), "8");
    assert_eq!(dir.read("netfilter/nf_conntrack_tcp_be_liberal"), "1");
}
