#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

#[test]
fn what_is_about_a_cluster_and_nothing_else_stands_under_that_heading() {
    for name in ["node", "controller"] {
        let program = Cli::command();
        let command = program.find_subcommand(name).unwrap();
        let under = command
            .get_arguments()
            .filter(|a| a.get_help_heading() == Some(CLUSTER));
        let under: Vec<&str> = under.filter_map(|a| a.get_long()).collect();
        let expected = ["kubeconfig", "context", "server", "namespace", "lb-class"];
        assert_eq!(under, expected, "{name}");
    }
}

#[test]
fn a_namespace_of_the_pools_is_refused_where_a_folder_says_it() {
    let with = |more: &[&'static str]| {
        let line = ["ferrolb", "node", "--manifests", "m", "--state", "s"];
        Cli::try_parse_from(line.iter().chain(more))
    };
    assert!(with(&[]).is_ok());
    let error = with(&["--namespace", "lb"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_port_of_zero_is_refused() {
    let line = [
        "ferrolb",
        "node",
        "--manifests",
        "m",
        "--state",
        "s",
        "--port",
        "0",
    ];
    assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
}

#[test]
fn no_line_of_help_is_longer_than_a_terminal_of_80_columns() {
    let mut program = Cli::command();
    program.build();
    let commands = program.get_subcommands().cloned();
    for mut command in commands.chain([Cli::command()]) {
        for text in [command.render_help(), command.render_long_help()] {
            let text = text.to_string();
            let long = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{}", command.get_name());
        }
    }
}

#[test]
fn every_command_that_takes_arguments_shows_an_example_and_its_exit_codes() {
    for command in Cli::command().get_subcommands() {
        let after = command.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        assert!(after.contains("Example"), "{}", command.get_name());
        let runs = ["node", "controller", "status", "cleanup"];
        if runs.contains(&command.get_name()) {
            assert!(after.contains("Exit codes: 0 "), "{}", command.get_name());
        }
    }
}

#[test]
fn the_flags_of_kube_proxy_say_the_same_as_its_file() {
    use ferrolb_source::proxy_config::parse;
    let with = |more: &str| {
        let line = "ferrolb node --manifests m --state s";
        let words = line.split(' ').chain(more.split_whitespace());
        Cli::try_parse_from(words.map(str::to_owned).collect::<Vec<_>>())
    };
    let flags = |more: &str| {
        let Command::Node(args) = with(more).unwrap().command else {
            panic!("{more}");
        };
        args.proxy_flags.configuration()
    };
    assert_eq!(flags(""), None);
    let all = "--cluster-cidr 10.244.0.0/16,fd00::/48 --detect-local-mode BridgeInterface --pod-bridge-interface cni0 --masquerade-all \
               --nodeport-addresses 192.0.2.0/24,198.51.100.0/24 --ipvs-scheduler wlc --ipvs-exclude-cidrs 10.9.0.0/16 --ipvs-strict-arp \
               --ipvs-tcp-timeout 1m --ipvs-tcpfin-timeout 2m --ipvs-udp-timeout 3m --conntrack-max-per-core 7 --conntrack-min 8 \
               --conntrack-tcp-timeout-established 4m --conntrack-tcp-timeout-close-wait 5m --conntrack-tcp-be-liberal \
               --conntrack-udp-timeout 6m --conntrack-udp-timeout-stream 7m";
    let file = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n\
                clusterCIDR: 10.244.0.0/16,fd00::/48\ndetectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n\
                iptables: {masqueradeAll: true}\nnodePortAddresses: [192.0.2.0/24, 198.51.100.0/24]\n\
                ipvs: {scheduler: wlc, excludeCIDRs: [10.9.0.0/16], strictARP: true, tcpTimeout: 1m, tcpFinTimeout: 2m, udpTimeout: 3m}\n\
                conntrack: {maxPerCore: 7, min: 8, tcpEstablishedTimeout: 4m, tcpCloseWaitTimeout: 5m, tcpBeLiberal: true, udpTimeout: 6m, \
                udpStreamTimeout: 7m}\n";
    let said = parse(&flags(all).unwrap().to_string()).unwrap();
    assert_eq!(said, parse(file).unwrap());
    assert_eq!(said.1, []);
    let prefix = "--detect-local-mode InterfaceNamePrefix --pod-interface-name-prefix veth";
    let (config, _) = parse(&flags(prefix).unwrap().to_string()).unwrap();
    assert_eq!(config.detect_local.to_string(), "InterfaceNamePrefix");
    // A file says everything.
    let both = with("--config f --ipvs-scheduler rr").unwrap_err();
    assert_eq!(both.exit_code(), 2);
}
