//! Upstreams whose answers are invalid, incomplete, late or absent.

use std::time::{Duration, Instant};

use crate::support::ledger::{ANSWERED, Fate, Ledger, failed, request};
use crate::support::port::Port;
use crate::support::script::{Line, Script};
use crate::support::world::{Answer, World};

/// The expected end of one call to a misbehaving upstream.
struct Case {
    name: &'static str,
    method: &'static str,
    answer: String,
    /// Whether the upstream closes the connection after its answer.
    close: bool,
}

fn case(name: &'static str, answer: impl Into<String>) -> Case {
    Case { name, method: "GET", answer: answer.into(), close: false }
}

/// Plays `cases` in turn, each on the connection that asks for it, and valid answers otherwise.
fn play(line: &mut Line, cases: &[(String, bool)]) {
    loop {
        let head = line.head();
        let Some(target) = head.split(' ').nth(1) else { return };
        let number =
            target.strip_prefix("/case/").and_then(|rest| rest.trim_end_matches('/').parse::<usize>().ok());
        let Some((answer, close)) = number.and_then(|number| cases.get(number)) else {
            line.answer(&line.number.to_string());
            continue;
        };
        line.say(answer);
        if *close {
            return;
        }
    }
}

/// Runs every case; `judge` checks its answer. After each, a valid call must use another connection.
fn run(cases: Vec<Case>, judge: impl Fn(&mut Ledger, &Case, &Answer)) {
    let bytes: Vec<(String, bool)> = cases.iter().map(|case| (case.answer.clone(), case.close)).collect();
    let script = Script::start(move |line| play(line, &bytes));
    let mut ledger = Ledger::new(script.world());
    for (number, case) in cases.iter().enumerate() {
        let mut raw = ledger.world.connect();
        raw.send(request(case.method, &format!("/case/{number}/"), "Connection: close\r\n"));
        let answer = raw.answer();
        judge(&mut ledger, case, &answer);
        assert_eq!(script.count(&format!(" /case/{number}/ ")), 1, "{}: sent once", case.name);
        let used = script.heard().len();
        let next = ledger.world.get("/good/", "");
        assert_eq!(String::from_utf8_lossy(&next.body), used.to_string(), "{}: never reused", case.name);
        ledger.note("the next", &next, 200, ANSWERED);
        assert!(case.close || script.ended(used - 1), "{}: left open", case.name);
    }
    ledger.check();
}

const INVALID: Fate = failed("upstream_invalid");

fn with(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{lines}\r\n{body}")
}

#[test]
fn an_answer_that_two_readers_may_read_differently_is_a_502() {
    let one = "Content-Length: 2\r\n";
    let mut cases = vec![
        case("CL and TE", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        case("two lengths", with("Content-Length: 2\r\nContent-Length: 3\r\n", "hi")),
        case("two equal lengths", with("Content-Length: 2\r\nContent-Length: 2\r\n", "hi")),
        case("a list of lengths", with("Content-Length: 2, 2\r\n", "hi")),
        case("plus", with("Content-Length: +2\r\n", "hi")),
        case("minus", with("Content-Length: -2\r\n", "hi")),
        case("empty length", with("Content-Length:\r\n", "hi")),
        case("huge length", with("Content-Length: 99999999999999999999\r\n", "hi")),
        case(
            "two codings",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        case("gzip", with("Transfer-Encoding: gzip\r\n", "hi")),
        case(
            "chunked in HTTP/1.0",
            with("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("1.1", "1.0"),
        ),
        case("status 99", "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n"),
        case("status 2000", "HTTP/1.1 2000 High\r\nContent-Length: 0\r\n\r\n"),
        case("status 600", "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n"),
        case("status -1", "HTTP/1.1 -10 Low\r\nContent-Length: 0\r\n\r\n"),
        case("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
        case("HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"),
        case("no HTTP", "SSH-2.0-OpenSSH_9.9\r\n"),
        case("HTTP/0.9", "<html>hello</html>"),
        case("NUL in a value", with(&format!("{one}X-A: a\0b\r\n"), "hi")),
        case("NUL in a name", with(&format!("{one}X\0A: b\r\n"), "hi")),
        case("bare CR", with(&format!("{one}X-A: a\rX-B: b\r\n"), "hi")),
        case("bare LF", with(&format!("{one}X-A: a\nX-B: b\r\n"), "hi")),
        case("LF alone", with(one, "").replace("\r\n", "\n")),
        case("obs-fold", with(&format!("{one}X-A: a\r\n b\r\n"), "hi")),
        case("space before colon", with("Content-Length : 2\r\n", "hi")),
        case("more than announced", with(one, "hi!")),
        case("another answer behind", with(one, "hiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")),
        case("body in a 204", "HTTP/1.1 204 No Content\r\n\r\nhi"),
        case("body in a 304", "HTTP/1.1 304 Not Modified\r\n\r\nhi"),
        case("one huge line", with(&format!("{one}X-A: {}\r\n", "a".repeat(70_000)), "hi")),
        case("huge lines", with(&format!("X-A: {}\r\n", "a".repeat(1000)).repeat(90), "hi")),
        case("many lines", with(&"X-A: b\r\n".repeat(101), "")),
        case("endless status line", format!("HTTP/1.1 200 {}", "a".repeat(70_000))),
        case("101 unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        case("interim without end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(20)),
        case("another server's file", with(&format!("{one}X-Accel-Redirect: /etc/passwd\r\n"), "hi")),
    ];
    cases.push(Case { method: "HEAD", ..case("body to HEAD", with(one, "hi")) });
    run(cases, |ledger, case, answer| {
        if case.method == "HEAD" {
            ledger.note_head(case.name, answer, 502, INVALID);
        } else {
            ledger.note(case.name, answer, 502, INVALID);
        }
    });
}

#[test]
fn an_upstream_that_closes_early_is_a_502_and_asked_once() {
    let mut cases = vec![
        case("at once", ""),
        case("in the status line", "HTTP/1.1 20"),
        case("in the headers", "HTTP/1.1 200 OK\r\nContent-Le"),
        case("after an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n"),
    ];
    for case in &mut cases {
        case.close = true;
    }
    run(cases, |ledger, case, answer| ledger.note(case.name, answer, 502, failed("upstream_closed")));
}

#[test]
fn an_answer_that_breaks_off_is_visibly_cut() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        case("known length", with("Content-Length: 10\r\n", "half ")),
        case("chunked, between chunks", with(chunked, "5\r\nhalf \r\n")),
        case("chunked, in a chunk", with(chunked, "a\r\nhalf ")),
        case("chunked, before the end", with(chunked, "5\r\nhalf \r\n0\r\n")),
    ];
    for case in &mut cases {
        case.close = true;
    }
    run(cases, |ledger, case, answer| {
        assert!(!answer.whole, "{}: {answer:?}", case.name);
        assert!(b"half ".starts_with(&answer.body), "{}: {answer:?}", case.name);
        ledger.note_head(case.name, answer, 200, failed("upstream_closed"));
    });
}

#[test]
fn a_chunked_answer_with_a_trick_in_it_is_cut_there() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let first = "5\r\nhalf \r\n";
    let cases = [
        "+5\r\nxxxxx\r\n0\r\n\r\n",
        "5\r\nxxxxxx\r\n0\r\n\r\n",
        "5\nxxxxx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "0\r\nContent-Length: 3\r\n\r\n",
        "g\r\n\r\n",
    ];
    let cases = cases.into_iter().map(|rest| case(rest, with(chunked, &format!("{first}{rest}")))).collect();
    run(cases, |ledger, case, answer| {
        if answer.status == 502 {
            return ledger.note(case.name, answer, 502, INVALID);
        }
        assert!(!answer.whole && b"half ".starts_with(&answer.body), "{:?}: {answer:?}", case.name);
        ledger.note_head(case.name, answer, 200, INVALID);
    });
}

#[test]
fn a_stalling_upstream_is_a_504_or_a_cut_answer() {
    let cases = vec![
        case("no answer", ""),
        case("half a head", "HTTP/1.1 200 OK\r\nContent-"),
        case("half a body", with("Content-Length: 10\r\n", "half ")),
        case("half a chunked body", with("Transfer-Encoding: chunked\r\n", "5\r\nhalf \r\n")),
    ];
    let began = Instant::now();
    run(cases, |ledger, case, answer| {
        if case.name.ends_with("body") {
            assert!(!answer.whole && answer.body == b"half ", "{}: {answer:?}", case.name);
            ledger.note_head(case.name, answer, 200, failed("upstream_timeout"));
        } else {
            ledger.note(case.name, answer, 504, failed("upstream_timeout"));
        }
    });
    assert!(began.elapsed() >= Duration::from_millis(2400), "{:?}", began.elapsed());
}

#[test]
fn an_upstream_that_is_not_there_is_a_502() {
    let port = Port::claim();
    let gone = port.address;
    let config = crate::support::world::CONFIG.replace("@UPSTREAM@", &gone.to_string());
    let mut ledger = Ledger::new(World::with(crate::support::upstream::Upstream::ok(), &config));
    for method in ["GET", "POST"] {
        let answer = ledger.world.exchange(request(method, "/api/", ""));
        ledger.note(method, &answer, 502, failed("upstream_unreachable"));
    }
    assert!(ledger.check().iter().all(|outcome| outcome["attempts"] == 0));
}

#[test]
fn a_401_to_our_credential_is_not_shown_as_the_consumers() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Signature\r\nContent-Length: 4\r\n\r\nbad!";
    run(vec![case("401", answer)], |ledger, case, answer| {
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(!String::from_utf8_lossy(&answer.body).contains("bad!"));
        ledger.note(case.name, answer, 502, failed("upstream_auth"));
    });
}

/// Progress during the first time-out must not cause a second one.
#[test]
fn a_call_with_a_body_waits_one_time_out_for_its_answer() {
    let script = Script::start(|line| {
        line.head();
        line.until_closed();
    });
    let config = crate::support::world::CONFIG.replace("\"600ms\"", "\"3s\"");
    let mut ledger = Ledger::new(script.world_with(&config));
    for body in ["", "hi"] {
        let began = Instant::now();
        let lines = format!("Content-Length: {}\r\n", body.len());
        let answer = ledger.world.exchange(request("POST", "/api/", &lines) + body);
        let took = began.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_millis(5900)).contains(&took), "{body:?}: {took:?}");
        ledger.note(body, &answer, 504, failed("upstream_timeout"));
    }
    ledger.check();
}
