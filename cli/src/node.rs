//! `ferrolb node`: converts its arguments to settings.

use ferrolb_node::{Config, ExternalIps, ProxyMode};

use crate::args::{NodeArgs, Proxy};
use crate::error::Error;

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn main(args: &NodeArgs) -> Result<(), Error> {
    crate::log::init(args.log_json);
    Ok(ferrolb_node::run(&config(args))?)
}

fn config(args: &NodeArgs) -> Config {
    let members = args.members.iter().map(|m| (m.name.clone(), m.ip));
    Config {
        manifests: args.manifests.clone(),
        access: args.cluster.access(None),
        namespace: args.cluster.namespace.clone(),
        class: args.cluster.class(),
        state: args.state.clone(),
        node_name: args.node_name.clone(),
        node_ip: args.node_ip.clone(),
        members: members.collect(),
        agents: Some(args.agents_service.clone()),
        key_file: args.key_file.clone(),
        port: args.port,
        service_cidrs: args.service_cidr.clone(),
        proxy_config: args.config.clone(),
        proxy_flags: args.proxy_flags.configuration(),
        proxy: match args.proxy {
            Proxy::Ipvs => ProxyMode::Ipvs,
            Proxy::None => ProxyMode::None,
        },
        external_ips: match args.external_ips {
            crate::args::ExternalIps::On => ExternalIps::On,
            crate::args::ExternalIps::Pools => ExternalIps::Pools,
            crate::args::ExternalIps::Off => ExternalIps::Off,
        },
        healthz: args.healthz_bind_address,
        metrics: args.metrics_bind_address,
        protected: Vec::new(),
        probes: !args.no_probes,
        bridged_pods: args.bridged_pods,
        net_sysctls: args.net_sysctls.clone(),
        socket: args.socket.clone(),
        socket_group: args.socket_group.clone(),
        timer_scale: args.timer_scale,
        audit: args.audit,
    }
}
