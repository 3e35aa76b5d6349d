//! With `sync`, the trail's file has the outcome of a call before the consumer has the answer's last byte.

use crate::support::frames::{Consumer, read};
use crate::support::process::SYNC;
use crate::support::tls::{Authority, behind};
use crate::support::upstream::{Reply, Seen, Upstream};
use crate::support::world::{CONFIG, TOKEN, World};

fn synced() -> String {
    CONFIG.to_owned() + SYNC
}

fn answer(seen: &Seen) -> Reply {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    match seen.target.as_str() {
        "/api/chunked/" => Reply::raw(chunked),
        "/api/none/" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/api/end/" => Reply::closing("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"),
        "/api/broken/" => Reply::closing("HTTP/1.1 200"),
        _ => Reply::json("{\"ok\":true}"),
    }
}

fn outcomes(world: &World) -> usize {
    world.trail().iter().filter(|event| event["event"] == "outcome").count()
}

#[test]
fn an_answer_of_http_1_is_told_before_it_is_whole() {
    let world = World::with(Upstream::start(answer), &synced());
    let mut made = 0;
    for (line, token, status) in [
        ("GET /api/x/ HTTP/1.1", TOKEN, 200),
        ("GET /api/chunked/ HTTP/1.1", TOKEN, 200),
        ("GET /api/chunked/ HTTP/1.0", TOKEN, 200),
        ("GET /api/end/ HTTP/1.1", TOKEN, 200),
        ("GET /api/none/ HTTP/1.1", TOKEN, 204),
        ("GET /api/broken/ HTTP/1.1", TOKEN, 502),
        ("GET /api/x/ HTTP/1.1", "nobody's", 401),
    ] {
        for more in ["", "Connection: close\r\n"] {
            let answer = world
                .exchange(format!("{line}\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\n{more}\r\n"));
            made += 1;
            assert_eq!((answer.status, outcomes(&world)), (status, made), "{line}");
        }
    }
}

#[test]
fn answers_to_many_at_once_are_told_before_they_are_whole() {
    let world = World::with(Upstream::ok(), &synced());
    let mut connections: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for round in 0..5 {
        for raw in &mut connections {
            raw.send(format!(
                "GET /api/{round}/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            ));
        }
        for (number, raw) in connections.iter_mut().enumerate() {
            assert_eq!(raw.answer().status, 200);
            assert!(outcomes(&world) > round * 20 + number);
        }
    }
}

#[test]
fn an_answer_of_http_2_is_told_before_it_is_whole() {
    let authority = Authority::new();
    let world = behind(&authority, "", &synced());
    let mut consumer = Consumer::new(&world, &authority);
    let bearer = format!("Bearer {TOKEN}");
    for call in 0..10 {
        let stream = u32::try_from(call * 2 + 1).unwrap();
        consumer.ask(stream, &read("/api/x/", &bearer, &[]), true);
        assert_eq!(consumer.answer(stream).1, "{\"ok\":true}");
        assert_eq!(outcomes(&world), call + 1);
    }
}
