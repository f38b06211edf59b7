//! Builds a node's report about itself from what its parts know. Pure.

pub(crate) mod book;
pub mod service;
#[cfg(test)]
mod tests;
mod unannounced;
pub mod view;

use std::sync::Arc;

use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use ferrolb_speaker::snapshot::{Address, Snapshot as SpeakerSnapshot};

use crate::report::book::Book;
use crate::report::view::{MemberStatus, NodeStatus};

/// What the parts know.
pub(crate) struct Knowledge<'a> {
    /// The name of this node.
    pub(crate) me: &'a str,
    /// `ipvs` or `none`.
    pub(crate) proxy_mode: &'static str,
    /// The Services, and what is known about addresses.
    pub(crate) book: &'a Book,
    /// What is wrong with the input.
    pub(crate) problems: Vec<Problem>,
    /// What is wrong with the proxy.
    pub(crate) proxy_errors: &'a [String],
    /// The state of the speaker.
    pub(crate) speaker: &'a SpeakerSnapshot,
}

/// The status of the node. It does not copy any Service.
pub(crate) fn report(known: Knowledge<'_>) -> NodeStatus {
    let mut problems = known.problems;
    problems.extend(known.speaker.problems.iter().map(|p| {
        let subject = Subject::Part {
            part: Part::Speaker,
            of: p.object(),
        };
        let text = p.to_string();
        Problem::new(subject, Cause::Reported { text })
    }));
    problems.extend(known.proxy_errors.iter().map(|text| {
        let text = text.clone();
        Problem::new(Subject::part(Part::Proxy), Cause::Reported { text })
    }));
    let of_services = known.book.proxy_problems().cloned();
    problems.extend(of_services.map(|problem| problem.at(Part::Proxy.to_string())));
    problems.extend(known.book.conflicts().filter_map(conflict));
    let services = known.book.entries().values();
    NodeStatus {
        node: known.me.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proxy: known.proxy_mode.to_owned(),
        settled: known.speaker.settled,
        members: members(known.speaker, known.book),
        speaker: known.speaker.counters,
        services: services.map(|entry| Arc::clone(&entry.status)).collect(),
        problems,
    }
}

fn conflict(address: &Address) -> Option<Problem> {
    let text = address.conflict.as_ref()?.to_string();
    let subject = Subject::Address {
        part: Part::Speaker,
        address: address.address,
    };
    Some(Problem::new(subject, Cause::Reported { text }))
}

fn members(speaker: &SpeakerSnapshot, book: &Book) -> Vec<MemberStatus> {
    let members = speaker.members.iter().map(|m| MemberStatus {
        name: m.name.clone(),
        state: format!("{:?}", m.status),
        addresses: book.announced(&m.name),
        elected: speaker.placer.as_deref() == Some(&m.name),
    });
    members.collect()
}
