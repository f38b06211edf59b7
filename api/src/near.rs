//! The word that somebody most likely meant.

/// The known word that is nearest to this one, if it is near at all: a third of its letters may differ, and upper and lower case
/// never count.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    let distance = |k: &&'k str| strsim::osa_distance(&word, &k.to_lowercase());
    let near = known.iter().min_by_key(|k| distance(k))?;
    (distance(near) <= near.chars().count() / 3).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["autoAssign", "avoidBuggyIPs", "addresses", "nodeSelectors"];
        for (word, expected) in [
            ("autoassign", Some("autoAssign")),
            ("avoidBuggyIps", Some("avoidBuggyIPs")),
            ("nodeSelector", Some("nodeSelectors")),
            ("adresses", Some("addresses")),
            ("cidr", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest("anything", &[]), None);
    }
}
