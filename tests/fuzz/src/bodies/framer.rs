//! Heads as received: what is taken means the same to the short reader, to the parser, and to hyper.

use claviger::framing::{Body, Chunks, HeadLimits, answer_head, request_head};

use super::hyper_reads;

const LIMITS: HeadLimits = HeadLimits { target: 256, headers: 2048, lines: 32 };
/// A line that no plain head has: with it the parser reads, not the short way.
const ODD_LINE: &[u8] = b"x:\xff\r\n";
const MORE: HeadLimits =
    HeadLimits { headers: LIMITS.headers + ODD_LINE.len(), lines: LIMITS.lines + 1, ..LIMITS };

pub fn body(input: &[u8]) {
    request(input);
    answer(input, false);
    answer(input, true);
}

fn request(input: &[u8]) {
    let read = request_head(input, &LIMITS);
    for cut in cuts(input) {
        match (request_head(&input[..cut], &LIMITS), read) {
            (Err(fault), later) => assert!(!matches!(later, Ok(Some(_))), "{fault:?} before, then {later:?}"),
            (Ok(Some(early)), later) => assert_eq!(later, Ok(Some(early))),
            (Ok(None), Ok(Some(head))) => assert!(head.len > cut, "{head:?} was whole at {cut}"),
            (Ok(None), _) => {}
        }
    }
    let Ok(Some(head)) = read else { return };
    let other = request_head(&oddly(input, head.len), &MORE).unwrap().unwrap();
    assert_eq!((other.len, other.body), (head.len + ODD_LINE.len(), head.body));
    assert_eq!((other.target_at, other.target_len), (head.target_at, head.target_len));

    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut lines);
    assert_eq!(parsed.parse(input), Ok(httparse::Status::Complete(head.len)));
    let (method, count) = (parsed.method.unwrap(), parsed.headers.len());
    let target = &input[head.target_at..head.target_at + head.target_len];
    assert_eq!((method.as_bytes(), parsed.path.unwrap().as_bytes()), (&input[..head.target_at - 1], target));

    // hyper gets the head as the gateway passes it on: with another target.
    let mut passed =
        [&input[..head.target_at], b"/", &input[head.target_at + head.target_len..head.len]].concat();
    let rest = &input[head.len..];
    let whole = whole_body(head.body, rest);
    passed.extend_from_slice(whole.map_or(rest, |len| &rest[..len]));
    let length = match head.body {
        Body::Length(length) => Some(length),
        Body::Chunked => None,
        Body::UntilClose => panic!("a request never ends with the connection"),
    };
    hyper_reads::check(&passed, (method, count, length), whole.is_some());
}

/// How much of `rest` is the body, where it is whole.
fn whole_body(body: Body, rest: &[u8]) -> Option<usize> {
    match body {
        Body::Length(length) => usize::try_from(length).ok().filter(|length| *length <= rest.len()),
        Body::Chunked => {
            let mut chunks = Chunks::default();
            let taken = chunks.advance(rest).ok()?;
            chunks.is_done().then_some(taken)
        }
        Body::UntilClose => None,
    }
}

fn answer(input: &[u8], to_head: bool) {
    let read = answer_head(input, to_head, &LIMITS);
    for cut in cuts(input) {
        match (answer_head(&input[..cut], to_head, &LIMITS), read) {
            (Err(fault), later) => assert!(!matches!(later, Ok(Some(_))), "{fault:?} before, then {later:?}"),
            (Ok(Some(early)), later) => assert_eq!(later, Ok(Some(early))),
            (Ok(None), Ok(Some(head))) => assert!(head.len > cut, "{head:?} was whole at {cut}"),
            (Ok(None), _) => {}
        }
    }
    let Ok(Some(head)) = read else { return };
    let other = answer_head(&oddly(input, head.len), to_head, &MORE).unwrap().unwrap();
    assert_eq!((other.status, other.body), (head.status, head.body));
    assert_eq!(other.len, head.len + ODD_LINE.len());

    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut lines);
    assert_eq!(parsed.parse(input), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(parsed.code, Some(head.status));
}

/// The head of `len` bytes with one more line.
fn oddly(input: &[u8], len: usize) -> Vec<u8> {
    [&input[..len - 2], ODD_LINE, b"\r\n"].concat()
}

/// Where a head may be torn between two packets.
fn cuts(input: &[u8]) -> impl Iterator<Item = usize> {
    let len = input.len();
    let first = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    [first, first + 1, len / 3, len / 2, len.saturating_sub(3), len.saturating_sub(2), len.saturating_sub(1)]
        .into_iter()
        .filter(move |cut| *cut < len)
}
