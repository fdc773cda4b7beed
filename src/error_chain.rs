//! An error and its causes as one line of text.

/// `error`, then each of its causes that the text does not contain yet, separated by `: `.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(each) = cause {
        let cause_text = each.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        cause = each.source();
    }
    text
}
