//! What the loop reports before and after it changes the kernel: the programmed addresses and the status of each Service.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;

use super::Proxy;
use crate::apply::{holds, stands};
use crate::lower::Touched;
use crate::lower::service::LoweredService;

impl<K> Proxy<K> {
    /// Before a repair: marks Services as missing if their addresses or servers are gone. Others keep their status.
    pub(super) fn lose(&mut self, touched: &Touched) {
        for key in &touched.services {
            let gone = |s| self.unprepared || !stands(&self.held, s);
            if self.desired.lowered().service(key).is_some_and(gone) {
                self.missing.insert(key.clone());
            }
        }
        self.tell(touched);
    }

    /// After a pass: marks Services as missing if any part of them is not in the kernel.
    pub(super) fn count(&mut self, touched: &Touched) {
        for key in &touched.services {
            let service = self.desired.lowered().service(key);
            let held = |s: &LoweredService| !self.unprepared && holds(&self.held, s);
            if service.is_none_or(held) {
                self.missing.remove(key);
            } else {
                self.missing.insert(key.clone());
            }
        }
        self.tell(touched);
    }

    fn tell(&mut self, touched: &Touched) {
        let ready = |addr: IpAddr| {
            let mut users = self.desired.lowered().users(addr).peekable();
            users.peek().is_some() && users.all(|key| !self.missing.contains(key))
        };
        self.programmed.send_if_modified(|programmed| {
            let mut changed = programmed.is_none();
            let set = programmed.get_or_insert_default();
            for addr in &touched.addresses {
                changed |= if ready(*addr) {
                    set.insert(*addr)
                } else {
                    set.remove(addr)
                };
            }
            changed
        });
        for key in &touched.services {
            let plan = self.desired.plans().get(key);
            let lacks = plan.map_or([false; 2], |plan| plan.lacks_local());
            for (remote, lacks) in self.remote.iter_mut().zip(lacks) {
                match lacks {
                    true => remote.insert(key.clone()),
                    false => remote.remove(key),
                };
            }
        }
        let status = |key: &ObjectKey| {
            let mut status = self.desired.status(&self.state, key)?;
            status.programmed = !self.missing.contains(key);
            Some(Arc::new(status))
        };
        let services = touched.services.iter();
        self.services
            .send(services.map(|key| (key.clone(), status(key))).collect());
        self.status.send_if_modified(|snapshot| {
            let all = self.settings.iter().chain(&self.doubts).chain(&self.errors);
            let changed = !snapshot.errors.iter().eq(all.clone());
            if changed {
                snapshot.errors = all.cloned().collect();
            }
            !std::mem::replace(&mut snapshot.passed, true) || changed
        });
    }
}
