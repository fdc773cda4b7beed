//! Which of the crate's own paths a source file names.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A path from the crate's root, and where it stands. Empty: the root itself.
#[derive(Debug, PartialEq)]
pub(super) struct Mention {
    pub line: usize,
    pub path: Vec<String>,
}

/// All mentions in the file that is `module`; an empty module is the binary.
pub(super) fn mentions(module: &[String], text: &str) -> syn::Result<Vec<Mention>> {
    let file = syn::parse_file(text)?;
    let mut walk = Walk {
        module: module.to_vec(),
        binary: module.is_empty(),
        found: Vec::new(),
    };
    walk.visit_file(&file);
    Ok(walk.found)
}

/// Items of `lib.rs` that are not module declarations without a body.
pub(super) fn not_a_module(text: &str) -> syn::Result<Vec<(usize, String)>> {
    let file = syn::parse_file(text)?;
    let other = |item: &syn::Item| match item {
        syn::Item::Mod(module) if module.content.is_none() && module.attrs.iter().all(is_doc) => {
            None
        }
        other => Some((
            other.span().start().line,
            "an item that is no plain `mod`".to_owned(),
        )),
    };
    Ok(file.items.iter().filter_map(other).collect())
}

fn is_doc(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("doc")
}

struct Walk {
    module: Vec<String>,
    binary: bool,
    found: Vec<Mention>,
}

impl Walk {
    /// Notes a path as it is written, when it leads into this crate from its root.
    fn note(&mut self, line: usize, written: &[String]) {
        let Some(first) = written.first() else { return };
        let path = match first.as_str() {
            "rootbridge" => written[1..].to_vec(),
            "crate" | "self" | "super" if self.binary => return,
            "crate" => written[1..].to_vec(),
            "self" | "super" => {
                let mut at = self.module.clone();
                let climbs = written
                    .iter()
                    .take_while(|s| *s == "self" || *s == "super")
                    .count();
                for step in &written[..climbs] {
                    if step == "super" && at.pop().is_none() {
                        return;
                    }
                }
                at.extend_from_slice(&written[climbs..]);
                at
            }
            _ => return,
        };
        self.found.push(Mention { line, path });
    }

    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| {
            let mut path = prefix.to_vec();
            // `use a::{self}` names `a`.
            if prefix.is_empty() || ident != "self" {
                path.push(ident.to_string());
            }
            path
        };
        match tree {
            syn::UseTree::Path(inner) => self.tree(&with(&inner.ident), &inner.tree),
            syn::UseTree::Name(leaf) => self.note(leaf.span().start().line, &with(&leaf.ident)),
            syn::UseTree::Rename(leaf) => self.note(leaf.span().start().line, &with(&leaf.ident)),
            syn::UseTree::Glob(glob) => {
                let mut path = prefix.to_vec();
                path.push("*".to_owned());
                self.note(glob.span().start().line, &path);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.tree(prefix, item))
            }
        }
    }

    /// Tokens that are not parsed: a macro's, an attribute's. Strings of attributes may be paths
    /// (serde's `with`, `default`).
    fn tokens(&mut self, tokens: TokenStream, strings: bool) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            match tree {
                TokenTree::Ident(ident) if starts(&ident.to_string()) => {
                    at += self.sequence(&[], &trees[at..]);
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream(), strings),
                TokenTree::Literal(literal) if strings => {
                    let line = literal.span().start().line;
                    let text = literal.to_string();
                    let text = text.trim_matches('"');
                    if let Ok(path) = text.parse::<TokenStream>() {
                        let from = self.found.len();
                        self.tokens(path, false);
                        self.found[from..]
                            .iter_mut()
                            .for_each(|mention| mention.line = line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A path at the head of `trees`, with its groups; how many trees it took.
    fn sequence(&mut self, prefix: &[String], trees: &[TokenTree]) -> usize {
        let mut path = prefix.to_vec();
        let line = trees.first().map_or(0, |tree| tree.span().start().line);
        let mut at = 0;
        loop {
            match trees.get(at) {
                Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' && at > 0 => {
                    path.push("*".to_owned())
                }
                Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Brace && at > 0 =>
                {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let comma = |tree: &TokenTree| matches!(tree, TokenTree::Punct(p) if p.as_char() == ',');
                    for part in inner.split(comma).filter(|part| !part.is_empty()) {
                        self.sequence(&path, part);
                    }
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            let colons = trees.get(at..at + 2).unwrap_or_default();
            if colons.len() < 2
                || !colons
                    .iter()
                    .all(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ':'))
            {
                break;
            }
            at += 2;
        }
        // `self.field` and `pub(crate)` are no paths.
        if path.len() > 1 {
            self.note(line, &path);
        }
        at.max(1)
    }
}

fn starts(ident: &str) -> bool {
    matches!(ident, "crate" | "self" | "super" | "rootbridge")
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        item.attrs
            .iter()
            .for_each(|attribute| self.visit_attribute(attribute));
        self.tree(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        // `extern crate self as other` would give the root a second name.
        if item.ident == "self" {
            self.note(item.span().start().line, &["crate".to_owned()]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        // A lone `self` is a value.
        if written.len() > 1 {
            self.note(path.span().start().line, &written);
        }
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if is_doc(attribute) {
            return;
        }
        // `#[path]` puts a file where its name does not say.
        if attribute.path().is_ident("path") {
            self.note(attribute.span().start().line, &["crate".to_owned()]);
        }
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(list.tokens.clone(), true),
            other => visit::visit_meta(self, other),
        }
    }
}
