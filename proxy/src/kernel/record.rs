//! The previous values of settings, in a file in the state directory.
//!
//! The old value is recorded the first time that a setting is changed. A cleanup, even by a later process, restores it unless
//! somebody has changed the setting since.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An old value and its replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) before: String,
    pub(super) set: String,
}

/// Changes by the name of the setting.
pub(super) type Changes = BTreeMap<String, Change>;

/// The record file.
#[derive(Debug)]
pub(super) struct Record {
    file: PathBuf,
}

impl Record {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Records that settings are about to change. If a setting was recorded before, the first old value is kept.
    pub(super) fn note(
        &self,
        changed: impl IntoIterator<Item = (String, Change)>,
    ) -> io::Result<()> {
        let mut changes = self.load()?;
        for (name, change) in changed {
            changes
                .entry(name)
                .and_modify(|c| c.set.clone_from(&change.set))
                .or_insert(change);
        }
        self.store(&changes)
    }

    /// The recorded changes; empty if there is no file.
    pub(super) fn load(&self) -> io::Result<Changes> {
        match std::fs::read(&self.file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Changes::new()),
            Err(e) => Err(e),
        }
    }

    /// Writes the record to a temporary file and moves it into place. Removes the file if the record is empty.
    pub(super) fn store(&self, changes: &Changes) -> io::Result<()> {
        if changes.is_empty() {
            return match std::fs::remove_file(&self.file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        if let Some(dir) = self.file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let fresh = self.file.with_extension("json.new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(changes)?)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.file)
    }
}
