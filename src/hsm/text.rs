/// The content of a text field of fixed width. It is padded with blanks, or, by some modules, ends with
/// a NUL, after which anything may follow.
pub(super) fn fixed_text(field: &str) -> String {
    let text = field.split('\0').next().unwrap_or_default();
    text.trim_end_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_with_blanks_or_end_with_a_nul() {
        for (field, text) in [
            ("rootbridge      ", "rootbridge"),
            ("rootbridge\0\0\0", "rootbridge"),
            ("rootbridge\0 left over", "rootbridge"),
            ("rootbridge  \0\0", "rootbridge"),
            (" a b ", " a b"),
            ("\0", ""),
            ("", ""),
        ] {
            assert_eq!(fixed_text(field), text, "{field:?}");
        }
    }
}
