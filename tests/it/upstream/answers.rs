//! The parts of an upstream's answer that the consumer sees.

use crate::support::ledger::{ANSWERED, Ledger};
use crate::support::upstream::{Reply, Upstream};
use crate::support::world::{Answer, CONFIG, TOKEN, World};

/// One call, answered with `lines`.
fn answered(name: &str, config: &str, lines: &str, sent: &str) -> (Answer, crate::support::upstream::Seen) {
    let reply = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\n{{}}");
    let mut ledger = Ledger::new(World::with(Upstream::start(move |_| Reply::raw(&reply)), config));
    let answer = ledger.world.get("/api/", sent);
    ledger.note(name, &answer, 200, ANSWERED);
    let seen = ledger.world.upstream.only();
    ledger.check();
    (answer, seen)
}

#[test]
fn redirects_are_led_back_and_never_followed() {
    for (name, location, wanted) in [
        ("same origin", "http://@UPSTREAM@/api/x/?a=b", "http://gw.test/api/x/?a=b"),
        ("path", "/login/?next=/api/", "/login/?next=/api/"),
        ("relative", "../x/", "../x/"),
        ("another host", "http://evil.test/api/", "http://evil.test/api/"),
        ("another port", "http://127.0.0.1:1/api/", "http://127.0.0.1:1/api/"),
        ("userinfo", "http://@UPSTREAM@@evil.test/", "http://@UPSTREAM@@evil.test/"),
        ("network path", "//evil.test/api/", "//evil.test/api/"),
    ] {
        let answer = move |seen: &crate::support::upstream::Seen| {
            let (status, location) = (&seen.target[1..4], location.replace("@UPSTREAM@", seen.one("host")));
            Reply::raw(&format!("HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
        };
        let mut ledger = Ledger::new(World::new(Upstream::start(answer)));
        let wanted = wanted.replace("@UPSTREAM@", &ledger.world.upstream.address.to_string());
        for (before, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
            let answer = ledger.world.get(&format!("/{status}/"), "");
            ledger.note(name, &answer, status, ANSWERED);
            assert_eq!(answer.header("location"), Some(wanted.as_str()), "{name}");
            assert_eq!(ledger.world.upstream.seen().len(), before + 1, "{name}: followed");
        }
        ledger.check();
    }
}

#[test]
fn cookies_are_dropped_both_ways_unless_the_upstream_opts_in() {
    let (cookies, sent) = (
        "Set-Cookie: sessionid=planted; Path=/\r\nSet-Cookie: csrftoken=planted\r\n",
        "Cookie: a=planted\r\n",
    );
    let (answer, seen) = answered("strip", CONFIG, cookies, sent);
    assert!(!answer.head.contains("planted") && !seen.raw_head.contains("planted"), "{answer:?} {seen:?}");
    let passing = CONFIG.replace("credential = \"key\"", "credential = \"key\"\ncookies = \"pass\"");
    let (answer, seen) = answered("pass", &passing, cookies, sent);
    assert_eq!(answer.head.matches("planted").count(), 2, "{answer:?}");
    assert_eq!(seen.one("cookie"), "a=planted");
}

#[test]
fn lines_of_the_hop_to_the_upstream_and_claims_to_be_ours_are_dropped() {
    for line in [
        "Keep-Alive: planted",
        "Proxy-Authenticate: planted",
        "Proxy-Connection: planted",
        "Upgrade: planted",
        "Trailer: planted",
        "TE: planted",
        "Alt-Svc: planted",
        "Claviger-Error: planted",
        "X-Request-Id: planted",
        "X-Accel-Buffering: planted",
        "X-Accel-Expires: planted",
        "Connection: x-a\r\nX-A: planted",
        "X-A: planted\r\nConnection: keep-alive, X-A",
    ] {
        let (answer, _) = answered(line, CONFIG, &format!("{line}\r\n"), "");
        assert!(!answer.head.contains("planted"), "{line}: {answer:?}");
    }
}

#[test]
fn an_answer_keeps_its_status_its_lines_and_its_body() {
    let lines = "ETag: \"x\"\r\nX-Total: 3\r\nVary: a\r\nVary: b\r\nContent-Type: application/json\r\n";
    let (answer, seen) = answered("kept", CONFIG, lines, "");
    assert_eq!(
        (answer.header("etag"), answer.header("x-total"), answer.body.as_slice()),
        (Some("\"x\""), Some("3"), b"{}".as_slice())
    );
    assert_eq!(answer.head.to_ascii_lowercase().matches("vary: ").count(), 2, "{answer:?}");
    assert!(!seen.raw_head.contains(TOKEN));
    for status in [201, 403, 404, 429, 500, 503] {
        let reply = format!("HTTP/1.1 {status} Its\r\nContent-Length: 5\r\n\r\nits o");
        let mut ledger = Ledger::new(World::new(Upstream::start(move |_| Reply::raw(&reply))));
        let answer = ledger.world.get("/api/", "");
        ledger.note("status", &answer, status, ANSWERED);
        assert_eq!((answer.header("claviger-error"), answer.body.as_slice()), (None, b"its o".as_slice()));
        ledger.check();
    }
}

#[test]
fn answers_without_a_body_are_whole() {
    for (method, reply) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
    ] {
        let mut ledger = Ledger::new(World::new(Upstream::start(move |_| Reply::raw(reply))));
        let mut raw = ledger.world.connect();
        raw.send(crate::support::ledger::request(method, "/api/", "Connection: close\r\n"));
        let answer = raw.answer();
        let status = reply[reply.rfind("HTTP/1.1 ").unwrap() + 9..][..3].parse().unwrap();
        ledger.note(reply, &answer, status, ANSWERED);
        assert!(answer.body.is_empty() && raw.closed(), "{reply:?}: {answer:?}");
        ledger.check();
    }
}

/// claviger does not rewrite the part of a body that it streams: the trail records that links may be in it.
#[test]
fn links_beyond_what_is_held_are_said_on_the_trail() {
    let first =
        |address: std::net::SocketAddr| format!("\"next\":\"http://{address}/api/?p=2\",\"previous\":null");
    let many = format!("\"results\":[\"{}\"]", "x".repeat(2_000_000));
    for (links_first, kept) in [(true, None), (false, Some("links beyond 64 KiB of a body"))] {
        let many = many.clone();
        let upstream = Upstream::start(move |seen| {
            let links = first(seen.one("host").parse().unwrap());
            let body =
                if links_first { format!("{{{links},{many}}}") } else { format!("{{{many},{links}}}") };
            Reply::json(&body)
        });
        let mut ledger = Ledger::new(World::new(upstream));
        let answer = ledger.world.get("/api/", "");
        ledger.note("a page", &answer, 200, ANSWERED);
        let next = answer.json()["next"].as_str().unwrap().to_owned();
        assert_eq!(next.starts_with("http://gw.test/api/"), links_first, "{next}");
        assert_eq!(ledger.check()[0]["link_kept"].as_str(), kept);
    }
}
