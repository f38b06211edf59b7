//! What is wrong with the input, in one message that names file, object and field.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A problem with one object (or file) of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// File, relative to the manifests folder, with the line where known (`pools.yaml:12`); empty for a cluster's object.
    pub origin: String,
    /// `Kind namespace/name`, empty where it could not be read.
    pub object: String,
    /// Path of the field (`spec.ports[0].port`), empty where none is to blame.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.origin, &self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}
