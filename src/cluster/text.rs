//! Text of others in messages.

/// For one line of a log: at most `most` characters, without control characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
