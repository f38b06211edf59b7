//! The chains of the table and their rules: the classes of a key, the chains that look the class up, and their hooks.
//!
//! The priorities follow from the position of IPVS (Linux 6.1, `ip_vs_core.c`): LOCAL_IN at 98 and 99, LOCAL_OUT at -99 and -98.
//! A request that IPVS forwards passes LOCAL_OUT again with the endpoint as its destination, and never passes FORWARD.

use ferrolb_api::view::Protocol;

use super::super::rule::{Chain, Hook, HookPoint, Rule, Selector, Statement, Verdict};
use super::{WORDS, Words, class, set};
use Statement::{
    DnatToSelf, HasMarkBit, Icmp, Icmpv6, InSet, L4Proto, MarkFromMap, Masquerade, OutputInterface,
    Reject, RejectTcpReset, SetMarkBit, SourceIsLocal, StateNew, VerdictMap,
};
use Verdict::{Accept, Drop, Goto, Jump, Return};

/// ICMP types that may reach a service address: echo request, unreachable (path MTU), time exceeded, parameter problem.
const ICMP_TYPES: &[u8] = &[8, 3, 11, 12];
/// The same for ICMPv6, with packet too big and neighbour discovery.
const ICMPV6_TYPES: &[u8] = &[128, 1, 2, 3, 4, 135, 136];

/// The bit in the mark of a packet that came in at the interface of a pod of this node. POSTROUTING does not see that interface
/// any more. kube-proxy's bits, 0x4000 and 0x8000, mean something else.
const FROM_POD: u32 = 0x1000;

/// Whether the packet does not come in from another node. A pod there is an outsider here, whatever range its address is in.
const NOT_FROM_FAR: Statement = InSet(&[Selector::InputInterface], set::FARIF, false);

/// Whether the packet comes from a pod of this node, by its interface.
const BY_INTERFACE: Statement = InSet(&[Selector::InputInterface], set::PODIF, true);

fn rule(comment: &'static str, statements: &[Statement]) -> Rule {
    Rule {
        statements: statements.to_vec(),
        comment,
    }
}

fn regular(name: &'static str, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook: None,
        rules,
    }
}

const ACCEPT: Statement = Statement::Verdict(Accept);
const DROP: Statement = Statement::Verdict(Drop);

fn go(chain: &'static str) -> Statement {
    Statement::Verdict(Goto(chain))
}

fn refuse() -> [Rule; 2] {
    [
        rule(
            "TCP is refused at once",
            &[L4Proto(Protocol::Tcp), RejectTcpReset],
        ),
        rule("the rest by ICMP", &[Reject]),
    ]
}

/// The classes that are the same for both families.
pub(super) fn shared_classes() -> Vec<Chain> {
    let [tcp, rest] = refuse();
    let live = rule(
        "live connections go on to draining servers",
        &[StateNew(false), ACCEPT],
    );
    let mut other = vec![
        rule("ping and path MTU", &[Icmp(ICMP_TYPES), ACCEPT]),
        rule(
            "ping, path MTU and neighbours",
            &[Icmpv6(ICMPV6_TYPES), ACCEPT],
        ),
    ];
    other.extend(refuse());
    vec![
        regular(class::REJECT, vec![live, tcp, rest]),
        regular(
            class::DROP,
            vec![
                rule("endpoints on other nodes only", &[StateNew(true), DROP]),
                rule("live connections go on", &[ACCEPT]),
            ],
        ),
        regular("vip_other", other),
        regular("cidr_reject", refuse().to_vec()),
    ]
}

/// The classes of a family: layout "ordinary server = local endpoints, fwmark server = all".
pub(super) fn family_chains(w: &Words) -> Vec<Chain> {
    let f = w.family;
    let to_mark = go(class::set_mark(f));
    let own = [
        rule(
            "own pods reach all endpoints",
            &[
                NOT_FROM_FAR,
                InSet(w.saddr, set::localsrc(f), true),
                to_mark,
            ],
        ),
        rule("own pods, by their interface", &[BY_INTERFACE, to_mark]),
        rule("so does the node", &[SourceIsLocal, to_mark]),
    ];
    let mut mark = own.to_vec();
    mark.push(rule("others reach those of this node", &[ACCEPT]));
    let mut only = own.to_vec();
    only.push(rule(
        "others have none on this node",
        &[StateNew(true), DROP],
    ));

    let lo = || {
        rule(
            "the node to itself",
            &[OutputInterface("lo"), Statement::Verdict(Return)],
        )
    };
    let hair = go(class::masq_hair(f));
    vec![
        regular(
            class::set_mark(f),
            vec![rule(
                "choose the server with all endpoints",
                &[MarkFromMap(w.service, set::mark(f)), ACCEPT],
            )],
        ),
        regular(class::int_mark(f), mark),
        regular(class::int_only(f), only),
        regular(
            class::masq_hair(f),
            vec![
                rule(
                    "an endpoint to itself",
                    &[InSet(w.both, set::hairpin(f), true), Masquerade],
                ),
                rule(
                    "replies would cross the bridge unseen",
                    &[InSet(w.both, set::l2pod(f), true), Masquerade],
                ),
            ],
        ),
        regular(
            class::masq_all(f),
            vec![lo(), rule("replies must come back here", &[Masquerade])],
        ),
        regular(
            class::masq_off(f),
            vec![
                lo(),
                rule(
                    "from an own pod, by its interface",
                    &[HasMarkBit(FROM_POD), hair],
                ),
                rule(
                    "from outside of the cluster",
                    &[InSet(w.saddr, set::clusrc(f), false), Masquerade],
                ),
                rule("from a pod", &[hair]),
            ],
        ),
        regular(
            class::masq_node(f),
            vec![
                lo(),
                rule("from the node itself", &[SourceIsLocal, Masquerade]),
                rule("clients keep their address", &[hair]),
            ],
        ),
        regular(
            class::masq_far(f),
            vec![
                rule(
                    "between other nodes, where replies would not come back here",
                    &[
                        InSet(w.saddr, set::localsrc(f), true),
                        InSet(w.saddr, set::nodesrc(f), false),
                        InSet(w.daddr, set::nodesrc(f), false),
                        Masquerade,
                    ],
                ),
                rule("all others", &[go(class::masq_node(f))]),
            ],
        ),
    ]
}

/// The two chains that decide by a packet's destination.
pub(super) fn dispatch() -> Vec<Chain> {
    let ranges = |w: &Words| {
        let f = w.family;
        let has = InSet(w.service, set::lbsrc(f), true);
        let outside = InSet(w.service_source, set::lballow(f), false);
        rule(
            "loadBalancerSourceRanges",
            &[StateNew(true), has, outside, DROP],
        )
    };
    let classes = |w: &Words| {
        rule(
            "one lookup decides",
            &[VerdictMap(w.service, set::svc(w.family))],
        )
    };
    let other = |w: &Words| {
        let vip = InSet(w.daddr, set::vip(w.family), true);
        rule(
            "a service address, but not taken by IPVS",
            &[vip, go("vip_other")],
        )
    };
    let free = |w: &Words| {
        let cidr = InSet(w.daddr, set::svccidr(w.family), true);
        rule("a ClusterIP that nobody has", &[cidr, go("cidr_reject")])
    };
    vec![
        regular(
            "service",
            WORDS
                .iter()
                .map(ranges)
                .chain(WORDS.iter().map(classes))
                .collect(),
        ),
        regular(
            "leftover",
            WORDS
                .iter()
                .map(other)
                .chain(WORDS.iter().map(free))
                .collect(),
        ),
    ]
}

pub(super) fn base_chains() -> Vec<Chain> {
    let base = |name, point, priority, nat, rules| Chain {
        name,
        hook: Some(Hook {
            point,
            priority,
            nat,
        }),
        rules,
    };
    let call = |comment, chain| vec![rule(comment, &[Statement::Verdict(Jump(chain))])];
    let own_pods = WORDS.iter().map(|w| {
        let vip = InSet(w.daddr, set::vip(w.family), true);
        rule(
            "remember where it came in",
            &[vip, BY_INTERFACE, SetMarkBit(FROM_POD)],
        )
    });
    let masquerade = WORDS
        .iter()
        .flat_map(|w| {
            // One rule per protocol, because nft lists `ct original proto-dst` correctly only if the protocol is known.
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| {
                let lookup = VerdictMap(w.original, set::masq(w.family));
                rule(
                    "masquerade class by original destination",
                    &[L4Proto(protocol), lookup],
                )
            })
        })
        .collect();
    let keep = || -> Vec<Rule> {
        WORDS
            .iter()
            .map(|w| {
                let vip = InSet(w.daddr, set::vip(w.family), true);
                rule(
                    "hostPort rules of others do not get it",
                    &[vip, DnatToSelf(w.family)],
                )
            })
            .collect()
    };
    let before = "before IPVS";
    let after = "after IPVS";
    vec![
        base(
            "input",
            HookPoint::Input,
            90,
            false,
            own_pods.chain(call(before, "service")).collect(),
        ),
        base(
            "input_guard",
            HookPoint::Input,
            110,
            false,
            call(after, "leftover"),
        ),
        base(
            "output",
            HookPoint::Output,
            -110,
            false,
            call(before, "service"),
        ),
        base(
            "output_guard",
            HookPoint::Output,
            -90,
            false,
            call(after, "leftover"),
        ),
        base(
            "forward",
            HookPoint::Forward,
            -10,
            false,
            call("not local", "leftover"),
        ),
        base("postrouting", HookPoint::Postrouting, 90, true, masquerade),
        base("keep_prerouting", HookPoint::Prerouting, -110, true, keep()),
        base("keep_output", HookPoint::Output, -110, true, keep()),
    ]
}
