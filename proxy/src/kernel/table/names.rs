//! Names of the sets, maps and chains that elements refer to.

use ferrolb_api::Family;

/// Names of the sets and maps, by family.
pub mod set {
    use super::Family;

    macro_rules! names {
        ($($(#[$doc:meta])* $name:ident = $v4:literal, $v6:literal;)*) => {
            $($(#[$doc])* pub const fn $name(family: Family) -> &'static str {
                match family { Family::V4 => $v4, Family::V6 => $v6 }
            })*
        };
    }

    /// Interfaces at which the traffic of this node's pods comes in, if it is recognised by that.
    pub const PODIF: &str = "podif";

    /// Interfaces at which the traffic of other nodes and their pods comes in.
    pub const FARIF: &str = "farif";

    names! {
        /// All service addresses: ClusterIPs, external and load-balancer addresses.
        vip = "vip4", "vip6";
        /// Ranges of the ClusterIPs.
        svccidr = "svccidr4", "svccidr6";
        /// Sources that count as pods of this cluster.
        localsrc = "localsrc4", "localsrc6";
        /// Sources among them that are pods of this node.
        nodesrc = "nodesrc4", "nodesrc6";
        /// Sources that are not masqueraded on their way to a ClusterIP.
        clusrc = "clusrc4", "clusrc6";
        /// Class of every virtual server.
        svc = "svc4", "svc6";
        /// Firewall mark of every virtual server under a Local policy.
        mark = "mark4", "mark6";
        /// Virtual servers with loadBalancerSourceRanges.
        lbsrc = "lbsrc4", "lbsrc6";
        /// The sources that those ranges allow.
        lballow = "lballow4", "lballow6";
        /// Masquerade class by original destination.
        masq = "masq4", "masq6";
        /// Endpoints of this node, each paired with itself.
        hairpin = "hairpin4", "hairpin6";
        /// Pod ranges on one bridge, each paired with itself.
        l2pod = "l2pod4", "l2pod6";
    }
}

/// Names of the chains that elements refer to.
pub mod class {
    use super::Family;

    /// No endpoints on any node: refuse new connections.
    pub const REJECT: &str = "svc_reject";
    /// Endpoints on other nodes only: drop new connections.
    pub const DROP: &str = "svc_drop";

    /// This node and its pods reach all endpoints; other clients reach those of this node.
    pub const fn int_mark(family: Family) -> &'static str {
        match family {
            Family::V4 => "int_mark4",
            Family::V6 => "int_mark6",
        }
    }

    /// Like [`int_mark`], but this node has no endpoint: new connections of other clients are dropped.
    pub const fn int_only(family: Family) -> &'static str {
        match family {
            Family::V4 => "int_only4",
            Family::V6 => "int_only6",
        }
    }

    /// Masquerade everybody.
    pub const fn masq_all(family: Family) -> &'static str {
        match family {
            Family::V4 => "masq_all4",
            Family::V6 => "masq_all6",
        }
    }

    /// Masquerade sources outside the cluster, and hairpins.
    pub const fn masq_off(family: Family) -> &'static str {
        match family {
            Family::V4 => "masq_off4",
            Family::V6 => "masq_off6",
        }
    }

    /// Masquerade the node itself, and hairpins.
    pub const fn masq_node(family: Family) -> &'static str {
        match family {
            Family::V4 => "masq_node4",
            Family::V6 => "masq_node6",
        }
    }

    /// Masquerade the node itself, pods of other nodes on their way to endpoints of other nodes, and hairpins.
    pub const fn masq_far(family: Family) -> &'static str {
        match family {
            Family::V4 => "masq_far4",
            Family::V6 => "masq_far6",
        }
    }

    pub(in crate::kernel::table) const fn set_mark(family: Family) -> &'static str {
        match family {
            Family::V4 => "set_mark4",
            Family::V6 => "set_mark6",
        }
    }

    pub(in crate::kernel::table) const fn masq_hair(family: Family) -> &'static str {
        match family {
            Family::V4 => "masq_hair4",
            Family::V6 => "masq_hair6",
        }
    }
}
