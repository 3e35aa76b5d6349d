//! Bodies that are absent, slow or too late, and consumers that disconnect.

use std::time::{Duration, Instant};

use crate::support::ledger::{
    ANSWERED, BEHIND, Ledger, abandoned, denied, half_close, only_call, request, reset,
};
use crate::support::process::{PATIENCE, patient as in_time};
use crate::support::script::{Line, Script};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{lapse, until};
use crate::support::world::{CONFIG, World};

/// Answers each call with its number on the connection and the connection's number.
fn patient(line: &mut Line) {
    for call in 0.. {
        let head = line.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if head.is_empty() || !line.body(length.map_or(0, |length| length.parse().unwrap())) {
            return;
        }
        line.answer(&format!("{}/{call}", line.number));
    }
}

#[test]
fn a_body_that_breaks_off_takes_the_upstreams_connection_with_it() {
    for (name, silent, code, status) in
        [("FIN", false, "body_incomplete", 400), ("silence", true, "body_timeout", 408)]
    {
        let script = Script::start(patient);
        let mut ledger = Ledger::new(script.world());
        let mut raw = ledger.world.connect();
        raw.send(request("POST", "/api/", "Content-Length: 10\r\n") + "half ");
        if !silent {
            half_close(&raw);
        }
        let answer = raw.answer();
        ledger.note(name, &answer, status, abandoned(Some(code)));
        assert!(raw.closed(), "{name}");
        assert!(script.ended(0), "{name}: the upstream must not go on waiting");
        assert!(script.heard()[0].bytes.ends_with(b"half "), "{name}: {:?}", script.heard());
        let next = ledger.world.get("/api/next/", "");
        assert_eq!(next.body, b"1/0", "{name}: never on the connection that waits for a body");
        ledger.note(name, &next, 200, ANSWERED);
        drop(raw);
        let outcome = ledger.check().remove(0);
        assert_eq!(outcome["bytes_in"], 5, "{name}: {outcome}");
    }
}

#[test]
fn a_consumer_that_resets_in_its_body_leaves_nothing_open() {
    for lines in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let script = Script::start(patient);
        let world = script.world();
        let mut raw = world.connect();
        raw.send(request("POST", "/api/", lines) + "4\r\nhi");
        let known = lines.starts_with("Content");
        world.trail_of(1);
        until("its beginning is with the upstream", || script.count("4\r\nhi") > 0 || !known);
        reset(raw);
        let trail = world.trail_of(2);
        assert_eq!(
            (&trail[0]["event"], &trail[1]["ended"]),
            (&"intent".into(), &"abandoned".into()),
            "{lines}"
        );
        assert_eq!(known, !script.heard().is_empty(), "{lines}");
        assert!(!known || script.ended(0), "{lines}");
    }
}

#[test]
fn a_chunked_body_that_breaks_off_never_reaches_the_upstream() {
    for (name, silent, code, status) in
        [("FIN", false, "body_incomplete", 400), ("silence", true, "body_timeout", 408)]
    {
        let mut ledger = Ledger::new(World::new(Upstream::ok()));
        let mut raw = ledger.world.connect();
        raw.send(request("POST", "/api/", "Transfer-Encoding: chunked\r\n") + "4\r\nhalf\r\n");
        if !silent {
            half_close(&raw);
        }
        ledger.note(name, &raw.answer(), status, abandoned(Some(code)));
        assert!(raw.closed() && ledger.world.upstream.seen().is_empty(), "{name}");
        drop(raw);
        ledger.check();
    }
}

/// A long upload does not count as silence of the upstream: its time-out starts when the body is complete.
#[test]
fn an_upstream_has_its_time_after_a_long_upload() {
    let slow = Upstream::start(|_| {
        lapse(Duration::from_millis(300), "an upstream takes its time, less than it may");
        Reply::json("{}")
    });
    let mut ledger = Ledger::new(World::new(slow));
    let mut raw = ledger.world.connect();
    raw.send(request("POST", "/api/", "Content-Length: 4400\r\n"));
    for piece in 0..4 {
        let pause = Duration::from_millis(if piece == 0 { 0 } else { 180 });
        lapse(pause, "all of it takes longer than `upstream_timeout`");
        raw.send("x".repeat(1100));
    }
    ledger.note("a long upload", &raw.answer(), 200, ANSWERED);
    drop(raw);
    ledger.check();
}

/// The upstream cannot answer an incomplete request: a consumer that stalls is at fault.
#[test]
fn a_consumer_that_stalls_is_not_taken_for_an_upstream_that_does() {
    let config =
        crate::support::world::CONFIG.replace("upstream_timeout = \"600ms\"", "upstream_timeout = \"150ms\"");
    let script = Script::start(patient);
    let mut ledger = Ledger::new(script.world_with(&config));
    let mut raw = ledger.world.connect();
    raw.send(request("POST", "/api/", "Content-Length: 10\r\n") + "half ");
    ledger.note("silence", &raw.answer(), 408, abandoned(Some("body_timeout")));
    assert!(raw.closed() && script.ended(0));
    drop(raw);
    ledger.check();
}

#[test]
fn what_is_left_of_a_refused_body_is_never_a_request() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let post = |lines: &str| request("POST", "/api/", lines);
    let wrong = |lines: &str| post(lines).replace("Bearer ", "Bearer not_");
    let hidden = format!("{}{BEHIND}", BEHIND.repeat(3));
    for (name, bytes, status, code) in [
        (
            "in the same packet",
            wrong(&format!("Content-Length: {}\r\n", BEHIND.len())),
            401,
            "unauthenticated",
        ),
        ("not whole", wrong("Content-Length: 100000\r\n") + &hidden, 401, "unauthenticated"),
        ("chunked", wrong("Transfer-Encoding: chunked\r\n"), 401, "unauthenticated"),
        ("whole and chunked", wrong("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 401, "unauthenticated"),
        (
            "large",
            wrong("Content-Length: 800000\r\n") + &"x".repeat(700_000) + &hidden,
            401,
            "unauthenticated",
        ),
        ("too large", post("Content-Length: 300000\r\n") + &hidden, 413, "body_too_large"),
        ("no target", post("Content-Length: 10\r\n").replace("/api/", "/api/../"), 400, "non_canonical"),
        ("wrong organisation", post("Content-Length: 10\r\nX-JMS-ORG: x\r\n"), 403, "org_override"),
        ("TRACE", post("Content-Length: 10\r\n").replace("POST", "TRACE"), 405, "method_not_allowed"),
        ("expectation", post("Content-Length: 10\r\nExpect: x\r\n"), 417, "expectation_failed"),
        ("never sent", wrong("Content-Length: 10\r\nExpect: 100-continue\r\n"), 401, "unauthenticated"),
    ] {
        ledger.closing(name, bytes, status, denied(code));
    }
    ledger.check();
}

#[test]
fn what_is_left_of_a_refused_body_is_not_read_for_ever() {
    use std::io::Write as _;
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, piece, pause) in [("flood", 65536, Duration::ZERO), ("drip", 1, Duration::from_millis(50))] {
        let mut raw = ledger.world.connect();
        raw.send(request("POST", "/api/", "Content-Length: 300000000\r\n"));
        ledger.note(name, &raw.answer(), 413, denied("body_too_large"));
        let (began, mut sent) = (Instant::now(), 0);
        while raw.socket.write_all(&vec![b'x'; piece]).is_ok() {
            sent += piece;
            assert!(sent < 64 << 20 && began.elapsed() < PATIENCE, "{name}: {sent} bytes");
            lapse(pause, "it drips");
        }
    }
    ledger.check();
}

#[test]
fn a_refusal_that_leaves_nothing_behind_keeps_the_connection() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let mut raw = ledger.world.connect();
    raw.send(request("GET", "/api/../", ""));
    ledger.note("refused", &raw.answer(), 400, denied("non_canonical"));
    raw.send(request("GET", "/api/", ""));
    ledger.note("good", &raw.answer(), 200, ANSWERED);
    assert_eq!(ledger.world.upstream.only().target, "/api/");
    ledger.check();
}

#[test]
fn what_is_left_of_an_early_answered_body_is_never_a_request() {
    let script = Script::start(|line| {
        line.head();
        line.answer("early");
        line.until_closed();
    });
    let mut ledger = Ledger::new(script.world());
    let mut raw = ledger.world.connect();
    raw.send(request("POST", "/api/", "Content-Length: 100000\r\n") + "some");
    let answer = raw.answer();
    ledger.note("early", &answer, 200, ANSWERED);
    assert_eq!(answer.body, b"early");
    raw.send(BEHIND.repeat(4));
    assert!(raw.closed(), "the connection must end");
    assert!(script.ended(0), "a connection that still wants a body is never pooled");
    assert_eq!(script.count("GET /api/behind/ HTTP/1.1"), 0, "{:?}", script.heard());
    drop(raw);
    ledger.check();
}

#[test]
fn an_expected_100_comes_only_after_the_decision() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, lines, body) in [
        ("known length", "Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"),
        ("any case", "Content-Length: 5\r\nExpect: 100-Continue\r\n", "hello"),
        ("chunked", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut raw = ledger.world.connect();
        raw.send(request("POST", "/api/", lines));
        assert_eq!(raw.any_answer().status, 100, "{name}");
        raw.send(body);
        ledger.note(name, &raw.any_answer(), 200, ANSWERED);
    }
    for seen in ledger.world.upstream.seen() {
        assert_eq!(
            (seen.body.as_slice(), seen.all("expect").len()),
            (b"hello".as_slice(), 0),
            "{}",
            seen.raw_head
        );
    }
    let lines = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    for (name, bytes, status, code) in [
        (
            "wrong token",
            request("POST", "/api/", lines).replace("Bearer ", "Bearer x"),
            401,
            "unauthenticated",
        ),
        ("refused", request("POST", "/api/?oid=x", lines), 403, "org_override"),
        ("another", request("GET", "/api/", "Expect: 200-ok\r\n"), 417, "expectation_failed"),
        ("two", request("GET", "/api/", "Expect: 100-continue, x\r\n"), 417, "expectation_failed"),
        (
            "another in a second line",
            request("GET", "/api/", "Expect: 100-continue\r\nExpect: x\r\n"),
            417,
            "expectation_failed",
        ),
    ] {
        let mut raw = ledger.world.connect();
        raw.send(bytes);
        ledger.note(name, &raw.any_answer(), status, denied(code));
    }
    ledger.check();
}

#[test]
fn who_half_closes_and_reads_late_has_the_whole_answer() {
    let body =
        |target: &str| "x".repeat(target.trim_matches(|byte: char| !byte.is_ascii_digit()).parse().unwrap());
    let upstream = Upstream::start(move |seen| Reply::json(&body(&seen.target)));
    let world = World::with(upstream, &in_time(CONFIG));
    // The end of some bodies stays in the gateway when the socket buffers are full.
    let sizes = (1..60).map(|step| step * 100_000);
    let mut readers: Vec<_> = sizes
        .map(|size| {
            let mut raw = world.connect();
            raw.send(request("GET", &format!("/api/{size}/"), ""));
            half_close(&raw);
            (size, raw)
        })
        .collect();
    lapse(Duration::from_secs(1), "they read late");
    for (size, raw) in &mut readers {
        let answer = raw.answer();
        assert!(answer.whole && answer.body.len() == *size, "{size}: {}", answer.body.len());
    }
}

#[test]
fn half_closing_after_a_whole_request_is_not_leaving() {
    let mut ledger = Ledger::new(World::new(Upstream::start(|_| {
        lapse(Duration::from_millis(80), "it answers after the other half is closed");
        Reply::json("{}")
    })));
    for (name, bytes) in [
        ("no body", request("GET", "/api/", "")),
        ("body", request("POST", "/api/", "Content-Length: 2\r\n") + "hi"),
        ("chunked body", request("POST", "/api/", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
    ] {
        let mut raw = ledger.world.connect();
        raw.send(bytes);
        half_close(&raw);
        ledger.note(name, &raw.answer(), 200, ANSWERED);
        assert!(raw.closed(), "{name}: there can be no next request");
    }
    let mut raw = ledger.world.connect();
    raw.send(request("GET", "/api/first/", "") + &request("GET", "/api/second/", ""));
    half_close(&raw);
    ledger.note("first of two", &raw.answer(), 200, ANSWERED);
    ledger.note("second of two", &raw.answer(), 200, ANSWERED);
    assert!(raw.closed());
    let mut raw = ledger.world.connect();
    raw.send("GET /api/ HTTP/1.1\r\nHost: gw");
    half_close(&raw);
    ledger.note("cut head", &raw.answer(), 400, denied("malformed"));
    assert!(raw.closed());
    ledger.check();
}

/// The first connection gets a part of an answer and no more.
fn holding(line: &mut Line) {
    if line.number == 0 {
        line.head();
        line.say(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nfor the one who left",
        );
        line.until_closed();
    } else {
        patient(line);
    }
}

#[test]
fn a_consumer_that_leaves_takes_its_answer_with_it() {
    let script = Script::start(holding);
    let world = script.world();
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", ""));
    let mut some = [0; 1];
    std::io::Read::read_exact(&mut raw.socket, &mut some).unwrap();
    reset(raw);
    assert!(script.ended(0), "the upstream's connection is closed");
    let outcome = only_call(&world, abandoned(None));
    assert_eq!((&outcome["status"], &outcome["upstream_status"]), (&200.into(), &200.into()));
    assert_eq!(world.get("/api/", "").body, b"1/0", "no answer reaches another");
}

#[test]
fn a_consumer_that_leaves_before_the_answer_is_noticed() {
    let script = Script::start(|line| {
        line.head();
        line.until_closed();
    });
    let world = script.world_with(
        &crate::support::world::CONFIG.replace("upstream_timeout = \"600ms\"", "upstream_timeout = \"20s\""),
    );
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", ""));
    until("it is with the upstream", || script.count("GET /api/") > 0);
    reset(raw);
    assert!(script.ended(0), "the upstream's connection is closed");
    only_call(&world, abandoned(None));
}

#[test]
fn a_consumer_that_reads_nothing_is_cut_off() {
    let script = Script::start(|line| {
        line.head();
        line.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64000000\r\n\r\n");
        line.say(vec![b'x'; 64_000_000]);
        line.until_closed();
    });
    let world = script.world();
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", ""));
    assert!(script.ended(0), "the upstream's connection is closed");
    let outcome = only_call(&world, abandoned(None));
    assert!(outcome["bytes_out"].as_u64().unwrap() < 64_000_000, "{outcome}");
    assert!(!raw.answer().whole);
}
