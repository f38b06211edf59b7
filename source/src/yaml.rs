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

/// Keys, values, lists and maps of a document. Each may take half a kilobyte.
const MAX_NODES: usize = 150_000;

/// Bytes of scalars that a document may have beyond its own length: what aliases may add.
const MAX_ADDED: usize = 1 << 20;

fn options(depth: usize, length: usize) -> serde_yaml::Options {
    let mut budget = serde_yaml::Budget::default();
    budget.max_total_scalar_bytes = length.saturating_add(MAX_ADDED);
    budget.max_depth = depth;
    budget.max_nodes = MAX_NODES;
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
    serde_yaml::from_str_with_options(text, options(depth, text.len())).map_err(|error| {
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
    if line.contains("ScalarBytes") {
        return "its aliases repeat more than 1 MiB of text: write the values out".to_owned();
    }
    if line.contains("Nodes") {
        return format!(
            "it has more than {MAX_NODES} values: split it into several documents with ---"
        );
    }
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
    fn aliases_add_no_more_than_a_bounded_number_of_bytes() {
        let text = |bytes: usize, times: usize| {
            let anchor = format!("a: &a {}\n", "x".repeat(bytes));
            let aliases = (0..times).map(|i| format!("k{i}: *a\n"));
            anchor + &aliases.collect::<String>()
        };
        value(&text(1_000, 90)).unwrap();
        assert!(value(&text(900_000, 1)).is_ok());
        let error = value(&text(100_000, 900)).unwrap_err();
        assert!(
            error.message.contains("its aliases repeat more than 1 MiB"),
            "{error}"
        );
        // Without aliases, the length of a text is no matter.
        assert!(value(&text(8_000_000, 0)).is_ok());
    }

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
