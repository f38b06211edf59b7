//! The encoding of a [`State`]: a table of names, to which the entries refer by one octet, then the lists.
//!
//! [`State::size`] is an upper bound of its size. Decoding refuses anything that exceeds the limits of [`crate::message`].

use std::collections::BTreeMap;

use super::codec::{DecodeError, EncodeError, Reader, Writer};
use crate::message::{
    ClaimEntry, ELIGIBLE_NODES, ELIGIBLE_PART, Eligible, EligibleChange, MemberEntry, NodeName,
    STATE_BUDGET, State, Status,
};

/// Flags of a `State`, by bit.
const SETTLED: u8 = 1;
const FULL: u8 = 2;
const WANT: u8 = 4;
const ACK: u8 = 8;
const VOTE: u8 = 16;

/// The table of names that a `State` refers to.
struct Names<'a>(BTreeMap<&'a NodeName, u8>);

impl<'a> Names<'a> {
    fn of(state: &'a State) -> Result<Self, EncodeError> {
        let all = (state.members.iter().map(|m| &m.node))
            .chain(state.claims.iter().map(|c| &c.node))
            .chain(
                state
                    .eligible
                    .iter()
                    .flat_map(|e| e.nodes.iter().map(|n| &n.0)),
            )
            .chain(state.changes.iter().map(|c| &c.node));
        let mut names: BTreeMap<&NodeName, u8> = all.map(|n| (n, 0)).collect();
        if names.len() > usize::from(u8::MAX) {
            return Err(EncodeError::Bounds("the number of names"));
        }
        names
            .values_mut()
            .zip(0u8..)
            .for_each(|(index, i)| *index = i);
        Ok(Self(names))
    }

    fn index(&self, name: &NodeName) -> u8 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

fn status(s: Status) -> u8 {
    match s {
        Status::Unknown => 0,
        Status::Alive => 1,
        Status::Held => 2,
        Status::Dead => 3,
    }
}

fn read_status(r: &mut Reader<'_>) -> Result<Status, DecodeError> {
    Ok(match r.u8()? {
        0 => Status::Unknown,
        1 => Status::Alive,
        2 => Status::Held,
        3 => Status::Dead,
        _ => return Err(DecodeError::Unknown("a member's status")),
    })
}

/// Appends a `State`.
pub(super) fn encode_state(w: &mut Writer, s: &State) -> Result<(), EncodeError> {
    let names = Names::of(s)?;
    w.u64(s.incarnation);
    let flags = [
        (s.settled, SETTLED),
        (s.full, FULL),
        (s.want, WANT),
        (s.ack, ACK),
        (s.vote, VOTE),
    ];
    w.u8(flags.iter().filter(|f| f.0).fold(0, |all, f| all | f.1));
    w.u8(s.multiplier);
    w.u16(s.company);
    match s.you {
        None => w.u8(0),
        Some((you, incarnation)) => {
            w.u8(1);
            w.u8(status(you));
            w.u64(incarnation);
        }
    }
    w.u64(s.seq);
    w.u16(s.part);
    w.u16(s.parts);
    w.count(names.0.len())?;
    names.0.keys().try_for_each(|n| w.name(n))?;
    w.count(s.members.len())?;
    for m in &s.members {
        w.u8(names.index(&m.node));
        w.u64(m.incarnation);
        w.u8(status(m.status));
        w.u8(u8::from(m.settled));
        w.u8(m.multiplier);
        w.u32(m.hold_ms);
    }
    w.count(s.claims.len())?;
    for c in &s.claims {
        w.address(&c.addr);
        w.u8(names.index(&c.node));
        w.u64(c.epoch);
        w.u8(u8::from(c.provisional));
    }
    w.count(s.eligible.len())?;
    for e in &s.eligible {
        if e.nodes.len() > ELIGIBLE_NODES || e.addresses.len() > ELIGIBLE_PART {
            return Err(EncodeError::Bounds("the length of an eligibility list"));
        }
        w.u8(e.nodes.len() as u8);
        for (node, version) in &e.nodes {
            w.u8(names.index(node));
            w.u64(*version);
        }
        w.u16(e.part);
        w.u16(e.parts);
        w.addresses(&e.addresses)?;
    }
    w.count(s.changes.len())?;
    for c in &s.changes {
        if c.added.len() + c.removed.len() > ELIGIBLE_PART {
            return Err(EncodeError::Bounds("the length of an eligibility change"));
        }
        w.u8(names.index(&c.node));
        w.u64(c.from);
        w.u64(c.to);
        w.addresses(&c.added)?;
        w.addresses(&c.removed)?;
    }
    if w.0.len() > STATE_BUDGET + 1 {
        return Err(EncodeError::Bounds("the length of a State"));
    }
    Ok(())
}

/// The `State` that comes next.
pub(super) fn decode_state(r: &mut Reader<'_>) -> Result<State, DecodeError> {
    if r.0.len() > STATE_BUDGET {
        return Err(DecodeError::Bounds("the length of a State"));
    }
    let incarnation = r.u64()?;
    let flags = r.u8()?;
    if flags & !(SETTLED | FULL | WANT | ACK | VOTE) != 0 {
        return Err(DecodeError::Unknown("a flag"));
    }
    let (multiplier, company) = (r.u8()?, r.u16()?);
    let you = if r.bool()? {
        Some((read_status(r)?, r.u64()?))
    } else {
        None
    };
    let (seq, part, parts) = (r.u64()?, r.u16()?, r.u16()?);
    let names = r.list(2, Reader::name)?;
    let name = |r: &mut Reader<'_>| -> Result<NodeName, DecodeError> {
        names
            .get(usize::from(r.u8()?))
            .cloned()
            .ok_or(DecodeError::Unknown("the number of a name"))
    };
    let members = r.list(16, |r| {
        Ok(MemberEntry {
            node: name(r)?,
            incarnation: r.u64()?,
            status: read_status(r)?,
            settled: r.bool()?,
            multiplier: r.u8()?,
            hold_ms: r.u32()?,
        })
    })?;
    let claims = r.list(15, |r| {
        Ok(ClaimEntry {
            addr: r.address()?,
            node: name(r)?,
            epoch: r.u64()?,
            provisional: r.bool()?,
        })
    })?;
    let eligible = r.list(7, |r| {
        let count = usize::from(r.u8()?);
        if count > ELIGIBLE_NODES {
            return Err(DecodeError::Bounds("the number of nodes"));
        }
        let nodes = (0..count)
            .map(|_| Ok((name(r)?, r.u64()?)))
            .collect::<Result<_, _>>()?;
        let e = Eligible {
            nodes,
            part: r.u16()?,
            parts: r.u16()?,
            addresses: r.addresses()?,
        };
        if e.addresses.len() > ELIGIBLE_PART {
            return Err(DecodeError::Bounds("the length of an eligibility list"));
        }
        Ok(e)
    })?;
    let changes = r.list(21, |r| {
        let c = EligibleChange {
            node: name(r)?,
            from: r.u64()?,
            to: r.u64()?,
            added: r.addresses()?,
            removed: r.addresses()?,
        };
        if c.added.len() + c.removed.len() > ELIGIBLE_PART {
            return Err(DecodeError::Bounds("the length of an eligibility change"));
        }
        Ok(c)
    })?;
    let on = |bit| flags & bit != 0;
    Ok(State {
        incarnation,
        settled: on(SETTLED),
        multiplier,
        company,
        you,
        full: on(FULL),
        want: on(WANT),
        ack: on(ACK),
        vote: on(VOTE),
        seq,
        part,
        parts,
        members,
        claims,
        eligible,
        changes,
    })
}
