//! The tables of `ferrolb status`, in kubectl's style.

use std::fmt::Write;
use std::net::IpAddr;

use ferrolb_api::problem::Problem;
use ferrolb_node::report::view::{ClusterStatus, NodeStatus, ServiceState, ServiceStatus};

/// The most Services for which a sentence is printed.
const MOST: usize = 50;

/// The output of `status` without `-o json`.
pub(crate) fn render(status: &NodeStatus) -> String {
    let mut text = format!(
        "Node {} (ferrolb {}, proxy {}, {})\n\n",
        status.node,
        status.version,
        status.proxy,
        if status.settled {
            "settled"
        } else {
            "not settled"
        }
    );
    columns(
        &mut text,
        &["MEMBER", "STATE", "ANNOUNCES", "ELECTED"],
        status.members.iter().map(|m| {
            vec![
                m.name.clone(),
                m.state.clone(),
                m.addresses.to_string(),
                if m.elected { "yes" } else { "" }.to_owned(),
            ]
        }),
    );
    services(&mut text, status.services.iter().map(AsRef::as_ref));
    reasons(&mut text, status.services.iter().map(AsRef::as_ref));
    problems(&mut text, &status.problems);
    text
}

/// The same output for a whole cluster.
pub(crate) fn render_cluster(status: &ClusterStatus) -> String {
    let mut text = format!("Cluster {} (ferrolb {})\n\n", status.server, status.version);
    let nodes = status.nodes.iter();
    columns(
        &mut text,
        &["NODE", "AGENT", "HEARD", "VERSION", "ANNOUNCES"],
        nodes.map(|n| {
            vec![
                n.name.clone(),
                format!("{:?}", n.agent),
                n.heard_seconds_ago
                    .map_or_else(none, |s| format!("{} ago", age(s))),
                n.version.clone().unwrap_or_else(none),
                n.addresses.to_string(),
            ]
        }),
    );
    services(&mut text, status.services.iter());
    reasons(&mut text, status.services.iter());
    problems(&mut text, &status.problems);
    text
}

fn services<'s>(text: &mut String, services: impl Iterator<Item = &'s ServiceStatus>) {
    text.push('\n');
    columns(
        text,
        &[
            "NAMESPACE",
            "SERVICE",
            "TYPE",
            "CLUSTER-IP",
            "EXTERNAL-IP",
            "PORTS",
            "POOL",
            "NODE",
            "ENDPOINTS",
            "STATE",
            "REASON",
        ],
        services.map(service),
    );
}

/// A sentence for each Service that is not served.
fn reasons<'s>(text: &mut String, services: impl Iterator<Item = &'s ServiceStatus>) {
    let waits = |s: &&ServiceStatus| {
        matches!(s.state, ServiceState::Pending | ServiceState::Refused) && !s.message.is_empty()
    };
    for (index, s) in services.filter(waits).enumerate() {
        match index {
            0 => text.push_str("\nNot served:\n"),
            MOST => {
                text.push_str("  There are more; -o json shows all.\n");
                return;
            }
            _ => {}
        }
        let _ = writeln!(text, "  {}/{}: {}", s.namespace, s.name, s.message);
    }
}

fn problems(text: &mut String, problems: &[Problem]) {
    if problems.is_empty() {
        return;
    }
    text.push_str("\nProblems:\n");
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
}

fn service(s: &ServiceStatus) -> Vec<String> {
    let nodes: Vec<_> = s
        .addresses
        .iter()
        .map(|a| a.node.clone().unwrap_or_else(|| "<none>".to_owned()))
        .collect();
    vec![
        s.namespace.clone(),
        s.name.clone(),
        format!("{:?}", s.service_type),
        list(s.cluster_ips.iter().map(IpAddr::to_string)),
        list(s.addresses.iter().map(|a| a.ip.to_string())),
        list(s.ports.iter().cloned()),
        s.pool.clone().unwrap_or_else(|| "<none>".to_owned()),
        list(nodes.into_iter()),
        format!("{}/{}", s.endpoints.used, s.endpoints.total),
        format!("{:?}", s.state),
        s.reason.to_string(),
    ]
}

fn none() -> String {
    "<none>".to_owned()
}

/// A duration as kubectl shows ages: in its largest unit, and the second one while that is small.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let text = items.collect::<Vec<_>>().join(",");
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

/// Left-aligned columns, three spaces apart, no trailing blanks.
fn columns(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(ToString::to_string).collect())
        .chain(rows)
        .collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            rows.iter()
                .filter_map(|r| r.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}   "))
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
