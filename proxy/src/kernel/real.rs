//! The kernel of the running machine: IPVS over generic netlink, nf_tables over nfnetlink, addresses over rtnetlink, `/proc/sys`.
//!
//! All of it belongs to the network namespace of the thread that calls [`LinuxKernel::new`]; the sysctls to that of the thread that
//! prepares and cleans up. No conntrack entry is ever deleted here: with `expire_nodest_conn` IPVS drops a connection to a removed
//! server at its next packet, and the conntrack entry with it (`ip_vs_conn_expire`), so that even UDP goes elsewhere at once.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::ipvs::IpVs;
use super::links::{Intact, Links};
use super::nft::Nft;
use super::record::Record;
use super::rule::Table;
use super::sysctl::{self, Conntrack, Sysctls};
use super::{Damage, Kernel, KernelError, Observed, Op, VirtualServerId};

/// What the kernel needs to know of its node.
#[derive(Debug, Clone)]
pub struct LinuxConfig {
    /// The node's IPv4 address, preferred source of the routes to service addresses; `None`: the kernel chooses.
    pub node_v4: Option<Ipv4Addr>,
    /// The same for IPv6. Without one, IPv6 forwarding is left alone.
    pub node_v6: Option<Ipv6Addr>,
    /// Where the old values of sysctls are kept, for a cleanup after a restart.
    pub state_dir: PathBuf,
    /// Where sysctls are, [`sysctl::NET`] on a real machine.
    pub net_sysctls: PathBuf,
    /// Timeouts of IPVS: TCP, TCP after FIN, UDP; zero leaves the kernel's.
    pub ipvs_timeouts: [Duration; 3],
    /// Conntrack settings.
    pub conntrack: Conntrack,
    /// Addresses and virtual servers in here are never touched.
    pub exclude_cidrs: Vec<IpNet>,
    /// Firewall marks of our virtual servers.
    pub marks: RangeInclusive<u32>,
    /// The static half of the nftables table.
    pub table: Table,
}

impl LinuxConfig {
    /// The usual places, the kernel's timeouts, and no address of the node.
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
    ipvs: IpVs,
    nft: Nft,
    links: Links,
    sysctls: Sysctls,
    /// Timeouts of IPVS as they were.
    timeouts: Record,
    config: LinuxConfig,
}

impl LinuxKernel {
    /// Opens all channels and makes the kernel load `ip_vs`; changes nothing else. Needs a tokio runtime with its I/O and time drivers.
    pub async fn new(config: LinuxConfig) -> Result<Self, KernelError> {
        Ok(Self {
            ipvs: IpVs::open().await?,
            nft: Nft::open(config.table.clone())?,
            links: Links::open(config.node_v4, config.node_v6, config.exclude_cidrs.clone())?,
            sysctls: Sysctls::new(config.net_sysctls.clone(), &config.state_dir),
            timeouts: Record::new(config.state_dir.join("ipvs.json")),
            config,
        })
    }

    /// Which part of the kernel an operation goes to.
    fn part(op: &Op) -> Part {
        match op {
            Op::AddAddress(_) | Op::DelAddress(_) => Part::Links,
            Op::SetVirtualServer(_)
            | Op::DelVirtualServer(_)
            | Op::SetRealServer(..)
            | Op::DelRealServer(..) => Part::IpVs,
            Op::AddElement(..) | Op::DelElement(..) => Part::Nft,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Links,
    IpVs,
    Nft,
}

impl Kernel for LinuxKernel {
    async fn prepare(&mut self) -> Result<(), KernelError> {
        self.sysctls
            .prepare(self.config.node_v6.is_some(), &self.config.conntrack)?;
        self.ipvs
            .set_timeouts(self.config.ipvs_timeouts, &self.timeouts)
            .await?;
        self.nft.prepare().await?;
        self.links.prepare().await
    }

    async fn read(&mut self) -> Result<Observed, KernelError> {
        let (elements, rules_loaded) = self.nft.read().await?;
        Ok(Observed {
            addresses: self.links.read().await?,
            servers: self.ipvs.read().await?,
            elements,
            rules_loaded,
        })
    }

    /// One request each for the dummy, the route, the virtual server and the generation of nf_tables; each is one `send` and two
    /// `recv`. Where somebody changed nf_tables since the last time (the proxy itself too), one more for each of the base chains.
    async fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> Result<Option<Damage>, KernelError> {
        let addr = sentinel.and_then(|id| match id {
            VirtualServerId::Address { addr, .. } => Some(*addr),
            VirtualServerId::Fwmark { .. } => None,
        });
        let links = self.links.intact(addr).await?;
        if links == Intact::NoLink || !self.nft.intact().await? {
            return Ok(Some(Damage::Ground));
        }
        let served = match sentinel {
            Some(id) => self.ipvs.has(*id).await?,
            None => true,
        };
        Ok((links == Intact::NoAddress || !served).then_some(Damage::Server))
    }

    /// Applied in the order given; neighbouring operations on elements go in as one transaction.
    async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let mut errors = Vec::new();
        let mut start = 0;
        for run in ops.chunk_by(|a, b| Self::part(a) == Self::part(b)) {
            let refusals = match run.first().map(Self::part) {
                Some(Part::Links) => self.links.apply(run).await,
                Some(Part::IpVs) => self.ipvs.apply(run).await,
                Some(Part::Nft) => self.nft.apply(run).await,
                None => Vec::new(),
            };
            errors.extend(refusals.into_iter().map(|(i, e)| (start + i, e)));
            start += run.len();
        }
        errors
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
                errors.extend(self.ipvs.apply(&ours).await.into_iter().map(|(_, e)| e));
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.links.delete().await.err());
        errors.extend(self.nft.delete().await.err());
        errors.extend(self.ipvs.restore_timeouts(&self.timeouts).await.err());
        errors.extend(self.sysctls.restore());
        errors
    }
}
