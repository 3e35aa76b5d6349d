//! The real binary with an unusable folder, a full disk, and a trail that is removed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::support::process::{Process, Site};
use crate::support::upstream::Upstream;
use crate::support::world::{events, verified};

fn count(events: &[Value], what: &str) -> usize {
    events.iter().filter(|event| event["what"] == what).count()
}

#[test]
fn a_folder_that_cannot_be_used_refuses_calls_until_it_can() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "[audit]\ndir = \"trail\"\n");
    let dir = site.folder.path().join("trail");
    fs::write(&dir, "in the way").unwrap();
    let mut process = site.launch(site.claviger().arg("serve"));
    let unready = process.wait_readiness(503).json();
    assert!(unready["reasons"][0].as_str().unwrap().starts_with("audit: "), "{unready}");
    let asked = site.run(&["ready"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&asked.stderr).contains("audit: "), "{asked:?}");
    let said = process.wait_said("the audit journal cannot record");
    assert!(said.contains("File exists") || said.contains("Not a directory"), "{said}");
    for call in 0..3 {
        let answer = process.get(&format!("/api/v1/{call}/"));
        assert_eq!((answer.status, answer.code().as_str()), (503, "unrecorded"));
    }
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(process.admin("/healthz").status, 200);

    fs::remove_file(&dir).unwrap();
    process.wait_ready();
    assert_eq!(process.get("/api/v1/after/").status, 200);
    let said = process.wait_said("the audit journal records again");
    assert_eq!(said.matches("the audit journal cannot record").count(), 1, "{said}");
    assert_eq!(process.end().0, Some(0));
    let events = events(&dir);
    let resumed = events.iter().find(|event| event["what"] == "resumed").unwrap();
    assert_eq!(resumed["unrecorded"], 3, "{resumed}");
    site.verified();
}

/// Calls until the disk is full, frees it with `relieve`, and ends with `end`; `dir` is the trail afterwards.
fn fills_and_goes_on(
    upstream: &Upstream,
    process: Process,
    relieve: impl FnOnce(&Process),
    end: impl FnOnce(Process),
    dir: &Path,
) {
    let mut made = Vec::new();
    let mut refused = Vec::new();
    while refused.is_empty() {
        let target = format!("/api/v1/call-{}/", made.len());
        let answer = process.get(&target);
        if answer.status == 200 {
            made.push(target);
        } else {
            assert_eq!((answer.status, answer.code().as_str()), (503, "unrecorded"), "{answer:?}");
            refused.push(target);
        }
        assert!(made.len() < 1000, "the disk is never full");
    }
    for call in 0..5 {
        let target = format!("/api/v1/refused-{call}/");
        assert_eq!(process.get(&target).code(), "unrecorded");
        refused.push(target);
    }
    process.wait_readiness(503);
    relieve(&process);
    process.wait_ready();
    assert_eq!(process.get("/api/v1/after/").status, 200);
    made.push("/api/v1/after/".to_owned());
    end(process);

    let seen: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, made, "what was made, and nothing else");
    let report = verified(dir).unwrap();
    assert_eq!((report.finding, report.open, report.unfinished_bytes), (None, 0, 0));
    let events = events(dir);
    for target in refused {
        let of_it: Vec<&Value> = events.iter().filter(|event| event["target"] == *target).collect();
        let outcomes: Vec<&&Value> = of_it.iter().filter(|event| event["event"] == "outcome").collect();
        assert!(outcomes.len() == 1 && outcomes[0]["code"] == "unrecorded", "{target}: {of_it:#?}");
    }
    assert_eq!(count(&events, "resumed"), 1);
}

/// Runs the gateway with a small file system at `$1`; a line on stdin frees space, and the end of stdin
/// ends it. Then the trail is copied to `$3`.
const ON_TMPFS: &str = r#"
mount -t tmpfs -o size=64k,mode=700 tmpfs "$1" || exit 99
[ "$2" ] || exit 0
head -c 20000 /dev/zero > "$1/ballast"
"$2" serve </dev/null & pid=$!
read line; rm "$1/ballast"
read line; kill $pid; wait $pid; code=$?
cp "$1"/*.jsonl "$3" && exit $code
"#;

/// The command that runs [`ON_TMPFS`] in new namespaces, which need no privilege, if the system allows
/// that.
fn on_tmpfs(site: &Site) -> Command {
    let given = site.claviger();
    let mut command = Command::new("unshare");
    command.args(["-rmpf", "--kill-child", "sh", "-c", ON_TMPFS, "sh"]);
    command
        .envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env_remove("CLAVIGER_LOG");
    command
}

#[test]
fn a_full_disk_refuses_calls_until_there_is_space() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "[audit]\ndir = \"trail\"\n");
    let (dir, copied) = (site.folder.path().join("trail"), site.folder.path().join("copied"));
    for dir in [&dir, &copied] {
        fs::create_dir(dir).unwrap();
    }
    let tried = on_tmpfs(&site).arg(&dir).arg("").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|tried| tried.success()) {
        // This system does not allow it; the test with a limit of the file size covers such systems.
        return;
    }
    let mut command = on_tmpfs(&site);
    command.arg(&dir).arg(env!("CARGO_BIN_EXE_claviger")).arg(&copied).stdin(Stdio::piped());
    let mut process = site.launch(&mut command);
    process.wait_ready();
    let input: std::cell::RefCell<ChildStdin> = process.child.stdin.take().unwrap().into();
    let relieve = |_: &Process| input.borrow_mut().write_all(b"\n").unwrap();
    let end = |mut process: Process| {
        input.borrow_mut().write_all(b"\n").unwrap();
        assert_eq!(process.ended(), Some(0), "{}", process.said());
        assert!(process.said().contains("No space left on device"), "{}", process.said());
    };
    fills_and_goes_on(&upstream, process, relieve, end, &copied);
}

#[test]
fn a_file_that_may_not_grow_refuses_calls_until_it_may() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let given = site.claviger();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 32; exec \"$0\" serve", env!("CARGO_BIN_EXE_claviger")]);
    command
        .envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env_remove("CLAVIGER_LOG");
    let process = site.launch(&mut command);
    process.wait_ready();
    let relieve = |process: &Process| {
        let limit = getrlimit(Resource::Fsize);
        let free = Rlimit { current: limit.maximum, maximum: limit.maximum };
        prlimit(Some(Pid::from_child(&process.child)), Resource::Fsize, free).unwrap();
    };
    let end = |process: Process| assert_eq!(process.end().0, Some(0));
    fills_and_goes_on(&upstream, process, relieve, end, &site.audit());
}

#[test]
fn a_segment_that_is_deleted_under_the_gateway_is_noticed_before_the_next_call() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let mut process = site.start();
    assert_eq!(process.get("/api/v1/before/").status, 200);
    for segment in claviger::audit::segments(&site.audit()).unwrap() {
        fs::remove_file(segment).unwrap();
    }
    assert_eq!(process.get("/api/v1/unseen/").code(), "unrecorded");
    process.wait_said("the open segment was deleted");
    process.wait_ready();
    assert_eq!(process.get("/api/v1/after/").status, 200);
    fs::remove_dir_all(site.audit()).unwrap();
    assert_eq!(process.get("/api/v1/unseen/").code(), "unrecorded");
    process.wait_ready();
    assert_eq!(process.get("/api/v1/again/").status, 200);
    assert_eq!(process.end().0, Some(0));
    let seen: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/api/v1/before/", "/api/v1/after/", "/api/v1/again/"]);
    assert_eq!(count(&site.events(), "gap"), 1);
    let verified = site.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verified.stderr).contains("missing"), "{verified:?}");
}

#[test]
fn a_segment_that_is_moved_or_replaced_under_the_gateway_is_noticed_and_told() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let mut process = site.start();
    assert_eq!(process.get("/api/v1/before/").status, 200);
    let open = || claviger::audit::segments(&site.audit()).unwrap().pop().unwrap();
    let (first, aside) = (open(), site.folder.path().join("aside"));
    fs::rename(&first, &aside).unwrap();
    assert_eq!(process.get("/api/v1/unseen/").code(), "unrecorded");
    process.wait_said("the open segment was moved away");
    process.wait_ready();
    assert_eq!(process.get("/api/v1/between/").status, 200);
    // An editor keeps the old file and writes a new one in its place.
    let (second, edited) = (open(), site.folder.path().join("edited"));
    fs::copy(&second, &edited).unwrap();
    fs::hard_link(&second, site.folder.path().join("kept")).unwrap();
    fs::rename(&edited, &second).unwrap();
    assert_eq!(process.get("/api/v1/unseen/").code(), "unrecorded");
    process.wait_said("the open segment was replaced by another file");
    process.wait_ready();
    assert_eq!(process.end().0, Some(0));
    let seen: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/api/v1/before/", "/api/v1/between/"]);
    let events = site.events();
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event["what"] == "gap")
        .filter_map(|event| event["reason"].as_str())
        .collect();
    assert_eq!(told, ["the open segment was moved away", "the open segment was replaced by another file"]);
    assert_eq!(site.run(&["audit", "verify"]).status.code(), Some(1), "the moved one is missing");
    fs::rename(&aside, &first).unwrap();
    let verified = site.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
}
