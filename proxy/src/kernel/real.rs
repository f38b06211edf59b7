//! The kernel of the running machine: IPVS over generic netlink, nf_tables over nfnetlink, addresses over rtnetlink, `/proc/sys`.
//!
//! The netlink parts belong to the network namespace of the thread that calls [`LinuxKernel::new`]. The sysctls belong to the
//! namespace of the thread that prepares and cleans up. No conntrack entry is ever deleted here. With `expire_nodest_conn`, IPVS
//! drops a connection to a removed server at its next packet, together with the conntrack entry (`ip_vs_conn_expire`), so even
//! UDP moves to another server at once.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ferrolb_api::proxy_config::ProxyConfig;
use ipnet::IpNet;

use super::around::Around;
use super::ipvs::IpVs;
use super::links::Links;
use super::netlink::NetlinkSocket;
use super::nft::Nft;
use super::parts::Parts;
use super::record::Record;
use super::rule::Table;
use super::sysctl::{self, Conntrack, Sysctls};
use super::{Damage, Kernel, KernelError, Look, Mended, Observed, Op, VirtualServerId};
use crate::surroundings::Surroundings;

/// The settings of the kernel for its node.
#[derive(Debug, Clone)]
pub struct LinuxConfig {
    /// The node's IPv4 address, used as the preferred source of the routes to service addresses. `None`: the kernel chooses.
    pub node_v4: Option<Ipv4Addr>,
    /// The same for IPv6. Without it, IPv6 forwarding is not changed.
    pub node_v6: Option<Ipv6Addr>,
    /// Where the old values of sysctls are kept for a cleanup after a restart.
    pub state_dir: PathBuf,
    /// Where the sysctls are; [`sysctl::NET`] on a real machine.
    pub net_sysctls: PathBuf,
    /// Timeouts of IPVS: TCP, TCP after FIN, UDP. Zero keeps the kernel's.
    pub ipvs_timeouts: [Duration; 3],
    /// Conntrack settings.
    pub conntrack: Conntrack,
    /// Addresses and virtual servers in these networks are never changed.
    pub exclude_cidrs: Vec<IpNet>,
    /// Firewall marks of our virtual servers.
    pub marks: RangeInclusive<u32>,
    /// The static part of the nftables table.
    pub table: Table,
}

impl LinuxConfig {
    /// Takes over the timeouts and limits of a KubeProxyConfiguration.
    #[must_use]
    pub fn tuned(mut self, config: &ProxyConfig) -> Self {
        self.ipvs_timeouts = config.ipvs_timeouts;
        self.conntrack = Conntrack::of(config, cores());
        self
    }

    /// The default paths, the kernel's timeouts, and no address of the node.
    pub fn new(state_dir: PathBuf, marks: RangeInclusive<u32>, table: Table) -> Self {
        Self {
            node_v4: None,
            node_v6: None,
            state_dir,
            net_sysctls: PathBuf::from(sysctl::NET),
            ipvs_timeouts: [Duration::ZERO; 3],
            conntrack: Conntrack::default(),
            exclude_cidrs: Vec::new(),
            marks,
            table,
        }
    }
}

/// The kernel of one network namespace.
#[derive(Debug)]
pub struct LinuxKernel {
    parts: Parts<NetlinkSocket>,
    around: Around,
    sysctls: Sysctls,
    /// The previous timeouts of IPVS.
    timeouts: Record,
    config: LinuxConfig,
}

impl LinuxKernel {
    /// Opens all channels and makes the kernel load `ip_vs`. Changes nothing else. Needs a tokio runtime with its I/O and time
    /// drivers.
    pub async fn new(config: LinuxConfig) -> Result<Self, KernelError> {
        Ok(Self {
            parts: Parts {
                ipvs: IpVs::open().await?,
                nft: Nft::open(config.table.clone())?,
                links: Links::open(config.node_v4, config.node_v6, config.exclude_cidrs.clone())?,
            },
            around: Around::open()?,
            sysctls: Sysctls::new(config.net_sysctls.clone(), &config.state_dir),
            timeouts: Record::new(config.state_dir.join("ipvs.json")),
            config,
        })
    }
}

impl Kernel for LinuxKernel {
    async fn prepare(&mut self) -> Result<(), KernelError> {
        self.sysctls
            .prepare(self.config.node_v6.is_some(), &self.config.conntrack)?;
        self.parts
            .ipvs
            .set_timeouts(self.config.ipvs_timeouts, &self.timeouts)
            .await?;
        self.parts.nft.prepare().await?;
        self.parts.links.prepare().await
    }

    async fn read(&mut self) -> Result<Observed, KernelError> {
        self.parts.read().await
    }

    async fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> Result<Option<Damage>, KernelError> {
        self.parts.damage(sentinel).await
    }

    fn tune(&mut self, config: &ProxyConfig) {
        self.config = self.config.clone().tuned(config);
    }

    async fn mend(&mut self) -> Result<Vec<Mended>, KernelError> {
        let v6 = self.config.node_v6.is_some();
        let mut mended = self.sysctls.mend(v6, &self.config.conntrack)?;
        let timeouts = self.config.ipvs_timeouts;
        let ipvs = &mut self.parts.ipvs;
        mended.extend(ipvs.set_timeouts(timeouts, &self.timeouts).await?);
        Ok(mended)
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        self.parts.apply(ops).await
    }

    async fn cleanup(&mut self) -> Vec<KernelError> {
        let mut errors = Vec::new();
        match self.read().await {
            Ok(observed) => {
                let (excluded, marks) = (&self.config.exclude_cidrs, &self.config.marks);
                let ours: Vec<Op> = observed
                    .servers
                    .keys()
                    .filter(|id| observed.owns(id, excluded, marks, |_, _| false))
                    .map(|id| Op::DelVirtualServer(*id))
                    .collect();
                errors.extend(
                    self.parts
                        .ipvs
                        .apply(&ours)
                        .await
                        .into_iter()
                        .map(|(_, e)| e),
                );
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.parts.links.delete().await.err());
        errors.extend(self.parts.nft.delete().await.err());
        errors.extend(self.parts.ipvs.restore_timeouts(&self.timeouts).await.err());
        errors.extend(self.sysctls.restore());
        errors
    }
}

impl Look for LinuxKernel {
    async fn look(&mut self) -> Result<Surroundings, KernelError> {
        self.around.read().await
    }
}

/// The cores that limits per core count.
fn cores() -> u32 {
    let cores = std::thread::available_parallelism();
    cores.map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}
