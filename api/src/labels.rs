//! Labels of an object, or a selector by them: a small map that is made once, asked often, and shared by all copies of its object.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names and values, sorted by name; each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Arc<[(String, String)]>);

impl Labels {
    /// The value of a label, if the object has it.
    pub fn get(&self, name: &str) -> Option<&String> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name));
        at.ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl FromIterator<(String, String)> for Labels {
    /// Of several values of one name the last one counts.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        labels.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(labels: [(&str, &str); N]) -> Self {
        let owned = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_by_its_whole_name() {
        let labels = Labels::from([
            ("tier", "front"),
            ("app", "web"),
            ("app.kubernetes.io/name", "w"),
        ]);
        let names: Vec<&String> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["app", "app.kubernetes.io/name", "tier"]);
        let value = |name| labels.get(name).map(String::as_str);
        assert_eq!((value("app"), value("tier")), (Some("web"), Some("front")));
        assert_eq!((value("ap"), value("app.")), (None, None));
        assert!(Labels::default().is_empty());
        assert_eq!(Labels::from([("a", "1"), ("a", "2")]), [("a", "2")].into());
    }
}
