//! Answers that end with their connection: complete if it ended cleanly, visibly cut if not, and never with
//! the status line of the upstream.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::{self};

use rustls::{ServerConnection, StreamOwned};

use crate::support::frames::{Consumer, DATA, END_STREAM, RST_STREAM, read};
use crate::support::ledger::{ANSWERED, Fate, Ledger, failed, only_call, request};
use crate::support::script::{Line, Script};
use crate::support::tls::{Authority, before, behind};
use crate::support::world::{Answer, CONFIG, Raw, TOKEN, World};

/// The ways in which the upstream's connection ends, and the outcome of each.
const ENDS: [(&str, Fate); 3] =
    [("ends", ANSWERED), ("is reset", failed("upstream_closed")), ("stalls", failed("upstream_timeout"))];

/// Sends `head` and the beginning of a body, and then ends the connection as `end` says.
fn play(line: &mut Line, head: &str, end: &str) {
    line.head();
    line.say(format!("{head}\r\nContent-Type: text/plain\r\n\r\nhalf "));
    match end {
        "is reset" => {
            // The gateway must have read everything: a reset discards the rest.
            line.until_read();
            line.resets();
        }
        "stalls" => line.until_closed(),
        _ => {}
    }
}

fn heads() -> [&'static str; 3] {
    ["HTTP/1.0 200 Upstream", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nConnection: close"]
}

/// The bytes that an HTTP/1.0 consumer reads until the end of the connection, and whether that was a reset.
fn read_by_the_old(world: &World) -> (String, bool) {
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.0"));
    let mut answer = Vec::new();
    let reset = raw.socket.read_to_end(&mut answer).is_err();
    (String::from_utf8(answer).unwrap(), reset)
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_only_where_that_ended_well() {
    for head in heads() {
        for (end, fate) in ENDS {
            let script = Script::start(move |line| play(line, head, end));
            let mut ledger = Ledger::new(script.world());
            let mut raw = ledger.world.connect();
            raw.send(request("GET", "/api/", ""));
            let answer = raw.answer();
            let name = format!("{head:?} {end}");
            assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer:?}");
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{name}: {answer:?}");
            assert_eq!((answer.body.as_slice(), answer.whole), (&b"half "[..], end == "ends"), "{name}");
            ledger.note_head(&name, &answer, 200, fate);
            ledger.check();
        }
    }
}

#[test]
fn an_old_consumer_sees_a_reset_where_the_answer_was_cut() {
    for head in heads() {
        for (end, fate) in ENDS {
            let script = Script::start(move |line| play(line, head, end));
            let world = script.world();
            let (answer, reset) = read_by_the_old(&world);
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{head:?} {end}: {answer:?}");
            assert_eq!(
                (reset, answer.contains("half ")),
                (end != "ends", true),
                "{head:?} {end}: {answer:?}"
            );
            only_call(&world, fate);
        }
    }
}

#[test]
fn a_stream_is_reset_where_the_answer_was_cut() {
    let authority = Authority::new();
    for head in heads() {
        for (end, fate) in ENDS {
            let script = Script::start(move |line| play(line, head, end));
            let config = CONFIG.replace("@UPSTREAM@", &script.address.to_string());
            let world = behind(&authority, "", &config);
            let mut consumer = Consumer::new(&world, &authority);
            consumer.ask(1, &read("/api/", &format!("Bearer {TOKEN}"), &[]), true);
            let last = |kind: u8, flags: u8| kind == RST_STREAM || flags & END_STREAM != 0;
            let frames = consumer.until(|frame| frame.stream == 1 && last(frame.kind, frame.flags));
            let whole = frames.last().is_some_and(|frame| frame.kind == DATA);
            assert_eq!(whole, end == "ends", "{head:?} {end}");
            only_call(&world, fate);
        }
    }
}

/// Other answers of an HTTP/1.0 upstream: with a length, without a body, or with keep-alive.
#[test]
fn the_upstreams_version_decides_nothing_else_either() {
    let json = "Content-Type: application/json\r\n";
    for (name, method, said, body) in [
        ("a length", "GET", format!("200 Its Own\r\n{json}Content-Length: 2\r\n\r\n{{}}"), "{}"),
        (
            "kept alive",
            "GET",
            format!("200 OK\r\n{json}Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{{}}"),
            "{}",
        ),
        ("an error", "GET", "404 Not Here\r\nContent-Length: 2\r\n\r\nno".into(), "no"),
        ("HEAD", "HEAD", "200 OK\r\nContent-Length: 9\r\n\r\n".into(), ""),
        ("HEAD without a length", "HEAD", format!("200 OK\r\n{json}\r\n"), ""),
        ("204", "DELETE", "204 No Content\r\n\r\n".into(), ""),
        ("304", "GET", "304 Not Modified\r\nETag: \"x\"\r\n\r\n".into(), ""),
    ] {
        let status: u16 = said[..3].parse().unwrap();
        let answer = format!("HTTP/1.0 {said}");
        let script = Script::start(move |line| {
            while !line.head().is_empty() {
                line.say(&answer);
            }
        });
        let mut ledger = Ledger::new(script.world());
        let mut raw = ledger.world.connect();
        for _call in 0..2 {
            raw.send(request(method, "/api/", ""));
            let answer = one(&mut raw, method);
            assert!(answer.head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer:?}");
            assert!(!answer.head.contains("Its Own") && !answer.head.contains("Not Here"), "{answer:?}");
            assert_eq!(answer.header("connection"), None, "{name}: the consumer's connection goes on");
            assert_eq!(answer.body, body.as_bytes(), "{name}: {answer:?}");
            ledger.record(name, &answer, ANSWERED);
        }
        // Each is sent in HTTP/1.1, and so each on its own connection.
        assert_eq!(script.count(" /api/ HTTP/1.1\r\n"), 2, "{name}");
        assert_eq!(script.heard().len(), 2, "{name}");
        ledger.check();
    }
}

/// The next answer on a connection that stays open; an answer to `HEAD` has no body whatever its head says.
fn one(raw: &mut Raw, method: &str) -> Answer {
    if method == "HEAD" { raw.head_alone() } else { raw.answer() }
}

/// An upstream with TLS that ends its connection with or without a `close_notify`.
fn ending(authority: &Authority, answer: &'static str, notified: bool) -> std::net::SocketAddr {
    let pair = authority.issue("127.0.0.1", |_| {});
    let key = claviger::secret::Secret::new(std::fs::read(&pair.key).unwrap());
    let config = claviger::tls::server_config(&pair.cert, &key, None, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut bytes = [0; 16384];
            let Ok(_) = stream.read(&mut bytes) else { continue };
            stream.write_all(answer.as_bytes()).unwrap();
            if notified {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        }
    });
    address
}

#[test]
fn without_a_close_notify_only_what_has_a_length_is_whole() {
    let authority = Authority::new();
    let text = "Content-Type: text/plain\r\n";
    let cut = failed("upstream_closed");
    for (head, framing, body, notified, fate) in [
        ("HTTP/1.1 200 OK", "", "half ", true, ANSWERED),
        ("HTTP/1.0 200 OK", "", "half ", true, ANSWERED),
        ("HTTP/1.1 200 OK", "", "half ", false, cut),
        ("HTTP/1.0 200 OK", "", "half ", false, cut),
        ("HTTP/1.1 200 OK", "Connection: close\r\n", "half ", false, cut),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", "half ", false, ANSWERED),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\n", "half ", false, ANSWERED),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", "5\r\nhalf \r\n0\r\n\r\n", false, ANSWERED),
        ("HTTP/1.1 200 OK", "Content-Length: 9\r\n", "half ", true, cut),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", "5\r\nhalf \r\n", true, cut),
    ] {
        let whole = format!("{head}\r\n{text}{framing}\r\n{body}").leak();
        let name = format!("{whole:?} {notified}");
        let world = before(ending(&authority, whole, notified), "127.0.0.1", &authority);
        let mut raw = world.connect();
        raw.send(request("GET", "/api/", ""));
        let answer = raw.answer();
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer:?}");
        let answered = only_call(&world, fate);
        assert_eq!(
            (answer.body.as_slice(), answer.whole),
            (&b"half "[..], answered["ended"] == "answered"),
            "{name}"
        );
    }
}
