//! The Namespace: its labels, by which pools select Services.

use crate::Labels;

/// The label with its own name that every namespace carries.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// `metadata.labels`, with [`NAME_LABEL`].
    pub labels: Labels,
}
