#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { target: 64, headers: 256, lines: 8 };

/// Parts of heads, and what attackers put between them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"GET",
        b"POST",
        b" ",
        b"  ",
        b"/a?b=c",
        b"/%zz<>{}|",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\t",
        b"\0",
        b":",
        b": ",
        b"200 OK",
        b"204 ",
        b"99",
        b"Host",
        b"host: a",
        b"content-length: 5",
        b"Content-Length: 5",
        b"content-length: +5",
        b"transfer-encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"x-y",
        b"x_y: 1",
        b"\xff",
        b"a\"b",
    ];
    prop_oneof![
        8 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

/// A valid head in which a few bytes may be changed.
fn head(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((0..good.len(), any::<u8>()), 0..3);
    let wrong = changes.prop_map(move |changes| {
        let mut head = good.to_vec();
        for (at, byte) in changes {
            if let Some(old) = head.get_mut(at) {
                *old = byte;
            }
        }
        head
    });
    prop_oneof![wrong, prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())]
}

const REQUEST: &[u8] =
    b"POST /a/b?c=d HTTP/1.1\r\nHost: a.example:80\r\ncontent-length: 12\r\nX-Y: v w\r\n\r\nbody";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\nX-Y: v\r\n\r\n0\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The fast path accepts nothing that the parser refuses, and reads nothing differently.
    #[test]
    fn a_plain_head_is_what_the_parser_takes_it_for(bytes in head(REQUEST)) {
        let line_end = memchr::memchr(b'\n', &bytes).unwrap_or(0);
        if let Some(plain) = fast_path::request(&bytes, line_end, &LIMITS) {
            prop_assert_eq!(parse_request(&bytes, line_end, &LIMITS), Ok(Some(plain)));
        }
    }

    #[test]
    fn so_is_a_plain_answer(bytes in head(ANSWER), to_head in any::<bool>()) {
        let line_end = memchr::memchr(b'\n', &bytes).unwrap_or(0);
        if let Some(plain) = fast_path::answer(&bytes, line_end, to_head, &LIMITS) {
            prop_assert_eq!(parse_answer(&bytes, line_end, to_head, &LIMITS), Ok(Some(plain)));
        }
    }
}

#[test]
fn the_usual_heads_are_plain() {
    let line_end = memchr::memchr(b'\n', REQUEST).unwrap();
    assert!(fast_path::request(REQUEST, line_end, &LIMITS).is_some());
    let line_end = memchr::memchr(b'\n', ANSWER).unwrap();
    assert!(fast_path::answer(ANSWER, line_end, false, &LIMITS).is_some());
}
