//! Requests that are too large, too slow or too many, and connections that stay open or do not.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::ledger::{ANSWERED, Ledger, denied, refused, request};
use crate::support::process::patient;
use crate::support::tls::{Authority, Encrypted, behind, speaking};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{lapse, until, until_read};
use crate::support::world::{CONFIG, Raw, World};

const TARGET: usize = 8 * 1024;
const HEADERS: usize = 32 * 1024;

#[test]
fn bombs_are_refused_before_anyone_asks_who_sends_them() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let anonymous =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n");
    let long = format!("/{}", "a".repeat(TARGET));
    let wide = format!("X-A: {}\r\n", "a".repeat(HEADERS));
    let many = "X-A: b\r\n".repeat(100);
    let (target, headers) = ((414, "target_too_long"), (431, "headers_too_large"));
    for (name, bytes, (status, code)) in [
        ("target", anonymous(&long, ""), target),
        ("query", anonymous(&format!("/?{}", "a".repeat(TARGET)), ""), target),
        ("endless target", format!("GET /{}", "a".repeat(4 * TARGET)), target),
        ("target and headers", anonymous(&long, &wide), target),
        ("target and lines", anonymous(&long, &many), target),
        ("one header", anonymous("/", &wide), headers),
        ("endless header", format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(2 * HEADERS)), headers),
        ("headers", anonymous("/", &"X-A: 0123456789\r\n".repeat(2000)), headers),
        ("lines", anonymous("/", &many), headers),
        ("lines past any room", anonymous("/", &"A: b\r\n".repeat(300)), headers),
    ] {
        let answer = ledger.closing(name, bytes, status, denied(code));
        assert!(answer.body.len() < 300, "{name}: sizes only");
    }
    for outcome in ledger.check() {
        assert!(outcome["target"].as_str().unwrap_or_default().len() <= 256, "{outcome}");
    }
}

#[test]
fn what_just_fits_passes() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let target = format!("/{}/", "a".repeat(TARGET - 2));
    for (name, bytes) in [
        ("target", request("GET", &target, "")),
        ("lines", request("GET", "/", &"X-A: b\r\n".repeat(98))),
        ("header", request("GET", "/", &format!("X-A: {}\r\n", "a".repeat(HEADERS - 200)))),
    ] {
        let answer = ledger.world.exchange(bytes);
        ledger.note(name, &answer, 200, ANSWERED);
    }
    assert_eq!(ledger.world.upstream.seen()[0].target, target);
    ledger.check();
}

#[test]
fn a_body_over_the_limit_is_refused_after_its_sender_is_known() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let most = 256 * 1024;
    let long = format!("Content-Length: {}\r\n", most + 1);
    ledger.closing("announced", request("POST", "/api/", &long), 413, denied("body_too_large"));
    let unknown = request("POST", "/api/", &long).replace("Bearer ", "Bearer x");
    ledger.closing("announced by nobody", unknown, 401, denied("unauthenticated"));
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let chunked = request("POST", "/api/", "Transfer-Encoding: chunked\r\n");
    ledger.closing(
        "chunked",
        chunked.clone() + &chunk.repeat(5) + "0\r\n\r\n",
        413,
        refused("body_too_large"),
    );
    ledger.closing(
        "chunked, first byte over",
        chunked.clone() + &chunk.repeat(4) + "1\r\n",
        400,
        refused("malformed"),
    );
    let exact = ledger.world.exchange(chunked + &chunk.repeat(4) + "0\r\n\r\n");
    ledger.note("chunked, just fits", &exact, 200, ANSWERED);
    let known = request("POST", "/api/", &format!("Content-Length: {most}\r\n")) + &"a".repeat(most);
    let answer = ledger.world.exchange(known);
    ledger.note("announced, just fits", &answer, 200, ANSWERED);
    let seen = ledger.world.upstream.seen();
    assert_eq!(seen.iter().map(|seen| seen.body.len()).collect::<Vec<_>>(), [most, most]);
    ledger.check();
}

/// How long the gateway takes to refuse `raw`, while the consumer sends more, one byte at a time.
fn time_to_refusal(ledger: &mut Ledger, name: &str, mut raw: Raw, drip: bool) -> Duration {
    let began = Instant::now();
    let mut dripping = raw.socket.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        use std::io::Write as _;
        (0..if drip { 25 } else { 0 }).all(|_| {
            lapse(Duration::from_millis(30), "it drips");
            dripping.write_all(b"a").is_ok()
        })
    });
    ledger.note(name, &raw.answer(), 408, denied("header_timeout"));
    assert!(raw.closed(), "{name}");
    let took = began.elapsed();
    thread.join().unwrap();
    took
}

#[test]
fn a_head_that_is_not_whole_in_time_is_cut_off() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, start, drip) in [
        ("silence in the line", "GET /", false),
        ("silence in the headers", "GET / HTTP/1.1\r\nHost: gw.test\r\n", false),
        ("drip", "GET / HTTP/1.1\r\nX-A: ", true),
    ] {
        let mut raw = ledger.world.connect();
        raw.send(start);
        let took = time_to_refusal(&mut ledger, name, raw, drip);
        assert!(took >= Duration::from_millis(350), "{name}: {took:?}");
    }
    let mut raw = ledger.world.connect();
    raw.send(request("GET", "/api/", "") + "GET /second");
    ledger.note("before", &raw.answer(), 200, ANSWERED);
    time_to_refusal(&mut ledger, "the second head", raw, false);
    ledger.check();
}

#[test]
fn an_idle_connection_is_closed_and_leaves_no_trace() {
    let world =
        World::with(Upstream::ok(), &CONFIG.replace("idle_timeout = \"5s\"", "idle_timeout = \"150ms\""));
    let mut silent = world.connect();
    assert!(silent.closed());
    assert_eq!(world.trail(), Vec::<serde_json::Value>::new());
    let mut ledger = Ledger::new(world);
    let mut kept = ledger.world.connect();
    kept.send(request("GET", "/api/", ""));
    ledger.note("one call", &kept.answer(), 200, ANSWERED);
    assert!(kept.closed());
    ledger.check();
}

#[test]
fn the_idle_time_begins_when_the_answer_is_out() {
    let slow = Upstream::start(|_| {
        lapse(Duration::from_millis(450), "longer than `idle_timeout`");
        Reply::json("{}")
    });
    let world = World::with(slow, &CONFIG.replace("idle_timeout = \"5s\"", "idle_timeout = \"400ms\""));
    let mut ledger = Ledger::new(world);
    let mut raw = ledger.world.connect();
    for name in ["first", "second"] {
        raw.send(request("GET", "/api/", ""));
        ledger.note(name, &raw.answer(), 200, ANSWERED);
        lapse(Duration::from_millis(50), "it is idle, though not for too long");
    }
    drop(raw);
    ledger.check();
}

/// An address of this machine that other machines may reach, if any. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

/// Silent connections make room for others; connections with an authenticated request do not.
#[test]
fn strangers_who_say_nothing_keep_nobody_out() {
    let config = CONFIG.replace("[limits]", "[limits]\nconnections = 4");
    let mut ledger = Ledger::new(World::with(Upstream::ok(), &config));
    let mut known = ledger.world.connect();
    known.send(request("GET", "/api/", ""));
    ledger.note("known", &known.answer(), 200, ANSWERED);
    let mut slow = ledger.world.connect();
    slow.send(request("GET", "/api/", ""));
    ledger.note("slow, at first", &slow.answer(), 200, ANSWERED);
    slow.send("GET /api/ HT");
    until_read(&slow.socket);
    let mut silent: Vec<Raw> = (0..20).map(|_| ledger.world.connect()).collect();
    let mut late = ledger.world.connect();
    late.send(request("GET", "/api/", ""));
    ledger.note("late", &late.answer(), 200, ANSWERED);
    assert!(silent.first_mut().unwrap().closed());
    slow.send(request("GET", "/api/", "").trim_start_matches("GET /api/ HT"));
    ledger.note("slow", &slow.answer(), 200, ANSWERED);
    known.send(request("GET", "/api/", ""));
    ledger.note("known again", &known.answer(), 200, ANSWERED);
    let refused = ledger.world.server().metrics.text();
    assert!(refused.contains("claviger_connections_refused_total{reason=\"all\"} "), "{refused}");
    assert!(refused.contains("claviger_connections_limit 4\n"), "{refused}");
    ledger.check();
}

/// Neither a byte nor a refused request reserves a place for a connection.
#[test]
fn a_word_that_proves_nothing_keeps_nobody_out() {
    let config = patient(CONFIG).replace("[limits]", "[limits]\nconnections = 4");
    let nobody = "GET /api/ HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    for (name, said) in [("a byte", "G"), ("half a head", nobody.trim_end()), ("no credential", nobody)] {
        let world = World::with(Upstream::ok(), &config);
        let strangers = (0..4).map(|_| {
            let mut raw = world.connect();
            raw.send(said);
            if said == nobody {
                assert_eq!(raw.answer().status, 401);
            }
            raw
        });
        let mut strangers: Vec<Raw> = strangers.collect();
        for stranger in &strangers {
            until_read(&stranger.socket);
        }
        let mut good: Vec<Raw> = Vec::new();
        for number in 0..4 {
            let mut raw = world.connect();
            raw.send(request("GET", "/api/", ""));
            assert_eq!(raw.answer().status, 200, "{name}: call {number}");
            good.push(raw);
        }
        assert!(strangers.iter_mut().all(Raw::closed), "{name}: those that waited longest");
        assert!(world.connect().closed(), "{name}: those that were authenticated stay");
        good.first_mut().unwrap().send(request("GET", "/api/", ""));
        assert_eq!(good.first_mut().unwrap().answer().status, 200, "{name}");
    }
}

/// Before, during and after the handshake.
#[test]
fn strangers_keep_nobody_out_of_a_tls_listener() {
    let authority = Authority::new();
    let config = patient(CONFIG).replace("[limits]", "[limits]\nconnections = 4");
    let connect = |world: &World, protocol: &[u8]| speaking(protocol, world.address(), &authority, None);
    for name in ["silent", "a byte", "agreed", "agreed on HTTP/2"] {
        let world = behind(&authority, "", &config);
        let strangers = (0..8).map(|_| {
            if let Some(more) = name.strip_prefix("agreed") {
                let mut stream = connect(&world, if more.is_empty() { b"http/1.1" } else { b"h2" });
                stream.conn.complete_io(&mut stream.sock).unwrap();
                return stream.sock;
            }
            let mut raw = world.connect();
            raw.send(if name == "a byte" { "\x16" } else { "" });
            raw.socket
        });
        let strangers: Vec<TcpStream> = strangers.collect();
        until("they have what they get", || world.server().metrics.connections.get() == 4);
        let good = (0..4).map(|number| {
            let mut stream = connect(&world, b"http/1.1");
            let sent = stream.write_all(request("GET", "/api/", "").as_bytes());
            let mut answer = [0; 12];
            let read = stream.read_exact(&mut answer);
            assert_eq!(&answer, b"HTTP/1.1 200", "{name}: call {number}: {sent:?}, {read:?}");
            stream
        });
        let good: Vec<Encrypted> = good.collect();
        drop((strangers, good));
    }
}

#[test]
fn connections_are_counted_by_address_and_in_all() {
    let here = "127.0.0.1".parse().unwrap();
    // Connections of this machine to itself count only towards the total limit.
    let elsewhere = own_address();
    if elsewhere.is_none() {
        eprintln!(
            "this machine has no other address than its own loopback's: those of one address are not tried"
        );
    }
    let by_address = elsewhere.map(|address| ("connections_per_address = 2", address));
    for (limit, address) in [Some(("connections = 2", here)), by_address].into_iter().flatten() {
        let config = CONFIG.replace("127.0.0.1:0", &SocketAddr::new(address, 0).to_string());
        let config = config.replace("[limits]", &format!("[limits]\n{limit}"));
        let mut ledger = Ledger::new(World::with(Upstream::ok(), &config));
        let mut held: Vec<Raw> = (0..2).map(|_| ledger.world.connect()).collect();
        for raw in &mut held {
            raw.send(request("GET", "/api/", ""));
            ledger.note("held", &raw.answer(), 200, ANSWERED);
        }
        assert!(ledger.world.connect().closed(), "{limit}: one too many");
        drop(held.pop());
        let until = Instant::now() + Duration::from_secs(2);
        let answer = loop {
            let answer = ledger.world.exchange(request("GET", "/api/", ""));
            if answer.status != 0 || Instant::now() > until {
                break answer;
            }
        };
        ledger.note("room again", &answer, 200, ANSWERED);
        drop(held);
        ledger.check();
    }
}

#[test]
fn an_event_is_never_longer_than_64_kib_and_says_where_it_was_cut() {
    let config =
        CONFIG.replace("[limits]", "[limits]\nmax_target_bytes = \"16KiB\"\nmax_header_bytes = \"60KiB\"");
    let mut ledger = Ledger::new(World::with(Upstream::ok(), &config));
    let agent = format!("User-Agent: {}\r\n", "\\\"".repeat(20_000));
    let many = "\"".repeat(16_000);
    let answer = ledger.world.exchange(request("GET", &format!("/api/?q={many}"), &agent));
    ledger.note("grows in canonical form", &answer, 200, ANSWERED);
    ledger.denied(
        "escaped",
        request("GET", &format!("/../{}", "\\".repeat(16_000)), &agent),
        400,
        "non_canonical",
    );
    let short = ledger.world.exchange(request("GET", "/api/?q=1", ""));
    ledger.note("short", &short, 200, ANSWERED);
    let outcomes = ledger.check();
    let cut: Vec<bool> = outcomes.iter().map(|outcome| outcome["cut"] == 1).collect();
    assert_eq!(cut, [true, true, false]);
    for outcome in outcomes {
        assert!(outcome.to_string().len() < 64 * 1024);
    }
}
