//! Closed segments: claviger compresses them, and deletes them so that the rest can still be proven.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use claviger::audit::{CheckpointKey, Report, TrustAnchors, is_compressed, segments, verify};

use crate::support::process::{Process, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::until;

const SMALL: &str = "[audit]\nrotate = \"16KiB\"\ncheckpoint_events = 10\ncompress_after = \"0s\"\n";

fn call(process: &Process, count: usize) -> Vec<String> {
    let called = (0..count).map(|call| process.get(&format!("/api/v1/{call}/")));
    called.map(|answer| answer.header("x-request-id").unwrap().to_owned()).collect()
}

fn all_closed_are_packed(site: &Site) -> bool {
    let found = segments(&site.audit()).unwrap();
    found.len() > 3 && found[..found.len() - 1].iter().all(|path| is_compressed(path))
}

fn trusted(site: &Site) -> TrustAnchors {
    let key = fs::read_to_string(site.folder.path().join("state/audit.pub")).unwrap();
    TrustAnchors { keys: vec![CheckpointKey::parse(&key).unwrap()], heads: Vec::new() }
}

fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn stub(dir: &Path) -> PathBuf {
    let mut found = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|found| found == "retired")).expect("no stub")
}

fn problem(dir: &Path, trusted: &TrustAnchors) -> String {
    let report: Report = verify(dir, trusted, |_| {}).unwrap();
    report.finding.expect("nothing was found").problem
}

#[test]
fn closed_segments_are_compressed_and_all_that_reads_the_trail_reads_them() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    let calls = call(&process, 60);
    until("compressed", || all_closed_are_packed(&site));
    let intact = site.verified();
    assert!(intact["events"].as_u64().unwrap() > 120, "{intact:#}");
    let shown = site.run(&["audit", "show", "--request-id", &calls[0]]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap().lines().count(), 2);
    let proof = site.run(&["audit", "prove", &calls[0]]);
    assert_eq!(proof.status.code(), Some(0), "{proof:?}");
    assert_eq!(process.end().0, Some(0));
    // After a restart the trail continues from them.
    assert_eq!(site.start().end().0, Some(0));
    site.verified();
    // Any zstd reads them.
    let packed = segments(&site.audit()).unwrap().remove(0);
    assert!(packed.to_string_lossy().ends_with(".jsonl.zst"));
    let text = zstd::decode_all(fs::File::open(&packed).unwrap()).unwrap();
    assert!(text.starts_with(b"{\"seq\":1,") && text.ends_with(b"}\n"));
    assert!(fs::metadata(&packed).unwrap().len() * 2 < u64::try_from(text.len()).unwrap());
    // `audit verify` notices a change of any byte.
    let (trusted, good) = (trusted(&site), fs::read(&packed).unwrap());
    let copy = copied(&site.audit());
    let target = copy.path().join(packed.file_name().unwrap());
    let mut found = 0;
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&target, &bad).unwrap();
        if verify(copy.path(), &trusted, |_| {}).unwrap().finding.is_some() {
            found += 1;
        } else {
            // A byte of the frame that does not affect its content.
            assert_eq!(zstd::decode_all(bad.as_slice()).unwrap(), text, "{at}");
        }
    }
    assert!(found > 100, "{found}");
    for length in (0..good.len()).step_by(97) {
        fs::write(&target, &good[..length]).unwrap();
        assert!(verify(copy.path(), &trusted, |_| {}).unwrap().finding.is_some(), "{length}");
    }
}

#[test]
fn what_is_let_go_leaves_a_stub_that_only_the_gateway_can_make() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{SMALL}retain_size = \"24KiB\"\n"));
    let process = site.start();
    let mut calls = call(&process, 120);
    let full = site.verified();
    until("retired", || site.verified()["retired"].as_u64().unwrap() > 0);
    calls.extend(call(&process, 120));
    let before = site.verified()["retired"].as_u64().unwrap();
    until("more let go", || site.verified()["retired"].as_u64().unwrap() > before);
    assert_eq!(process.end().0, Some(0));
    let intact = site.verified();
    let retired = intact["retired"].as_u64().unwrap();
    assert!(full["events"].as_u64().unwrap() < retired + intact["events"].as_u64().unwrap(), "{intact:#}");
    let told: Vec<_> = site.events().into_iter().filter(|event| event["what"] == "retired").collect();
    assert_eq!(told.last().unwrap()["through"], retired);
    assert_eq!(site.events()[0]["seq"], retired + 1);
    // The tree over all events proves a retained call; a deleted call is gone.
    let proof = site.run(&["audit", "prove", calls.last().unwrap()]);
    assert_eq!(proof.status.code(), Some(0), "{proof:?}");
    let file = site.folder.path().join("proof");
    fs::write(&file, &proof.stdout).unwrap();
    let key = site.folder.path().join("state/audit.pub");
    let checked =
        site.run(&["audit", "verify-proof", file.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert_eq!(site.run(&["audit", "prove", &calls[0]]).status.code(), Some(1));
    // A stub of an earlier version, with another extension, counts as well.
    let now = stub(&site.audit());
    fs::rename(&now, now.with_extension("stub")).unwrap();
    assert_eq!(site.verified()["retired"], retired);
    // The gateway continues from a stub, even if nothing else is left.
    assert_eq!(site.start().end().0, Some(0));
    fs::rename(now.with_extension("stub"), &now).unwrap();
    assert!(site.verified()["heads"].as_u64() > intact["heads"].as_u64());
    forgeries(&site, retired);
}

fn forgeries(site: &Site, retired: u64) {
    let trusted = trusted(site);
    let copy = copied(&site.audit());
    let path = stub(copy.path());
    let good = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(problem(copy.path(), &trusted).contains("events are missing"));
    for (from, to) in [
        (format!("\"through\":{retired}"), format!("\"through\":{}", retired + 1)),
        ("\"last\":\"".to_owned(), "\"last\":\"0".to_owned()),
        (format!("\\n{retired}\\n"), format!("\\n{}\\n", retired + 1)),
        ("\"peaks\":[\"".to_owned(), "\"peaks\":[\"A".to_owned()),
    ] {
        assert!(good.contains(&from), "{from}: {good}");
        fs::write(&path, good.replacen(&from, &to, 1)).unwrap();
        let problem = problem(copy.path(), &trusted);
        assert!(problem.contains("stub"), "{from}: {problem}");
    }
    // A genuine stub for a trail that does not record it.
    fs::write(&path, &good).unwrap();
    let told = "\"what\":\"retired\"";
    let tells = |segment: &PathBuf| {
        let mut text = String::new();
        claviger::audit::open(segment).unwrap().read_to_string(&mut text).unwrap();
        text.lines().any(|line| line.contains(told) && line.contains(&format!("\"through\":{retired},")))
    };
    let silent = copied(copy.path());
    let all = segments(silent.path()).unwrap();
    let first = all.iter().position(tells).unwrap();
    assert!(first > 0, "{all:?}");
    all[first..].iter().for_each(|segment| fs::remove_file(segment).unwrap());
    let found = problem(silent.path(), &trusted);
    assert!(found.contains("does not record their deletion"), "{found}");
    // One more segment is missing, while the stub is the former one.
    let first = segments(copy.path()).unwrap().remove(0);
    fs::remove_file(&first).unwrap();
    assert!(problem(copy.path(), &trusted).contains("events are missing"));
}

#[test]
fn events_are_let_go_by_age_but_never_those_that_are_being_written() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{SMALL}retain = \"3s\"\n"));
    let process = site.start();
    call(&process, 60);
    until("let go", || segments(&site.audit()).unwrap().len() == 1);
    let left = site.verified();
    assert!(left["retired"].as_u64().unwrap() > 60, "{left:#}");
    call(&process, 3);
    assert_eq!(process.end().0, Some(0));
    assert_eq!(site.start().end().0, Some(0));
    site.verified();
}

#[test]
fn evidence_is_not_let_go() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    call(&process, 60);
    assert_eq!(process.end().0, Some(0));
    let first = segments(&site.audit()).unwrap().remove(0);
    let packed = is_compressed(&first);
    let text = if packed {
        zstd::decode_all(fs::File::open(&first).unwrap()).unwrap()
    } else {
        fs::read(&first).unwrap()
    };
    let text = String::from_utf8(text).unwrap().replacen("\"status\":200", "\"status\":201", 1);
    if packed {
        fs::remove_file(&first).unwrap();
    }
    let plain = site.audit().join(format!("{}.jsonl", claviger::audit::stem(&first)));
    fs::write(&plain, text).unwrap();
    site.write(
        &fs::read_to_string(site.config()).unwrap().replace(SMALL, &format!("{SMALL}retain = \"1s\"\n")),
    );
    let mut process = site.start();
    let said = process.wait_said("is not what was recorded");
    assert!(said.contains("run `claviger audit verify`"), "{said}");
    assert_eq!(process.end().0, Some(0));
    assert_eq!(site.events()[0]["seq"], 1);
    assert_eq!(site.run(&["audit", "verify"]).status.code(), Some(1));
}
