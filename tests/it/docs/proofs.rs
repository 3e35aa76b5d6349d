//! Each test that `SECURITY.md` names exists, and every promise and attack has at least one.

use std::path::{Path, PathBuf};

/// If fewer rows than this are found, some are missing.
const AT_LEAST: usize = 50;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The files that may contain a module.
fn files(folder: &Path, modules: &[&str]) -> Vec<PathBuf> {
    let path = folder.join(modules.join("/"));
    vec![path.with_extension("rs"), path.join("mod.rs")]
}

fn has_test(folder: &Path, name: &str) -> bool {
    let mut parts: Vec<&str> = name.split("::").collect();
    let test = parts.pop().unwrap();
    parts.retain(|part| *part != "tests");
    let of = |modules: &[&str]| {
        files(folder, modules).into_iter().filter(|file| file.is_file()).collect::<Vec<_>>()
    };
    // A module's tests may be in a separate file.
    let mut places = of(&parts);
    places.extend(of(&[parts.as_slice(), &["tests"]].concat()));
    places.iter().any(|file| {
        let text = read(file);
        text.match_indices(&format!("fn {test}(")).any(|(at, _)| text[..at].trim_end().ends_with(']'))
    })
}

fn exists(name: &str) -> bool {
    if name.starts_with("exchanges/") {
        return root().join("tests/it/cases").join(name).exists();
    }
    if let Some((file, test)) = name.split_once(".py") {
        let path = root().join("tests/peers").join(format!("{file}.py"));
        return path.is_file()
            && test.strip_prefix("::").is_none_or(|test| read(&path).contains(&format!("\ndef {test}(")));
    }
    match name.strip_prefix("lib::") {
        Some(name) => has_test(&root().join("src"), name),
        None => name.contains("::") && has_test(&root().join("tests/it"), name),
    }
}

/// Whether the command runs one of the suites on an existing file.
fn runs(command: &str) -> bool {
    if let Some(words) = command.strip_prefix("tests/peers/run ") {
        return words.split(' ').all(|file| root().join("tests/peers").join(file).is_file());
    }
    if let Some(module) = command.strip_prefix("cargo test --lib ") {
        return files(&root().join("src"), &[module]).iter().any(|file| file.is_file());
    }
    let (folder, command) = match command.strip_prefix("EXCHANGE=").and_then(|rest| rest.split_once(' ')) {
        Some((folder, command)) => (root().join("tests/it/cases/exchanges").join(folder), command),
        None => (root().to_owned(), command),
    };
    let filter = command.strip_prefix("cargo test --test it ").map(|filter| filter.trim_end_matches("::"));
    let modules = filter.map(|filter| filter.split("::").collect::<Vec<_>>());
    folder.is_dir()
        && modules.is_some_and(|modules| {
            files(&root().join("tests/it"), &modules).iter().any(|file| file.is_file())
        })
}

#[test]
fn every_row_names_tests_that_there_are_and_a_command_that_runs_some() {
    let text = read(&root().join("SECURITY.md"));
    let rows: Vec<Vec<&str>> = text
        .split("\n## Long runs")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---") && !line.contains("| shown by |"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= AT_LEAST, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [.., shown, command] = row.as_slice() else { panic!("{row:?}") };
        let tests = quoted(shown.split("Not yet").next().unwrap());
        if tests.is_empty() {
            wrong.push(format!("{row:?}: no test"));
        }
        wrong.extend(tests.iter().filter(|test| !exists(test)).map(|test| format!("no test {test}")));
        match quoted(command).as_slice() {
            [command] if runs(command) => {}
            other => wrong.push(format!("{other:?}: not one command that runs something")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_name_that_stands_for_nothing_is_noticed() {
    for name in [
        "wire::framing::gone",
        "gone::gone",
        "lib::target::tests::gone",
        "exchanges/gone.txt",
        "test_org.py::gone",
        "test_gone.py",
        "gone",
    ] {
        assert!(!exists(name), "{name}");
    }
    for command in [
        "make test",
        "cargo test --test it gone",
        "cargo test --lib gone",
        "EXCHANGE=gone/ cargo test --test it exchanges",
        "tests/peers/run gone.py",
        "",
    ] {
        assert!(!runs(command), "{command}");
    }
}

/// Each row of a table in the raw-socket suite begins with its name.
#[test]
fn the_raw_socket_suite_has_two_hundred_cases_and_more() {
    let mut rows = 0;
    for entry in std::fs::read_dir(root().join("tests/it/wire")).unwrap() {
        let text = read(&entry.unwrap().path());
        rows += text.lines().filter(|line| line.trim_start().starts_with("(\"")).count();
    }
    assert!(rows >= 200, "{rows} rows");
}
