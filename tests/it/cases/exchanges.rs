//! Behaviours in text files, one in each, played over real sockets: `exchanges/README.md`.
//! `EXCHANGE=roles/ cargo test --test it exchanges` plays only the files with `roles/` in their path.

mod check;
pub mod pattern;
mod play;
pub mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use text::Fault;

/// The number of files played at a time; each has its own gateway and upstream.
const AT_A_TIME: usize = 4;
/// If fewer files than this are found, some are missing.
const AT_LEAST: usize = 190;

#[test]
fn every_exchange_is_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/exchanges");
    let wanted = std::env::var("EXCHANGE").unwrap_or_default();
    let mut files = text_files(&folder);
    assert!(files.len() >= AT_LEAST, "{} files, of at least {AT_LEAST}", files.len());
    files.retain(|path| path.display().to_string().contains(&wanted));
    files.sort();
    assert!(!files.is_empty(), "no file has `{wanted}` in its path");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let faults = faults(&std::fs::read_to_string(path).unwrap());
                    let name = path.strip_prefix(&folder).unwrap_or(path).display().to_string();
                    wrong.lock().unwrap().extend(faults.into_iter().map(|fault| (name.clone(), fault)));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort_by_key(|(name, fault)| (name.clone(), fault.line));
    let told =
        wrong.iter().map(|(name, Fault { line, text })| format!("\n  exchanges/{name}:{line}: {text}\n"));
    assert!(wrong.is_empty(), "{} of {} files:{}", wrong.len(), files.len(), told.collect::<String>());
}

/// All text files in the folder and its subfolders.
pub fn text_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut text_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files
}

/// A fault of a file, or a difference from its expectations.
fn faults(text: &str) -> Vec<Fault> {
    let story = match text::parse(text) {
        Ok(story) => story,
        Err(fault) => return vec![fault],
    };
    match catch_unwind(AssertUnwindSafe(|| play::play(&story))) {
        Ok(Ok(played)) => check::check(&story, &played),
        Ok(Err(fault)) => vec![fault],
        Err(panic) => {
            let told = panic.downcast_ref::<String>().cloned();
            let told = told.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            vec![Fault::new(1, format!("it cannot be played: {}", told.unwrap_or_default()))]
        }
    }
}

#[test]
fn a_file_that_is_not_understood_is_refused() {
    let ok = "# It answers, whatever.\n> GET / HTTP/1.1\n< 200\n";
    assert!(text::parse(ok).is_ok());
    for (line, told, text) in [
        (1, "first line", ""),
        (1, "first line", "> GET / HTTP/1.1\n< 200\n"),
        (1, "makes no request", "# It answers, whatever.\n"),
        (2, "nothing is said of the answer", "# It answers, whatever.\n> GET / HTTP/1.1\n"),
        (2, "no directive", "# It answers, whatever.\nexpect 200\n"),
        (2, "before any request", "# It answers, whatever.\n< 200\n"),
        (2, "belongs to no `config`", "# It answers, whatever.\n    a = 1\n"),
        (2, "nothing indented", "# It answers, whatever.\nconfig\n> GET / HTTP/1.1\n< 200\n"),
        (2, "config twice", "# It answers, whatever.\nconfig twice\n    a = 1\n> GET / HTTP/1.1\n< 200\n"),
        (4, "before the first request", &format!("{ok}config\n    a = 1\n")),
        (2, "is no time", "# It answers, whatever.\nclock tomorrow\n> GET / HTTP/1.1\n< 200\n"),
        (3, "is no status", "# It answers, whatever.\n> GET / HTTP/1.1\n< ok\n"),
        (4, "a header line is", &format!("{ok}< Accept\n")),
        (4, "`upstream anything`", &format!("{ok}upstream anything\n")),
        (4, "something, or nothing", &format!("{ok}upstream nothing\nupstream> GET / HTTP/1.1\n")),
        (4, "GET /x HTTP/1.1", &format!("{ok}upstream> GET /\n")),
        (4, "`trail admin`", &format!("{ok}trail admin\n")),
        (4, "member=value", &format!("{ok}trail outcome decision denied\n")),
        (4, "do not end", &format!("{ok}trail outcome reason=\"x\n")),
        (2, "a request after", &format!("{ok}upstream holds\n")),
    ] {
        let fault = text::parse(text).expect_err(text);
        assert!(fault.line == line && fault.text.contains(told), "{text}\n{fault:?}");
    }
}

#[test]
fn what_differs_is_told_with_its_line() {
    let text = "# Hardly anything of this is so.\n\
        > GET /a HTTP/1.1\n\
        > Host: gw.test\n\
        > Authorization: Bearer {token}\n\
        upstream> GET /b HTTP/1.1\n\
        upstream> Accept: text/html\n\
        upstream> no Date\n\
        < 201\n\
        < Content-Type: text/plain\n\
        < no X-Request-Id\n\
        <\n\
        < {\"ok\":false}\n\
        trail intent consumer=other org=-\n\
        trail outcome status=200\n";
    let told: Vec<(usize, String)> = faults(text).into_iter().map(|fault| (fault.line, fault.text)).collect();
    let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [8, 9, 10, 11, 5, 6, 7, 13, 13], "{told:#?}");
    assert!(told[4].1.contains("wanted  GET /b HTTP/1.1") && told[4].1.contains("got     GET /a/ HTTP/1.1"));
    let all = "# A request that the upstream must not see.\n> GET / HTTP/1.1\n> Host: a\n\
        > Authorization: Bearer {token}\nupstream nothing\n< 200\ntrail nothing\n";
    let lines: Vec<usize> = faults(all).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 2, 2], "the upstream, the trail, and its outcome");
    let config =
        "# A configuration that cannot be used.\nconfig\n    workers = -1\n> GET / HTTP/1.1\n< 200\n";
    assert!(faults(config)[0].text.contains("`workers` must be from 0"), "{:?}", faults(config));
}
