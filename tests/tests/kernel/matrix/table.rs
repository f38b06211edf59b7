//! The matrix: who sends a request where, and what must be seen.
//!
//! A cell names each server that must answer, and how this server sees the client: `K` with its own address, `M` masqueraded to
//! the address of the interface by which the handling node sends (also for a pod that sends a request to itself: the hairpin).
//! `R` means refused immediately, with a TCP reset or an ICMP error. `D` means silence. The handling node is A for the
//! client and for A's pods, and B for B itself and its pods. For node ports on A, it is A.
//!
//! A pod of another node comes in by the LAN. So it is an outsider on A, although the users' clusterCIDR holds its address: under
//! external policy Local, a node port of A leads it to the endpoints of A alone, and they see its address. (kube-proxy takes it for
//! an own pod, and the replies of endpoints elsewhere go past A.)

/// The kind of address to which a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dest {
    /// The ClusterIP.
    ClusterIp,
    /// An address from `externalIPs`.
    External,
    /// The load-balancer address.
    LoadBalancer,
    /// The node port on node A.
    NodePort,
}
use Dest::{ClusterIp, External, LoadBalancer, NodePort};

/// One Service, and what each source must see of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// The case in words.
    pub(crate) name: &'static str,
    /// The label of the Service's pods: `both` are a1 and b1, `remote` is b1, `hosts` are the servers of the nodes, `nobody` is
    /// none.
    pub(crate) selects: &'static str,
    /// Whether externalTrafficPolicy is Local.
    pub(crate) external_local: bool,
    /// Whether internalTrafficPolicy is Local.
    pub(crate) internal_local: bool,
    /// Whether loadBalancerSourceRanges are set, to the client and A.
    pub(crate) ranges: bool,
    /// Kinds of addresses, with a cell for each source: client, A, B, a1, a2, b1.
    pub(crate) rows: &'static [(&'static [Dest], [&'static str; 6])],
}

const PLAIN: Case = Case {
    name: "",
    selects: "both",
    external_local: false,
    internal_local: false,
    ranges: false,
    rows: &[],
};

const ALL: &[Dest] = &[ClusterIp, External, LoadBalancer, NodePort];
const OUTSIDE: &[Dest] = &[External, LoadBalancer, NodePort];
const SHARED: &[Dest] = &[External, LoadBalancer];

const REFUSED: [&str; 6] = ["R"; 6];
const BOTH: [&str; 6] = ["a1M b1M"; 6];
const INTERNAL: [&str; 6] = [
    "a1M b1M", "a1M b1M", "a1M b1M", "a1M b1K", "a1K b1K", "a1K b1M",
];
const INTERNAL_REMOTE: [&str; 6] = ["b1M", "b1M", "b1M", "b1K", "b1K", "b1M"];

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "Cluster, a1 and b1",
        rows: &[(&[ClusterIp], INTERNAL), (OUTSIDE, BOTH)],
        ..PLAIN
    },
    Case {
        name: "Cluster, nobody",
        selects: "nobody",
        rows: &[(ALL, REFUSED)],
        ..PLAIN
    },
    Case {
        name: "external Local, a1 and b1",
        external_local: true,
        rows: &[
            (&[ClusterIp], INTERNAL),
            (
                SHARED,
                ["a1K", "a1M b1M", "a1M b1M", "a1M b1K", "a1K b1K", "a1K b1M"],
            ),
            (
                &[NodePort],
                ["a1K", "a1M b1M", "a1K", "a1M b1K", "a1K b1K", "a1K"],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "external Local, b1 only",
        selects: "remote",
        external_local: true,
        rows: &[
            (&[ClusterIp], INTERNAL_REMOTE),
            (SHARED, ["D", "b1M", "b1M", "b1K", "b1K", "b1M"]),
            (&[NodePort], ["D", "b1M", "D", "b1K", "b1K", "D"]),
        ],
        ..PLAIN
    },
    Case {
        name: "external Local, nobody",
        selects: "nobody",
        external_local: true,
        rows: &[(ALL, REFUSED)],
        ..PLAIN
    },
    Case {
        name: "internal Local, a1 and b1",
        internal_local: true,
        rows: &[
            (&[ClusterIp], ["a1M", "a1M", "b1M", "a1M", "a1K", "b1M"]),
            (OUTSIDE, BOTH),
        ],
        ..PLAIN
    },
    Case {
        name: "internal Local, b1 only",
        selects: "remote",
        internal_local: true,
        rows: &[
            (&[ClusterIp], ["D", "D", "b1M", "D", "D", "b1M"]),
            (OUTSIDE, ["b1M"; 6]),
        ],
        ..PLAIN
    },
    Case {
        name: "Cluster, on the nodes",
        selects: "hosts",
        rows: &[
            (
                &[ClusterIp],
                ["AK BM", "AK BM", "AM BK", "AK BK", "AK BK", "AK BK"],
            ),
            (
                SHARED,
                ["AK BM", "AK BM", "AM BK", "AK BM", "AK BM", "AM BK"],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "external Local, on the nodes",
        selects: "hosts",
        external_local: true,
        rows: &[
            (SHARED, ["AK", "AK BM", "AM BK", "AK BK", "AK BK", "AK BK"]),
            (&[NodePort], ["AK", "AK BM", "AK", "AK BK", "AK BK", "AK"]),
        ],
        ..PLAIN
    },
    Case {
        name: "ranges of the client and A",
        ranges: true,
        rows: &[
            (&[LoadBalancer], ["a1M b1M", "a1M b1M", "D", "D", "D", "D"]),
            (&[External, NodePort], BOTH),
            (&[ClusterIp], INTERNAL),
        ],
        ..PLAIN
    },
];
