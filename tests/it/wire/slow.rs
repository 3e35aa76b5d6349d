//! Slow bodies: too little data in a period, or too long in total.

use std::io::Write as _;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::support::ledger::{Ledger, abandoned, request};
use crate::support::script::{Line, Script};
use crate::support::upstream::Upstream;
use crate::support::wait::lapse;
use crate::support::world::{CONFIG, Raw, World};

/// Sends `piece` again and again, every 30 ms, as long as the gateway accepts it.
fn drip(raw: &Raw, piece: String, times: usize) -> JoinHandle<bool> {
    let mut socket = raw.socket.try_clone().unwrap();
    spawn(move || {
        (0..times).all(|_| {
            lapse(Duration::from_millis(30), "it drips");
            socket.write_all(piece.as_bytes()).is_ok()
        })
    })
}

#[test]
fn a_body_that_drips_is_cut_off() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let mut raw = ledger.world.connect();
    raw.send(request("POST", "/api/", "Content-Length: 2000\r\n"));
    let dripping = drip(&raw, "drip".into(), 25);
    ledger.note("drip", &raw.answer(), 408, abandoned(Some("body_timeout")));
    dripping.join().unwrap();
    drop(raw);
    assert!(ledger.world.upstream.seen().is_empty());
    ledger.check();
}

/// Always fast enough, but without end: streamed, or buffered until it is complete.
#[test]
fn a_body_that_goes_on_and_on_is_cut_off() {
    let config =
        CONFIG.replace("body_timeout = \"400ms\"", "body_timeout = \"10s\"\nbody_total_timeout = \"600ms\"");
    for (name, lines, before, after) in [
        ("streamed", "Content-Length: 200000\r\n", "", ""),
        ("kept", "Transfer-Encoding: chunked\r\n", "800\r\n", "\r\n"),
    ] {
        let script = Script::start(Line::until_closed);
        let mut ledger = Ledger::new(script.world_with(&config));
        let mut raw = ledger.world.connect();
        raw.send(request("POST", "/api/", lines));
        let dripping = drip(&raw, format!("{before}{}{after}", "x".repeat(2048)), 60);
        let began = Instant::now();
        ledger.note(name, &raw.answer(), 408, abandoned(Some("body_timeout")));
        let took = began.elapsed();
        // Before `body_timeout`, and not before `body_total_timeout`.
        assert!(took > Duration::from_millis(500) && took < Duration::from_secs(10), "{name}: {took:?}");
        dripping.join().unwrap();
        assert!(name == "kept" || script.ended(0), "{name}");
        drop(raw);
        ledger.check();
    }
}
