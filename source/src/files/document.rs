//! Converts the text of one file to objects and problems: splits documents, expands lists, decodes each object.
//!
//! An invalid YAML document does not affect the other documents in its file. The separator is a line of `---`, which cannot occur
//! inside a document (YAML 1.2, 9.1.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Cause, Consequence, Excess, Problem, Subject};
use serde_json::Value;

use super::locate::line_of;
use crate::decode::{self, Decoded, FieldError};
use crate::yaml;

/// The limit of documents and list items per file; the rest of the file is not read.
pub const MOST_OBJECTS: usize = 50_000;
/// A longer document is not searched for the lines of its fields, in bytes.
const LONGEST_SEARCHED: usize = 256 << 10;
/// The most that is searched in one file, in bytes.
const MOST_SEARCHED: usize = 1 << 20;
/// The limit on nested lists.
const DEEPEST_LIST: usize = 3;

/// An object from a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The object.
    pub object: Object,
    /// `file:line` of its document.
    pub origin: Arc<str>,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// Valid objects, in file order.
    pub objects: Vec<Found>,
    /// Objects that exist but are broken: they keep their previous state.
    pub broken: Vec<(Kind, ObjectKey)>,
    /// Whether an object could not even be identified. It may be any object that the file had before.
    pub unknown: bool,
    /// All problems.
    pub problems: Vec<Problem>,
}

/// Reads the text of `file` (a name for messages). Objects without a namespace are placed in `namespace`.
pub fn read(file: &str, namespace: &str, text: &str) -> Read {
    let mut read = Read::default();
    let mut seen = BTreeMap::new();
    let mut left = MOST_OBJECTS;
    let mut searchable = MOST_SEARCHED;
    for (line, document) in documents(text) {
        if left == 0 {
            read.unknown = true;
            let cause = Cause::TooMany {
                what: Excess::Objects,
                most: MOST_OBJECTS,
            };
            let problem = Problem::new(Subject::Input, cause);
            read.problems.push(problem.at(format!("{file}:{line}")));
            break;
        }
        let mut reader = Reader {
            file,
            namespace,
            line,
            document,
            read: &mut read,
            seen: &mut seen,
            left: &mut left,
            searchable: &mut searchable,
        };
        match yaml::value(document) {
            Ok(Value::Null) => {}
            Ok(value) => reader.take(value, "", 0),
            Err(error) => {
                let at = line + error.line.unwrap_or(1).saturating_sub(1);
                read.unknown = true;
                let cause = Cause::NotYaml {
                    error: error.to_string(),
                };
                let problem = Problem::new(Subject::Input, cause).so(Consequence::Kept);
                read.problems.push(problem.at(format!("{file}:{at}")));
            }
        }
    }
    read
}

struct Reader<'r> {
    file: &'r str,
    namespace: &'r str,
    line: usize,
    document: &'r str,
    read: &'r mut Read,
    seen: &'r mut BTreeMap<(Kind, ObjectKey), Arc<str>>,
    left: &'r mut usize,
    /// How many bytes may still be searched for the lines of fields.
    searchable: &'r mut usize,
}

impl Reader<'_> {
    /// Processes an object or a list at `path` in the document.
    fn take(&mut self, mut value: Value, path: &str, depth: usize) {
        if depth < DEEPEST_LIST
            && let Some(items) = decode::items(&mut value)
        {
            for (i, item) in items.into_iter().enumerate() {
                self.take(item, &join(path, &format!("items[{i}]")), depth + 1);
            }
            return;
        }
        match decode::embedded(&value) {
            Some((field, Ok(inner))) => return self.take(inner, &join(path, field), DEEPEST_LIST),
            Some((_, Err(error))) => {
                let kind = Kind::ProxyConfig;
                self.problem(
                    &Subject::Kind { kind },
                    path,
                    error,
                    Consequence::KeptOrDefaults,
                );
                let key = ObjectKey::new("", "kube-proxy");
                return self.read.broken.push((kind, key));
            }
            None => {}
        }
        if *self.left == 0 {
            self.read.unknown = true;
            return;
        }
        *self.left -= 1;
        let subject = decode::subject(&value, self.namespace);
        match decode::object(&value, self.namespace) {
            Decoded::Good(object, notes) => {
                for note in notes {
                    self.problem(&subject, path, note, Consequence::Partial);
                }
                self.good(*object, &subject, path);
            }
            Decoded::Broken(identity, error) => {
                let kept = match subject.kind() {
                    Some(Kind::ProxyConfig) => Consequence::KeptOrDefaults,
                    _ => Consequence::Kept,
                };
                self.problem(&subject, path, error, kept);
                match identity {
                    Some(identity) => self.read.broken.push(identity),
                    None => self.read.unknown = true,
                }
            }
            Decoded::Ignored(note) => {
                tracing::debug!(file = self.file, object = %subject, "not read");
                if let Some(note) = note {
                    self.problem(&subject, path, note, Consequence::Nothing);
                }
            }
        }
        for unknown in decode::unknown_fields(&value) {
            self.problem(&subject, path, unknown, Consequence::Partial);
        }
    }

    fn good(&mut self, object: Object, subject: &Subject, path: &str) {
        let identity = (object.kind(), object.key());
        match self.seen.get(&identity) {
            Some(first) => {
                let cause = Cause::Duplicate {
                    first: first.to_string(),
                };
                let problem = Problem::new(subject.clone(), cause).at(self.origin(path));
                self.read.problems.push(problem);
            }
            None => {
                let origin: Arc<str> = self.origin("").into();
                self.seen.insert(identity, Arc::clone(&origin));
                self.read.objects.push(Found { object, origin });
            }
        }
    }

    fn problem(
        &mut self,
        subject: &Subject,
        path: &str,
        error: FieldError,
        consequence: Consequence,
    ) {
        let origin = self.origin(&join(path, &error.field));
        let problem = error.problem(subject.clone(), consequence).at(origin);
        self.read.problems.push(problem);
    }

    /// The position of a field, or of the whole document, which costs nothing. The line of a field requires the document to be
    /// parsed again, with the position of every value. So only the first errors in documents of moderate size get it.
    fn origin(&mut self, path: &str) -> String {
        let length = self.document.len();
        let search = !path.is_empty() && length <= LONGEST_SEARCHED && length <= *self.searchable;
        let within = if search {
            *self.searchable -= length;
            line_of(self.document, path)
        } else {
            first_line(self.document)
        };
        format!("{}:{}", self.file, self.line + within - 1)
    }
}

fn join(path: &str, field: &str) -> String {
    match (path.is_empty(), field.is_empty()) {
        (true, _) => field.to_owned(),
        (_, true) => path.to_owned(),
        _ => format!("{path}.{field}"),
    }
}

/// The first line, counted from 1, that has content.
fn first_line(document: &str) -> usize {
    let says = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    };
    document.lines().position(says).map_or(1, |i| i + 1)
}

/// The documents in a text, each with the number of its first line.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut offset) = (0, 1, 0);
    // Directives (%YAML) belong to the document after the next separator.
    let mut only_directives = true;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if separator && !only_directives {
            if let Some(document) = text.get(begin..offset) {
                documents.push((begin_line, document));
            }
            (begin, begin_line) = (offset, i + 1);
        }
        let trimmed = line.trim_end();
        if separator {
            only_directives = false;
        } else if trimmed == "..." {
            only_directives = true;
            if let Some(document) = text.get(begin..offset) {
                documents.push((begin_line, document));
            }
            (begin, begin_line) = (offset + line.len(), i + 2);
        } else if !trimmed.is_empty() && !trimmed.starts_with(['%', '#']) {
            only_directives = false;
        }
        offset += line.len();
    }
    if let Some(document) = text.get(begin..) {
        documents.push((begin_line, document));
    }
    documents
}
