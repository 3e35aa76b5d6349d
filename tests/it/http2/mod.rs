//! HTTP/2 with a consumer, frame by frame (RFC 9113): what claviger serves and refuses, and what ends a
//! connection.

mod slow;

use std::io::Write as _;

use crate::support::frames::{
    CONTINUATION, Consumer, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, read,
};
use crate::support::ledger::{ANSWERED, only_call};
use crate::support::process::PATIENCE;
use crate::support::tls::{Authority, behind};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{Gate, until_or};
use crate::support::world::{CONFIG, TOKEN, World};

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

fn world() -> (World, Authority) {
    let authority = Authority::new();
    (behind(&authority, "", CONFIG), authority)
}

/// `:status` 200 in the static table (RFC 7541, appendix A).
const OK: u8 = 0x88;

#[test]
fn a_call_is_made_as_one_of_http_1_would_be() {
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("x-jms-org", "")];
    consumer.ask(1, &read("/api/v1/users/users/?name=a%20b", &bearer(), &crumbs), true);
    assert_eq!(consumer.answer(1), (OK, "{\"ok\":true}".into()));
    let outcome = only_call(&world, ANSWERED);
    assert_eq!(outcome["target"], "/api/v1/users/users/?name=a%20b");
    let seen = world.upstream.only();
    assert_eq!((seen.target.as_str(), seen.all("cookie").len()), ("/api/v1/users/users/?name=a%20b", 0));
    seen.signed_for(&seen.target).unwrap();
}

#[test]
fn a_body_arrives_whole_whether_its_length_is_said_or_not() {
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    let (token, body) = (bearer(), "x".repeat(3000));
    for (stream, length) in [(1, Some("6000")), (3, None)] {
        let mut fields = read("/api/", &token, &[]);
        fields[0].1 = "POST";
        fields.extend(length.map(|length| ("content-length", length)));
        consumer.ask(stream, &fields, false);
        consumer.send(DATA, 0, stream, body.as_bytes());
        consumer.send(DATA, END_STREAM, stream, body.as_bytes());
        assert_eq!(consumer.answer(stream).0, OK);
    }
    for seen in world.upstream.seen() {
        assert_eq!(seen.one("content-length"), "6000");
        assert_eq!(seen.body, body.repeat(2).into_bytes());
    }
    assert_eq!(world.trail_of(4).iter().filter(|event| event["bytes_in"] == 6000).count(), 2);
}

#[test]
fn what_is_refused_is_told_on_its_stream_and_on_the_trail() {
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    let (long, many) = ("x".repeat(9000), "y".repeat(33_000));
    let good = bearer();
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("unauthenticated", read("/api/", "Bearer wrong", &[])),
        ("malformed", read("/api/", &good, &[("host", "other.test")])),
        ("malformed", read("/api/", &good, &[("content-length", "0"), ("content-length", "0")])),
        ("malformed", read("/api/", &good, &[("accept", "caf\u{e9}")])),
        ("malformed", read("/api/", &good, &[("host", "")])),
        ("non_canonical", read("/a/../b", &good, &[])),
        ("non_canonical", read("//a", &good, &[])),
        ("target_too_long", read(&long, &good, &[])),
        ("headers_too_large", read("/api/", &good, &[("x-long", &many)])),
        ("org_override", read("/api/?oid=1", &good, &[])),
        ("expectation_failed", read("/api/", &good, &[("expect", "200-ok")])),
        ("duplicate_credential", read("/api/", &good, &[("x-api-key", "another")])),
    ];
    let long_path = format!("/{long}");
    let (mut stream, mut wanted) = (1, Vec::new());
    for (code, mut fields) in cases {
        if code == "target_too_long" {
            fields[3].1 = &long_path;
        }
        // If one frame is too short, the rest follows in more frames.
        let whole = block(&fields);
        let mut pieces = whole.chunks(16_000);
        let (first, count) = (pieces.next().unwrap(), pieces.len());
        let ends = if count == 0 { END_HEADERS } else { 0 };
        consumer.send(HEADERS, END_STREAM | ends, stream, first);
        for (at, piece) in pieces.enumerate() {
            consumer.send(CONTINUATION, if at + 1 == count { END_HEADERS } else { 0 }, stream, piece);
        }
        let (_, body) = consumer.answer(stream);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], code, "{body}");
        wanted.push(code);
        stream += 2;
    }
    // The connection still serves valid requests.
    consumer.ask(stream, &read("/api/", &good, &[]), true);
    assert_eq!(consumer.answer(stream).0, OK);
    let trail = world.trail_of(wanted.len() + 2);
    let told: Vec<_> = trail.iter().filter_map(|event| event["code"].as_str()).collect();
    assert_eq!(told, wanted);
    world.upstream.only();
}

#[test]
fn methods_that_no_upstream_should_see_are_refused() {
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    let token = bearer();
    for (stream, method) in [(1, "TRACE"), (3, "trace")] {
        let mut fields = read("/api/", &token, &[]);
        fields[0].1 = method;
        consumer.ask(stream, &fields, true);
        assert!(consumer.answer(stream).1.contains("method_not_allowed"), "{method}");
    }
    consumer.ask(5, &[(":method", "CONNECT"), (":authority", "gw.test"), ("authorization", &token)], true);
    assert!(consumer.answer(5).1.contains("method_not_allowed"));
    assert_eq!((world.trail_of(3).len(), world.upstream.seen().len()), (3, 0));
}

/// A stream that violates HTTP/2 is never a request; the trail records it all the same.
#[test]
fn a_stream_that_is_no_request_is_on_the_trail() {
    let (world, authority) = world();
    let token = bearer();
    let broken: [&[(&str, &str)]; 4] = [
        &[("X-Upper", "case")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[(":path", "/twice")],
    ];
    for (at, more) in broken.iter().enumerate() {
        let mut consumer = Consumer::new(&world, &authority);
        consumer.ask(1, &read("/api/", &token, more), true);
        let frames = consumer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
        assert!(frames.iter().all(|frame| frame.kind != HEADERS), "{more:?}");
        drop(consumer);
        let outcome = world.trail_of(at + 1).pop().unwrap();
        assert_eq!((&outcome["code"], &outcome["event"]), (&"malformed".into(), &"outcome".into()));
    }
    assert!(world.upstream.seen().is_empty());
}

/// The http crate reads a target first: all readers see the same cut, and claviger reports a refusal.
#[test]
fn a_target_that_is_none_is_refused_or_is_the_same_for_everybody() {
    let (world, authority) = world();
    let (token, mut count) = (bearer(), 0);
    for path in ["/api/<b>", "/api/`ls`", "/api/a b", "/api/\u{7f}", "/api/\0", "api/", ""] {
        let mut consumer = Consumer::new(&world, &authority);
        consumer.ask(1, &read(path, &token, &[]), true);
        let frames = consumer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS));
        assert!(frames.iter().all(|frame| frame.kind != HEADERS || frame.payload[0] != OK), "{path}");
        drop(consumer);
        count += 1;
        let outcome = world.trail_of(count).pop().unwrap();
        assert_eq!((&outcome["code"], &outcome["event"]), (&"malformed".into(), &"outcome".into()), "{path}");
    }
    assert!(world.upstream.seen().is_empty());
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/a/#/../b", &token, &[]), true);
    assert_eq!(consumer.answer(1).0, OK);
    let events = world.trail_of(count + 2);
    assert!(events[count..].iter().all(|event| event["target"] == "/api/a/"), "{events:#?}");
    let seen = world.upstream.only();
    assert_eq!(seen.target, "/api/a/");
    seen.signed_for("/api/a/").unwrap();
}

/// Begins a request; its body follows later.
fn upload(consumer: &mut Consumer, stream: u32, token: &str) {
    let mut fields = read("/api/", token, &[]);
    fields[0].1 = "POST";
    consumer.ask(stream, &fields, false);
}

type Flood = fn(&mut Consumer, u32, &str);

#[test]
fn floods_end_the_connection_and_are_on_the_trail_once() {
    let (world, authority) = world();
    let token = bearer();
    let floods: [(&str, Flood); 13] = [
        ("pings", |consumer, _, _| consumer.send(PING, 0, 0, b"12345678")),
        ("settings", |consumer, _, _| consumer.send(SETTINGS, 0, 0, b"")),
        ("priorities", |consumer, _, _| consumer.send(2, 0, 1, b"\0\0\0\0\x10")),
        ("unknown frames", |consumer, _, _| consumer.send(0xee, 0, 0, b"")),
        ("empty data", |consumer, at, token| {
            if at == 0 {
                upload(consumer, 1, token);
            }
            consumer.send(DATA, 0, 1, b"");
        }),
        ("a head without end", |consumer, at, _| {
            if at == 0 {
                consumer.send(HEADERS, 0, 1, b"");
            }
            consumer.send(CONTINUATION, 0, 1, b"");
        }),
        ("streams reset", |consumer, at, token| {
            let stream = at * 2 + 1;
            consumer.ask(stream, &read("/api/", token, &[]), false);
            consumer.send(RST_STREAM, 0, stream, b"\0\0\0\x08");
        }),
        ("room on the connection", |consumer, _, _| consumer.send(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01")),
        ("room on a stream", |consumer, at, token| {
            if at == 0 {
                upload(consumer, 1, token);
            }
            consumer.send(WINDOW_UPDATE, 0, 1, b"\0\0\0\x01");
        }),
        ("priorities as of RFC 9218", |consumer, _, _| consumer.send(16, 0, 0, b"\0\0\0\x01u=1")),
        ("more streams than may be", |consumer, at, token| upload(consumer, at * 2 + 1, token)),
        ("a body in crumbs", |consumer, at, token| {
            if at == 0 {
                upload(consumer, 1, token);
            }
            (0..10).for_each(|_| consumer.send(DATA, 0, 1, b"x"));
        }),
        ("the body of a request that was refused", |consumer, at, _| {
            if at == 0 {
                upload(consumer, 1, "Bearer clv_not_a_token");
                consumer.until(|frame| frame.kind == RST_STREAM);
            }
            consumer.send(DATA, 0, 1, &[0; 16_384]);
        }),
    ];
    for (name, flood) in floods {
        let before = world.trail().len();
        let mut consumer = Consumer::new(&world, &authority);
        for at in 0..1500 {
            flood(&mut consumer, at, &token);
        }
        assert!(consumer.ends(), "{name}");
        drop(consumer);
        let abuse = |event: &serde_json::Value| {
            event["reason"].as_str().is_some_and(|reason| reason.starts_with("connection abuse"))
        };
        let missing = || format!("{name}: {:#?}", &world.trail()[before..]);
        until_or(|| world.trail()[before..].iter().any(abuse), missing);
        assert_eq!(world.trail()[before..].iter().filter(|event| abuse(event)).count(), 1, "{name}");
    }
    // Well-behaved consumers are served.
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &token, &[]), true);
    assert_eq!(consumer.answer(1).0, OK);
}

/// Like the most active libraries: the consumer widens a window for each received KiB, and a stream's window as
/// soon as it opens. An empty frame ends each body.
#[test]
fn who_makes_room_for_what_is_sent_is_never_cut_off() {
    const SIZE: usize = 8 << 20;
    let authority = Authority::new();
    let body = "z".repeat(SIZE);
    let large = Upstream::start(move |seen| Reply::json(if seen.target == "/large/" { &body } else { "{}" }));
    let world = behind(&authority, "", &CONFIG.replace("@UPSTREAM@", &large.address.to_string()));
    let token = bearer();
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/large/", &token, &[]), true);
    let (mut taken, mut acknowledged) = (0, 0);
    loop {
        let frame = consumer.frame().unwrap_or_else(|| panic!("cut off after {taken}"));
        if frame.kind != DATA {
            continue;
        }
        taken += frame.payload.len();
        for at in acknowledged..taken / 1024 {
            consumer.send(WINDOW_UPDATE, 0, u32::from(at % 2 == 0), &2048_u32.to_be_bytes());
        }
        acknowledged = taken / 1024;
        if frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!((taken, acknowledged), (SIZE, SIZE / 1024));
    for stream in (3..4003).step_by(2) {
        upload(&mut consumer, stream, &token);
        consumer.send(WINDOW_UPDATE, 0, stream, &4096_u32.to_be_bytes());
        consumer.send(DATA, 0, stream, b"{}");
        consumer.send(DATA, END_STREAM, stream, b"");
        assert_eq!(consumer.answer(stream).0, OK);
    }
}

/// Like small devices: the consumer allows one byte, or one KiB, at a time for the stream and the connection.
#[test]
fn who_has_small_windows_is_never_cut_off() {
    const FRAMES: usize = 1500;
    let authority = Authority::new();
    let large = Upstream::start(|seen| {
        let window: usize = seen.target.trim_matches('/').parse().unwrap();
        Reply::json(&"z".repeat(window * FRAMES))
    });
    let config = CONFIG.replace("@UPSTREAM@", &large.address.to_string());
    let world = behind(&authority, "", &crate::support::process::patient(&config));
    let token = bearer();
    for window in [1_u16, 100, 1024] {
        let settings = [&[0, 4, 0, 0][..], &window.to_be_bytes()].concat();
        let mut consumer = Consumer::to(world.address(), &authority, &settings);
        consumer.stream.sock.set_read_timeout(Some(crate::support::process::PATIENCE)).unwrap();
        let path = format!("/{window}/");
        consumer.ask(1, &read(&path, &token, &[]), true);
        let (mut taken, mut ended) = (0, false);
        while !ended {
            let frame =
                consumer.frame().unwrap_or_else(|| panic!("window of {window}: cut off after {taken}"));
            ended = frame.stream == 1 && frame.flags & END_STREAM != 0;
            if frame.kind != DATA || frame.payload.is_empty() {
                continue;
            }
            taken += frame.payload.len();
            let room = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
            consumer.send(WINDOW_UPDATE, 0, 1, &room);
            consumer.send(WINDOW_UPDATE, 0, 0, &room);
        }
        assert_eq!(taken, usize::from(window) * FRAMES);
    }
}

/// h2 logs each of them.
#[test]
fn acknowledgements_of_nothing_soon_end_the_connection() {
    const ACK: u8 = 1;
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    consumer.send(SETTINGS, ACK, 0, b"");
    for _ in 0..150 {
        consumer.send(PING, ACK, 0, b"12345678");
    }
    assert!(consumer.ends());
    assert_eq!(world.trail_of(1)[0]["reason"], "connection abuse: acknowledgements without a request");
}

#[test]
fn what_begins_and_does_not_go_on_is_cut_off() {
    let (world, authority) = world();
    let mut begun = Consumer::silent(&world, &authority);
    begun.stream.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    assert!(begun.ends(), "half a preface");
    let mut begun = Consumer::new(&world, &authority);
    begun.send(HEADERS, 0, 1, &block(&read("/api/", &bearer(), &[])));
    assert!(begun.ends(), "half a head");
    let codes: Vec<_> = world.trail_of(2).iter().map(|event| event["code"].clone()).collect();
    assert_eq!(codes, ["header_timeout", "header_timeout"]);
}

#[test]
fn a_body_that_stops_is_cut_off() {
    let (world, authority) = world();
    let mut consumer = Consumer::new(&world, &authority);
    let token = bearer();
    let mut fields = read("/api/", &token, &[("content-length", "100")]);
    fields[0].1 = "POST";
    consumer.ask(1, &fields, false);
    consumer.send(DATA, 0, 1, b"half");
    assert!(consumer.answer(1).1.contains("body_timeout"));
    assert_eq!(world.trail_of(2)[1]["ended"], "abandoned");
}

/// An answer that the consumer does not read holds its slot and its buffers only for the usual time.
#[test]
fn an_answer_that_is_not_taken_is_given_up_and_its_stream_reset() {
    let authority = Authority::new();
    let large = Upstream::start(|_| Reply::json(&format!("\"{}\"", "z".repeat(400_000))));
    let config = CONFIG.replace("http://@UPSTREAM@", &format!("http://{}", large.address));
    let world = behind(&authority, "", &config);
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    let frames = consumer.until(|frame| frame.kind == RST_STREAM);
    assert_eq!(frames.last().map(|frame| frame.stream), Some(1));
    let taken: usize =
        frames.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum();
    assert_eq!(taken, 65_535, "the window that it gave");
    assert_eq!(world.trail_of(2)[1]["ended"], "abandoned");
    // Another answer on the same connection, which the consumer reads, arrives.
    consumer.send(WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes());
    consumer.ask(3, &read("/api/", &bearer(), &[]), true);
    consumer.send(WINDOW_UPDATE, 0, 3, &1_000_000_u32.to_be_bytes());
    assert_eq!(consumer.answer(3).0, OK);
}

#[test]
fn an_idle_connection_is_told_to_go_and_leaves_no_trace() {
    let authority = Authority::new();
    let world = behind(&authority, "", &CONFIG.replace("idle_timeout = \"5s\"", "idle_timeout = \"300ms\""));
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    assert_eq!(consumer.answer(1).0, OK);
    consumer.until(|frame| frame.kind == GOAWAY);
    assert!(consumer.ends());
    world.trail_of(2);
    // A consumer that sends nothing at all, too.
    assert!(Consumer::silent(&world, &authority).ends());
    world.trail_of(2);
}

#[test]
fn a_consumer_that_leaves_leaves_its_call_abandoned() {
    let authority = Authority::new();
    let answers = Gate::default();
    let gate = answers.clone();
    let slow = Upstream::start(move |_| {
        gate.pass();
        Reply::json("{}")
    });
    let config = CONFIG.replace("http://@UPSTREAM@", &format!("http://{}", slow.address));
    let world = behind(&authority, "", &config);
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    world.trail_of(1);
    consumer.send(RST_STREAM, 0, 1, b"\0\0\0\x08");
    assert_eq!(world.trail_of(2)[1]["ended"], "abandoned");
    consumer.ask(3, &read("/api/", &bearer(), &[]), true);
    world.trail_of(3);
    drop(consumer);
    assert_eq!(world.trail_of(4)[3]["ended"], "abandoned");
    answers.open();
}

#[test]
fn a_cut_answer_never_looks_whole() {
    let authority = Authority::new();
    let cut = Upstream::start(|_| {
        Reply::closing(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
        )
    });
    let config = CONFIG.replace("http://@UPSTREAM@", &format!("http://{}", cut.address));
    let world = behind(&authority, "", &config);
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    let frames = consumer.until(|frame| frame.kind == RST_STREAM);
    assert!(frames.iter().all(|frame| frame.kind != DATA || frame.flags & END_STREAM == 0));
    assert_eq!(world.trail_of(2)[1]["ended"], "failed");
}

#[test]
fn a_worker_that_ends_finishes_what_is_in_flight() {
    let authority = Authority::new();
    let answers = Gate::default();
    let gate = answers.clone();
    let slow = Upstream::start(move |_| {
        gate.pass();
        Reply::json("{}")
    });
    let config = CONFIG.replace("http://@UPSTREAM@", &format!("http://{}", slow.address));
    let mut world = behind(&authority, "", &config);
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    world.trail_of(1);
    let server = world.server.take().unwrap();
    let ended = std::thread::spawn(move || server.stop(PATIENCE));
    consumer.until(|frame| frame.kind == GOAWAY);
    answers.open();
    assert_eq!(consumer.answer(1), (OK, "{}".into()));
    assert!(consumer.ends());
    ended.join().unwrap();
}
