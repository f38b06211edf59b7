//! The decisions about addresses: which are orphans, when this node places them, and which this node answers for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Action, Machine};
use crate::claim::placer::{Grant, Orphan, Outlook, choose};
use crate::claim::rules::Claim;
use crate::member::hash;
use crate::message::{ClaimEntry, Message, NodeName, Status};

/// How often a grant is sent before the placer leaves it to the digests.
const GRANT_TRIES: u8 = 25;

impl Machine {
    /// Reviews what changed: orphans, and the addresses that this node answers for.
    pub(super) fn settle_dirty(&mut self, out: &mut Vec<Action>) {
        let all = std::mem::take(&mut self.candidates_changed);
        let dirty = std::mem::take(&mut self.dirty);
        for addr in &dirty {
            self.review(*addr, out);
        }
        let review: Vec<IpAddr> = if all {
            self.placer.orphans.keys().copied().collect()
        } else {
            dirty
                .into_iter()
                .filter(|a| self.placer.orphans.contains_key(a))
                .collect()
        };
        for addr in review {
            self.placeable(addr);
        }
    }

    /// Rule 2: an address is an orphan only if its claimant is not live or not eligible.
    fn review(&mut self, addr: IpAddr, out: &mut Vec<Action>) {
        let Some(slot) = self.claims.get(&addr) else {
            self.placer.orphans.remove(&addr);
            return;
        };
        let kept = slot
            .claim
            .as_ref()
            .is_some_and(|c| self.members.live(&c.node) && self.eligible_for(&c.node, &addr));
        let mine = slot.claim.as_ref().is_some_and(|c| c.node == self.me);
        let never = slot.highest == 0;
        if kept {
            self.placer.orphans.remove(&addr);
        } else {
            self.placer.orphans.entry(addr).or_insert(Orphan {
                placeable: None,
                never,
                everyone: false,
            });
        }
        if mine && kept && self.eligible_given {
            if self.own.start(addr) {
                out.push(Action::Announce(addr));
                self.changed = true;
            }
        } else if mine && self.eligible_given {
            self.own.limit(addr, self.now() + self.config.grace);
        } else if !mine && !self.own.limited(&addr) {
            self.cease(addr, out);
        }
    }

    /// A node whose list is unknown (it is restarting) counts as eligible for what it claims.
    pub(super) fn eligible_for(&self, node: &NodeName, addr: &IpAddr) -> bool {
        self.members
            .get(node)
            .is_some_and(|m| m.eligible.version() == 0 || m.eligible.contains(addr))
    }

    /// Records whether some node could take an orphan. The orphan's clock restarts whenever no node can.
    fn placeable(&mut self, addr: IpAddr) {
        let now = self.now();
        let (mut some, mut everyone) = (false, true);
        for (_, m) in self
            .members
            .iter()
            .filter(|(_, m)| m.status == Status::Alive)
        {
            let can = m.settled && m.eligible.contains(&addr);
            some |= can;
            everyone &= can;
        }
        if let Some(orphan) = self.placer.orphans.get_mut(&addr) {
            orphan.everyone = everyone;
            orphan.placeable = if some {
                orphan.placeable.or(Some(now))
            } else {
                None
            };
        }
    }

    pub(super) fn outlook(&self) -> Outlook {
        let rank = self
            .members
            .candidates()
            .position(|(n, _)| *n == self.me)
            .unwrap_or(usize::MAX);
        let unsettled = self
            .members
            .iter()
            .any(|(_, m)| m.status == Status::Alive && !m.settled);
        Outlook {
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            unsettled,
        }
    }

    /// Rule 3: places the addresses that are due. The chosen nodes learn first, everyone else with the next flush.
    pub(super) fn place(&mut self, out: &mut Vec<Action>) {
        if self.placer.orphans.is_empty() {
            return;
        }
        let (now, outlook) = (self.now(), self.outlook());
        let due = |o: &Orphan| o.due(&self.config, outlook).is_some_and(|at| at <= now);
        let mut addrs: Vec<IpAddr> = self
            .placer
            .orphans
            .iter()
            .filter(|(_, o)| due(o))
            .map(|(a, _)| *a)
            .collect();
        addrs.sort_by_key(|a| (hash::addr(a), *a));
        let mut grants: BTreeMap<NodeName, Vec<ClaimEntry>> = BTreeMap::new();
        for addr in addrs {
            let able: Vec<(&NodeName, usize)> = self
                .members
                .candidates()
                .filter(|(_, m)| m.eligible.contains(&addr))
                .map(|(n, _)| (n, self.claims.load(n)))
                .collect();
            let Some(node) = choose(&addr, &able).cloned() else {
                continue;
            };
            let Some(slot) = self.claims.get(&addr) else {
                continue;
            };
            let planned = slot.claim.as_ref().filter(|c| self.members.live(&c.node));
            let claim = Claim {
                epoch: self.next_epoch(slot.highest),
                provisional: planned.is_none_or(|c| c.provisional),
                node: node.clone(),
            };
            self.claims.set(addr, Some(claim.clone()));
            self.placer.orphans.remove(&addr);
            self.outbox.statements.insert(addr);
            self.changed = true;
            if node == self.me {
                self.review(addr, out);
            } else {
                self.own.limit(addr, now + self.config.tail);
                grants.entry(node).or_default().push(claim.entry(addr));
            }
        }
        for (to, claims) in grants {
            self.grant(to, claims, out);
        }
    }

    fn grant(&mut self, to: NodeName, claims: Vec<ClaimEntry>, out: &mut Vec<Action>) {
        let resend = self.now() + self.config.grant_resend;
        for mut state in self.split(self.blank(), Vec::new(), claims, Vec::new(), Vec::new()) {
            // Each part is acknowledged separately.
            self.seq += 1;
            (state.seq, state.part, state.parts, state.ack) = (self.seq, 0, 1, true);
            let grant = Grant {
                to: to.clone(),
                claims: state.claims.clone(),
                resend,
                tries: 1,
            };
            self.placer.grants.insert(self.seq, grant);
            out.push(Action::Send {
                to: vec![to.clone()],
                message: Message::State(state),
            });
        }
    }

    /// Resends grants that the chosen nodes have not acknowledged.
    pub(super) fn resend_grants(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        let blank = self.blank();
        let again = now + self.config.grant_resend;
        let (members, claims) = (&self.members, &self.claims);
        self.placer.grants.retain(|seq, g| {
            if g.resend > now {
                return true;
            }
            g.tries += 1;
            g.resend = again;
            g.claims
                .retain(|c| claims.claim(&c.addr) == Some(&Claim::from(c)));
            let speaks = members
                .get(&g.to)
                .is_some_and(|m| m.status == Status::Alive);
            if !speaks || g.claims.is_empty() || g.tries > GRANT_TRIES {
                return false;
            }
            let state = crate::message::State {
                seq: *seq,
                ack: true,
                claims: g.claims.clone(),
                ..blank.clone()
            };
            out.push(Action::Send {
                to: vec![g.to.clone()],
                message: Message::State(state),
            });
            true
        });
    }

    /// Rule 6: raises my claim above a higher epoch that lost to it.
    pub(super) fn reissue(&mut self) {
        for addr in std::mem::take(&mut self.outbox.bump) {
            let Some(slot) = self.claims.get(&addr) else {
                continue;
            };
            let Some(mut claim) = slot
                .claim
                .clone()
                .filter(|c| c.node == self.me && c.epoch < slot.highest)
            else {
                continue;
            };
            claim.epoch = self.next_epoch(slot.highest);
            self.claims.set(addr, Some(claim));
            self.outbox.statements.insert(addr);
        }
    }

    /// Stops answering when the grace period or the tail is over.
    pub(super) fn end_limits(&mut self, out: &mut Vec<Action>) {
        for addr in self.own.over(self.now()) {
            self.cease(addr, out);
        }
    }
}
