//! The order of the suite: it waits for conditions instead of sleeping, and the shared modules have no tests.

use std::path::{Path, PathBuf};

/// The only place that may sleep. `until` and its like sleep between two checks; `lapse` takes the reason why a test
/// cannot wait for a condition.
const SLEEPS: [&str; 1] = ["support/wait.rs"];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it"))
}

/// Every source of the suite below `dir`, by its path inside the suite.
fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        if path.is_dir() {
            found.append(&mut sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(folder()).unwrap().display().to_string();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The lines where a source sleeps: the calls and imports of `std`'s and tokio's functions.
fn sleeps(source: &str) -> Vec<usize> {
    let does = |line: &str| {
        // Strings and comments do not count.
        let code = line.replace("\\\"", "").split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let code = code.split("//").next().unwrap();
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| ["sleep", "sleep_ms", "sleep_until", "park_timeout"].contains(&word))
    };
    source.lines().zip(1..).filter(|(line, _)| does(line)).map(|(_, number)| number).collect()
}

#[test]
fn nothing_sleeps_where_something_can_be_waited_for() {
    let all = sources(folder());
    assert!(all.len() > 80, "{} sources", all.len());
    let mut found = Vec::new();
    for (name, source) in &all {
        let lines = sleeps(source);
        if SLEEPS.contains(&name.as_str()) {
            assert!(!lines.is_empty(), "{name} sleeps no more: take it off the list");
            continue;
        }
        found.extend(lines.into_iter().map(|line| format!("{name}:{line}")));
    }
    assert_eq!(found, Vec::<String>::new(), "wait for what is waited for, by `support::wait`");
}

#[test]
fn a_sleep_is_found_however_it_is_written() {
    for line in [
        "std::thread::sleep(pause);",
        "    sleep(Duration::from_secs(1));",
        "use std::thread::{self, sleep};",
        "tokio::time::sleep(pause).await;",
        "thread::park_timeout(pause);",
    ] {
        assert_eq!(sleeps(&format!("fn a() {{}}\n{line}\n")), [2], "{line}");
    }
    for line in ["// sleep(pause)", "sleeper(pause)", "until(\"they sleep\", || true);"] {
        assert_eq!(sleeps(line), [0; 0], "{line}");
    }
}

#[test]
fn what_is_shared_has_no_tests() {
    let shared: Vec<_> =
        sources(folder()).into_iter().filter(|(name, _)| name.starts_with("support/")).collect();
    assert!(shared.len() > 8, "{} sources", shared.len());
    for (name, source) in shared {
        assert!(!source.contains("#[test]"), "{name}");
    }
}
