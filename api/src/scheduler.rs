//! How new connections are distributed over the endpoints of a Service: a scheduler of Linux (`net/netfilter/ipvs`), by the name
//! that ipvsadm(8) gives it, with its flags.

use std::fmt;
use std::str::FromStr;

use crate::near::nearest;
use crate::quote::quoted;

/// The names.
pub const NAMES: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos",
];

/// A scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheduler {
    /// Its name.
    pub name: &'static str,
    /// `sh-port`, `mh-port`: the hash includes the client's port, so the connections of one client are spread.
    pub by_port: bool,
}

impl Scheduler {
    /// kube-proxy's default in IPVS mode.
    pub const ROUND_ROBIN: Self = Self {
        name: "rr",
        by_port: false,
    };

    /// Whether it hashes the client's address. Such a scheduler always falls back to another endpoint if the chosen one takes no
    /// new connections; otherwise its clients would be refused.
    pub fn hashes(self) -> bool {
        matches!(self.name, "sh" | "mh")
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by_port {
            true => write!(f, "{0},{0}-port", self.name),
            false => f.write_str(self.name),
        }
    }
}

impl FromStr for Scheduler {
    type Err = String;

    /// Reads a name, with flags after commas (`sh,sh-port`). The error is a sentence that says what can be used.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',').map(str::trim);
        let word = words.next().unwrap_or_default();
        let Some(name) = NAMES.into_iter().find(|name| *name == word) else {
            let use_one = match nearest(word, &NAMES) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("use one of {}", NAMES.join(", ")),
            };
            return Err(format!("there is no scheduler {}: {use_one}", quoted(word)));
        };
        let mut scheduler = Self {
            name,
            by_port: false,
        };
        for flag in words {
            match flag.strip_prefix(name) {
                Some("-port") if scheduler.hashes() => scheduler.by_port = true,
                // It always falls back.
                Some("-fallback") if scheduler.hashes() => {}
                _ if scheduler.hashes() => {
                    return Err(format!(
                        "the scheduler {name} has no flag {}: use {name}-port or none",
                        quoted(flag)
                    ));
                }
                _ => {
                    return Err(format!(
                        "the scheduler {name} has no flag {}: write {name} alone",
                        quoted(flag)
                    ));
                }
            }
        }
        Ok(scheduler)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_and_flags_are_read_as_ipvsadm_writes_them() {
        for name in NAMES {
            assert_eq!(name.parse::<Scheduler>().unwrap().to_string(), name);
        }
        for (text, shown) in [
            ("sh,sh-port", "sh,sh-port"),
            (" mh , mh-fallback,mh-port", "mh,mh-port"),
            ("sh,sh-fallback", "sh"),
        ] {
            assert_eq!(text.parse::<Scheduler>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn another_word_is_refused_with_what_can_be_used() {
        for (text, said) in [
            ("wlcc", "there is no scheduler \"wlcc\": did you mean wlc?"),
            (
                "fastest",
                "there is no scheduler \"fastest\": use one of rr, wrr, lc, wlc, fo, ovf, lblc, lblcr, dh, sh, mh, sed, nq, twos",
            ),
            (
                "rr,sh-port",
                "the scheduler rr has no flag \"sh-port\": write rr alone",
            ),
            (
                "sh,mh-port",
                "the scheduler sh has no flag \"mh-port\": use sh-port or none",
            ),
            (
                "sh,",
                "the scheduler sh has no flag \"\": use sh-port or none",
            ),
        ] {
            assert_eq!(text.parse::<Scheduler>(), Err(said.to_owned()), "{text}");
        }
    }
}
