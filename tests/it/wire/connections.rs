//! The uses of a connection: pipelining, HTTP/1.0, other protocols.

use std::time::Duration;

use crate::support::ledger::{ANSWERED, BEHIND, Ledger, denied, request};
use crate::support::upstream::{Reply, Seen, Upstream};
use crate::support::wait::{lapse, until, until_read};
use crate::support::world::{CONFIG, Raw, TOKEN, World};

/// Answers with the target and the length of the body, and late if the target contains `slow`.
fn echo() -> Upstream {
    Upstream::start(|seen| {
        if seen.target.contains("slow") {
            lapse(Duration::from_millis(60), "it answers late");
        }
        Reply::json(&format!("\"{} {}\"", seen.target, seen.body.len()))
    })
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut ledger = Ledger::new(World::new(echo()));
    let post = request("POST", "/api/post/", "Content-Length: 3\r\n") + "abc";
    let chunked = request("POST", "/api/chunked/", "Transfer-Encoding: chunked\r\n") + "2\r\nhi\r\n0\r\n\r\n";
    let mut raw = ledger.world.connect();
    raw.send([request("GET", "/api/slow/", ""), post, chunked, request("GET", "/api/last/", "")].concat());
    for body in ["\"/api/slow/ 0\"", "\"/api/post/ 3\"", "\"/api/chunked/ 2\"", "\"/api/last/ 0\""] {
        let answer = raw.answer();
        assert_eq!(String::from_utf8_lossy(&answer.body), body);
        ledger.note(body, &answer, 200, ANSWERED);
    }
    let targets: Vec<String> =
        ledger.world.upstream.seen().iter().map(|seen: &Seen| seen.target.clone()).collect();
    assert_eq!(targets, ["/api/slow/", "/api/post/", "/api/chunked/", "/api/last/"], "one after the other");
    drop(raw);
    ledger.check();
}

#[test]
fn a_bad_request_in_a_pipeline_is_refused_in_its_turn() {
    let mut ledger = Ledger::new(World::new(echo()));
    let mut raw = ledger.world.connect();
    let bad = request("GET", "/api/../", "");
    let broken = request("GET", "/api/", "Content-Length: x\r\n");
    raw.send(request("GET", "/api/slow/", "") + &bad + &request("GET", "/api/next/", "") + &broken + BEHIND);
    ledger.note("first", &raw.answer(), 200, ANSWERED);
    ledger.note("no canonical form", &raw.answer(), 400, denied("non_canonical"));
    ledger.note("next", &raw.answer(), 200, ANSWERED);
    ledger.note("broken", &raw.answer(), 400, denied("malformed"));
    assert!(raw.closed());
    assert_eq!(ledger.world.upstream.seen().len(), 2);
    drop(raw);
    ledger.check();
}

#[test]
fn a_head_may_come_in_any_pieces() {
    let mut ledger = Ledger::new(World::new(echo()));
    let whole = request("POST", "/api/", "Content-Length: 2\r\n") + "hi";
    let mut raw = ledger.world.connect();
    for piece in whole.as_bytes().chunks(37) {
        raw.send(piece);
        lapse(Duration::from_millis(3), "each piece comes by itself");
    }
    ledger.note("pieces", &raw.answer(), 200, ANSWERED);
    assert_eq!(ledger.world.upstream.only().body, b"hi");
    drop(raw);
    ledger.check();
}

#[test]
fn a_connection_ends_where_the_consumer_says_so() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let old = |lines: &str| format!("GET /api/ HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n{lines}\r\n");
    for (name, bytes) in [
        ("close", request("GET", "/api/", "Connection: close\r\n")),
        ("close in a list", request("GET", "/api/", "Connection: x-a, Close\r\n")),
        ("HTTP/1.0", old("")),
        ("HTTP/1.0 with a host", old("Host: gw.test\r\n")),
        ("HTTP/1.0, close", old("Connection: close\r\n")),
    ] {
        let before = ledger.world.upstream.seen().len();
        let mut raw = ledger.world.connect();
        raw.send(bytes + BEHIND);
        let answer = raw.answer();
        ledger.note(name, &answer, 200, ANSWERED);
        assert!(answer.whole && raw.closed(), "{name}");
        assert_eq!(ledger.world.upstream.seen().len(), before + 1, "{name}");
    }
    for (name, bytes) in [
        ("HTTP/1.1", request("GET", "/api/", "")),
        ("HTTP/1.0, keep-alive", old("Connection: keep-alive\r\n")),
    ] {
        let mut raw = ledger.world.connect();
        for _time in 0..2 {
            raw.send(&bytes);
            let answer = raw.answer();
            ledger.note(name, &answer, 200, ANSWERED);
            let said = answer.header("connection").map(str::to_ascii_lowercase);
            assert_eq!(said.as_deref(), name.contains("1.0").then_some("keep-alive"), "{name}");
        }
    }
    let chunked = old("Transfer-Encoding: chunked\r\n").replace("GET", "POST");
    ledger.closing("HTTP/1.0, chunked", chunked + "0\r\n\r\n", 400, denied("malformed"));
    ledger.check();
}

/// Without its upgrade, a websocket request's answer from the upstream would mean nothing to the client.
#[test]
fn a_websocket_handshake_is_refused_as_such_once_its_caller_is_known() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: foo, websocket\r\n",
    ] {
        let call = request("GET", "/ws/terminal/", &format!("{lines}{key}"));
        let outcome = ledger.denied(lines, &call, 501, "upgrade_unsupported");
        assert_eq!(outcome.header("upgrade"), None, "{lines}");
        ledger.denied("of nobody", call.replace("Bearer ", "Bearer x"), 401, "unauthenticated");
    }
    let outcomes = ledger.check();
    let (refused, unknown) = (&outcomes[0], &outcomes[1]);
    assert_eq!((refused["consumer"].as_str(), refused["upstream"].as_str()), (Some("tool"), Some("jms")));
    assert_eq!(
        (&refused["reason"], &unknown["consumer"]),
        (&"websocket handshake".into(), &serde_json::Value::Null)
    );
}

#[test]
fn another_protocol_is_never_spoken() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, lines) in [
        ("websocket without its connection option", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        (
            "h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        ("upgrade alone", "Upgrade: TLS/1.0\r\n"),
    ] {
        let before = ledger.world.upstream.seen().len();
        let mut raw = ledger.world.connect();
        raw.send(request("GET", "/api/", lines) + BEHIND);
        let answer = raw.any_answer();
        ledger.note(name, &answer, 200, ANSWERED);
        assert_eq!(answer.header("upgrade"), None, "{name}");
        ledger.note("goes on in HTTP/1.1", &raw.answer(), 200, ANSWERED);
        let seen = &ledger.world.upstream.seen()[before];
        for dropped in ["upgrade", "connection", "http2-settings"] {
            assert!(seen.all(dropped).is_empty(), "{name}: {}", seen.raw_head);
        }
    }
    let connect = request("CONNECT", "gw.test:443", "");
    for (name, bytes) in [
        ("CONNECT", connect.clone()),
        ("CONNECT to a path", connect.replace("gw.test:443", "/api/")),
        ("CONNECT by nobody", connect.replace("Bearer ", "Bearer x")),
        ("TRACE", request("TRACE", "/api/", "Max-Forwards: 0\r\n")),
    ] {
        let answer = ledger.denied(name, bytes, 405, "method_not_allowed");
        assert!(answer.header("allow").is_some(), "{name}");
    }
    for outcome in ledger.check().iter().rev().take(4) {
        assert!(matches!(outcome["method"].as_str(), Some("CONNECT" | "TRACE")), "{outcome}");
    }
}

#[test]
fn a_reset_in_the_middle_of_a_head_is_on_the_trail() {
    let world = World::new(Upstream::ok());
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", "").trim_end());
    until_read(&raw.socket);
    crate::support::ledger::reset(raw);
    let outcome = world.only_outcome();
    assert_eq!((&outcome["code"], &outcome["target"]), (&"malformed".into(), &"/api/".into()), "{outcome}");
    crate::support::ledger::reset(world.connect());
    until("it is gone", || world.server().metrics.connections.get() == 0);
    assert_eq!(world.trail().len(), 1, "a connection without a byte is no call");
}

/// claviger parks a connection after a long silence; the connection stays usable.
#[test]
fn a_connection_that_was_silent_for_long_goes_on() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let mut raw = ledger.world.connect();
    for pause in [0, 2200, 0, 1800] {
        lapse(Duration::from_millis(pause), "it is put away after a second or two");
        raw.send(request("GET", "/api/", ""));
        let answer = raw.answer();
        ledger.note(&format!("after {pause} ms"), &answer, 200, ANSWERED);
    }
    lapse(Duration::from_millis(1800), "it is put away");
    raw.send("GET /api/ HTTP/1.1\r\n");
    until_read(&raw.socket);
    raw.send(request("GET", "/api/", "").trim_start_matches("GET /api/ HTTP/1.1\r\n"));
    let answer = raw.answer();
    ledger.note("in two pieces", &answer, 200, ANSWERED);
    lapse(Duration::from_millis(1800), "it is put away");
    raw.send("nonsense\r\n\r\n");
    let answer = raw.answer();
    ledger.note("malformed", &answer, 400, denied("malformed"));
    assert!(raw.closed());
    ledger.check();
}

/// A listener on `[::]` receives IPv4 addresses mapped into IPv6.
#[test]
fn a_mapped_address_is_told_as_the_one_it_maps() {
    let config = CONFIG
        .replace("\"127.0.0.1:0\"", "\"[::]:0\"")
        .replace("credential = \"key\"\n", "credential = \"key\"\nforwarded_for = \"consumer\"\n");
    let world = World::with(Upstream::ok(), &config);
    let mut raw = Raw::to(([127, 0, 0, 1], world.address().port()).into());
    raw.send(request("GET", "/api/", ""));
    assert_eq!(raw.answer().status, 200);
    raw.send(request("GET", "/api/../", ""));
    assert_eq!(raw.answer().status, 400);
    let from = raw.socket.local_addr().unwrap().to_string();
    let peers: Vec<String> =
        world.trail().iter().filter_map(|event| event["peer"].as_str().map(String::from)).collect();
    assert_eq!(peers, [from.as_str(); 3], "an intent and two outcomes");
    assert_eq!(world.upstream.seen()[0].one("x-forwarded-for"), "127.0.0.1");
}
