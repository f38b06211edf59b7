//! Text of somebody else's in a message: quoted, so that control characters do nothing, and bounded.

/// Input for a message: in quotes, bounded, on one line.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let short: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().nth(SHOWN).is_some() {
        "..."
    } else {
        ""
    };
    format!("{:?}{more}", short)
}
