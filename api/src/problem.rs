//! Problems as values: where, about what, why, and with what consequence. Their text is built here and nowhere else.
//!
//! No decision depends on the text. `status -o json` shows both: the fields `origin`, `object`, `field` and `message` are for
//! people; `subject`, `cause` and `consequence` are for programs.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ObjectKey;
use crate::object::Kind;
use crate::quote::{harmless, quoted};
use crate::reason::Reason;
use crate::refusal::Refusal;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File, relative to the manifests folder, with the line if known (`pools.yaml:12`). Empty for an object of a cluster.
    pub origin: String,
    /// What it is about.
    pub subject: Subject,
    /// Path of the field (`spec.ports[0].port`); empty if no single field is to blame.
    pub field: String,
    /// Why, and what to do.
    pub cause: Cause,
    /// The consequence.
    pub consequence: Consequence,
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Subject {
    /// The file or folder that the origin names, or the input as a whole.
    Input,
    /// An object.
    Object {
        /// Its kind.
        kind: Kind,
        /// Its namespace and name.
        #[serde(flatten)]
        key: ObjectKey,
    },
    /// All objects of a kind.
    Kind {
        /// Which.
        kind: Kind,
    },
    /// An object or kind that ferrolb does not act on, or one whose name is invalid.
    Other {
        /// Its name, safe to display.
        title: String,
    },
    /// A part of this program.
    Part {
        /// Which.
        part: Part,
        /// The interface, node or member concerned; empty for the part as a whole.
        of: String,
    },
    /// An address.
    Address {
        /// The part that reports the problem.
        part: Part,
        /// Which.
        address: IpAddr,
    },
}

/// The parts of a node that report problems of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Programs the kernel.
    #[serde(rename = "proxy")]
    Proxy,
    /// Announces addresses.
    #[serde(rename = "speaker")]
    Speaker,
    /// Maintains the members' agreement.
    #[serde(rename = "agreement")]
    Agreement,
}

/// Which part of the input cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unreadable {
    /// The folder of manifests as a whole.
    Manifests,
    /// A folder within it.
    Folder,
    /// A file.
    File,
}

/// What exceeds its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Excess {
    /// Files in the folder.
    Files,
    /// Objects in a file.
    Objects,
}

/// Why something is wrong, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Cause {
    /// A field, or the whole object, is invalid.
    Invalid {
        /// What is wrong with it and how to fix it.
        text: String,
    },
    /// The same object is defined in two places.
    Duplicate {
        /// The definition that is used.
        first: String,
    },
    /// It could not be read.
    Unreadable {
        /// What.
        what: Unreadable,
        /// Why.
        error: String,
    },
    /// The text is not valid YAML.
    NotYaml {
        /// The parse error.
        error: String,
    },
    /// There is more of something than ferrolb reads.
    TooMany {
        /// Of what.
        what: Excess,
        /// The limit: only this many are read.
        most: usize,
    },
    /// A folder that is not read because of what it is.
    Misplaced {
        /// What it is and how to fix it.
        text: String,
    },
    /// A pool that conflicts with another one, or whose addresses are invalid.
    Pool {
        /// How, and what to do.
        text: String,
    },
    /// A Service cannot have what it requests.
    Request {
        /// Why, in one word.
        reason: Reason,
        /// In a sentence.
        text: String,
    },
    /// The API server did not deliver what it was asked for.
    Api {
        /// Why not.
        refusal: Refusal,
    },
    /// A problem that a part of this program reports about itself.
    Reported {
        /// In a sentence.
        text: String,
    },
}

/// The consequence of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Consequence {
    /// None beyond what the cause says.
    Nothing,
    /// The previous state of the subject stays in force.
    Kept,
    /// The previous configuration stays in force, or the defaults if there was none.
    KeptOrDefaults,
    /// The whole input keeps its previous state.
    Frozen,
    /// It is not used.
    Unused,
    /// Everything except the field is used.
    Partial,
    /// It is not known who announces what.
    UnknownAnnouncers,
    /// It is not known why an address is not announced.
    UnknownReasons,
    /// It is not known on which nodes an agent runs.
    UnknownAgents,
}

impl Problem {
    /// A problem with a subject and a cause only.
    pub fn new(subject: Subject, cause: Cause) -> Self {
        Self {
            origin: String::new(),
            subject,
            field: String::new(),
            cause,
            consequence: Consequence::Nothing,
        }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, origin: impl Into<String>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Sets the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Sets the consequence.
    #[must_use]
    pub fn so(mut self, consequence: Consequence) -> Self {
        self.consequence = consequence;
        self
    }

    /// Whether the problem is about this object.
    pub fn is_about(&self, kind: Kind, key: &ObjectKey) -> bool {
        self.subject.object() == Some((kind, key))
    }

    /// Cause and consequence as one sentence.
    pub fn message(&self) -> String {
        match self.consequence.text() {
            Some(text) => format!("{}; {text}", self.cause),
            None => self.cause.to_string(),
        }
    }

    /// The prefix of a message: a file, or the part of this program that reports it.
    fn place(&self) -> String {
        match &self.subject {
            Subject::Part { part, .. } | Subject::Address { part, .. }
                if self.origin.is_empty() =>
            {
                part.to_string()
            }
            _ => self.origin.clone(),
        }
    }
}

impl Subject {
    /// An object.
    pub fn object_of(kind: Kind, key: ObjectKey) -> Self {
        Self::Object { kind, key }
    }

    /// A part of this program as a whole.
    pub fn part(part: Part) -> Self {
        let of = String::new();
        Self::Part { part, of }
    }

    /// A subject named by an outside source. Control characters and overlong names are quoted.
    pub fn titled(name: &str) -> Self {
        let title = shown(name);
        Self::Other { title }
    }

    /// The object that the problem is about.
    pub fn object(&self) -> Option<(Kind, &ObjectKey)> {
        match self {
            Self::Object { kind, key } => Some((*kind, key)),
            _ => None,
        }
    }

    /// The kind that the problem is about, either as a whole or through one object.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Object { kind, .. } | Self::Kind { kind } => Some(*kind),
            _ => None,
        }
    }
}

/// The name unchanged if it is safe to display, otherwise quoted.
pub fn shown(name: &str) -> String {
    const LONGEST: usize = 253;
    let harmless = |c: char| c.is_ascii_graphic() || c == ' ';
    if name.len() <= LONGEST && name.chars().all(harmless) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

impl Consequence {
    /// The text, unless the cause already says it.
    fn text(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Partial => None,
            Self::UnknownAnnouncers => Some("so it is not known who announces what"),
            Self::UnknownReasons => Some("so it is not known why an address is not announced"),
            Self::UnknownAgents => Some("so it is not known on which nodes an agent runs"),
            Self::Kept => Some("its previous version, if there was one, stays in force"),
            Self::KeptOrDefaults => {
                Some("the previous configuration stays in force; at the start that is the defaults")
            }
            Self::Frozen => Some("everything stays as it is until that changes"),
            Self::Unused => Some("it is not used"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxy",
            Self::Speaker => "speaker",
            Self::Agreement => "agreement",
        })
    }
}

impl fmt::Display for Subject {
    /// `Kind namespace/name`; empty if the place says everything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => Ok(()),
            Self::Part { of, .. } => f.write_str(of),
            Self::Object { kind, key } => write!(f, "{kind} {key}"),
            Self::Kind { kind } => write!(f, "{kind}"),
            Self::Other { title } => f.write_str(title),
            Self::Address { address, .. } => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { text }
            | Self::Misplaced { text }
            | Self::Pool { text }
            | Self::Request { text, .. }
            | Self::Reported { text } => f.write_str(text),
            Self::Duplicate { first } => {
                write!(
                    f,
                    "the same object is at {first}, which is used: remove one"
                )
            }
            Self::Unreadable { what, error } => {
                let what = match what {
                    Unreadable::Manifests => "the manifests folder",
                    Unreadable::Folder => "this folder",
                    Unreadable::File => "this file",
                };
                write!(f, "{what} cannot be read: {error}")
            }
            Self::NotYaml { error } => write!(f, "this is not valid YAML: {error}"),
            Self::TooMany { what, most } => match what {
                Excess::Files => write!(
                    f,
                    "there are more than {most} files: this one and those after it are not read"
                ),
                Excess::Objects => {
                    write!(f, "more than {most} objects are in one file: split it")
                }
            },
            Self::Api { refusal } => write!(f, "{refusal}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place(), &self.subject.to_string(), &self.field] {
            if !part.is_empty() {
                write!(f, "{}: ", harmless(part))?;
            }
        }
        f.write_str(&harmless(&self.message()))
    }
}

/// The shape in `status -o json`.
#[derive(Serialize)]
struct Shown<'a> {
    origin: String,
    object: String,
    field: &'a str,
    message: String,
    subject: &'a Subject,
    cause: &'a Cause,
    consequence: Consequence,
}

/// The fields that are read back.
#[derive(Deserialize)]
struct Read {
    origin: String,
    field: String,
    subject: Subject,
    cause: Cause,
    consequence: Consequence,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = Shown {
            origin: self.place(),
            object: self.subject.to_string(),
            field: &self.field,
            message: harmless(&self.message()).into_owned(),
            subject: &self.subject,
            cause: &self.cause,
            consequence: self.consequence,
        };
        shown.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        let origin = match &read.subject {
            Subject::Part { .. } | Subject::Address { .. } => String::new(),
            _ => read.origin,
        };
        Ok(Self {
            origin,
            subject: read.subject,
            field: read.field,
            cause: read.cause,
            consequence: read.consequence,
        })
    }
}
