//! A trail that changed after the gateway ended: no start overlooks it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::audit::{LastHead, segments};
use claviger::state::Trail;
use serde_json::Value;

use crate::support::process::{Site, copy, refused_start};
use crate::support::upstream::Upstream;
use crate::support::wait::{lapse, until};

const SMALL: &str = "[audit]\nrotate = \"16KiB\"\ncheckpoint_events = 10\n";

fn run(site: &Site, calls: usize) {
    let process = site.start();
    for call in 0..calls {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    assert_eq!(process.end().0, Some(0));
}

/// A closed trail with some segments.
fn trail(calls: usize) -> (Upstream, Site) {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    run(&site, calls);
    (upstream, site)
}

fn state(site: &Site) -> PathBuf {
    site.folder.path().join("state")
}

fn last_head(site: &Site) -> LastHead {
    LastHead::parse(&fs::read_to_string(state(site).join("trail.head")).unwrap()).unwrap()
}

/// The reason why a start with the present trail would be refused, if any.
fn refusal(site: &Site) -> Option<String> {
    Trail::lock(&state(site), &site.audit(), true).err().map(|error| error.to_string())
}

/// A copy of the whole trail.
struct Whole {
    dir: tempfile::TempDir,
}

impl Whole {
    fn of(site: &Site) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&site.audit(), &dir.path().join("audit"));
        Self { dir }
    }

    fn put_back(&self, site: &Site) {
        fs::remove_dir_all(site.audit()).unwrap();
        copy(&self.dir.path().join("audit"), &site.audit());
    }
}

#[test]
fn a_trail_that_was_cut_at_any_event_starts_nothing() {
    let (_upstream, site) = trail(30);
    let whole = Whole::of(&site);
    let all = site.events().len();
    assert_eq!(last_head(&site).events, u64::try_from(all).unwrap(), "the last event is a head");
    assert_eq!(refusal(&site), None);
    let paths = segments(&site.audit()).unwrap();
    assert!(paths.len() >= 2, "{paths:?}");
    let mut left = all;
    for path in paths.iter().rev() {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for kept in (0..lines.len()).rev() {
            left -= 1;
            fs::write(path, lines[..kept].concat()).unwrap();
            let said = refusal(&site).unwrap_or_else(|| panic!("nothing was noticed: {left} of {all}"));
            let missing =
                if left == 0 { "none is here".into() } else { format!("{} are missing", all - left) };
            assert!(
                said.contains(&missing) && said.contains(&format!("it had {all} events")),
                "{left}: {said}"
            );
            assert!(said.contains("claviger audit accept") && said.contains("trail.head"), "{said}");
        }
        fs::remove_file(path).unwrap();
    }
    whole.put_back(&site);
    assert_eq!(refusal(&site), None);
    // An incomplete last line is not an event.
    let last = paths.last().unwrap();
    let text = fs::read(last).unwrap();
    fs::write(last, &text[..text.len() - 9]).unwrap();
    assert!(refusal(&site).unwrap().contains("1 are missing"));
    // The same in the output of the commands.
    let said = refused_start(&site);
    assert!(said.contains("1 are missing") && said.contains("claviger audit accept"), "{said}");
    let verified = site.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(said.contains(&format!("cut off: the state folder knows of {all} events")), "{said}");
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("1 are missing"), "{checked:?}");
    assert_eq!(fs::read(last).unwrap(), &text[..text.len() - 9], "nothing was changed");
    whole.put_back(&site);
    run(&site, 1);
    site.verified();
}

#[test]
fn a_trail_that_is_gone_another_or_has_a_hole_starts_nothing() {
    let (upstream, site) = trail(60);
    let whole = Whole::of(&site);
    let paths = segments(&site.audit()).unwrap();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in &paths {
        fs::remove_file(path).unwrap();
        let said = refused_start(&site);
        assert!(said.contains("claviger audit accept"), "{said}");
        assert_eq!(site.run(&["audit", "verify"]).status.code(), Some(1));
        whole.put_back(&site);
    }
    for path in &paths {
        fs::remove_file(path).unwrap();
    }
    assert!(refused_start(&site).contains("none is here"));
    fs::remove_dir_all(site.audit()).unwrap();
    assert!(refused_start(&site).contains("none is here"));
    let verified = site.run(&["audit", "verify"]);
    assert!(String::from_utf8_lossy(&verified.stderr).contains("the state folder knows of"), "{verified:?}");
    // A longer trail of another gateway, with the same calls.
    let other = Site::new(upstream.address, SMALL);
    run(&other, 90);
    drop(fs::remove_dir_all(site.audit()));
    copy(&other.audit(), &site.audit());
    assert!(refused_start(&site).contains("the trail was replaced"));
    let key = fs::read_to_string(state(&other).join("audit.pub")).unwrap();
    let verified = site.run(&["audit", "verify", "--key", key.trim_end()]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verified.stderr).contains("replaced: event"), "{verified:?}");
    // The configuration names another folder by mistake.
    whole.put_back(&site);
    let config = fs::read_to_string(site.config()).unwrap();
    let (moved, empty) = (site.folder.path().join("moved"), site.folder.path().join("empty"));
    site.write(&config.replace("[audit]\n", &format!("[audit]\ndir = \"{}\"\n", empty.display())));
    let said = refused_start(&site);
    assert!(
        said.contains(site.audit().to_str().unwrap()) && said.contains(empty.to_str().unwrap()),
        "{said}"
    );
    // The operator moved the folder.
    fs::rename(site.audit(), &moved).unwrap();
    site.write(&config.replace("[audit]\n", &format!("[audit]\ndir = \"{}\"\n", moved.display())));
    assert_eq!(site.start().end().0, Some(0));
    assert_eq!(Path::new(&last_head(&site).dir), moved);
}

#[test]
fn an_older_trail_is_continued_once_a_custodian_accepts_it() {
    let (_upstream, site) = trail(20);
    let older = Whole::of(&site);
    run(&site, 20);
    let last = last_head(&site);
    older.put_back(&site);
    assert!(refused_start(&site).contains("are missing"));
    let before = site.events();
    let asked = site.run(&["audit", "accept"]);
    assert_eq!(asked.status.code(), Some(1), "nobody is there to be asked: {asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("--yes"), "{asked:?}");
    let dry = site.run(&["audit", "accept", "--dry-run", "--output", "json"]);
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert!(told["accepted"].as_str().unwrap().contains("are missing"), "{told}");
    assert_eq!((site.events(), last_head(&site)), (before, last.clone()), "nothing was changed");
    assert!(refused_start(&site).contains("are missing"));

    let done = site.run(&["audit", "accept", "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let events = site.events();
    let accepted = events.iter().find(|event| event["what"] == "trail accepted").unwrap();
    assert_eq!((&accepted["event"], &accepted["events"]), (&"admin".into(), &last.events.into()));
    assert_eq!(
        (&accepted["last"], &accepted["note"]),
        (&last.hash.clone().into(), &last.note.clone().into())
    );
    assert!(accepted["by"].as_str().unwrap().contains("uid "), "{accepted}");
    assert!(accepted["missing"].as_str().unwrap().contains("are missing"), "{accepted}");
    site.verified();
    run(&site, 3);
    site.verified();
    let again = site.run(&["audit", "accept", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to accept"), "{again:?}");
    let process = site.start();
    let running = site.run(&["audit", "accept", "--yes"]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("in use by another claviger"), "{running:?}");
    assert_eq!(process.end().0, Some(0));
    // An emptied trail as well, which starts again from event 1.
    fs::remove_dir_all(site.audit()).unwrap();
    assert!(refused_start(&site).contains("none is here"));
    assert_eq!(site.run(&["audit", "accept", "--yes"]).status.code(), Some(0));
    assert_eq!((&site.events()[0]["seq"], &site.events()[1]["what"]), (&1.into(), &"trail accepted".into()));
    run(&site, 3);
    site.verified();
}

/// Checks the refusal of a start, and its remedy; afterwards the trail works, however often it is continued.
fn mended(site: &Site) -> Value {
    let said = refused_start(site);
    assert!(said.contains("claviger audit accept"), "{said}");
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let accepted = site.run(&["audit", "accept", "--yes", "--output", "json"]);
    assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
    for calls in [1, 0, 2] {
        run(site, calls);
        site.verified();
    }
    let again = site.run(&["audit", "accept", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to accept"), "{again:?}");
    assert!(site.events().iter().any(|event| event["what"] == "trail accepted"));
    serde_json::from_slice(&accepted.stdout).unwrap()
}

/// Puts other content in the place of a segment, plain or compressed.
fn put_in_place(path: &Path, content: &[u8], is_packed: bool) -> String {
    fs::remove_file(path).unwrap();
    let mut name = path.file_name().unwrap().to_str().unwrap().to_owned();
    if is_packed {
        name.push_str(".zst");
    }
    let path = path.with_file_name(&name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    name
}

#[test]
fn a_last_segment_that_was_replaced_is_set_aside_once_a_custodian_accepts_it() {
    let (upstream, site) = trail(40);
    run(&site, 5);
    // Another gateway's segment with as many events, so that the numbers are right.
    let other = Site::new(upstream.address, SMALL);
    run(&other, 40);
    run(&other, 5);
    let other = segments(&other.audit()).unwrap();
    let whole = Whole::of(&site);
    let head = fs::read(state(&site).join("trail.head")).unwrap();
    let paths = segments(&site.audit()).unwrap();
    assert!(paths.len() >= 4, "{paths:?}");
    let (last, content) = (paths.last().unwrap(), |at: usize| fs::read(&paths[at]).unwrap());
    let numbers = |path: &PathBuf| claviger::audit::parse_segment_name(path).unwrap().0;
    assert_eq!(numbers(other.last().unwrap()), numbers(last));
    let packed = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
    for (what, content, is_packed) in [
        ("the first segment's", content(0), false),
        ("the one before", content(paths.len() - 2), false),
        ("the first segment's, compressed", packed(&content(0)), true),
        ("no frame", b"no frame".to_vec(), true),
        ("another gateway's", fs::read(other.last().unwrap()).unwrap(), false),
    ] {
        let name = put_in_place(last, &content, is_packed);
        let told = mended(&site);
        assert_eq!(told["aside"], serde_json::json!([format!("{name}.torn")]), "{what}: {told}");
        let aside = site.audit().join(format!("{name}.torn"));
        assert_eq!(fs::read(aside).unwrap(), content, "{what}");
        let events = site.events();
        let accepted = events.iter().find(|event| event["what"] == "trail accepted").unwrap();
        assert_eq!(accepted["aside"], told["aside"], "{what}");
        whole.put_back(&site);
        fs::write(state(&site).join("trail.head"), &head).unwrap();
    }
    // claviger cuts off content that is not a segment, and keeps it.
    put_in_place(last, b"something else\n", false);
    assert_eq!(mended(&site)["aside"], serde_json::json!([]));
}

#[test]
fn a_segment_under_a_wrong_name_is_set_aside_though_nothing_is_missing() {
    let (_upstream, site) = trail(40);
    let paths = segments(&site.audit()).unwrap();
    let name = "audit-000000000900-20261130T000000.000000Z.jsonl";
    for is_known in [true, false] {
        for name in [name, "audit-z.jsonl"] {
            let stray = site.audit().join(name);
            fs::copy(&paths[0], &stray).unwrap();
            if !is_known {
                // As an earlier version leaves it.
                fs::remove_file(state(&site).join("trail.head")).unwrap();
            }
            let said = refused_start(&site);
            assert!(said.contains(&format!("{name} begins with event 1")), "{said}");
            let dry = site.run(&["audit", "accept", "--dry-run"]);
            let shown = String::from_utf8(dry.stdout).unwrap();
            assert!(shown.contains(&format!("{name} is set aside")) && stray.exists(), "{shown}");
            let aside = if is_known { format!("{name}.torn") } else { format!("{name}.1.torn") };
            assert_eq!(mended(&site)["aside"], serde_json::json!([aside]));
        }
    }
    // The output of the command, which also names what does not change.
    fs::copy(&paths[0], site.audit().join(name)).unwrap();
    let done = String::from_utf8(site.run(&["audit", "accept", "--yes"]).stdout).unwrap();
    assert!(done.contains(&format!("{name} is set aside as {name}.2.torn")), "{done}");
    assert!(done.contains("`audit verify` still reports it, and exits with 1"), "{done}");
    run(&site, 1);
    site.verified();
}

/// Removes this many events from the end of the trail; the last segment must have more.
fn cut(site: &Site, events: usize) {
    let path = segments(&site.audit()).unwrap().pop().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(lines.len() > events);
    fs::write(&path, lines[..lines.len() - events].concat()).unwrap();
}

#[test]
fn sinks_get_what_is_recorded_in_the_place_of_what_is_missing() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "[audit.sinks.out]\nkind = \"stdout\"\n");
    let out = site.folder.path().join("out");
    let served = || {
        let file = fs::File::create(&out).unwrap();
        let process = site.launch_to(site.claviger().arg("serve"), file.into());
        process.wait_ready();
        assert_eq!(process.get("/api/v1/users/").status, 200);
        let last = || site.events().into_iter().rfind(|event| event["event"] == "outcome").unwrap();
        let delivered = || {
            let out = fs::read_to_string(&out).unwrap();
            last()["target"] == "/api/v1/users/" && out.contains(last()["hash"].as_str().unwrap())
        };
        until("the call is delivered", delivered);
        assert_eq!(process.end().0, Some(0));
        fs::read_to_string(&out).unwrap()
    };
    served();
    for missing in [1, 2, 4] {
        served();
        let before = site.events().len();
        cut(&site, missing);
        assert_eq!(site.run(&["audit", "accept", "--yes"]).status.code(), Some(0));
        let taken = served();
        let events = site.events();
        let fresh = &events[before - missing..];
        assert!(fresh.iter().any(|event| event["what"] == "trail accepted"), "{fresh:?}");
        for event in fresh.iter().filter(|event| event["event"] != "head" && event["what"] != "closed") {
            let hash = event["hash"].as_str().unwrap();
            assert!(taken.contains(hash), "{missing} missing: not delivered: {event}");
        }
    }
}

#[test]
fn only_what_is_on_the_disk_is_missed() {
    let (_upstream, site) = trail(3);
    // Events that no head covered when the gateway was killed, lost with the machine.
    let process = site.start();
    lapse(Duration::from_millis(600), "the head of its start is kept within 250 ms");
    let known = last_head(&site);
    for call in 0..3 {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    process.kill();
    let after = last_head(&site);
    assert_eq!(known.events, after.events, "no head since");
    let path = segments(&site.audit()).unwrap().pop().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let all = site.events().len();
    let kept = text.lines().count() - (all - usize::try_from(after.events).unwrap());
    let lines: String = text.split_inclusive('\n').take(kept).collect();
    assert!(lines.len() < text.len());
    fs::write(&path, lines + "{\"seq\":7,\"pr").unwrap();
    run(&site, 1);
    site.verified();
}

#[test]
fn the_last_head_is_kept_private_and_a_damaged_one_is_no_word_that_all_is_well() {
    let (_upstream, site) = trail(3);
    let path = state(&site).join("trail.head");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let good = fs::read(&path).unwrap();
    for wrong in [&b""[..], b"{}", &good[..good.len() / 2]] {
        fs::write(&path, wrong).unwrap();
        for said in [refused_start(&site), String::from_utf8(site.run(&["audit", "verify"]).stderr).unwrap()]
        {
            assert!(said.contains("trail.head") && said.contains("damaged"), "{said}");
        }
    }
    assert_eq!(site.run(&["audit", "accept", "--yes"]).status.code(), Some(0));
    site.verified();
    // An earlier version has no such file.
    fs::remove_file(&path).unwrap();
    site.verified();
    run(&site, 1);
    assert_eq!(last_head(&site).events, u64::try_from(site.events().len()).unwrap());
}

#[test]
fn what_was_let_go_is_not_missed_and_what_stands_for_it_is_not_enough() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    run(&site, 60);
    let older = Whole::of(&site);
    let older_head = fs::read(state(&site).join("trail.head")).unwrap();
    let config = fs::read_to_string(site.config()).unwrap();
    site.write(&config.replace(SMALL, &format!("{SMALL}retain_size = \"24KiB\"\ncompress_after = \"0s\"\n")));
    let process = site.start();
    until("something is let go", || {
        assert_eq!(process.get("/api/v1/more/").status, 200);
        last_head(&site).retired > 0
    });
    process.kill();
    assert_eq!(site.start().end().0, Some(0));
    site.verified();
    // A head from before the deletion is valid as well.
    let now = fs::read(state(&site).join("trail.head")).unwrap();
    fs::write(state(&site).join("trail.head"), &older_head).unwrap();
    assert_eq!(refusal(&site), None);
    fs::write(state(&site).join("trail.head"), &now).unwrap();
    let let_go = Whole::of(&site);
    for path in segments(&site.audit()).unwrap() {
        fs::remove_file(path).unwrap();
    }
    assert!(refusal(&site).unwrap().contains("none is here"));
    older.put_back(&site);
    assert!(refusal(&site).unwrap().contains("are missing"));
    let_go.put_back(&site);
    // A stub that anybody could have made.
    let is_stub = |path: &PathBuf| path.extension().is_some_and(|found| found == "retired");
    let files =
        |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let stub = files(&site.audit()).into_iter().find(is_stub).unwrap();
    let other = Site::new(upstream.address, &format!("{SMALL}retain_size = \"16KiB\"\n"));
    let process = other.start();
    while !files(&other.audit()).iter().any(is_stub) {
        assert_eq!(process.get("/api/v1/more/").status, 200);
    }
    assert_eq!(process.end().0, Some(0));
    fs::copy(files(&other.audit()).into_iter().find(is_stub).unwrap(), stub).unwrap();
    assert!(refusal(&site).unwrap().contains("not signed by the key of this gateway"));
}
