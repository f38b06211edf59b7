//! Finds the objects of files by identity. A file is indexed when it is first asked for, so a step costs what it looks at.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;

use super::document::{Found, Read};
use super::scan::Scan;

/// What makes an object the same one in two files or at two times.
pub(super) type Identity = (Kind, ObjectKey);

/// What a file says of one object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held<'r> {
    /// The object, if it is valid.
    pub found: Option<&'r Found>,
    /// The file has it in a form that cannot be used.
    pub broken: bool,
}

/// All that a file holds, broken objects included.
pub(super) fn held(read: &Read) -> impl Iterator<Item = (Identity, Held<'_>)> {
    let objects = read.objects.iter().map(|found| {
        let identity = (found.object.kind(), found.object.key());
        let found = Some(found);
        (
            identity,
            Held {
                found,
                broken: false,
            },
        )
    });
    let broken = read.broken.iter().cloned();
    let broken = broken.map(|identity| {
        let broken = true;
        (
            identity,
            Held {
                found: None,
                broken,
            },
        )
    });
    objects.chain(broken)
}

/// The objects of the files of a scan.
#[derive(Debug, Default)]
pub(super) struct Index<'s>(BTreeMap<&'s str, BTreeMap<Identity, Held<'s>>>);

impl<'s> Index<'s> {
    /// What a file says of an object, with the path of the file.
    pub(super) fn get(
        &mut self,
        scan: &'s Scan,
        file: &str,
        identity: &Identity,
    ) -> Option<(&'s str, Held<'s>)> {
        let (path, read) = scan.files.get_key_value(file)?;
        let objects = self.0.entry(path).or_insert_with(|| by_identity(read));
        Some((path, *objects.get(identity)?))
    }
}

/// All that a file holds, by identity.
fn by_identity(read: &Read) -> BTreeMap<Identity, Held<'_>> {
    let mut all: BTreeMap<Identity, Held<'_>> = BTreeMap::new();
    for (identity, held) in held(read) {
        let one = all.entry(identity).or_default();
        one.found = one.found.or(held.found);
        one.broken |= held.broken;
    }
    all
}

/// Replaces objects that are equal to those of an earlier reading with them, so that one copy is kept and comparing it is cheap.
pub(super) fn share(read: &mut Read, earlier: &Read) {
    let earlier = by_identity(earlier);
    for now in &mut read.objects {
        let identity = (now.object.kind(), now.object.key());
        let then = earlier.get(&identity).and_then(|held| held.found);
        if let Some(then) = then.filter(|then| then.object == now.object) {
            now.object = then.object.clone();
        }
    }
}
