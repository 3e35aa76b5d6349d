//! What a killed gateway leaves behind, and how the next start continues from there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self};
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{PATIENCE, SYNC, Site};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{lapse, until};
use crate::support::world::{Raw, TOKEN, events, verified};

/// Appended to a configuration.
fn of<'e>(events: &'e [Value], kind: &'e str) -> impl Iterator<Item = &'e Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

fn text<'e>(event: &'e Value, member: &str) -> &'e str {
    event[member].as_str().unwrap()
}

/// The outcomes of all intents; each intent must have exactly one.
fn closed(events: &[Value]) -> HashMap<String, Value> {
    let mut outcomes: HashMap<String, Value> = HashMap::new();
    for outcome in of(events, "outcome") {
        let before = outcomes.insert(text(outcome, "request_id").to_owned(), outcome.clone());
        assert_eq!(before, None, "a second outcome: {outcome}");
    }
    for intent in of(events, "intent") {
        assert!(outcomes.contains_key(text(intent, "request_id")), "no outcome: {intent}");
    }
    outcomes
}

/// Sends calls until the gateway is dead; records the targets that were answered.
fn press(address: SocketAddr, name: &str, gone: &AtomicBool, answered: &Mutex<HashSet<String>>) {
    let Ok(socket) = TcpStream::connect(address) else { return };
    drop(socket);
    let mut raw = Raw::to(address);
    for number in 0.. {
        let target = format!("/api/v1/{name}-{number}/");
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"));
        let answer = raw.answer();
        if answer.status == 200 && answer.whole {
            answered.lock().unwrap().insert(target);
        }
        if answer.status == 0 || gone.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[test]
fn fifty_kills_lose_no_intent_and_no_outcome_that_was_seen() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{SYNC}rotate = \"24KiB\"\n"));
    let answered = Mutex::default();
    for round in 0..50_u64 {
        let process = site.start();
        let gone = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in 0..3 {
                let (address, gone, answered) = (process.address, &gone, &answered);
                scope.spawn(move || press(address, &format!("{round}-{client}"), gone, answered));
            }
            lapse(Duration::from_millis(5 + round * 7 % 40), "each kill comes at another moment");
            process.kill();
            gone.store(true, Ordering::Relaxed);
        });
        let report = verified(&site.audit()).unwrap();
        assert_eq!(report.finding, None, "after kill {round}");
    }
    assert_eq!(site.start().end().0, Some(0));
    let report = site.verified();
    assert_eq!((&report["open"], &report["unfinished_bytes"]), (&0.into(), &0.into()), "{report}");
    assert!(report["segments"].as_u64().unwrap() > 50, "{report}");
    let events = site.events();
    let outcomes = closed(&events);
    let mut intents = HashSet::new();
    let mut well = HashSet::new();
    let mut lost = 0;
    for intent in of(&events, "intent") {
        assert!(intents.insert(text(intent, "target").to_owned()), "twice: {intent}");
        let outcome = &outcomes[text(intent, "request_id")];
        lost += usize::from(outcome["ended"] == "lost");
        if outcome["ended"] == "answered" {
            well.insert(text(outcome, "target").to_owned());
        }
    }
    for seen in upstream.seen() {
        assert!(intents.contains(&seen.target), "without an intent: {}", seen.target);
    }
    let answered = answered.into_inner().unwrap();
    assert!(answered.is_subset(&well), "{:?}", answered.difference(&well).collect::<Vec<_>>());
    assert!(answered.len() > 50 && lost > 0, "the load was no load: {} calls, {lost} lost", answered.len());
}

fn last_segment(site: &Site) -> PathBuf {
    claviger::audit::segments(&site.audit()).unwrap().pop().unwrap()
}

#[test]
fn a_torn_tail_is_cut_kept_and_told() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SYNC);
    let process = site.start();
    assert_eq!(process.get("/api/v1/before/").status, 200);
    process.kill();
    let before = site.verified()["events"].as_u64().unwrap();
    for (number, torn) in
        ["{\"seq\":999,\"prev\":\"torn", "\0\0\0\0\0\n\0\0", "{}\n{\"a\":1}\n"].iter().enumerate()
    {
        let segment = last_segment(&site);
        let whole = fs::read(&segment).unwrap();
        OpenOptions::new().append(true).open(&segment).unwrap().write_all(torn.as_bytes()).unwrap();
        let process = site.start();
        assert_eq!(fs::read(&segment).unwrap(), whole, "cut to its whole lines");
        assert_eq!(fs::read_to_string(segment.with_extension("torn")).unwrap(), *torn);
        assert_eq!(process.get(&format!("/api/v1/after-{number}/")).status, 200);
        assert_eq!(process.end().0, Some(0));
        let events = site.events();
        let opened: Vec<&Value> = of(&events, "journal").filter(|event| event["what"] == "opened").collect();
        assert_eq!(opened[number + 1]["torn_bytes"], torn.len(), "{:#?}", opened[number + 1]);
    }
    let report = site.verified();
    assert_eq!(report["open"], 0);
    // Three runs, each with a start and an end, a head for each, and both events of a call.
    assert_eq!(report["events"].as_u64().unwrap(), before + 3 * 6, "{report}");
}

#[test]
fn a_half_line_is_no_finding_while_nobody_has_cut_it() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SYNC);
    let process = site.start();
    assert_eq!(process.get("/api/v1/before/").status, 200);
    process.kill();
    let segment = last_segment(&site);
    OpenOptions::new().append(true).open(&segment).unwrap().write_all(b"{\"seq\":").unwrap();
    let report = site.verified();
    assert_eq!(report["unfinished_bytes"], 7);
}

#[test]
fn segments_are_rotated_by_size_and_the_chain_runs_through_them() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{SYNC}rotate = \"4KiB\"\n"));
    for start in 0..2 {
        let process = site.start();
        for call in 0..30 {
            assert_eq!(process.get(&format!("/api/v1/{start}-{call}/")).status, 200);
        }
        assert_eq!(process.end().0, Some(0));
    }
    let segments = claviger::audit::segments(&site.audit()).unwrap();
    assert!(segments.len() > 10, "{segments:?}");
    let (mut seq, mut prev, mut time) = (1, "0".repeat(64), String::new());
    for segment in &segments {
        let size = fs::metadata(segment).unwrap().len();
        assert!(size < 8 << 10, "{size} bytes in {segment:?}");
        let named: u64 = segment.file_name().unwrap().to_str().unwrap()[6..18].parse().unwrap();
        assert_eq!(named, seq, "named by its first event");
        for line in fs::read_to_string(segment).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!((event["seq"].as_u64(), text(&event, "prev")), (Some(seq), prev.as_str()));
            (seq, prev) = (seq + 1, text(&event, "hash").to_owned());
        }
        let first: Value =
            serde_json::from_str(fs::read_to_string(segment).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!(first["event"], "journal", "{first}");
        assert!(text(&first, "time") >= time.as_str(), "{first}");
        time = text(&first, "time").to_owned();
    }
    let report = site.verified();
    assert_eq!(
        (report["segments"].as_u64(), report["open"].as_u64()),
        (Some(segments.len() as u64), Some(0))
    );
    closed(&site.events());
}

/// Kills a gateway with an open call, whose intent is in a segment long before the last one.
fn killed_with_an_old_call_open() -> Site {
    let upstream = Upstream::start(|seen| {
        if seen.target.contains("slow") {
            lapse(PATIENCE, "it does not answer while the gateway lives");
        }
        Reply::json("{}")
    });
    let site = Site::new(upstream.address, &format!("{SYNC}rotate = \"2KiB\"\n"));
    let process = site.start();
    let mut slow = Raw::to(process.address);
    slow.send(format!(
        "GET /api/v1/slow/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ));
    until("the slow call's intent", || of(&events(&site.audit()), "intent").next().is_some());
    for call in 0..20 {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    process.kill();
    let segments = claviger::audit::segments(&site.audit()).unwrap();
    assert!(segments.len() > 5, "{segments:?}");
    let first = fs::read_to_string(&segments[0]).unwrap();
    assert!(first.contains("/api/v1/slow/"), "{first}");
    site
}

fn assert_lost_once(site: &Site) {
    let events = site.events();
    let outcomes = closed(&events);
    let lost: Vec<&Value> = outcomes.values().filter(|outcome| outcome["ended"] == "lost").collect();
    let [lost] = lost[..] else { panic!("one call was lost: {lost:#?}") };
    let intent = of(&events, "intent").find(|intent| intent["target"] == "/api/v1/slow/").unwrap();
    for (member, told) in intent.as_object().unwrap() {
        if !["seq", "prev", "hash", "time", "event"].contains(&member.as_str()) {
            assert_eq!(&lost[member], told, "{member}");
        }
    }
    assert_eq!(lost["attempts"], 1, "{lost}");
    site.verified();
}

#[test]
fn a_call_open_since_many_segments_is_closed_as_lost_once() {
    let site = killed_with_an_old_call_open();
    for _ in 0..3 {
        site.start().kill();
        assert_lost_once(&site);
    }
    let events = site.events();
    let told: Vec<u64> = of(&events, "journal").filter_map(|event| event["lost"].as_u64()).collect();
    assert_eq!(told.iter().sum::<u64>(), 1, "{told:?}");
    assert_eq!(site.start().end().0, Some(0));
    assert_lost_once(&site);
}

#[test]
fn a_start_that_was_cut_off_before_it_closed_the_lost_calls_is_made_up_for() {
    let site = killed_with_an_old_call_open();
    site.start().kill();
    // Of the last start, only the event that opened a segment reached the disk.
    let segment = last_segment(&site);
    let first = fs::read_to_string(&segment).unwrap().lines().next().unwrap().len() + 1;
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(first as u64).unwrap();
    assert_eq!(site.start().end().0, Some(0));
    assert_lost_once(&site);
}
