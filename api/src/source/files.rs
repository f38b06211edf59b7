//! A folder of YAML as a source.

pub mod document;
mod locate;
