//! Finds the line of a field. The text is parsed again, with positions, only when a message needs it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::yaml;

/// Positions take several times as much stack as values. No kind that ferrolb reads is nested this deeply; an error in a deeper
/// document is reported at the document's first line.
const DEEPEST: usize = 24;

/// A tree of positions.
enum Tree {
    Leaf(Option<String>),
    List(Vec<Spanned<Tree>>),
    Map(BTreeMap<String, Spanned<Tree>>),
}

/// The line, counted from 1, of the field at `path` (`spec.ports[0].port`), or of its nearest existing parent.
pub(super) fn line_of(document: &str, path: &str) -> usize {
    yaml::read::<Spanned<Tree>>(document, DEEPEST)
        .map_or(1, |root| walk(document, &root, path, 0).max(1))
}

fn walk(document: &str, root: &Spanned<Tree>, path: &str, above: usize) -> usize {
    let mut node = root;
    let mut line = line(root);
    let mut rest = path;
    while !rest.is_empty() {
        let next = match &node.value {
            Tree::Map(map) => key(map, rest),
            Tree::List(list) => index(rest).and_then(|(i, rest)| Some((list.get(i)?, rest))),
            // MetalLB's old configuration is YAML in a block scalar: its first line follows the line of the indicator.
            Tree::Leaf(Some(text)) => {
                if let Some(indicator) = block(document, line)
                    && let Ok(inner) = yaml::read::<Spanned<Tree>>(text, DEEPEST)
                {
                    return walk(text, &inner, rest, above + indicator);
                }
                None
            }
            Tree::Leaf(None) => None,
        };
        let Some((child, after)) = next else {
            break;
        };
        node = child;
        line = self::line(child).max(line);
        rest = after;
    }
    above + line
}

fn line(node: &Spanned<Tree>) -> usize {
    usize::try_from(node.referenced.line()).unwrap_or(1)
}

/// The longest key of the map that the path starts with: keys may contain dots, and annotations are in brackets.
fn key<'t, 'p>(
    map: &'t BTreeMap<String, Spanned<Tree>>,
    path: &'p str,
) -> Option<(&'t Spanned<Tree>, &'p str)> {
    if let Some(inside) = path.strip_prefix('[') {
        let (name, rest) = inside.split_once(']')?;
        return Some((map.get(name)?, rest.strip_prefix('.').unwrap_or(rest)));
    }
    map.iter()
        .filter_map(|(name, node)| {
            let rest = path.strip_prefix(name.as_str())?;
            let ends = rest.is_empty() || rest.starts_with(['.', '[']);
            ends.then(|| (name.len(), node, rest.strip_prefix('.').unwrap_or(rest)))
        })
        .max_by_key(|(len, _, _)| *len)
        .map(|(_, node, rest)| (node, rest))
}

fn index(path: &str) -> Option<(usize, &str)> {
    let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((number.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// The line of the indicator (`|`, `>`) of a block scalar reported at `line`: that line or the one before.
fn block(document: &str, line: usize) -> Option<usize> {
    let begins = |line: usize| {
        let text = document.lines().nth(line.checked_sub(1)?)?;
        let text = text
            .trim_end()
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        text.ends_with(['|', '>']).then_some(line)
    };
    begins(line).or_else(|| begins(line.checked_sub(1)?))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, Spanned<Tree>>()? {
            map.insert(key, value);
        }
        Ok(Tree::Map(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Tree>>()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(text.contains('\n').then(|| text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(None))
    }
}
