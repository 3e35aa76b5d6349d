//! An upstream whose answers contain the received credential: the consumer never sees it.

use crate::support::upstream::{Reply, SECRET, Seen, Upstream};
use crate::support::world::{CONFIG, World};

const AS_VALUE: (&str, &str) = ("access-key = { id = \"@KEY_ID@\", secret = ", "value = ");

/// The configuration with this scheme and a credential of kind `value`.
fn with(scheme: &str) -> String {
    let config = CONFIG.replace("scheme.access-key = {}", scheme).replace(AS_VALUE.0, AS_VALUE.1);
    config.replace("{ file = \"key.secret\" } }", "{ file = \"key.secret\" }")
}

/// Extracts the secret from the value of a header.
type Secret = fn(&str) -> String;

/// The header of each scheme's credential, and the secret part of its value.
fn schemes() -> [(String, &'static str, Secret); 4] {
    let whole = |value: &str| value.to_owned();
    let last = |value: &str| value.rsplit(' ').next().unwrap().to_owned();
    let signature =
        |value: &str| value.split("signature=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
    [
        (with("scheme.header = { name = \"x-api-key\" }"), "x-api-key", whole),
        (with("scheme.bearer = {}"), "authorization", last),
        (with("scheme.token = {}"), "authorization", last),
        (CONFIG.to_owned(), "authorization", signature),
    ]
}

/// An answer with this status and `body`, in two chunks that are split at `cut`.
fn chunked(status: u16, lines: &str, body: &str, cut: usize) -> Reply {
    let (first, second) = body.split_at(cut);
    let chunk =
        |text: &str| if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) };
    let head = format!("HTTP/1.1 {status} Status\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
    Reply::raw(&format!("{head}{}{}0\r\n\r\n", chunk(first), chunk(second)))
}

/// The credential in the last request that the upstream received.
fn sent(seen: &Seen, header: &str) -> String {
    seen.one(header).to_owned()
}

#[test]
fn a_credential_that_is_shown_is_scrubbed_from_lines_and_bodies() {
    for (config, header, secret) in schemes() {
        let reusable = !config.contains("access-key = {}");
        for status in [200, 201, 302, 400, 403, 404, 500, 503] {
            let shows = move |seen: &Seen| {
                let shown = sent(seen, header);
                let body = format!("{{\"detail\":\"you sent {shown}\",\"again\":\"{}\"}}", secret(&shown));
                let lines = format!("X-Echo: {shown}\r\nContent-Type: application/json\r\n");
                chunked(status, &lines, &body, 9)
            };
            let world = World::with(Upstream::start(shows), &config);
            let answer = world.get("/api/", "");
            let secret = secret(&sent(&world.upstream.seen()[0], header));
            assert!(secret.len() >= 30, "{secret}");
            let stars = "*".repeat(secret.len());
            let echo = answer.header("x-echo").unwrap();
            assert!(echo.contains(&stars) && !echo.contains(&secret), "{header} {status}: {echo}");
            let body = String::from_utf8(answer.body.clone()).unwrap();
            // A signature is valid for one target only: claviger scrubs only its errors.
            let kept = !reusable && status < 400;
            assert_eq!(body.matches(&secret).count(), if kept { 2 } else { 0 }, "{header} {status}: {body}");
            assert_eq!(answer.status, status);
            let outcome = world.trail_of(2).pop().unwrap();
            assert_eq!(outcome["scrubbed"], if kept { 1 } else { 3 }, "{outcome:#}");
        }
    }
}

#[test]
fn a_secret_that_comes_in_pieces_is_scrubbed_as_well() {
    let (config, header, _) = &schemes()[0];
    let before = "{\"detail\": \"";
    for status in [200, 500] {
        for cut in [
            1,
            before.len(),
            before.len() + 1,
            before.len() + SECRET.len() / 2,
            before.len() + SECRET.len() - 1,
        ] {
            let shows = move |seen: &Seen| {
                let body = format!("{before}{}\"}}", sent(seen, "x-api-key"));
                chunked(status, "Content-Type: text/plain\r\n", &body, cut)
            };
            let world = World::with(Upstream::start(shows), config);
            let answer = world.get("/api/", "");
            let body = String::from_utf8(answer.body.clone()).unwrap();
            assert_eq!(body, format!("{before}{}\"}}", "*".repeat(SECRET.len())), "{header} cut at {cut}");
        }
        let drips = move |seen: &Seen| {
            let body = format!("{before}{}\"}}", sent(seen, "x-api-key"));
            let chunks = body.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect::<Vec<_>>().concat();
            Reply::raw(&format!("HTTP/1.1 {status} S\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"))
        };
        let world = World::with(Upstream::start(drips), config);
        let body = String::from_utf8(world.get("/api/", "").body).unwrap();
        assert_eq!(body, format!("{before}{}\"}}", "*".repeat(SECRET.len())));
    }
}

/// For bodies of any size, with a known or unknown length; the length stays the same.
#[test]
fn a_secret_is_scrubbed_wherever_it_stands() {
    let (config, ..) = &schemes()[1];
    for before in [65_536 - SECRET.len(), 65_535, 1 << 20, 5 << 20] {
        for known in [true, false] {
            let shows = move |seen: &Seen| {
                let secret = sent(seen, "authorization").replace("Bearer ", "");
                let body = format!("{}{secret}{}", ".".repeat(before), ".".repeat(70_000));
                if !known {
                    return chunked(200, "Content-Type: text/plain\r\n", &body, before + 3);
                }
                Reply::raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            };
            let world = World::with(Upstream::start(shows), config);
            let body = world.get("/api/", "").body;
            assert_eq!(body.len(), before + SECRET.len() + 70_000);
            assert!(body[before..before + SECRET.len()].iter().all(|byte| *byte == b'*'), "{before}");
            assert_eq!(world.trail_of(2)[1]["scrubbed"], 1);
        }
    }
}

fn digits(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
}

#[test]
fn a_secret_is_scrubbed_from_base64_and_digits() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let (config, ..) = &schemes()[2];
    for before in ["", "a", "ab", "id:", "user@x.io:"] {
        for status in [200, 500] {
            let shows = move |seen: &Seen| {
                let text = format!("{before}{}", sent(seen, "authorization").replace("Token ", ""));
                let hex = digits(&text);
                let body = format!("{} {} {hex}", STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text));
                let lines = format!("X-Echo: {}\r\n", STANDARD.encode(&text));
                chunked(status, &lines, &body, 7)
            };
            let world = World::with(Upstream::start(shows), config);
            let answer = world.get("/api/", "");
            let body = String::from_utf8(answer.body.clone()).unwrap();
            for text in body.split(' ').take(2).chain([answer.header("x-echo").unwrap()]) {
                let text = text.trim_end_matches('=').replace('*', "A");
                let decoded = URL_SAFE_NO_PAD.decode(text.replace('+', "-").replace('/', "_")).unwrap();
                let decoded = String::from_utf8_lossy(&decoded).into_owned();
                assert!((0..SECRET.len() - 8).all(|at| !decoded.contains(&SECRET[at..at + 8])), "{decoded}");
            }
            assert!(!body.contains(&digits(SECRET)));
            assert_eq!(world.trail_of(2)[1]["scrubbed"], 4, "{body}");
        }
    }
}

type Widen = fn(u8) -> Vec<u8>;

/// The charset of an `Accept` makes some servers answer in wide characters: they cannot hide the credential.
#[test]
fn a_secret_is_scrubbed_from_wide_characters() {
    let encodings: [(&str, Widen); 4] = [
        ("utf-16le", |byte| vec![byte, 0]),
        ("utf-16be", |byte| vec![0, byte]),
        ("utf-32le", |byte| vec![byte, 0, 0, 0]),
        ("utf-32be", |byte| vec![0, 0, 0, byte]),
    ];
    for (config, header, secret) in schemes() {
        let reusable = !config.contains("access-key = {}");
        for (charset, widen) in encodings {
            for status in [200, 500] {
                let shows = move |seen: &Seen| {
                    let text = format!("\u{7f}{{\"detail\":\"you sent {}\"}}", sent(seen, header));
                    let body: Vec<u8> = text.bytes().flat_map(widen).collect();
                    let kind = format!("Content-Type: application/json; charset={charset}");
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {status} Status\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
                    Reply { bytes: [head.as_bytes(), &body].concat(), close: false }
                };
                let world = World::with(Upstream::start(shows), &config);
                let accept = format!("application/json; charset={charset}");
                let answer =
                    world.get("/api/", &format!("Accept: {accept}\r\nAccept-Charset: {charset}\r\n"));
                let seen = world.upstream.seen().remove(0);
                assert_eq!((seen.one("accept"), seen.all("accept-charset").len()), (&*accept, 0));
                let secret = secret(&sent(&seen, header));
                let text = |shown: &str| shown.bytes().flat_map(widen).collect::<Vec<u8>>();
                let has = |shown: &str| {
                    let wanted = text(shown);
                    answer.body.windows(wanted.len()).any(|part| part == wanted)
                };
                // A signature is valid for one target only: claviger scrubs only its errors.
                let kept = !reusable && status < 400;
                assert_eq!((answer.status, has(&secret)), (status, kept), "{header} {charset}");
                assert!(kept || has(&"*".repeat(secret.len())), "{header} {charset} {status}");
                let outcome = world.trail_of(2).pop().unwrap();
                assert_eq!(outcome["scrubbed"].as_u64().unwrap_or(0), u64::from(!kept), "{outcome:#}");
                assert_eq!(outcome["dropped"], serde_json::json!(["accept-charset"]));
            }
        }
    }
}

#[test]
fn a_secret_in_the_reason_or_in_a_name_does_not_pass() {
    let (config, ..) = &schemes()[0];
    let shows = |seen: &Seen| {
        let secret = sent(seen, "x-api-key");
        Reply::raw(&format!("HTTP/1.1 200 {secret}\r\nx-{secret}: 1\r\nContent-Length: 2\r\n\r\nok"))
    };
    let world = World::with(Upstream::start(shows), config);
    let answer = world.get("/api/", "");
    assert!(!answer.head.to_ascii_lowercase().contains(&SECRET.to_ascii_lowercase()), "{}", answer.head);
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
    // The count is for the header name; claviger never passes on a reason phrase, whatever its text.
    assert_eq!(world.trail_of(2)[1]["scrubbed"], 1);
}

#[test]
fn what_shows_nothing_is_left_as_it_is() {
    let (config, ..) = &schemes()[0];
    let long = format!("{{\"detail\":\"{}\"}}", "no ".repeat(60_000));
    let length = long.len();
    let reply = format!(
        "HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{long}"
    );
    let world = World::with(Upstream::start(move |_| Reply::raw(&reply)), config);
    let answer = world.get("/api/", "");
    assert_eq!((answer.body.len(), answer.header("content-length")), (length, Some(&*length.to_string())));
    assert_eq!(answer.body, long.as_bytes());
    assert_eq!(world.trail_of(2)[1].get("scrubbed"), None);
}

/// A content coding cannot hide the credential: claviger asks for none, and blocks an error with one.
#[test]
fn a_coding_hides_nothing() {
    for (config, header, _) in schemes() {
        for (status, lines, wanted) in [
            (200, "Content-Encoding: gzip\r\n", 200),
            (302, "Content-Encoding: gzip\r\n", 302),
            (400, "Content-Encoding: br\r\n", 502),
            (404, "Content-Encoding: identity, gzip\r\n", 502),
            (500, "Content-Encoding: identity\r\nContent-Encoding: x-own\r\n", 502),
            (503, "Content-Encoding: identity\r\n", 503),
        ] {
            let coded = move |seen: &Seen| chunked(status, lines, &sent(seen, header), 3);
            let world = World::with(Upstream::start(coded), &config);
            let answer = world.get("/api/", "Accept-Encoding: gzip, br\r\nTE: gzip\r\n");
            assert_eq!(answer.status, wanted, "{header} {lines}");
            let seen = world.upstream.seen().remove(0);
            assert_eq!((seen.one("accept-encoding"), seen.all("te").len()), ("identity", 0));
            let outcome = world.trail_of(2).pop().unwrap();
            if wanted == 502 {
                assert_eq!(outcome["code"], "upstream_invalid");
                assert!(outcome["reason"].as_str().unwrap().contains("content coding"), "{outcome:#}");
            } else if wanted < 400 {
                assert_eq!(answer.body, sent(&seen, header).as_bytes(), "it passes untouched");
            }
        }
    }
}
