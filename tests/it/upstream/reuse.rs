//! Idle connections to an upstream: when claviger uses one again, and which requests it sends again.

use std::time::Duration;

use crate::support::ledger::{ANSWERED, Ledger, failed, request};
use crate::support::script::{Line, Script};
use crate::support::wait::{Gate, lapse};
use crate::support::world::{CONFIG, World};

const LONG: &str = "X-A: b\r\n";

/// Answers the first `good` calls of its connection, sends `last` at the next call, and dies.
fn dies_after(line: &mut Line, good: usize, last: &str) {
    for _call in 0..good {
        match line.head() {
            head if head.is_empty() => return,
            head if head.starts_with("HEAD ") => line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"),
            head => {
                line.body(length(&head));
                line.answer(&line.number.to_string());
            }
        }
    }
    called(line);
    line.say(last);
}

fn length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.parse().unwrap())
}

/// Reads one complete request; returns whether one arrived.
fn called(line: &mut Line) -> bool {
    let head = line.head();
    !head.is_empty() && line.body(length(&head))
}

fn bytes(method: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    request(method, "/again/", &format!("{LONG}{length}Connection: close\r\n")) + body
}

/// A ledger whose gateway has one idle connection to `script`.
fn warmed(script: &Script) -> Ledger {
    let mut ledger = Ledger::new(script.world());
    let answer = ledger.world.get("/warm/", "");
    ledger.note("warm", &answer, 200, ANSWERED);
    ledger
}

#[test]
fn a_connection_is_used_again() {
    let script = Script::start(|line| dies_after(line, 9, ""));
    let mut ledger = warmed(&script);
    for method in ["GET", "POST", "DELETE"] {
        let answer = ledger.world.exchange(bytes(method, "hi"));
        ledger.note(method, &answer, 200, ANSWERED);
    }
    assert_eq!(script.heard().len(), 1);
    assert!(ledger.check().iter().all(|outcome| outcome["attempts"] == 1));
}

#[test]
fn a_safe_request_is_sent_once_more_where_a_kept_connection_died() {
    // JumpServer's SDK sends `{}` with each GET.
    for (method, body) in [("GET", ""), ("HEAD", ""), ("GET", "{}")] {
        let script = Script::start(|line| dies_after(line, if line.number == 0 { 1 } else { 9 }, ""));
        let mut ledger = warmed(&script);
        let answer = ledger.world.exchange(bytes(method, body));
        ledger.note_head(method, &answer, 200, ANSWERED);
        assert_eq!((script.count(" /again/ "), script.heard().len()), (2, 2), "{method}");
        assert_eq!(ledger.check()[1]["attempts"], 2, "{method}");
    }
}

#[test]
fn nothing_else_is_ever_sent_twice() {
    for (name, method, body, last, code) in [
        ("POST", "POST", "hi", "", "upstream_closed"),
        ("POST without a body", "POST", "", "", "upstream_closed"),
        ("PUT", "PUT", "hi", "", "upstream_closed"),
        ("PATCH", "PATCH", "hi", "", "upstream_closed"),
        ("DELETE", "DELETE", "", "", "upstream_closed"),
        ("OPTIONS", "OPTIONS", "", "", "upstream_closed"),
        ("GET with a long body", "GET", &"x".repeat(5000), "", "upstream_closed"),
        ("GET, once a byte has come", "GET", "", "H", "upstream_closed"),
        ("GET, once a wrong answer has come", "GET", "", "nonsense", "upstream_invalid"),
    ] {
        let last = last.to_owned();
        let script = Script::start(move |line| dies_after(line, 1, &last));
        let mut ledger = warmed(&script);
        let answer = ledger.world.exchange(bytes(method, body));
        ledger.note(name, &answer, 502, failed(code));
        assert_eq!((script.count(" /again/ "), script.heard().len()), (1, 1), "{name}");
        assert_eq!(ledger.check()[1]["attempts"], 1, "{name}");
    }
}

#[test]
fn a_safe_request_is_not_sent_a_third_time_nor_again_on_a_new_connection() {
    let script = Script::start(|line| dies_after(line, usize::from(line.number == 0), ""));
    let mut ledger = warmed(&script);
    let answer = ledger.world.exchange(bytes("GET", ""));
    ledger.note("both die", &answer, 502, failed("upstream_closed"));
    assert_eq!((script.count(" /again/ "), script.heard().len()), (2, 2));
    let answer = ledger.world.exchange(bytes("GET", ""));
    ledger.note("a new one dies", &answer, 502, failed("upstream_closed"));
    assert_eq!((script.count(" /again/ "), script.heard().len()), (3, 3));
    let attempts: Vec<u64> =
        ledger.check().iter().map(|outcome| outcome["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 1]);
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_not_used() {
    for method in ["GET", "POST", "DELETE"] {
        let script = Script::start(|line| {
            if line.number > 0 {
                return dies_after(line, 9, "");
            }
            called(line);
            line.answer("0");
        });
        let mut ledger = warmed(&script);
        script.left(0);
        let answer = ledger.world.exchange(bytes(method, ""));
        ledger.note(method, &answer, 200, ANSWERED);
        assert_eq!((answer.body.as_slice(), script.count(" /again/ ")), (b"1".as_slice(), 1), "{method}");
        assert_eq!(ledger.check()[1]["attempts"], 1, "{method}");
    }
}

#[test]
fn a_connection_is_given_up_where_the_upstream_or_the_time_says_so() {
    let pool = CONFIG.replace("credential = \"key\"", "credential = \"key\"\npool_idle = \"100ms\"");
    for (name, config, said) in [
        ("close", CONFIG, "Connection: close\r\n"),
        ("HTTP/1.0", CONFIG, ""),
        ("idle for too long", pool.as_str(), ""),
        ("bytes afterwards", CONFIG, ""),
        ("bytes behind a chunked answer", CONFIG, "Transfer-Encoding: chunked\r\n"),
    ] {
        let (answered, forged) = (<[Gate; 2]>::default(), <[Gate; 2]>::default());
        let (wait, told) = (answered.clone(), forged.clone());
        let script = Script::start(move |line| {
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{said}\r\nhi");
            if name == "HTTP/1.0" {
                answer = answer.replace("1.1", "1.0");
            } else if said.starts_with("Transfer") {
                let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
                answer = format!("HTTP/1.1 200 OK\r\n{said}\r\n2\r\nhi\r\n0\r\n\r\n{forged}");
            }
            while called(line) {
                line.say(&answer);
                if name == "bytes afterwards" {
                    wait[line.number].pass();
                    line.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
                    told[line.number].open();
                }
            }
        });
        let mut ledger = Ledger::new(script.world_with(config));
        for call in 0..2 {
            let answer = ledger.world.get("/api/", "");
            assert_eq!(answer.body, b"hi", "{name}");
            ledger.note(name, &answer, 200, ANSWERED);
            answered[call].open();
            match name {
                "idle for too long" => lapse(Duration::from_millis(250), "longer than `pool_idle`"),
                "bytes afterwards" => forged[call].pass(),
                _ => {}
            }
        }
        assert_eq!(script.heard().len(), 2, "{name}");
        ledger.check();
    }
}

/// If an upstream answers and stops reading, the end of a body stays in the socket buffers: the connection
/// looks free and accepts nothing. The sizes of the buffers depend on the system.
#[test]
fn a_connection_that_takes_nothing_holds_nobody_up() {
    let script = Script::start(|line| {
        line.has_little_room();
        line.head();
        lapse(Duration::from_millis(60), "the upload fills the buffers meanwhile");
        line.answer("early");
        lapse(Duration::from_secs(4), "it reads nothing for long");
    });
    let config = CONFIG
        .replace("max_body = \"256KiB\"", "max_body = \"16MiB\"")
        .replace("credential = \"key\"", "credential = \"key\"\npool_idle = \"5s\"")
        .replace("upstream_timeout = \"600ms\"", "upstream_timeout = \"200ms\"");
    let world = script.world_with(&config);
    for size in (12..30).map(|step| step * 200_000) {
        let mut raw = world.connect();
        let mut sending = raw.socket.try_clone().unwrap();
        let upload = std::thread::spawn(move || {
            let head = request("POST", "/api/", &format!("Content-Length: {size}\r\n"));
            let _sent =
                std::io::Write::write_all(&mut sending, &[head.into_bytes(), vec![b'x'; size]].concat());
        });
        raw.answer();
        let began = std::time::Instant::now();
        let next = world.get("/api/next/", "");
        let took = began.elapsed();
        assert!(next.status != 0 && took < Duration::from_secs(2), "{size}: {took:?}, {next:?}");
        drop(raw.socket.shutdown(std::net::Shutdown::Both));
        upload.join().unwrap();
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let script = Script::start(|line| {
        called(line);
        line.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    });
    let mut ledger = Ledger::new(script.world());
    let answer = ledger.world.get("/api/", "");
    ledger.note("until close", &answer, 200, ANSWERED);
    assert_eq!((answer.body.as_slice(), answer.whole), (b"until the end".as_slice(), true));
    ledger.check();
}

/// An HTTP/1.0 consumer finds the end of a body at the end of the connection: a cut must look different.
#[test]
fn a_cut_answer_is_no_whole_one_to_an_old_consumer_either() {
    let begun = Gate::default();
    let cut = begun.clone();
    let script = Script::start(move |line| {
        called(line);
        line.say(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
        );
        cut.pass();
    });
    let world: World = script.world();
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(raw.head().status, 200);
    begun.open();
    let mut answer = Vec::new();
    let read = std::io::Read::read_to_end(&mut raw.socket, &mut answer);
    assert!(read.is_err(), "{read:?}: {}", String::from_utf8_lossy(&answer));
    crate::support::ledger::only_call(&world, failed("upstream_closed"));
}

/// The same case, with a consumer that does not read for too long.
#[test]
fn an_answer_that_an_old_consumer_did_not_take_is_no_whole_one() {
    let script = Script::start(|line| {
        called(line);
        line.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        line.say(vec![b'x'; 64_000_000]);
        line.until_closed();
    });
    let world: World = script.world();
    let mut raw = world.connect();
    raw.send(request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.0"));
    assert!(script.ended(0), "the upstream's connection is closed");
    crate::support::ledger::only_call(&world, crate::support::ledger::abandoned(None));
    let mut answer = Vec::new();
    let read = std::io::Read::read_to_end(&mut raw.socket, &mut answer);
    assert!(read.is_err(), "{read:?}: {} bytes", answer.len());
}
