//! The border between one request and the next: any doubt about it ends the connection.

use crate::support::ledger::{ANSWERED, BEHIND, Fate, Ledger, denied, refused, request};
use crate::support::upstream::Upstream;
use crate::support::world::{TOKEN, World};

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

#[test]
fn a_head_that_two_readers_may_read_differently_is_refused() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let get = |lines: &str| format!("GET /api/ HTTP/1.1\r\n{}{lines}\r\n", bearer());
    for (name, head) in [
        ("no host", get("")),
        ("empty host", get("Host:\r\n")),
        ("two hosts", get("Host: gw.test\r\nHost: evil.test\r\n")),
        ("two equal hosts", get("Host: gw.test\r\nhost: gw.test\r\n")),
        ("a list of hosts", get("Host: gw.test, evil.test\r\n")),
        ("host with a path", get("Host: gw.test/x\r\n")),
        ("host with userinfo", get("Host: gw.test@evil.test\r\n")),
        ("host with a space", get("Host: gw.test evil.test\r\n")),
        ("NUL in a value", get("Host: gw.test\r\nX-A: a\0b\r\n")),
        ("escape in a value", get("Host: gw.test\r\nX-A: a\x1bb\r\n")),
        ("DEL in a value", get("Host: gw.test\r\nX-A: a\x7fb\r\n")),
        ("bare CR in a value", get("Host: gw.test\r\nX-A: a\rX-B: b\r\n")),
        ("bare LF in a value", get("Host: gw.test\r\nX-A: a\nX-B: b\r\n")),
        ("LF alone ends lines", get("Host: gw.test\r\n").replace("\r\n", "\n")),
        ("empty name", get("Host: gw.test\r\n: x\r\n")),
        ("space in a name", get("Host: gw.test\r\nX A: x\r\n")),
        ("NUL in a name", get("Host: gw.test\r\nX\0A: x\r\n")),
        ("non-ASCII name", get("Host: gw.test\r\nX\u{e9}: x\r\n")),
        ("no colon", get("Host: gw.test\r\nX-A\r\n")),
        ("space before colon", get("Host : gw.test\r\n")),
        ("tab before colon", get("Host: gw.test\r\nX-A\t: x\r\n")),
        ("obs-fold", get("Host: gw.test\r\nX-A: a\r\n b\r\n")),
        ("obs-fold with a tab", get("Host: gw.test\r\nX-A: a\r\n\tb\r\n")),
        ("folded first line", format!("GET /api/ HTTP/1.1\r\n Host: gw.test\r\n{}\r\n", bearer())),
        ("version 2.0", request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/2.0")),
        ("version 1.2", request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.2")),
        ("version in lower case", request("GET", "/api/", "").replace("HTTP/1.1", "http/1.1")),
        ("no version", request("GET", "/api/", "").replace(" HTTP/1.1", "")),
        ("two spaces", request("GET", "/api/", "").replace(" HTTP/1.1", "  HTTP/1.1")),
        ("space after the version", request("GET", "/api/", "").replace(" HTTP/1.1", " HTTP/1.1 ")),
        ("odd method", request("G(T", "/api/", "")),
        ("two empty lines first", format!("\r\n\r\n{}", request("GET", "/api/", ""))),
        ("empty lines by LF first", format!("\n{}", request("GET", "/api/", ""))),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        ledger.closing(name, head, 400, denied("malformed"));
    }
    for outcome in ledger.check() {
        assert!(outcome["reason"].is_string(), "{outcome}");
    }
}

#[test]
fn a_length_that_is_odd_or_said_twice_is_refused() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let (chunked, unknown) = ((400, "malformed"), (501, "unknown_coding"));
    for (name, lines, (status, code)) in [
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked),
        ("CL.TE, zero", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("TE.TE", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("TE.TE, unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", unknown),
        ("TE.TE, identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", unknown),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", chunked),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", unknown),
        ("chunked, identity", "Transfer-Encoding: chunked, identity\r\n", unknown),
        ("gzip", "Transfer-Encoding: gzip\r\n", unknown),
        ("xchunked", "Transfer-Encoding: xchunked\r\n", unknown),
        ("empty coding", "Transfer-Encoding:\r\n", chunked),
        ("comma first", "Transfer-Encoding: ,chunked\r\n", chunked),
        ("with a parameter", "Transfer-Encoding: chunked;q=1\r\n", chunked),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\n", chunked),
        ("vertical tab", "Transfer-Encoding: \x0bchunked\r\n", chunked),
        ("non-ASCII", "Transfer-Encoding: chunked\u{a0}\r\n", chunked),
        ("space before colon", "Transfer-Encoding : chunked\r\n", chunked),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n", chunked),
        ("two lengths", "Content-Length: 6\r\nContent-Length: 0\r\n", chunked),
        ("two equal lengths", "Content-Length: 6\r\ncontent-length: 6\r\n", chunked),
        ("a list of lengths", "Content-Length: 6,6\r\n", chunked),
        ("plus", "Content-Length: +6\r\n", chunked),
        ("minus", "Content-Length: -6\r\n", chunked),
        ("hex", "Content-Length: 0x6\r\n", chunked),
        ("fraction", "Content-Length: 6.0\r\n", chunked),
        ("digits apart", "Content-Length: 6 6\r\n", chunked),
        ("empty length", "Content-Length:\r\n", chunked),
        ("huge length", "Content-Length: 99999999999999999999\r\n", chunked),
        ("length past 64 bits", "Content-Length: 18446744073709551622\r\n", chunked),
        ("length with a space before colon", "Content-Length : 6\r\n", chunked),
        ("other digits", "Content-Length: \u{0666}\r\n", chunked),
    ] {
        let head = request("POST", "/api/", lines);
        ledger.closing(name, format!("{head}0\r\n\r\nG"), status, denied(code));
    }
    for outcome in ledger.check() {
        assert_eq!((&outcome["method"], &outcome["target"]), (&"POST".into(), &"/api/".into()), "{outcome}");
    }
}

/// claviger finds an error in a chunked body only while it reads the body: the intent is already recorded.
const BROKEN: Fate = refused("malformed");

#[test]
fn a_chunked_body_with_a_trick_in_it_goes_nowhere() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let long = "x".repeat(300);
    for (name, body) in [
        ("no size", "\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("no digits", "xyz\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("hex prefix", "0x3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("plus", "+3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("minus", "-3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("space before", " 3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("space after", "3 \r\nabc\r\n0\r\n\r\n".to_owned()),
        ("overflow to three", "10000000000000003\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("huge", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("zeros without end", format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(40))),
        ("LF alone", "3\nabc\r\n0\r\n\r\n".to_owned()),
        ("CR alone", "3\rabc\r\n0\r\n\r\n".to_owned()),
        ("data too long", "3\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("no CRLF after data", "3\r\nabc0\r\n\r\n".to_owned()),
        ("LF alone after data", "3\r\nabc\n0\r\n\r\n".to_owned()),
        ("long extension", format!("3;{long}\r\nabc\r\n0\r\n\r\n")),
        ("LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("NUL in an extension", "3;a\0b\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("request as a trailer", "0\r\nGET /api/x HTTP/1.1\r\n\r\n".to_owned()),
        ("trailer without a name", "0\r\n: x\r\n\r\n".to_owned()),
        ("trailer folded", "0\r\nX-A: a\r\n b: c\r\n\r\n".to_owned()),
        ("trailer by LF", "0\r\nX-A: a\n\r\n\r\n".to_owned()),
        ("more trailers than lines", format!("0\r\n{}\r\n", "x: y\r\n".repeat(120))),
        ("trailer names framing", "0\r\nContent-Length: 3\r\n\r\n".to_owned()),
        ("trailer names coding", "0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        ("trailer names a host", "0\r\nhost: evil.test\r\n\r\n".to_owned()),
        ("trailer names a token", format!("0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")),
        ("trailer names a key", format!("0\r\nX-API-Key: {TOKEN}\r\n\r\n")),
        ("trailer names a cookie", "0\r\nCookie: a=b\r\n\r\n".to_owned()),
        ("trailer names a date", "0\r\nDate: x\r\n\r\n".to_owned()),
        ("trailer names an organisation", "0\r\nX-JMS-ORG: x\r\n\r\n".to_owned()),
        ("trailers without end", format!("0\r\n{}\r\n", format!("X-A: {long}\r\n").repeat(20))),
    ] {
        let head = request("POST", "/api/", "Transfer-Encoding: chunked\r\n");
        ledger.closing(name, head + &body, 400, BROKEN);
    }
    ledger.check();
}

#[test]
fn a_good_chunked_body_arrives_with_its_length_and_without_its_trimmings() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, body) in [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        ("several", "1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n"),
        ("extensions", "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"),
        ("trailers", "5\r\nhello\r\n0\r\nX-Sum: planted\r\nX-B: c\r\n\r\n"),
    ] {
        let before = ledger.world.upstream.seen().len();
        let mut raw = ledger.world.connect();
        raw.send(
            request("POST", "/api/", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n") + body + BEHIND,
        );
        ledger.note(name, &raw.answer(), 200, ANSWERED);
        ledger.note("the one behind", &raw.answer(), 200, ANSWERED);
        let seen = ledger.world.upstream.seen();
        let [post, behind] = &seen[before..] else { panic!("{name}: {seen:#?}") };
        assert_eq!((post.body.as_slice(), post.one("content-length")), (b"hello".as_slice(), "5"), "{name}");
        assert!(post.all("trailer").is_empty() && post.all("x-sum").is_empty(), "{name}: {}", post.raw_head);
        assert_eq!(
            (behind.target.as_str(), behind.raw_head.contains("planted")),
            ("/api/behind/", false),
            "{name}"
        );
    }
    for outcome in ledger.check().iter().step_by(2) {
        assert_eq!(outcome["bytes_in"], 5, "{outcome}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let answer = ledger.world.exchange(format!("\r\n{}", request("GET", "/api/", "")));
    ledger.note("an empty line", &answer, 200, ANSWERED);
    ledger.check();
}
