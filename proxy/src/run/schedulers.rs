//! Services that ask for a scheduler which the kernel lacks get the usual one, and theirs as soon as the kernel has it.

use std::collections::BTreeSet;

use super::Proxy;
use crate::apply::{Applied, apply};
use crate::diff::diff;
use crate::kernel::{Kernel, Look, Op};
use crate::lower::Touched;

impl<K: Kernel + Look> Proxy<K> {
    /// Asks again for what was refused, with the usual scheduler. If the kernel lacks that one too, nothing can be done. Returns
    /// what else may have changed.
    pub(super) async fn fall_back(&mut self, applied: &mut Applied) -> Option<Touched> {
        let usual = self.state.proxy().scheduler.name;
        let known = self.desired.lowered().lacking();
        let lacking = applied.lacking.keys().copied();
        let new: BTreeSet<_> = lacking
            .filter(|name| *name != usual && !known.contains(name))
            .collect();
        let mut touched = None;
        if !new.is_empty() {
            for scheduler in &new {
                tracing::warn!(
                    scheduler,
                    instead = usual,
                    "the kernel lacks a scheduler that Services ask for: load it with `modprobe ip_vs_{scheduler}`; they get it \
                     within {:?} then",
                    self.config.audit
                );
            }
            let again = self
                .desired
                .set_lacking(&self.state, known | &new, &self.held);
            let ops = diff(&self.held, &self.desired, &again);
            let second = apply(&mut self.kernel, &mut self.held, &ops).await;
            applied.unknown |= second.unknown;
            applied.errors.extend(second.errors);
            applied.lacking.extend(second.lacking);
            touched = Some(again);
        }
        let known = self.desired.lowered().lacking();
        let lacking = std::mem::take(&mut applied.lacking).into_iter();
        let errors = lacking.filter(|(name, _)| *name == usual || !known.contains(name));
        applied.errors.extend(errors.map(|(_, error)| error));
        touched
    }

    /// Tries each scheduler that the kernel lacked on one virtual server, and uses those that it has now.
    pub(super) async fn try_schedulers(&mut self) {
        let mut lacking = self.desired.lowered().lacking().clone();
        if lacking.is_empty() {
            return;
        }
        for name in self.desired.lowered().lacking().clone() {
            // If no Service asks for it any more, it is not known to be lacking.
            let Some(server) = self.desired.lowered().trial(name) else {
                lacking.remove(name);
                continue;
            };
            let tried = Op::SetVirtualServer(server);
            let applied = apply(&mut self.kernel, &mut self.held, &[tried]).await;
            self.unverified |= applied.unknown;
            if applied.lacking.is_empty() && applied.errors.is_empty() {
                tracing::info!(scheduler = name, "the kernel has this scheduler now");
                lacking.remove(name);
            }
        }
        let touched = self.desired.set_lacking(&self.state, lacking, &self.held);
        if !touched.services.is_empty() {
            self.put(&touched).await;
        }
    }
}
