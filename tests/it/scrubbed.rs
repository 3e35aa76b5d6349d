//! An upstream that shows the credential it was sent: the consumer does not get to see it.

use crate::upstream::{Reply, SECRET, Seen, Upstream};
use crate::world::{CONFIG, World};

const AS_VALUE: (&str, &str) = ("access-key = { id = \"@KEY_ID@\", secret = ", "value = ");

/// The configuration with this scheme, whose credential is a value.
fn with(scheme: &str) -> String {
    let config = CONFIG.replace("scheme.access-key = {}", scheme).replace(AS_VALUE.0, AS_VALUE.1);
    config.replace("{ file = \"key.secret\" } }", "{ file = \"key.secret\" }")
}

/// What of a header's value is the secret.
type Secret = fn(&str) -> String;

/// Where each scheme puts its credential, and what of it is the secret.
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

/// An answer of this status with `body`, in chunks that end at `cut` and at the end.
fn chunked(status: u16, lines: &str, body: &str, cut: usize) -> Reply {
    let (first, second) = body.split_at(cut);
    let chunk =
        |text: &str| if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) };
    let head = format!("HTTP/1.1 {status} Status\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
    Reply::raw(&format!("{head}{}{}0\r\n\r\n", chunk(first), chunk(second)))
}

/// What the credential was in the last request that the upstream has seen.
fn sent(seen: &Seen, header: &str) -> String {
    seen.one(header).to_owned()
}

#[test]
fn a_credential_that_is_shown_is_scrubbed_from_lines_and_from_the_bodies_of_errors() {
    for (config, header, secret) in schemes() {
        for status in [200, 302, 400, 403, 404, 500, 503] {
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
            // A page that is no error may have anything in it, and streams.
            assert_eq!(
                body.matches(&secret).count(),
                if status < 400 { 2 } else { 0 },
                "{header} {status}: {body}"
            );
            assert_eq!(answer.status, status);
            let outcome = world.trail_of(2).pop().unwrap();
            assert_eq!(outcome["scrubbed"], if status < 400 { 1 } else { 3 }, "{outcome:#}");
        }
    }
}

#[test]
fn a_secret_that_comes_in_pieces_is_scrubbed_as_well() {
    let (config, header, _) = &schemes()[0];
    let before = "{\"detail\": \"";
    for cut in
        [1, before.len(), before.len() + 1, before.len() + SECRET.len() / 2, before.len() + SECRET.len() - 1]
    {
        let shows = move |seen: &Seen| {
            let body = format!("{before}{}\"}}", sent(seen, "x-api-key"));
            chunked(500, "Content-Type: text/plain\r\n", &body, cut)
        };
        let world = World::with(Upstream::start(shows), config);
        let answer = world.get("/api/", "");
        let body = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(body, format!("{before}{}\"}}", "*".repeat(SECRET.len())), "{header} cut at {cut}");
    }
}

/// What begins within the 64 KiB that are looked through is scrubbed to its end.
#[test]
fn a_secret_across_the_end_of_what_is_looked_through_is_scrubbed_whole() {
    let (config, ..) = &schemes()[0];
    for before in [65_536 - SECRET.len(), 65_530, 65_535] {
        let shows = move |seen: &Seen| {
            let body = format!("{}{}", ".".repeat(before), sent(seen, "x-api-key"));
            chunked(500, "Content-Type: text/plain\r\n", &body, body.len().min(65_537))
        };
        let world = World::with(Upstream::start(shows), config);
        let body = String::from_utf8(world.get("/api/", "").body).unwrap();
        assert_eq!(body[before..], "*".repeat(SECRET.len()), "{before}");
    }
}

#[test]
fn what_shows_nothing_is_left_as_it_is_and_so_is_what_is_compressed() {
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

    let coded = |seen: &Seen| chunked(500, "Content-Encoding: br\r\n", &sent(seen, "x-api-key"), 3);
    let world = World::with(Upstream::start(coded), config);
    assert_eq!(world.get("/api/", "").body, SECRET.as_bytes());
}
