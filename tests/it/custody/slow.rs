//! A call whose body arrives slowly cannot use what was revoked meanwhile.

use super::{CONFIG, add, at_work, begun_with as begun_site, issue, soon, verified};
use crate::support::process::Process;
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::{until, until_read};
use crate::support::world::Raw;

/// Begins a call with a chunked body; claviger forwards it once it is complete.
pub(super) fn begun(process: &Process, token: &str) -> Raw {
    begun_with(process, token, "Transfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n")
}

fn begun_with(process: &Process, token: &str, rest: &str) -> Raw {
    let in_flight = || {
        let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
        let now = metrics.lines().find_map(|line| line.strip_prefix("claviger_in_flight "));
        now.unwrap().parse::<u32>().unwrap()
    };
    until("no other call is in flight", || in_flight() == 0);
    let mut raw = Raw::to(process.address);
    raw.send(format!(
        "POST /api/v1/slow/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\n{rest}"
    ));
    until_read(&raw.socket);
    // The present rules have admitted the call, or claviger has already refused it.
    until("it is judged", || in_flight() == 1 || has_answer(&raw));
    raw
}

fn has_answer(raw: &Raw) -> bool {
    raw.socket.set_nonblocking(true).unwrap();
    let seen = raw.socket.peek(&mut [0]);
    raw.socket.set_nonblocking(false).unwrap();
    seen.is_ok()
}

pub(super) fn ended(mut raw: Raw) -> (u16, String) {
    raw.send("1\r\n}\r\n0\r\n\r\n");
    let answer = raw.answer();
    (answer.status, answer.header("claviger-error").unwrap_or_default().to_owned())
}

#[test]
fn a_body_that_comes_slowly_keeps_nothing_that_was_taken_away() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, token) = at_work(&upstream);
    let process = site.start();
    let answered = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(ended(begun(&process, &token)), answered(200, ""), "nothing was taken away");

    let call = begun(&process, &token);
    site.done(&["freeze", "--upstream", "jms"]);
    soon(&process, &token, 503);
    assert_eq!(ended(call), answered(503, "frozen"));
    site.done(&["unfreeze", "--upstream", "jms"]);
    soon(&process, &token, 200);

    let call = begun(&process, &token);
    site.done(&["credential", "disable", "jms"]);
    soon(&process, &token, 503);
    assert_eq!(ended(call), answered(503, "credential_unavailable"));
    site.done(&["credential", "enable", "jms"]);
    soon(&process, &token, 200);

    let call = begun(&process, &token);
    let issued = site.done(&["token", "list"]);
    site.done(&["token", "revoke", issued[0]["id"].as_str().unwrap()]);
    soon(&process, &token, 401);
    assert_eq!(ended(call), answered(401, "unauthenticated"));
    assert_eq!(upstream.seen().iter().filter(|seen| seen.target.contains("slow")).count(), 1);
    assert_eq!(process.end().0, Some(0));
    let ends: Vec<_> = site.events().into_iter().filter(|event| event["target"] == "/api/v1/slow/").collect();
    let outcomes: Vec<_> = ends.iter().filter(|event| event["event"] == "outcome").collect();
    assert_eq!((outcomes.len(), ends.len()), (4, 8), "one outcome for each intent");
    assert!(outcomes.iter().skip(1).all(|outcome| outcome["attempts"] == 0), "{outcomes:#?}");
}

/// The same with a body that turns out to be empty, or that claviger streams.
#[test]
fn no_other_body_keeps_it_either() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, token) = at_work(&upstream);
    let process = site.start();
    for (begin, rest) in [
        ("Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"),
        ("Content-Length: 3\r\n\r\n{", ""),
        ("Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n{", ""),
    ] {
        let mut call = begun_with(&process, &token, begin);
        site.done(&["freeze", "--upstream", "jms"]);
        soon(&process, &token, 503);
        call.send(rest);
        let answer = call.answer();
        assert_eq!((answer.status, answer.header("claviger-error")), (503, Some("frozen")), "{begin}");
        site.done(&["unfreeze", "--upstream", "jms"]);
        soon(&process, &token, 200);
    }
    assert!(!upstream.seen().iter().any(|seen| seen.target.contains("slow")), "it never was whole");
    assert_eq!(process.end().0, Some(0));
    let ends: Vec<_> = site.events().into_iter().filter(|event| event["target"] == "/api/v1/slow/").collect();
    let attempts = |event: &&serde_json::Value| event["event"] == "outcome" && event["attempts"] == 1;
    assert_eq!((ends.iter().filter(attempts).count(), ends.len()), (2, 6), "{ends:#?}");
}

/// claviger does not read the body of a frozen call, even if a rule would judge it.
#[test]
fn a_frozen_call_is_told_so_before_its_body_has_come() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let judged = CONFIG.replace("paths = [\"/**\"]", "paths = [\"/**\"], body = { action = \"*\" }");
    assert_ne!(judged, CONFIG);
    let site = begun_site(&upstream, &judged);
    add(&site, "jms", SECRET);
    let token = issue(&site, "tool");
    let process = site.start();
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    let rest = "Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n{";
    let answer = begun_with(&process, &token, rest).answer();
    assert_eq!((answer.status, answer.header("claviger-error")), (503, Some("frozen")));
    assert_eq!(process.end().0, Some(0));
}
