//! What the trail shows of unreadable requests, and methods in another case.

use crate::support::upstream::Upstream;
use crate::support::world::{TOKEN, World};

#[test]
fn the_trail_keeps_no_secret_of_a_head_that_cannot_be_read() {
    for lost in [
        format!("Authorization: Bearer {TOKEN}\r\n\r\n"),
        format!("{{\"password\":\"{TOKEN}\"}}\r\n\r\n"),
        format!("GET\t/{TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let world = World::new(Upstream::ok());
        assert_eq!(world.exchange(&lost).code(), "malformed", "{lost:?}");
        let outcome = world.only_outcome();
        assert!(!outcome.to_string().contains(TOKEN), "{outcome}");
        assert!(outcome["target"].as_str().is_some_and(|shown| shown.len() <= 64), "{outcome}");
    }
}

#[test]
fn the_method_that_echoes_credentials_is_refused_in_any_case() {
    for method in ["trace", "Trace", "TRACE", "connect", "CONNECT"] {
        let world = World::new(Upstream::ok());
        let call = format!("{method} /x/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        assert_eq!(world.exchange(call).code(), "method_not_allowed", "{method}");
        assert!(world.upstream.seen().is_empty(), "{method}");
    }
}

/// A TLS handshake or another protocol may never send the line end that completes a head.
#[test]
fn what_can_be_no_request_line_is_refused_before_its_end() {
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"\x00\x00\x00\x2a\xffSMB",
        b"GET /\x1b[2J",
        b"GET\t/api/",
        b"GET /api/\rHTTP",
    ] {
        let world = World::new(Upstream::ok());
        let answer = world.exchange(bytes);
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed"), "{bytes:?}: {answer:?}");
        assert_eq!(world.only_outcome()["ended"], "refused");
    }
}
