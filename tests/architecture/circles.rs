//! Circles of imports between the files of one directory. What two files need of each other belongs
//! in one file, or in a third.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use super::paths::mentions;
use super::{module_of, sources};

/// From a child of a directory to its siblings, each with one place that names it.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// One line for each circle among the children of each directory below `root/src`. The children of
/// `src` itself are left to the layers.
pub(super) fn circles(root: &Path) -> Vec<String> {
    let mut directories: BTreeMap<Vec<String>, Edges> = BTreeMap::new();
    let files: Vec<(Vec<String>, PathBuf)> = sources(&root.join("src"))
        .into_iter()
        .map(|file| (module_of(&relative(root, &file)), file))
        .collect();
    let reexports: BTreeMap<Vec<String>, BTreeMap<String, String>> = files
        .iter()
        .filter(|(_, file)| file.ends_with("mod.rs"))
        .map(|(module, file)| {
            (
                module.clone(),
                reexports(&fs::read_to_string(file).unwrap()),
            )
        })
        .collect();
    for (module, file) in &files {
        let name = relative(root, file);
        if module.len() < 2 || module.last().is_some_and(|last| last == "tests") {
            continue;
        }
        let text = without_tests(&fs::read_to_string(file).unwrap());
        for mention in mentions(module, &text).unwrap() {
            // Each directory that holds both the file and what it names.
            for depth in 1..module.len() {
                let (directory, child) = (&module[..depth], &module[depth]);
                let Some(named) = mention.path.strip_prefix(directory).and_then(<[_]>::first)
                else {
                    break;
                };
                let owner = reexports.get(directory).and_then(|owner| owner.get(named));
                let sibling = owner.unwrap_or(named);
                if sibling != child && is_child(root, directory, sibling) {
                    directories
                        .entry(directory.to_vec())
                        .or_default()
                        .entry(child.clone())
                        .or_default()
                        .entry(sibling.clone())
                        .or_insert_with(|| format!("{name}:{}", mention.line));
                }
            }
        }
    }
    directories
        .iter()
        .flat_map(|(directory, edges)| in_one(&directory.join("/"), edges))
        .collect()
}

/// The shortest circle through each child of one directory, each circle once.
fn in_one(directory: &str, edges: &Edges) -> Vec<String> {
    let mut found = BTreeSet::new();
    for start in edges.keys() {
        if let Some(circle) = shortest(edges, start) {
            let least = circle.iter().min().unwrap().clone();
            let at = circle.iter().position(|each| *each == least).unwrap();
            let circle: Vec<_> = circle[at..].iter().chain(&circle[..at]).cloned().collect();
            found.insert(circle);
        }
    }
    found
        .into_iter()
        .map(|circle| {
            let places: Vec<_> = (0..circle.len())
                .map(|at| {
                    let next = &circle[(at + 1) % circle.len()];
                    format!("{} -> {next} ({})", circle[at], edges[&circle[at]][next])
                })
                .collect();
            format!("{directory}: {}", places.join(", "))
        })
        .collect()
}

fn shortest(edges: &Edges, start: &str) -> Option<Vec<String>> {
    let mut paths = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let last = path.last().unwrap();
            for next in edges.get(last).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(path);
                }
                if seen.insert(next.clone()) {
                    longer.push([path.clone(), vec![next.clone()]].concat());
                }
            }
        }
        paths = longer;
    }
    None
}

fn is_child(root: &Path, directory: &[String], name: &str) -> bool {
    let directory = root.join("src").join(directory.join("/"));
    directory.join(format!("{name}.rs")).exists() || directory.join(name).is_dir()
}

fn relative(root: &Path, file: &Path) -> String {
    let file = file.strip_prefix(root).unwrap().to_str().unwrap();
    file.replace('\\', "/")
}

/// Which child the items come from that a `mod.rs` takes in by `use`.
fn reexports(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for item in syn::parse_file(text).unwrap().items {
        if let syn::Item::Use(item) = item {
            collect(&[], &item.tree, &mut found);
        }
    }
    found
}

fn collect(prefix: &[String], tree: &syn::UseTree, found: &mut BTreeMap<String, String>) {
    let owner = |prefix: &[String]| match prefix {
        [first, second, ..] if first == "self" => Some(second.clone()),
        [first, ..] if !matches!(first.as_str(), "crate" | "super") => Some(first.clone()),
        _ => None,
    };
    match tree {
        syn::UseTree::Path(path) => {
            let prefix = [prefix, &[path.ident.to_string()]].concat();
            collect(&prefix, &path.tree, found);
        }
        syn::UseTree::Group(group) => {
            group
                .items
                .iter()
                .for_each(|each| collect(prefix, each, found));
        }
        syn::UseTree::Name(name) => {
            found.extend(owner(prefix).map(|owner| (name.ident.to_string(), owner)));
        }
        syn::UseTree::Rename(name) => {
            found.extend(owner(prefix).map(|owner| (name.rename.to_string(), owner)));
        }
        syn::UseTree::Glob(_) => {}
    }
}

/// The text with the lines of its `#[cfg(test)]` modules blanked: a test may use what it likes.
fn without_tests(text: &str) -> String {
    struct Tests(Vec<(usize, usize)>);
    impl<'ast> Visit<'ast> for Tests {
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            use syn::spanned::Spanned as _;
            let is_test = |attribute: &syn::Attribute| {
                attribute.path().is_ident("cfg")
                    && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
            };
            match item.attrs.iter().any(is_test) {
                true => {
                    let span = item.span();
                    self.0.push((span.start().line, span.end().line));
                }
                false => visit::visit_item_mod(self, item),
            }
        }
    }
    let mut tests = Tests(Vec::new());
    tests.visit_file(&syn::parse_file(text).unwrap());
    let is_test = |line: usize| {
        tests
            .0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&line))
    };
    let lines: Vec<&str> = text
        .lines()
        .enumerate()
        .map(|(index, line)| if is_test(index + 1) { "" } else { line })
        .collect();
    lines.join("\n")
}
