//! The table of assignments with its version, and the state that a member keeps on disk.

use std::fmt;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_controller::assignment::{Assignment, Assignments};
use serde::{Deserialize, Serialize};

/// The name of a member, which is the name of its Node.
pub type Name = Arc<str>;

/// The limit on the size of an encoded table: about 50,000 Services.
pub const MAX_TABLE: usize = 8 << 20;

/// No member sends this round or number, or a higher one, so every valid one has a valid successor.
pub const MAX_ROUND: u64 = 1 << 62;

/// The right of a member, from one start to the next, to propose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Higher wins.
    pub round: u64,
    /// Who proposes.
    pub proposer: Name,
    /// The boot of the proposer: it differs at every start, even if the disk was lost.
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

/// The version of a table: the ballot under which it was proposed, and its number within that ballot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// The ballot.
    pub ballot: Ballot,
    /// Counted from 1; 0 for the initial empty table.
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

/// The assignments of all Services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    /// Its version.
    pub version: Version,
    /// Assignments by Service.
    #[serde(with = "entries")]
    pub assignments: Assignments,
}

impl Table {
    /// Encodes the assignments; the version is sent separately.
    pub fn encode(&self) -> Vec<u8> {
        let list: Vec<(&str, &str, &Assignment)> = self
            .assignments
            .iter()
            .map(|(k, a)| (k.namespace.as_str(), k.name.as_str(), a))
            .collect();
        // Writing strings and numbers to memory cannot fail.
        serde_json::to_vec(&list).unwrap_or_default()
    }

    /// Decodes the bytes of [`Table::encode`]. The error says what is wrong with them.
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
    /// The highest ballot promised: nothing of a lower one is accepted.
    pub promised: Ballot,
    /// The newest table accepted, agreed or not.
    pub held: Arc<Table>,
    /// The newest table known to be agreed: the one in force.
    pub agreed: Arc<Table>,
}

impl Saved {
    /// The highest counter, if it has no successor.
    pub fn exhausted(&self) -> Option<u64> {
        let (held, agreed) = (&self.held.version, &self.agreed.version);
        let rounds = [&self.promised, &held.ballot, &agreed.ballot].map(|b| b.round);
        let counters = rounds.into_iter().chain([held.number, agreed.number]);
        counters.max().filter(|n| *n >= MAX_ROUND)
    }
}

/// Assignments as a list, because the keys of a JSON object must be strings.
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
