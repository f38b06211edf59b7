//! The three parts of the kernel that take operations, each over its own netlink socket.

use super::ipvs::IpVs;
use super::links::{Intact, Links};
use super::netlink::Socket;
use super::nft::Nft;
use super::{Damage, KernelError, Observed, Op, VirtualServerId};

/// IPVS, nf_tables and the dummy of one network namespace.
#[derive(Debug)]
pub(super) struct Parts<S> {
    pub(super) ipvs: IpVs<S>,
    pub(super) nft: Nft<S>,
    pub(super) links: Links<S>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Links,
    IpVs,
    Nft,
}

impl Part {
    /// The part that handles an operation.
    fn of(op: &Op) -> Self {
        match op {
            Op::AddAddress(_) | Op::DelAddress(_) => Self::Links,
            Op::SetVirtualServer(_)
            | Op::DelVirtualServer(_)
            | Op::SetRealServer(..)
            | Op::DelRealServer(..) => Self::IpVs,
            Op::AddElement(..) | Op::DelElement(..) => Self::Nft,
        }
    }
}

impl<S: Socket> Parts<S> {
    /// Reads the kernel's state.
    pub(super) async fn read(&mut self) -> Result<Observed, KernelError> {
        let (elements, rules_loaded) = self.nft.read().await?;
        let addresses = self.links.read().await?;
        let (servers, traffic) = self.ipvs.read().await?;
        Ok(Observed {
            addresses,
            servers,
            traffic,
            elements,
            rules_loaded,
        })
    }

    /// One request each for the dummy, the route, the virtual server and the generation of nf_tables; each is one `send` and one
    /// `recv`. If nf_tables changed since the last check (through the proxy itself, too), one more for each base chain.
    pub(super) async fn damage(
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

    /// Applies operations in the given order. Adjacent operations on elements form one transaction. After an unanswered operation
    /// the rest is not sent: it may depend on that one, and a kernel that does not answer must not cost a wait per operation.
    pub(super) async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let mut errors = Vec::new();
        let mut start = 0;
        let mut silent = false;
        for run in ops.chunk_by(|a, b| Part::of(a) == Part::of(b)) {
            let refusals = match run.first().map(Part::of) {
                _ if silent => unsent(run),
                Some(Part::Links) => self.links.apply(run).await,
                Some(Part::IpVs) => self.ipvs.apply(run).await,
                Some(Part::Nft) => self.nft.apply(run).await,
                None => Vec::new(),
            };
            silent |= refusals.iter().any(|(_, e)| e.is_silence());
            errors.extend(refusals.into_iter().map(|(i, e)| (start + i, e)));
            start += run.len();
        }
        errors
    }
}

fn unsent(ops: &[Op]) -> Vec<(usize, KernelError)> {
    let error = |op: &Op| KernelError::Unsent {
        what: format!("{op:?}"),
    };
    ops.iter().map(error).enumerate().collect()
}

#[cfg(test)]
mod tests;
