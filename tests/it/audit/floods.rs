//! The trail counts repeated refusals of strangers and consumers in summaries, so that nobody can fill it.

use serde_json::Value;

use crate::support::frames::{Consumer, PING, read};
use crate::support::ledger::request;
use crate::support::process::{Site, patient};
use crate::support::tls::Authority;
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, TOKEN, World, events, verified};

const LIMITS: &str = "[limits]\nrefusals_per_minute = 3\nauth_failures_per_minute = 0";

/// The outcomes and summaries on the trail of a gateway that has ended.
fn told(mut world: World) -> (Vec<Value>, Vec<Value>) {
    world.server.take().unwrap().stop(std::time::Duration::from_secs(5));
    let dir = world.folder.path().join("state/audit");
    assert_eq!(verified(&dir).unwrap().finding, None);
    let all = events(&dir);
    let of = |event: &str, what: Option<&str>| {
        let wanted = all.iter().filter(|told| told["event"] == event && told["what"].as_str() == what);
        wanted.cloned().collect::<Vec<Value>>()
    };
    (of("outcome", None), of("journal", Some("suppressed")))
}

#[test]
fn a_stranger_is_told_of_so_often_and_then_in_sum() {
    for (name, bytes, status) in [
        ("malformed", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("method", request("TRACE", "/", ""), 405),
        ("target", request("GET", "/a%2Fb/", ""), 400),
        ("two credentials", request("GET", "/", "x-api-key: other\r\n"), 400),
        ("none", "GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n".to_owned(), 401),
    ] {
        let world = World::with(Upstream::ok(), &CONFIG.replace("[limits]", LIMITS));
        for _call in 0..10 {
            assert_eq!(world.exchange(&bytes).status, status, "{name}");
        }
        assert_eq!(world.exchange(request("GET", "/api/", "")).status, 200, "{name}: good calls go on");
        let (outcomes, sums) = told(world);
        assert_eq!(outcomes.len(), 3 + 1, "{name}");
        let [sum] = &sums[..] else { panic!("{name}: {sums:?}") };
        assert_eq!((&sum["peer"], &sum["refusals"]), (&"127.0.0.1".into(), &7.into()), "{name}");
        assert!(sum["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{name}: {sum}");
    }
}

#[test]
fn a_consumer_is_told_of_ten_times_as_often() {
    let world = World::with(Upstream::ok(), &CONFIG.replace("[limits]", LIMITS));
    let denied = request("GET", "/api/", &format!("X-JMS-ORG: {}\r\n", "2".repeat(36)));
    for _call in 0..40 {
        assert_eq!(world.exchange(&denied).status, 403);
    }
    assert_eq!(world.exchange(request("GET", "/api/", "")).status, 200);
    let (outcomes, sums) = told(world);
    assert_eq!(outcomes.len(), 30 + 1);
    let [sum] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!(
        (&sum["consumer"], &sum["refusals"], &sum["peer"]),
        (&"tool".into(), &10.into(), &Value::Null)
    );
}

/// The trail cuts a stranger's long texts, and limits their bytes per minute.
#[test]
fn a_stranger_fills_no_more_of_the_trail_by_long_requests() {
    const MOST: usize = 20;
    let limits = format!("[limits]\nrefusals_per_minute = {MOST}\nauth_failures_per_minute = 0");
    let config = CONFIG.replace("[limits]", &limits);
    let nobody = |target: &str| {
        let agent = "\"".repeat(4000);
        format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n")
    };
    for (name, target, status, fewest) in [
        ("backslashes", format!("/{}", "\\".repeat(8000)), 400, MOST / 2),
        ("quotes in a query", format!("/?{}", "\"".repeat(8000)), 401, MOST / 2),
        // The mask removes this text, so the event is short.
        ("a password before a host", format!("http://me:{}@gw.test/", "\\".repeat(7000)), 400, MOST),
    ] {
        let world = World::with(Upstream::ok(), &config);
        for _call in 0..3 * MOST {
            assert_eq!(world.exchange(nobody(&target)).status, status, "{name}");
        }
        let (outcomes, sums) = told(world);
        let told_of = outcomes.len();
        assert!(
            (fewest..=MOST).contains(&told_of) && (told_of < MOST || fewest == MOST),
            "{name}: {told_of}"
        );
        let [sum] = &sums[..] else { panic!("{name}: {sums:?}") };
        assert_eq!(sum["refusals"], 3 * MOST - outcomes.len(), "{name}");
        let sizes: Vec<usize> = outcomes.iter().map(|outcome| outcome.to_string().len()).collect();
        assert!(sizes.iter().all(|size| *size < 2048), "{name}: {sizes:?}");
        assert!(sizes.iter().sum::<usize>() < (MOST + 2) * 1024, "{name}: {sizes:?}");
        for outcome in &outcomes {
            assert!(!outcome.to_string().contains("me:"), "{name}: {outcome}");
            if name == "backslashes" {
                assert_eq!(
                    (&outcome["cut"], &outcome["target_bytes"]),
                    (&1.into(), &8001.into()),
                    "{outcome}"
                );
            }
        }
    }
}

/// The libraries log warnings about malformed frames; nobody may fill the log with them.
#[test]
fn a_stranger_fills_no_log_by_frames_that_make_no_sense() {
    let (upstream, authority) = (Upstream::ok(), Authority::new());
    let pair = authority.issue("gw.test", |_| {});
    let listener = format!(
        "address = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\" }}",
        pair.cert.display(),
        pair.key.display()
    );
    let config = patient(CONFIG).replace("address = \"127.0.0.1:0\"", &listener);
    let site = Site::with(upstream.address, &format!("{config}[admin]\naddress = \"@ADMIN@\"\n"));
    let process = site.start();
    for _connection in 0..5 {
        let mut consumer = Consumer::to(process.address, &authority, b"");
        for _frame in 0..90 {
            consumer.send(PING, 1, 0, b"12345678");
        }
        consumer.ask(1, &read("/api/", &format!("Bearer {TOKEN}"), &[]), true);
        assert_eq!(consumer.answer(1).1, "{\"ok\":true}", "all before it was read");
    }
    let (_, said) = process.end();
    assert!(said.lines().count() < 20 && !said.contains("PING"), "{said}");
}

#[test]
fn without_a_limit_every_refusal_is_told() {
    let config = CONFIG.replace("[limits]", &LIMITS.replace("= 3", "= 0"));
    let world = World::with(Upstream::ok(), &config);
    for _call in 0..20 {
        assert_eq!(world.exchange("GET / HTTP/1.1\r\n\r\n").status, 400);
    }
    let (outcomes, sums) = told(world);
    assert_eq!((outcomes.len(), sums.len()), (20, 0));
}
