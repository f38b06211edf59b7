//! The static part of the nftables table `inet ferrolb`: its sets and maps, its chains and rules.
//!
//! This part does not change after the start. Only the elements change, which are made from Services. Every rule that needs to
//! know where a packet goes uses the same maps: `svc4`/`svc6` give a key's class (a chain), `masq4`/`masq6` its masquerade class.

use super::rule::{Data, Family, Field, Selector, SetDef, Table};

mod chains;
mod names;

use chains::{base_chains, dispatch, family_chains, shared_classes};
pub use names::{class, set};

/// Name of the table, of family `inet`.
pub const TABLE: &str = "ferrolb";

/// The selectors and key types of one family.
struct Words {
    family: Family,
    addr: &'static [Field],
    key: &'static [Field],
    key_source: &'static [Field],
    pair: &'static [Field],
    daddr: &'static [Selector],
    saddr: &'static [Selector],
    service: &'static [Selector],
    service_source: &'static [Selector],
    original: &'static [Selector],
    both: &'static [Selector],
}

macro_rules! words {
    ($family:expr) => {
        Words {
            family: $family,
            addr: &[Field::Addr($family)],
            key: &[Field::Addr($family), Field::Proto, Field::Port],
            key_source: &[
                Field::Addr($family),
                Field::Proto,
                Field::Port,
                Field::Addr($family),
            ],
            pair: &[Field::Addr($family), Field::Addr($family)],
            daddr: &[Selector::Daddr($family)],
            saddr: &[Selector::Saddr($family)],
            service: &[Selector::Daddr($family), Selector::L4Proto, Selector::Dport],
            service_source: &[
                Selector::Daddr($family),
                Selector::L4Proto,
                Selector::Dport,
                Selector::Saddr($family),
            ],
            original: &[
                Selector::OriginalDaddr($family),
                Selector::L4Proto,
                Selector::OriginalDport,
            ],
            both: &[Selector::Saddr($family), Selector::Daddr($family)],
        }
    };
}

static WORDS: [Words; 2] = [words!(Family::V4), words!(Family::V6)];

/// The table with all its sets, maps, chains and rules, without elements.
pub fn table() -> Table {
    Table {
        name: TABLE,
        sets: WORDS.iter().flat_map(sets).chain(interfaces()).collect(),
        chains: shared_classes()
            .into_iter()
            .chain(WORDS.iter().flat_map(family_chains))
            .chain(dispatch())
            .chain(base_chains())
            .collect(),
    }
}

fn interfaces() -> [SetDef; 2] {
    let def = |name, comment| SetDef {
        name,
        key: &[Field::Interface],
        data: None,
        interval: true,
        comment,
    };
    [
        def(set::PODIF, "interfaces of this node's pods"),
        def(set::FARIF, "interfaces to other nodes and their pods"),
    ]
}

fn sets(w: &Words) -> Vec<SetDef> {
    let f = w.family;
    let def = |name, key, data, interval, comment| SetDef {
        name,
        key,
        data,
        interval,
        comment,
    };
    let verdict = Some(Data::Verdict);
    vec![
        def(set::vip(f), w.addr, None, false, "every service address"),
        def(set::svccidr(f), w.addr, None, true, "ranges of ClusterIPs"),
        def(set::localsrc(f), w.addr, None, true, "pods of this cluster"),
        def(set::nodesrc(f), w.addr, None, true, "pods of this node"),
        def(
            set::clusrc(f),
            w.addr,
            None,
            true,
            "not masqueraded to ClusterIPs",
        ),
        def(
            set::svc(f),
            w.key,
            verdict,
            false,
            "class of every virtual server",
        ),
        def(
            set::mark(f),
            w.key,
            Some(Data::Mark),
            false,
            "fwmark of the server with all endpoints",
        ),
        def(
            set::lbsrc(f),
            w.key,
            None,
            false,
            "has loadBalancerSourceRanges",
        ),
        def(
            set::lballow(f),
            w.key_source,
            None,
            true,
            "allowed by loadBalancerSourceRanges",
        ),
        def(
            set::masq(f),
            w.key,
            verdict,
            false,
            "masquerade class by original destination",
        ),
        def(
            set::hairpin(f),
            w.pair,
            None,
            false,
            "endpoints of this node, each with itself",
        ),
        def(
            set::l2pod(f),
            w.pair,
            None,
            true,
            "pod ranges behind a bridge without br_netfilter",
        ),
    ]
}
