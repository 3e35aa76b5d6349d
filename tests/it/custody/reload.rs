//! Reloads of the configuration during calls, and a shutdown that waits for calls.

use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{PATIENCE, Process, Site, get, patient};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{Gate, lapse, until, until_or};
use crate::support::world::{CONFIG, OTHER_TOKEN, Raw, TOKEN};

const ADMIN: &str = "[admin]\naddress = \"@ADMIN@\"\n";
const RELOADED: &str = "configuration reloaded";
const KEPT: &str = "the configuration was not reloaded";

fn base() -> String {
    patient(CONFIG) + ADMIN
}

/// Writes a configuration, requests a reload, and waits until the log contains `said` once more.
fn reload(site: &Site, process: &Process, config: &str, said: &str) {
    site.write(config);
    hang_up(process, said);
}

/// Requests a reload, and waits until the log contains `said` once more.
fn hang_up(process: &Process, said: &str) {
    let before = process.said().matches(said).count();
    process.signal(Signal::HUP);
    until_or(|| process.said().matches(said).count() > before, || process.said());
}

fn keep_alive(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

/// An upstream that answers targets with `slow` only after the gate opens.
fn slow() -> (Upstream, Gate) {
    let let_go = Gate::default();
    let gate = let_go.clone();
    let upstream = Upstream::start(move |seen| {
        if seen.target.contains("slow") {
            gate.pass();
        }
        Reply::json("{\"ok\":true}")
    });
    (upstream, let_go)
}

/// Sends a slow call and waits until its intent is on the trail.
fn begin_slow(site: &Site, process: &Process) -> Raw {
    let mut raw = Raw::to(process.address);
    raw.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    raw.send(keep_alive("/api/v1/slow/"));
    let is_intent =
        |event: &serde_json::Value| event["event"] == "intent" && event["target"] == "/api/v1/slow/";
    until("the slow call's intent", || site.events().iter().any(is_intent));
    raw
}

#[test]
fn a_good_file_takes_effect_at_once_also_on_open_connections() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let mut kept = Raw::to(process.address);
    kept.send(keep_alive("/api/v1/before/"));
    assert_eq!(kept.answer().status, 200);
    assert_eq!(get(process.address, "/api/v1/other/", OTHER_TOKEN).status, 403);

    let grant = "[[grants]]\nconsumer = \"other\"\nupstream = \"jms\"\nroles = [\"all\"]\norgs = [\"00000000-0000-0000-0000-000000000002\"]\n";
    let revoked = base().replace("token_sha256 = [\"@TOKEN@\"]", "token_sha256 = []") + grant;
    reload(&site, &process, &revoked, RELOADED);
    kept.send(keep_alive("/api/v1/revoked/"));
    assert_eq!(kept.answer().status, 401);
    assert_eq!(process.get("/api/v1/revoked/").status, 401);
    assert_eq!(get(process.address, "/api/v1/other/", OTHER_TOKEN).status, 200);

    reload(&site, &process, &base(), RELOADED);
    assert_eq!(process.get("/api/v1/again/").status, 200);
    assert_eq!(get(process.address, "/api/v1/other/", OTHER_TOKEN).status, 403);
    let seen: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/api/v1/before/", "/api/v1/other/", "/api/v1/again/"]);
    assert_eq!(process.end().0, Some(0));
    site.verified();
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_bad() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let taken = |process: &Process| {
        let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
        let name = "claviger_config_last_reload_success_timestamp_seconds ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
    };
    let before = taken(&process);
    assert_ne!(before, "0");
    lapse(Duration::from_millis(1100), "the metric of a later reload differs in its whole seconds");
    let revoked = base().replace("token_sha256 = [\"@TOKEN@\"]", "token_sha256 = []");
    for (bad, what) in [
        (revoked.replace("max_body", "max_bodi"), "unknown key `max_bodi`"),
        (revoked.replace("workers = 1", "workers = "), "error: "),
        (revoked.replace("upstream = \"jms\"", "upstream = \"nowhere\""), "nowhere"),
    ] {
        reload(&site, &process, &bad, KEPT);
        let said = process.said();
        let last = said.rsplit_once("INFO").unwrap().1;
        assert!(last.contains(what), "{what}: {last}");
        let place = last.split("claviger.toml:").nth(1).unwrap_or_else(|| panic!("no place: {last}"));
        let numbers: Vec<&str> = place.lines().next().unwrap().split(':').collect();
        assert!(
            numbers.len() == 2 && numbers.iter().all(|number| number.trim().parse::<u32>().is_ok()),
            "{place}"
        );
        assert_eq!(process.get("/api/v1/").status, 200, "{what}");
        assert_eq!(process.admin("/readyz").status, 200, "{what}");
        assert_eq!(taken(&process), before, "{what}");
    }
    std::fs::remove_file(site.config()).unwrap();
    hang_up(&process, KEPT);
    assert_eq!(process.get("/api/v1/").status, 200);
    reload(&site, &process, &base(), RELOADED);
    assert_ne!(taken(&process), before);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn what_was_used_of_a_limit_stays_used() {
    let upstream = Upstream::ok();
    let limited = |per_minute: u32| {
        let limits = format!("[limits]\nrequests_per_minute = {per_minute}\nauth_failures_per_minute = 1");
        base().replace("[limits]", &limits)
    };
    let site = Site::with(upstream.address, &limited(2));
    let process = site.start();
    let wrong = |process: &Process| get(process.address, "/api/", "clv_wrong").status;
    assert_eq!((process.get("/api/").status, process.get("/api/").status), (200, 200));
    assert_eq!((wrong(&process), wrong(&process)), (401, 429));
    reload(&site, &process, &(limited(2) + "[roles.another]\nallow = []\n"), RELOADED);
    assert_eq!((process.get("/api/").status, wrong(&process)), (429, 429));
    reload(&site, &process, &limited(3), RELOADED);
    assert_eq!(process.get("/api/").status, 429, "the minute is used up under another limit as well");
    reload(&site, &process, &limited(0), RELOADED);
    assert_eq!(process.get("/api/").status, 200, "none is none");
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn no_call_fails_during_twenty_reloads() {
    let (upstream, let_go) = slow();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let (over, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut slow = begin_slow(&site, &process);
    thread::scope(|scope| {
        for lane in 0..3 {
            let (address, over, made) = (process.address, &over, &made);
            scope.spawn(move || {
                let mut kept = Raw::to(address);
                kept.socket.set_read_timeout(Some(PATIENCE)).unwrap();
                for call in 0.. {
                    let target = format!("/api/v1/{lane}-{call}/");
                    kept.send(keep_alive(&target));
                    let answer = kept.answer();
                    assert!(answer.status == 200 && answer.whole, "{target}: {answer:?}");
                    assert_eq!(get(address, &target, TOKEN).status, 200, "{target}");
                    made.fetch_add(2, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for round in 0..20 {
            if round == 5 {
                let_go.open();
            }
            let more = format!("[roles.of-round-{round}]\nallow = []\n");
            reload(&site, &process, &(base() + &more), RELOADED);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(slow.answer().status, 200);
    assert!(made.into_inner() > 20);
    assert_eq!(process.end().0, Some(0));
    assert_eq!(site.verified()["open"], 0);
}

#[test]
fn what_a_consumer_has_in_flight_counts_under_other_limits_too() {
    let (upstream, let_go) = slow();
    let site = Site::new(upstream.address, "");
    let limited = |most| base().replace("[limits]", &format!("[limits]\nconcurrency = {most}"));
    site.write(&limited(2));
    let process = site.start();
    let mut slow = begin_slow(&site, &process);
    assert_eq!(process.get("/api/v1/second/").status, 200);
    reload(&site, &process, &limited(1), RELOADED);
    let refused = process.get("/api/v1/second/");
    assert_eq!((refused.status, refused.code().as_str()), (429, "concurrency_limited"));
    let_go.open();
    assert_eq!(slow.answer().status, 200);
    let until = Instant::now() + PATIENCE;
    while process.get("/api/v1/second/").status != 200 {
        assert!(Instant::now() < until, "its place is never free again");
    }
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn an_end_waits_for_the_call_in_flight_and_takes_no_other() {
    let (upstream, let_go) = slow();
    let site = Site::new(upstream.address, "");
    let mut process = site.start();
    let mut idle = Raw::to(process.address);
    idle.send(keep_alive("/api/v1/idle/"));
    assert_eq!(idle.answer().status, 200);
    let mut slow = begin_slow(&site, &process);
    process.signal(Signal::TERM);
    let unready = process.wait_readiness(503).json();
    assert!(unready["reasons"][0].as_str().unwrap().contains("draining"), "{unready}");
    until("it takes no more connections", || TcpStream::connect(process.address).is_err());
    idle.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(idle.closed(), "an idle connection is not waited for");
    let_go.open();
    let answer = slow.answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{\"ok\":true}".as_slice()), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert_eq!(process.ended(), Some(0), "{}", process.said());
    assert_eq!(site.verified()["open"], 0);
    let events = site.events();
    let [.., closed, head] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!((&closed["what"], &head["event"]), (&"closed".into(), &"head".into()));
    let ended: Vec<&str> = events.iter().filter_map(|event| event["ended"].as_str()).collect();
    assert_eq!(ended, ["answered", "answered"]);
}

#[test]
fn an_interrupt_ends_it_as_well() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let mut process = site.start();
    process.signal(Signal::INT);
    assert_eq!(process.ended(), Some(0), "{}", process.said());
}

fn refused_to_start(site: &Site, config: &Path) -> String {
    let done = site.claviger().args(["serve", "--config"]).arg(config).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn a_second_one_on_the_same_folder_is_refused() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let said = refused_to_start(&site, &site.config());
    assert!(said.contains("state is in use by another claviger"), "{said}");
    assert_eq!(process.get("/api/v1/").status, 200);
    process.kill();
    assert_eq!(site.start().end().0, Some(0), "the lock goes with its holder");
    site.verified();
}

#[test]
fn an_address_that_is_taken_is_said_and_the_trail_is_left_alone() {
    let upstream = Upstream::ok();
    let (first, second) = (Site::new(upstream.address, ""), Site::new(upstream.address, ""));
    let process = first.start();
    let taken = base().replace("127.0.0.1:0", &process.address.to_string());
    second.write(&taken);
    let said = refused_to_start(&second, &second.config());
    assert!(said.contains(&process.address.to_string()), "{said}");
    second.write(&base().replace("@ADMIN@", &first.admin.to_string()));
    let said = refused_to_start(&second, &second.config());
    assert!(said.contains(&format!("admin listener {}", first.admin)), "{said}");
    assert!(second.events().is_empty());
    assert_eq!(process.end().0, Some(0));
}
