//! The table of assignments with its version, and what a member keeps on disk.

use std::fmt;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_controller::assignment::{Assignment, Assignments};
use serde::{Deserialize, Serialize};

/// The name of a member: its Node's name.
pub type Name = Arc<str>;

/// A bound on the size of an encoded table: some 50,000 Services.
pub const MAX_TABLE: usize = 8 << 20;

/// No member says a round or a number from here on; every one below has a successor that can be said.
pub const MAX_ROUND: u64 = 1 << 62;

/// The right of one life of one member to propose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Higher wins.
    pub round: u64,
    /// Who proposes.
    pub proposer: Name,
    /// Which life of the proposer: it differs at every start, even if its disk was lost.
    pub boot: u64,
}

impl Default for Ballot {
    fn default() -> Self {
        Self {
            round: 0,
            proposer: Arc::from(""),
            boot: 0,
        }
    }
}

/// The version of a table: the ballot that it was proposed under, and its number in that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// The ballot.
    pub ballot: Ballot,
    /// From 1; 0 in the version of the empty table at the beginning.
    pub number: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ballot {
            round, proposer, ..
        } = &self.ballot;
        write!(f, "{round}.{}@{proposer}", self.number)
    }
}

/// Who has which address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    /// Its version.
    pub version: Version,
    /// Assignments by Service.
    #[serde(with = "entries")]
    pub assignments: Assignments,
}

impl Table {
    /// The assignments as bytes; the version travels beside them.
    pub fn encode(&self) -> Vec<u8> {
        let list: Vec<(&str, &str, &Assignment)> = self
            .assignments
            .iter()
            .map(|(k, a)| (k.namespace.as_str(), k.name.as_str(), a))
            .collect();
        // Writing strings and numbers to memory has no way to fail.
        serde_json::to_vec(&list).unwrap_or_default()
    }

    /// Reads [`Table::encode`]'s bytes. The error says what is wrong with them.
    pub fn decode(version: Version, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_TABLE {
            return Err(format!("a table of {} bytes is too large", bytes.len()));
        }
        let list: Vec<(String, String, Assignment)> =
            serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let mut assignments = Assignments::new();
        for (namespace, name, assignment) in list {
            if assignment.cluster_ips.len() > 2 || assignment.addresses.len() > 2 {
                return Err(format!(
                    "{namespace}/{name} has more than two addresses of a sort"
                ));
            }
            assignments.insert(ObjectKey::new(namespace, name), assignment);
        }
        Ok(Self {
            version,
            assignments,
        })
    }
}

/// What a member keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The highest ballot promised: nothing of a lower one is accepted any more.
    pub promised: Ballot,
    /// The newest table accepted, agreed or not.
    pub held: Arc<Table>,
    /// The newest table known to be agreed: what is in force.
    pub agreed: Arc<Table>,
}

impl Saved {
    /// The highest counter in it that has no successor.
    pub fn exhausted(&self) -> Option<u64> {
        let (held, agreed) = (&self.held.version, &self.agreed.version);
        let rounds = [&self.promised, &held.ballot, &agreed.ballot].map(|b| b.round);
        let counters = rounds.into_iter().chain([held.number, agreed.number]);
        counters.max().filter(|n| *n >= MAX_ROUND)
    }
}

/// Assignments as a list: the keys of a JSON object must be texts.
mod entries {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Assignment, Assignments, ObjectKey};

    #[derive(Serialize)]
    struct Row<'a> {
        service: &'a ObjectKey,
        #[serde(flatten)]
        assignment: &'a Assignment,
    }

    #[derive(Deserialize)]
    struct OwnedRow {
        service: ObjectKey,
        #[serde(flatten)]
        assignment: Assignment,
    }

    pub(super) fn serialize<S: Serializer>(map: &Assignments, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter().map(|(service, assignment)| Row {
            service,
            assignment,
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Assignments, D::Error> {
        let rows = Vec::<OwnedRow>::deserialize(from)?;
        Ok(rows
            .into_iter()
            .map(|r| (r.service, r.assignment))
            .collect())
    }
}
