//! Durations in Go's notation: `30s`, `1h0m0s`, `1.5h`, `100ms`, `0`.

use std::time::Duration;

use ferrolb_api::quote::quoted;

use super::FieldError;

/// If one unit is a prefix of another, the longer one comes first.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("\u{b5}s", 1e-6),
    ("\u{3bc}s", 1e-6),
    ("ms", 1e-3),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// Parses a duration, which is never negative.
pub(super) fn parse(field: &str, text: &str) -> Result<Duration, FieldError> {
    read(text).ok_or_else(|| {
        FieldError::new(
            field,
            format!(
                "{} is not a duration: write it like 30s or 1h0m0s",
                quoted(text)
            ),
        )
    })
}

fn read(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let number: f64 = number.parse().ok()?;
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        let part = Duration::try_from_secs_f64(number * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail.strip_prefix(unit)?;
    }
    Some(total)
}
