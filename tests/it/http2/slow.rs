//! Consumers that read their answers slowly over HTTP/2, or not at all, and consumers that ignore GOAWAY.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::frames::{
    Consumer, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, read,
};
use crate::support::process::PATIENCE;
use crate::support::tls::{Authority, behind};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{lapse, until};
use crate::support::world::{CONFIG, TOKEN, World};

const MEGABYTE: usize = 1 << 20;

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

/// With a time-out that a busy machine does not reach.
fn patient() -> String {
    CONFIG.replace("body_timeout = \"400ms\"", "body_timeout = \"1s\"")
}

fn in_front_of(upstream: &Upstream, authority: &Authority, config: &str) -> World {
    behind(authority, "", &config.replace("http://@UPSTREAM@", &format!("http://{}", upstream.address)))
}

fn of_size(size: usize) -> Upstream {
    let body = format!("\"{}\"", "z".repeat(size - 2));
    Upstream::start(move |_| Reply::json(&body))
}

/// A consumer with the widest possible windows.
fn greedy(world: &World, authority: &Authority) -> Consumer {
    let mut consumer = Consumer::new(world, authority);
    consumer.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    consumer.send(WINDOW_UPDATE, 0, 0, &(u32::MAX / 2 - 65_535).to_be_bytes());
    consumer
}

/// Widens the window of a stream, and that of the connection by the same amount.
fn give(consumer: &mut Consumer, stream: u32, more: u32) {
    for stream in [0, stream] {
        consumer.send(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }
}

#[test]
fn an_answer_that_is_taken_slowly_but_steadily_arrives_whole() {
    let (authority, size) = (Authority::new(), MEGABYTE / 2);
    let upstream = of_size(size);
    let world = in_front_of(&upstream, &authority, &patient());
    let mut consumer = Consumer::new(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    let (mut taken, mut given) = (0, 65_535);
    while taken < size {
        let frame = consumer.frame().unwrap();
        assert_ne!(frame.kind, RST_STREAM, "after {taken}");
        if frame.kind == DATA {
            taken += frame.payload.len();
        }
        if taken == given {
            lapse(Duration::from_millis(100), "it takes the answer slowly");
            give(&mut consumer, 1, 16_384);
            given += 16_384;
        }
    }
    let events = world.trail_of(2);
    assert_eq!((&events[1]["ended"], &events[1]["bytes_out"]), (&"answered".into(), &size.into()));
}

/// The same with a consumer that reads its socket slowly and has the widest possible windows.
#[test]
fn a_slow_connection_takes_what_all_its_streams_have() {
    let (authority, size) = (Authority::new(), 8 * MEGABYTE);
    let upstream = of_size(size);
    let world = in_front_of(&upstream, &authority, &patient());
    let mut consumer = greedy(&world, &authority);
    let (token, streams) = (bearer(), [1, 3, 5]);
    for stream in streams {
        consumer.ask(stream, &read("/api/", &token, &[]), true);
    }
    let (mut taken, mut since) = (0, 0);
    while taken < size * streams.len() {
        let frame = consumer.frame().unwrap();
        assert_ne!(frame.kind, RST_STREAM, "after {taken}");
        if frame.kind == DATA {
            (taken, since) = (taken + frame.payload.len(), since + frame.payload.len());
        }
        if since > 2 * MEGABYTE {
            lapse(Duration::from_millis(200), "it takes the answers slowly");
            since = 0;
        }
    }
    assert_eq!(world.trail_of(6).iter().filter(|event| event["ended"] == "answered").count(), 3);
}

#[test]
fn a_connection_of_which_nothing_is_taken_ends() {
    let authority = Authority::new();
    let upstream = of_size(16 * MEGABYTE);
    let world = in_front_of(&upstream, &authority, CONFIG);
    let mut consumer = greedy(&world, &authority);
    consumer.ask(1, &read("/api/", &bearer(), &[]), true);
    // Until the buffers of both sockets are full.
    until("its call has an outcome", || world.trail().len() >= 2);
    assert_eq!(world.trail_of(2)[1]["ended"], "abandoned");
    let mut taken = 0;
    while let Ok(read @ 1..) = consumer.stream.read(&mut [0; 65_536]) {
        taken += read;
    }
    assert!(taken < 16 * MEGABYTE, "{taken}");
}

/// While h2 cannot write, it may delay reading received frames.
#[test]
fn what_is_read_late_is_not_refused() {
    let authority = Authority::new();
    let upstream = of_size(8 * MEGABYTE);
    let config = CONFIG.replace("body_timeout = \"400ms\"", "body_timeout = \"5s\"");
    let world = in_front_of(&upstream, &authority, &config);
    let mut consumer = greedy(&world, &authority);
    let (token, streams) = (bearer(), [1, 3, 5]);
    for stream in streams {
        consumer.ask(stream, &read("/api/", &token, &[]), true);
    }
    lapse(Duration::from_millis(500), "the buffers of both sockets are full");
    consumer.send(PING, 0, 0, b"12345678");
    let late = [7, 9];
    for stream in late {
        consumer.ask(stream, &read("/api/", &token, &[]), true);
    }
    lapse(Duration::from_millis(1500), "it reads late");
    let (mut open, began) = (streams.len() + late.len(), Instant::now());
    while open > 0 && began.elapsed() < PATIENCE {
        let frame = consumer.frame().unwrap();
        open -= usize::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
    }
    lapse(Duration::from_millis(1200), "what is refused would be on the trail");
    let events = world.trail_of(10);
    assert!(events.iter().all(|event| event["code"] != "malformed"), "{events:#?}");
}

#[test]
fn whoever_is_told_to_go_and_asks_on_does_not_keep_the_connection() {
    let authority = Authority::new();
    let world = behind(&authority, "", &CONFIG.replace("idle_timeout = \"5s\"", "idle_timeout = \"200ms\""));
    let mut consumer = Consumer::new(&world, &authority);
    let frames = consumer.until(|frame| frame.kind == GOAWAY);
    assert!(frames.iter().all(|frame| frame.kind != HEADERS));
    let (token, began) = (bearer(), Instant::now());
    // The consumer never answers the PING after GOAWAY, which asks whether it has received that.
    let mut stream = 1;
    while began.elapsed() < PATIENCE {
        consumer.ask(stream, &read("/api/", &token, &[]), true);
        let mut answered = false;
        while let Some(frame) = consumer.frame() {
            answered = frame.stream == stream && frame.flags & END_STREAM != 0;
            if answered {
                break;
            }
        }
        if !answered {
            break;
        }
        stream += 2;
        lapse(Duration::from_millis(100), "it asks on until the gateway ends it");
    }
    let took = began.elapsed();
    assert!(stream > 1 && took > Duration::from_secs(1) && took < PATIENCE, "{took:?}");
}

/// Uploads to an upstream that does not read must not use up the connection's window.
#[test]
fn stalled_uploads_leave_room_for_another() {
    const STALLED: usize = 4;
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A small receive buffer, which is soon full.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let config = CONFIG
        .replace("@UPSTREAM@", &listener.local_addr().unwrap().to_string())
        .replace("256KiB", "64MiB")
        .replace("600ms", "20s")
        .replace("400ms", "20s");
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (at, socket) in listener.incoming().enumerate() {
            let mut socket = socket.unwrap();
            if at < STALLED {
                held.push(socket);
                continue;
            }
            let mut seen = Vec::new();
            while !seen.ends_with(b"the end") {
                let mut room = [0; 4096];
                let read = socket.read(&mut room).unwrap();
                seen.extend_from_slice(&room[..read]);
            }
            std::io::Write::write_all(&mut socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        }
    });
    let world = behind(&authority, "", &config);
    let mut consumer = Consumer::new(&world, &authority);
    consumer.stream.sock.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let token = bearer();
    let post = |length: &'static str| {
        let mut fields = vec![(":method", "POST"), ("content-length", length)];
        fields.extend(read("/api/", &token, &[]).into_iter().filter(|(name, _)| *name != ":method"));
        fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        fields
    };
    let settings = consumer.until(|frame| frame.kind == SETTINGS).pop().unwrap().payload;
    let window = settings.chunks(6).find(|setting| setting[1] == 4).unwrap();
    let window = i64::from(u32::from_be_bytes(window[2..].try_into().unwrap()));
    consumer.send(SETTINGS, 1, 0, b"");
    let mut connection = 65_535_i64;
    for at in 0..STALLED {
        let stream = u32::try_from(at).unwrap() * 2 + 1;
        consumer.send(HEADERS, END_HEADERS, stream, &crate::support::frames::block(&post("50000000")));
        let mut own = window;
        // Sends as much as it may, until the gateway no longer widens the window.
        loop {
            while own >= 16_384 && connection >= 16_384 {
                consumer.send(DATA, 0, stream, &[b'x'; 16_384]);
                (own, connection) = (own - 16_384, connection - 16_384);
            }
            let Some(frame) = consumer.frame() else { break };
            if frame.kind == WINDOW_UPDATE {
                let more = i64::from(u32::from_be_bytes(frame.payload.try_into().unwrap()));
                let window = if frame.stream == 0 { &mut connection } else { &mut own };
                *window += more;
            }
        }
    }
    consumer.stream.sock.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    consumer.ask(101, &post("7"), false);
    consumer.send(DATA, END_STREAM, 101, b"the end");
    assert_eq!(consumer.answer(101).1, "ok");
}
