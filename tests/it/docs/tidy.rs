//! The order of the sources: layers, lengths, and documents that match them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use claviger::code::Code;

const LONGEST_FILE: usize = 600;

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
