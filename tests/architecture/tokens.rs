//! Rows of tokens in a source file, comments and strings left out.

use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// Every token of a text with its line; groups become their delimiters, `::` one token.
pub(super) fn flatten(text: &str) -> Result<Vec<(String, usize)>, LexError> {
    let mut flat = Vec::new();
    push(text.parse()?, &mut flat);
    Ok(flat)
}

fn push(tokens: TokenStream, flat: &mut Vec<(String, usize)>) {
    for tree in tokens {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                flat.push((open.to_owned(), line));
                push(group.stream(), flat);
                flat.push((close.to_owned(), group.span_close().start().line));
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => match flat.last_mut() {
                Some((last, _)) if last == ":" => last.push(':'),
                _ => flat.push((":".to_owned(), line)),
            },
            other => flat.push((other.to_string(), line)),
        }
    }
}

/// The lines where the tokens of `pattern` (parted by spaces) stand in a row.
pub(super) fn find(flat: &[(String, usize)], pattern: &str) -> Vec<usize> {
    let wanted: Vec<&str> = pattern.split(' ').collect();
    flat.windows(wanted.len())
        .filter(|row| {
            row.iter()
                .zip(&wanted)
                .all(|((token, _), want)| token == want)
        })
        .map(|row| row[0].1)
        .collect()
}
