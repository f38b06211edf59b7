//! Parses YAML (and so JSON) to a tree of values, within limits that stop resource-exhaustion attacks; and writes values as YAML.
//!
//! It may accept more than Kubernetes' own reader. In one way it is stricter: a duplicate key is an error.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a text is not valid YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Line, counted from 1, if known.
    pub line: Option<usize>,
    /// What is wrong, in one line.
    pub message: String,
}

/// The parser is recursive: in a debug build, a level takes about 25 KiB of a thread's 2 MiB stack.
const MAX_DEPTH: usize = 48;
/// Nodes that aliases may add to a document.
const MAX_REPLAYED: usize = 100_000;

fn options(depth: usize) -> serde_yaml::Options {
    let mut budget = serde_yaml::Budget::default();
    budget.max_depth = depth;
    budget.max_aliases = 1_000;
    budget.max_anchors = 1_000;
    budget.flow_nesting_limit = depth;
    let mut options = serde_yaml::options! {
        budget: Some(budget),
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    options
}

/// Parses one document to any type, up to this nesting depth.
pub(crate) fn read<T: DeserializeOwned>(text: &str, depth: usize) -> Result<T, YamlError> {
    serde_yaml::from_str_with_options(text, options(depth)).map_err(|error| {
        let line = error
            .location()
            .and_then(|l| usize::try_from(l.line()).ok())
            .filter(|l| *l > 0);
        let text = error.without_snippet().to_string();
        YamlError {
            line,
            message: plain(&text),
        }
    })
}

/// Parses one document; an empty one is null.
pub fn value(text: &str) -> Result<Value, YamlError> {
    read(text, MAX_DEPTH)
}

/// The parser's message as one bounded line, without the position (which is reported separately) and without hints about its
/// settings.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.rsplit_once(" at line ").map_or(line, |(head, _)| head);
    let line = line
        .split_once(", set DuplicateKeyPolicy")
        .map_or(line, |(head, _)| head);
    line.chars().take(300).collect()
}

/// Writes values as YAML, one document each.
pub fn documents<T: Serialize>(values: &[T]) -> Result<String, YamlError> {
    serde_yaml::to_string_multiple(values).map_err(|error| YamlError {
        line: None,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ferrolb_api::crd::definition;

    use super::*;

    #[test]
    fn definitions_that_are_written_as_yaml_read_back_as_they_were() {
        let text = documents(&definition::all()).unwrap();
        let read: Vec<Value> = text
            .split("---\n")
            .filter(|d| !d.trim().is_empty())
            .map(|d| value(d).unwrap())
            .collect();
        assert_eq!(read, definition::all());
    }
}
