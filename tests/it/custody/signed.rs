//! Virtual access keys: what a script's own signature permits, and what claviger does with it.

use std::time::SystemTime;

use claviger::clock::{http_date, rfc3339};
use claviger::signature::HmacKey;
use serde_json::Value;

use super::{Site, at_work, code, get};
use crate::support::process::Process;
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::{found, until_or};
use crate::support::world::{Answer, Raw};

/// An access key as it was issued.
struct Pair {
    id: String,
    secret: String,
}

impl Site {
    fn pair(&self, more: &[&str]) -> Pair {
        let issued = self.done(&[&["access-key", "issue", "--consumer", "tool"], more].concat());
        let text = |name: &str| issued[name].as_str().unwrap().to_owned();
        assert_eq!((text("consumer"), text("id").len(), text("secret").len()), ("tool".into(), 36, 36));
        Pair { id: text("id"), secret: text("secret") }
    }

    /// The latest outcome on the trail.
    fn last_outcome(&self) -> Value {
        self.events().into_iter().rfind(|event| event["event"] == "outcome").unwrap()
    }
}

fn today() -> String {
    http_date(SystemTime::now()).to_str().unwrap().to_owned()
}

/// A GET, signed as the product's scripts sign.
fn signed(pair: &Pair, target: &str, date: &str) -> String {
    signed_as(pair, (target, target), date)
}

/// The same, with different targets in the signature and in the request.
fn signed_as(Pair { id, secret }: &Pair, (sent, signed): (&str, &str), date: &str) -> String {
    let string = format!("(request-target): get {signed}\naccept: application/json\ndate: {date}");
    let signature = HmacKey::new(secret.as_bytes()).sign(string.as_bytes());
    format!(
        "GET {sent} HTTP/1.1\r\nHost: gw.test\r\nAccept: application/json\r\nDate: {date}\r\nAuthorization: \
         Signature keyId=\"{id}\",algorithm=\"hmac-sha256\",headers=\"(request-target) accept date\",\
         signature=\"{signature}\"\r\n\r\n"
    )
}

fn send(process: &Process, request: &str) -> Answer {
    let mut raw = Raw::to(process.address);
    raw.send(request);
    raw.answer()
}

/// Sends until the status is `status`.
fn soon(process: &Process, request: &str, status: u16) -> Answer {
    let look = || Some(send(process, request)).filter(|answer| answer.status == status);
    found(look, || format!("{status}: {:?} {}", send(process, request), process.said()))
}

#[test]
fn a_script_that_signs_changes_nothing_but_its_key() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let process = site.start();
    let pair = site.pair(&["--note", "its script's"]);
    // A `Date` far from now is valid, and the same bytes are accepted twice.
    let request = signed(
        &pair,
        "/api/v1/users/users/?username=%E5%BC%A0&search=a%2Bb",
        "Mon, 17 Feb 2014 06:11:05 GMT",
    );
    soon(&process, &request, 200);
    assert_eq!(send(&process, &request).status, 200);
    for seen in upstream.seen() {
        assert_eq!(seen.unsigned, None, "{}", seen.raw_head);
        assert!(!seen.raw_head.contains(&pair.id), "{}", seen.raw_head);
        assert_eq!(seen.signed_by(&seen.target, &[(KEY_ID, SECRET)]), Ok(0));
        assert!(!seen.raw_head.contains("2014"), "signed anew: {}", seen.raw_head);
    }
    let outcome = site.last_outcome();
    assert_eq!((&outcome["via"], &outcome["access_key"]), (&"access-key".into(), &pair.id.as_str().into()));
    assert_eq!((&outcome["consumer"], &outcome["nonce"]), (&"tool".into(), &Value::Null));
    let listed = site.done(&["access-key", "list", "--consumer", "tool"]);
    assert_eq!((&listed[0]["id"], &listed[0]["note"]), (&pair.id.as_str().into(), &"its script's".into()));
    assert!(!listed.to_string().contains(&pair.secret));
    site.done(&["access-key", "revoke", &pair.id]);
    let refused = soon(&process, &request, 401);
    assert_eq!(code(&refused), "unauthenticated");
    assert_eq!(site.last_outcome()["reason"], "revoked credential");
    // The trail records a change a moment after it takes effect.
    let told = || -> Vec<_> { site.admin_events().iter().map(|event| event["what"].clone()).collect() };
    until_or(|| told().contains(&"access key revoked".into()), || format!("{:?}", told()));
    assert!(told().contains(&"access key issued".into()), "{:?}", told());
    assert_eq!(process.end().0, Some(0));
    let restarted = site.start();
    assert_eq!(send(&restarted, &request).status, 401);
    assert_eq!(site.last_outcome()["reason"], "revoked credential");
}

#[test]
fn the_trail_names_the_line_that_differs() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let process = site.start();
    let pair = site.pair(&[]);
    soon(&process, &signed(&pair, "/api/", &today()), 200);
    let stranger = Pair { id: uuid::Uuid::now_v7().to_string(), secret: pair.secret.clone() };
    let guesser = Pair { id: pair.id.clone(), secret: "x".repeat(36) };
    for (request, reason) in [
        (
            signed_as(&pair, ("/jms/api/?token=a", "/api/?token=a"), &today()),
            "signature does not verify: line 1 differs: signed was `(request-target): get /api/?token=***`, \
             received `(request-target): get /jms/api/?token=***`",
        ),
        (signed(&guesser, "/api/", &today()), "signature does not verify: the secret is wrong, or several"),
        (signed(&stranger, "/api/", &today()), "unknown access key"),
        (
            signed(&pair, "/api/", &today()).replace("hmac-sha256", "hmac-sha1"),
            "signature does not verify: the secret is wrong, or several",
        ),
        (
            signed(&pair, "/api/", &today()).replace("signature=", "sig="),
            "signature without keyId or signature",
        ),
    ] {
        let answer = send(&process, &request);
        assert_eq!((answer.status, code(&answer).as_str()), (401, "unauthenticated"), "{request}");
        let outcome = site.last_outcome();
        let told = outcome["reason"].as_str().unwrap();
        assert!(told.starts_with(reason), "{told}");
        assert!(outcome["fingerprint"].is_string(), "{outcome}");
        assert!(!outcome.to_string().contains(&pair.secret) && outcome["consumer"].is_null(), "{outcome}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

/// Finding the differing line costs a thousand times a refusal: beyond the limit, claviger does not search.
#[test]
fn beyond_the_limit_of_failures_no_line_is_looked_for() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let limited = config.replace("auth_failures_per_minute = 0", "auth_failures_per_minute = 2");
    assert_ne!(limited, config);
    site.write(&limited);
    let pair = site.pair(&[]);
    let process = site.start();
    assert_eq!(send(&process, &signed(&pair, "/api/", &today())).status, 200);
    let wrong = signed_as(&pair, ("/jms/api/", "/api/"), &today());
    for (status, explained) in [(401, true), (401, true), (429, false)] {
        assert_eq!(send(&process, &wrong).status, status);
        let outcome = site.last_outcome();
        let reason = outcome["reason"].as_str().unwrap();
        assert!(reason.starts_with("signature does not verify"), "{outcome}");
        assert_eq!(reason.contains("line 1 differs"), explained, "{outcome}");
    }
}

#[test]
fn explain_tells_the_same_of_a_request_in_a_file() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    let pair = site.pair(&[]);
    let file = site.folder.path().join("received.txt");
    let explain = |request: &str| {
        std::fs::write(&file, request).unwrap();
        site.run(&["explain", "--received", file.to_str().unwrap(), "--output", "json"])
    };
    let done = super::done(&explain(&signed(&pair, "/api/v1/users?x=1", "Mon, 17 Feb 2014 06:11:05 GMT")));
    assert_eq!((&done["decision"], &done["target"]), (&"allowed".into(), &"/api/v1/users/?x=1".into()));
    let by_token = format!("GET /api/ HTTP/1.1\nAuthorization: Bearer {token}\n\n");
    assert_eq!(super::done(&explain(&by_token))["decision"], "allowed");
    let wrong = explain(&signed_as(&pair, ("/jms/api/", "/api/"), "today"));
    assert_eq!(wrong.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert!(
        told["reason"].as_str().unwrap().contains("line 1 differs: signed was `(request-target): get /api/`")
    );
    let expected = "(request-target): get /jms/api/\naccept: application/json\ndate: today";
    assert_eq!(told["expected"], expected);
    for ill in ["", "hello\n", "GET /\n", "GET / HTTP/1.1\nno header\n", "GET / HTTP/1.1\nA b: c\n"] {
        std::fs::write(&file, ill).unwrap();
        assert!(
            site.refused(&["explain", "--received", file.to_str().unwrap()]).contains("received.txt"),
            "{ill}"
        );
    }
    let usage = site.run(&["explain", "GET", "/api/"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

#[test]
fn a_strict_keys_signature_is_good_once_and_for_its_window_and_a_restart_does_not_forget() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    let process = site.start();
    let pair = site.pair(&["--strict", "--window", "2m"]);
    let once = signed(&pair, "/api/", &today());
    soon(&process, &once, 200);
    let again = send(&process, &once);
    assert_eq!((again.status, code(&again).as_str()), (401, "replayed"));
    let outcome = site.last_outcome();
    assert_eq!((&outcome["reason"], &outcome["consumer"]), (&"signature used before".into(), &"tool".into()));
    let old = http_date(SystemTime::now() - std::time::Duration::from_secs(150)).to_str().unwrap().to_owned();
    for date in [old.as_str(), "yesterday"] {
        let stale = send(&process, &signed(&pair, "/api/", date));
        assert_eq!((stale.status, code(&stale).as_str()), (401, "replayed"), "{date}");
        assert_eq!(site.last_outcome()["reason"], "date out of the key's window");
    }
    // A signature that was refused for another reason is used up as well.
    assert_eq!(send(&process, &signed(&pair, "/other/", &today())).status, 200);
    site.done(&["freeze", "--consumer", "tool"]);
    super::soon(&process, &token, 403);
    process.kill();
    let restarted = site.start();
    assert_eq!(code(&send(&restarted, &once)), "replayed", "after a kill");
    site.done(&["unfreeze", "--consumer", "tool"]);
    super::soon(&restarted, &token, 200);
    assert_eq!(send(&restarted, &signed(&pair, "/third/", &today())).status, 200);
    assert_eq!(get(restarted.address, "/api/", &token).status, 200);
    let seen = upstream.seen().iter().filter(|seen| seen.target == "/api/").count();
    assert_eq!(seen, 2, "once by the signature, once by the token");
}

#[test]
fn a_key_may_only_what_it_was_issued_for() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let process = site.start();
    let ends = rfc3339(SystemTime::now() + std::time::Duration::from_secs(3));
    let (ending, wide) = (site.pair(&["--expires", &ends]), site.pair(&["--allow", "hmac-sha1"]));
    soon(&process, &signed(&ending, "/api/", &today()), 200);
    let string = format!("(request-target): get /api/\ndate: {}", today());
    let sha1 = |secret: &str| {
        let key =
            aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            aws_lc_rs::hmac::sign(&key, string.as_bytes()),
        )
    };
    let by_sha1 = |pair: &Pair| {
        let (date, signature) = (string.rsplit("date: ").next().unwrap(), sha1(&pair.secret));
        format!(
            "GET /api/ HTTP/1.1\r\nHost: gw.test\r\ndate: {date}\r\nAuthorization: Signature headers=\
             \"(request-target) date\" , signature=\"{signature}\", keyId=\"{}\",algorithm=\"hmac-sha1\"\r\n\r\n",
            pair.id
        )
    };
    soon(&process, &by_sha1(&wide), 200);
    assert_eq!(send(&process, &by_sha1(&ending)).status, 401);
    assert_eq!(site.last_outcome()["reason"], "signature by an algorithm that the key does not allow");
    soon(&process, &signed(&ending, "/api/", &today()), 401);
    assert_eq!(site.last_outcome()["reason"], "expired credential");
    site.done(&["consumer", "disable", "tool"]);
    soon(&process, &signed(&wide, "/api/", &today()), 401);
    assert_eq!(site.last_outcome()["reason"], "disabled consumer");
    let two = signed(&wide, "/api/", &today()).replace("Host:", "x-api-key: a\r\nHost:");
    assert_eq!(send(&process, &two).status, 400);
}

#[test]
fn keys_are_sealed_rotated_and_restored_with_the_store() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let pair = site.pair(&[]);
    let process = site.start();
    soon(&process, &signed(&pair, "/api/", &today()), 200);
    let rotated = site.done(&["master-key", "rotate", "--yes"]);
    assert_eq!((&rotated["versions"], &rotated["access_keys"]), (&1.into(), &1.into()));
    soon(&process, &signed(&pair, "/api/", &today()), 200);
    assert_eq!(process.end().0, Some(0));
    let process = site.start();
    assert_eq!(send(&process, &signed(&pair, "/api/", &today())).status, 200);
    for path in std::fs::read_dir(site.state()).unwrap() {
        let path = path.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let found = memchr::memmem::find(&bytes, pair.secret.as_bytes());
        assert_eq!(found, None, "{}", path.display());
    }
    assert!(site.refused(&["access-key", "issue", "--consumer", "nobody"]).contains("no consumer `nobody`"));
    let window = ["access-key", "issue", "--consumer", "tool", "--strict", "--window", "2d"];
    assert!(site.refused(&window).contains("at most 1h"));
    assert!(site.refused(&["access-key", "revoke", "x"]).contains("access-key list"));
    let removed = site.done(&["consumer", "remove", "tool", "--yes"]);
    assert_eq!(removed["removed"], true);
    soon(&process, &signed(&pair, "/api/", &today()), 401);
}

/// As JumpServer's Java SDK does: the key id and secret in header lines, besides the signature.
#[test]
fn the_secret_of_a_key_reaches_nobody_in_another_line() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let process = site.start();
    let pair = site.pair(&[]);
    let more = format!(
        "keyId: {0}\r\nsecret: {1}\r\nalgorithm: HMAC_SHA256\r\nX-Request-ID: {1}\r\nUser-Agent: sdk ({1})\r\n\r\n",
        pair.id, pair.secret
    );
    let request = signed(&pair, "/api/v1/users/users/", &today());
    let answer = soon(&process, &request.replace("\r\n\r\n", &format!("\r\n{more}")), 200);
    assert_eq!(answer.status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert!(!seen.raw_head.contains(&pair.secret) && !seen.raw_head.contains(&pair.id), "{}", seen.raw_head);
    let outcome = site.last_outcome();
    assert_eq!(
        outcome["dropped"],
        serde_json::json!(["keyid", "secret", "algorithm", "x-request-id", "user-agent"])
    );
    assert!(!outcome.to_string().contains(&pair.secret), "{outcome}");

    let target = format!("/api/v1/users/users/?secret={}", pair.secret);
    let answer = send(&process, &signed(&pair, &target, &today()));
    assert_eq!((answer.status, answer.code()), (400, "duplicate_credential".into()));
    assert!(!site.last_outcome().to_string().contains(&pair.secret));

    let found = site.done(&["audit", "search", "--text", "keyid"]);
    assert!(found.to_string().contains("\"keyid\""), "{found}");
    let explained = site.done(&[
        "explain",
        "--consumer",
        "tool",
        "-H",
        "X-Remote-User: root",
        "-H",
        "Accept: */*",
        "GET",
        "/api/v1/users/users/",
    ]);
    assert_eq!(explained["dropped"], serde_json::json!(["x-remote-user"]));
}
