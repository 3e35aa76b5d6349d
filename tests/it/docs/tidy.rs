//! The order of the sources: layers, lengths, and documents that match them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use claviger::code::Code;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{FnArg, Item, Pat, Signature, Type};

use super::sources::{Sources, circles};

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 70;

/// Words that stood for many things. The field has a word for each: parsed, logged, recorded, lease, re-authorisation, ...
const DIALECT: [&str; 24] = [
    "told",
    "tell",
    "tells",
    "telling",
    "errand",
    "vouch",
    "way_around",
    "goes_on",
    "let_go",
    "in_clear",
    "whoever",
    "shown",
    "heard",
    "taken",
    "kept",
    "held",
    "asked",
    "wanted",
    "said",
    "gave_way",
    "troubled",
    "lapsed",
    "settled",
    "led_to",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![root().join(folder)]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The top-level modules, in the order of their layers.
fn layers() -> Vec<String> {
    let text = read("src/lib.rs");
    let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.map(String::from).collect()
}

#[test]
fn each_module_uses_only_those_before_it() {
    let layers = layers();
    let place: BTreeMap<&str, usize> = layers.iter().map(String::as_str).zip(0..).collect();
    let mut upward = Vec::new();
    let mut uses = 0;
    for path in files("src", "rs") {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(own) = place.get(first.trim_end_matches(".rs")) else { continue };
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for used in code.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(theirs) = place.get(name.as_str()) else { continue };
                uses += 1;
                if theirs > own {
                    upward.push(format!("{}:{}: {name}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(uses > 100, "the imports were found: {uses}");
    assert_eq!(upward, Vec::<String>::new(), "imports that point upwards");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let every =
        [files("src", "rs"), files("tests", "rs"), files("tests", "py"), files("benches", "rs")].concat();
    assert!(every.len() > 60);
    let long: Vec<String> = every
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
    assert!(read("ARCHITECTURE.md").lines().count() <= 180);
}

#[test]
fn the_documents_tell_of_every_code_and_of_no_other() {
    let page = read("docs/en/errors.md");
    let table: Vec<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (code, rest) = row.split_once("` | ")?;
            let status = rest.split(' ').next()?;
            status.parse::<u16>().ok()?;
            Some((code.to_owned(), status.to_owned()))
        })
        .collect();
    let codes: Vec<(String, String)> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().as_str().to_owned())).collect();
    assert_eq!(table, codes, "the table of docs/en/errors.md, in the order of src/code.rs");
}

#[test]
fn the_architecture_names_files_that_exist() {
    let text = read("ARCHITECTURE.md");
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let path = word.trim_end_matches('/');
        let is_path =
            path.contains('/') && !path.contains([' ', ':', '<', '*', '{']) && !path.starts_with('/');
        if is_path {
            named += 1;
            assert!(
                root().join(path).exists() || root().join("src").join(path).exists(),
                "{word} is not there"
            );
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn every_word_of_the_sources_is_the_houses() {
    const BANNED: [&str; 9] =
        ["manager", "handler", "service", "util", "helper", "common", "data", "info", "misc"];
    let mut found = Vec::new();
    for path in files("src", "rs") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
            ["struct ", "enum ", "trait ", "mod "].iter().find_map(|kind| line.strip_prefix(kind))
        });
        for name in names.chain([stem.as_str()]) {
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if BANNED.iter().any(|word| name.to_lowercase().split('_').any(|part| part == *word)) {
                found.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// The sources without their tests.
fn sources() -> Sources {
    let sources = Sources::read(&root().join("src"), &files("src", "rs"));
    assert!(sources.0.len() > 200, "the modules were found: {}", sources.0.len());
    sources
}

#[test]
fn no_modules_of_a_room_use_each_other_in_a_circle() {
    let uses = sources().uses();
    let inside: usize = uses.values().map(BTreeSet::len).sum();
    assert!(inside > 300, "the imports inside rooms were found: {inside}");
    let circles: Vec<String> = circles(&uses)
        .iter()
        .map(|circle| circle.iter().map(|path| path.join("::")).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(circles, Vec::<String>::new());
}

#[test]
fn the_inherent_methods_of_a_type_stand_in_its_file() {
    let mut elsewhere = Vec::new();
    let mut seen = 0;
    for (path, module) in &sources().0 {
        let defined: BTreeSet<String> = module.tree.items.iter().flat_map(defined_types).collect();
        for item in &module.tree.items {
            let Item::Impl(item) = item else { continue };
            if item.trait_.is_some() {
                continue;
            }
            let Type::Path(of) = &*item.self_ty else { continue };
            let name = of.path.segments.last().unwrap().ident.to_string();
            seen += 1;
            if !defined.contains(&name) {
                elsewhere.push(format!("{}: impl {name}", path.join("::")));
            }
        }
    }
    assert!(seen > 200, "the methods were found: {seen}");
    assert_eq!(elsewhere, Vec::<String>::new());
}

/// The names of the types that an item defines. A macro defines those that are declared in it.
fn defined_types(item: &Item) -> Vec<String> {
    let mut names = Vec::new();
    if let Item::Struct(item) = item {
        names.push(item.ident.to_string());
    } else if let Item::Enum(item) = item {
        names.push(item.ident.to_string());
    } else if let Item::Macro(item) = item {
        gather_types(item.mac.tokens.clone(), &mut names);
    }
    names
}

fn gather_types(code: TokenStream, names: &mut Vec<String>) {
    let mut is_type = false;
    for token in code {
        let follows = std::mem::replace(
            &mut is_type,
            matches!(&token, TokenTree::Ident(word) if word == "struct" || word == "enum"),
        );
        match token {
            TokenTree::Ident(name) if follows => names.push(name.to_string()),
            TokenTree::Group(group) => gather_types(group.stream(), names),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn a_function_is_short_and_takes_one_tuple_apart_at_most() {
    struct Functions<'a>(&'a str, &'a Path, Vec<String>, usize);
    impl Functions<'_> {
        fn check(&mut self, signature: &Signature, body: Span) {
            self.3 += 1;
            let tuples = signature
                .inputs
                .iter()
                .filter(|input| matches!(input, FnArg::Typed(typed) if matches!(*typed.pat, Pat::Tuple(_))));
            let tuples = tuples.count();
            let code = self.0.lines().take(body.end().line).skip(body.start().line).filter(|line| {
                let line = line.trim_start();
                !line.is_empty() && !line.starts_with("//")
            });
            let lines = code.count().saturating_sub(1);
            if tuples > 1 || lines > LONGEST_FUNCTION {
                self.2.push(format!(
                    "{}: {}: {tuples} tuples, {lines} lines",
                    self.1.display(),
                    signature.ident
                ));
            }
        }
    }
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.check(&item.sig, item.block.span());
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.check(&item.sig, item.block.span());
            visit::visit_impl_item_fn(self, item);
        }
    }
    let (mut found, mut seen) = (Vec::new(), 0);
    for module in sources().0.values() {
        let text = std::fs::read_to_string(&module.file).unwrap();
        let mut functions = Functions(&text, &module.file, Vec::new(), 0);
        functions.visit_file(&module.tree);
        seen += functions.3;
        found.append(&mut functions.2);
    }
    assert!(seen > 2000, "the functions were found: {seen}");
    assert_eq!(found, Vec::<String>::new());
}

/// A line with one or two words says nothing that the name does not say, or is a piece of a sentence that was cut badly.
#[test]
fn no_line_of_a_doc_comment_has_fewer_than_three_words() {
    let (mut short, mut seen) = (Vec::new(), 0);
    for path in files("src", "rs") {
        let mut is_code = false;
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.trim_start();
            let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
                is_code = false;
                continue;
            };
            let text = text.trim();
            let is_fence = text.starts_with("```");
            is_code ^= is_fence;
            if text.is_empty() || is_code || is_fence || text.starts_with(['#', '|', '[']) {
                continue;
            }
            seen += 1;
            if text.split_whitespace().count() < 3 {
                short.push(format!("{}:{}: {text}", path.display(), number + 1));
            }
        }
    }
    assert!(seen > 3000, "the doc comments were found: {seen}");
    assert_eq!(short, Vec::<String>::new());
}

#[test]
fn no_name_is_of_the_private_dialect() {
    let mut found = BTreeSet::new();
    for module in sources().0.values() {
        let mut identifiers = BTreeSet::new();
        gather_identifiers(module.tree.to_token_stream(), &mut identifiers);
        assert!(!identifiers.is_empty() || module.tree.items.is_empty());
        for name in identifiers.iter().filter(|name| DIALECT.contains(&name.as_str())) {
            found.insert(format!("{}: {name}", module.file.display()));
        }
    }
    assert_eq!(found, BTreeSet::new());
}

fn gather_identifiers(code: TokenStream, found: &mut BTreeSet<String>) {
    for token in code {
        match token {
            TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            TokenTree::Group(group) => gather_identifiers(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}
