//! Logins: claviger exchanges a name and a password once for all consumers, and again when that is due.

mod bastion;
mod client;
mod rsa;
mod scrubbed;
mod ways;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::wait::until;
use crate::support::world::{Answer, TOKEN, World};
use bastion::{Bastion, Hands, jumpserver, ops};

/// A request with the tool's token.
pub fn call(world: &World, method: &str, target: &str, body: &str) -> Answer {
    let length = body.len();
    world.exchange(format!(
        "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\nCookie: access_token=theirs\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

/// Sends eight calls at once; returns the statuses of the answers.
fn eight(world: &World, method: &str, target: &str) -> Vec<u16> {
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| call(world, method, target, "").status)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

/// The reason in the outcome of a call.
fn reason_of(world: &World, answer: &Answer) -> String {
    world.outcome_of(answer)["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_login_gives_a_token_that_is_used_until_it_ends() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands::default());
    for _ in 0..3 {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    }
    let seen = world.upstream.seen();
    let [login, calls @ ..] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((login.method.as_str(), login.target.as_str()), ("POST", "/api/v1/authentication/auth/"));
    assert_eq!(login.one("host"), world.upstream.address.to_string());
    assert_eq!(login.one("accept"), "application/json");
    assert_eq!(login.one("content-type"), "application/json");
    for name in ["authorization", "cookie", "x-jms-org"] {
        assert!(login.all(name).is_empty(), "{name}");
    }
    let body: serde_json::Value = serde_json::from_slice(&login.body).unwrap();
    assert_eq!(body, json!({"username": "svc", "password": crate::support::upstream::SECRET}));
    assert_eq!(calls.len(), 3);
    for seen in calls {
        assert_eq!(seen.one("authorization"), "Bearer fake-token-1");
        assert!(seen.all("cookie").is_empty());
    }
    assert_eq!(bastion.logins(), 1);
    let logins: Vec<_> = world.trail().iter().map(|event| event["logins"].clone()).collect();
    assert_eq!(logins, [json!(null), json!(1), json!(null), json!(null), json!(null), json!(null)]);
    // The answer set the token's expiry to 24 hours later.
    bastion.advance(Duration::from_secs(86_400 - 31));
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    assert_eq!(bastion.logins(), 1);
    // Half a minute before the expiry, claviger obtains the next token, and no call waits for it.
    bastion.advance(Duration::from_secs(2));
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    bastion.wait_logins(2);
    assert_eq!(
        world
            .upstream
            .seen()
            .iter()
            .filter(|seen| seen.all("authorization") == ["Bearer fake-token-2"])
            .count(),
        0
    );
    until("the next is used", || {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
        world.upstream.seen().last().unwrap().one("authorization") == "Bearer fake-token-2"
    });
}

#[test]
fn eight_at_once_over_all_workers_make_one_login_each_time_that_it_ends() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { slow: true, ..Hands::default() });
    for round in 1..=3 {
        assert_eq!(eight(&world, "GET", "/api/v1/users/"), [200; 8]);
        assert_eq!(bastion.logins(), round);
        // The upstream ended the token before its expiry.
        bastion.advance(Duration::from_mins(1));
        bastion.end_all();
    }
    for round in 4..=6 {
        assert_eq!(eight(&world, "GET", "/api/v1/users/"), [200; 8]);
        assert_eq!(bastion.logins(), round);
        // The token expired.
        bastion.advance(Duration::from_hours(24));
    }
}

#[test]
fn a_stream_of_calls_goes_on_while_logins_end() {
    let (bastion, world) = Bastion::serve(
        ops("scheme.login = { preset = \"ops-token\", send = \"bearer\", lifetime = \"1s\" }"),
        Hands { real_time: true, life: Some(Duration::from_secs(4)), ..Hands::default() },
    );
    let until = Instant::now() + Duration::from_millis(3300);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while Instant::now() < until {
                    assert_eq!(call(&world, "GET", "/api/machine", "").json()["ok"], true);
                }
            });
        }
    });
    assert!((3..=5).contains(&bastion.logins()), "every 0.9 s, if not held up: {}", bastion.logins());
}

/// Sends a call with a body of unknown length.
fn call_chunked(world: &World, body: &str) -> Answer {
    world.exchange(format!(
        "POST /api/v1/users/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()
    ))
}

#[test]
fn a_write_is_made_again_where_the_401_comes_before_anything_is_done() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands::default());
    assert_eq!(call(&world, "POST", "/api/v1/users/", "{}").status, 200);
    let (kept, spooled) = ("x".repeat(64 * 1024), "y".repeat(200 * 1024));
    let bodies = [
        ("POST", "{}"),
        ("DELETE", ""),
        ("PATCH", &kept),
        ("PUT", &format!("{kept}x")),
        ("POST", &spooled),
        ("chunked", &spooled),
        ("GET", &spooled),
    ];
    for (round, (method, body)) in bodies.into_iter().enumerate() {
        bastion.advance(Duration::from_mins(1));
        bastion.end_all();
        let answer = match method {
            "chunked" => call_chunked(&world, body),
            method => call(&world, method, "/api/v1/users/7/", body),
        };
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!((bastion.logins(), bastion.calls()), (2 + round, 3 + 2 * round), "{method}");
        let seen = world.upstream.seen();
        let [first, _, second] = &seen[seen.len() - 3..] else { unreachable!() };
        assert!(first.body == body.as_bytes() && second.body == body.as_bytes(), "{method}");
        assert_ne!(first.one("authorization"), second.one("authorization"));
        let last = world.outcome_of(&answer);
        assert_eq!((&last["attempts"], &last["logins"]), (&json!(2), &json!(1)), "{method}");
    }
    // A 403 may have another reason than the login; a second 401 is final.
    bastion.advance(Duration::from_mins(1));
    bastion.hands(|hands| hands.refuse = Some(403));
    assert_eq!(call(&world, "POST", "/api/v1/users/", "{}").status, 403);
    assert_eq!((bastion.logins(), bastion.calls()), (8, 16));
    bastion.hands(|hands| hands.refuse = Some(401));
    let refused = call(&world, "POST", "/api/v1/users/", "{}");
    assert_eq!(refused.code(), "upstream_auth");
    let reason = reason_of(&world, &refused);
    assert!(!reason.contains("not repeated"), "{reason}");
}

#[test]
fn what_may_have_been_done_is_never_made_twice() {
    let config = jumpserver().replace("scheme.login", "repeat_after_401 = false\nscheme.login");
    let (bastion, world) = Bastion::serve(config, Hands::default());
    assert_eq!(call(&world, "POST", "/api/v1/users/", "{}").status, 200);
    for (round, (method, body)) in [("POST", "{}"), ("POST", ""), ("DELETE", "")].into_iter().enumerate() {
        bastion.advance(Duration::from_mins(1));
        bastion.end_all();
        let refused = call(&world, method, "/api/v1/users/7/", body);
        assert_eq!((refused.status, refused.code().as_str()), (502, "upstream_auth"));
        let reason = reason_of(&world, &refused);
        assert!(reason.ends_with("the call is not repeated: some of it may have been done"), "{reason}");
        assert_eq!((bastion.logins(), bastion.calls()), (1 + round, 2 + round * 2));
        // claviger logs in again for the next call.
        assert_eq!(call(&world, "DELETE", "/api/v1/users/7/", "").status, 200);
        assert_eq!((bastion.logins(), bastion.calls()), (2 + round, 3 + round * 2));
    }
}

#[test]
fn a_401_to_a_fresh_token_is_the_upstreams_word() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { refuse: Some(401), ..Hands::default() });
    for _ in 0..5 {
        let refused = call(&world, "GET", "/api/v1/users/", "");
        assert_eq!((refused.status, refused.code().as_str()), (502, "upstream_auth"));
    }
    assert_eq!((bastion.logins(), bastion.calls()), (1, 5));
    bastion.advance(Duration::from_secs(31));
    let refused = call(&world, "GET", "/api/v1/users/", "");
    assert_eq!(refused.status, 502);
    assert_eq!((bastion.logins(), bastion.calls()), (2, 7));
    let last = world.outcome_of(&refused);
    assert_eq!(
        (&last["attempts"], &last["logins"], &last["upstream_status"]),
        (&json!(2), &json!(1), &json!(401))
    );
}

#[test]
fn a_403_may_mean_that_the_login_has_ended_and_mostly_does_not() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { refuse: Some(403), ..Hands::default() });
    for _ in 0..3 {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 403);
    }
    assert_eq!((bastion.logins(), bastion.calls()), (1, 3));
    bastion.advance(Duration::from_secs(31));
    // One new login was worth an attempt; claviger passes on the upstream's answer after it.
    for _ in 0..3 {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 403);
    }
    assert_eq!((bastion.logins(), bastion.calls()), (2, 7));
    bastion.advance(Duration::from_secs(31));
    bastion.hands(|hands| (hands.refuse, hands.login) = (None, 400));
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    bastion.hands(|hands| hands.refuse = Some(403));
    // If no other login is possible, claviger keeps the present token in use.
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 403);
    bastion.hands(|hands| hands.refuse = None);
    for _ in 0..4 {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    }
    assert_eq!(bastion.logins(), 3);
}

#[test]
fn a_403_to_one_holds_up_no_others_where_the_login_does_not_answer() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands::default());
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    bastion.advance(Duration::from_secs(31));
    bastion.hands(|hands| (hands.refuse, hands.hold) = (Some(403), true));
    thread::scope(|scope| {
        let refused = scope.spawn(|| call(&world, "GET", "/api/v1/settings/", "").status);
        bastion.wait_logins(2);
        bastion.hands(|hands| hands.refuse = None);
        bastion.advance(Duration::from_secs(6));
        assert_eq!(eight(&world, "POST", "/api/v1/users/"), [200; 8]);
        assert!(!refused.is_finished());
        bastion.hands(|hands| (hands.refuse, hands.hold) = (Some(403), false));
        assert_eq!(refused.join().unwrap(), 403);
    });
    assert_eq!(bastion.logins(), 2);
}

#[test]
fn a_wrong_password_is_tried_twice_however_many_ask_and_once_an_hour_from_then_on() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { login: 400, ..Hands::default() });
    for logins in [2, 2, 2, 3, 4] {
        for _ in 0..3 {
            assert_eq!(eight(&world, "GET", "/api/v1/users/"), [502; 8]);
        }
        let refused = call(&world, "POST", "/api/v1/users/", "{}");
        assert_eq!(refused.code(), "upstream_auth");
        assert!(
            !String::from_utf8_lossy(&refused.body).contains("password_failed"),
            "not the consumer's affair"
        );
        let reason = reason_of(&world, &refused);
        assert!(
            reason.contains("no login now") && reason.ends_with("answered 400 (password_failed)"),
            "{reason}"
        );
        assert_eq!((bastion.logins(), bastion.calls()), (logins, 0));
        bastion.advance(Duration::from_mins(if logins == 2 { 20 } else { 60 }));
    }
    bastion.hands(|hands| hands.login = 201);
    assert_eq!(eight(&world, "GET", "/api/v1/users/"), [200; 8]);
    assert_eq!(bastion.logins(), 5);
    let text = world.server().metrics.text();
    let counted =
        text.lines().find(|line| line.starts_with("claviger_upstream_auth_failures_total{")).unwrap();
    assert!(counted.ends_with(" 125"), "{counted}");
}

#[test]
fn what_no_second_try_can_change_is_tried_once() {
    for (status, word) in
        [(400, "block_login"), (200, "mfa_required"), (403, "login_confirm_required"), (400, "user_expired")]
    {
        let hands = Hands { login: status, word, ..Hands::default() };
        let (bastion, world) = Bastion::serve(jumpserver(), hands);
        for _ in 0..3 {
            assert_eq!(eight(&world, "GET", "/api/v1/users/"), [502; 8], "{word}");
        }
        let refused = call(&world, "GET", "/api/v1/users/", "");
        assert_eq!(refused.code(), "upstream_auth");
        let reason = reason_of(&world, &refused);
        assert!(reason.starts_with("no login now") && reason.ends_with(&format!("({word})")), "{reason}");
        bastion.advance(Duration::from_mins(59));
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 502);
        assert_eq!((bastion.logins(), bastion.calls()), (1, 0), "{word}");
        bastion.advance(Duration::from_mins(1));
        bastion.hands(|hands| hands.login = 201);
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    }
}

#[test]
fn an_answer_that_is_not_about_the_password_does_not_hold_for_an_hour() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { login: 204, ..Hands::default() });
    let refused = call(&world, "GET", "/api/v1/users/", "");
    assert_eq!(refused.code(), "upstream_auth");
    let reason = reason_of(&world, &refused);
    assert!(reason.contains("no token at /token"), "{reason}");
    let throttled = Hands { login: 429, word: "throttled", ..Hands::default() };
    let missing = Hands { login: 404, word: "not_found", ..Hands::default() };
    for hands in [throttled, missing] {
        bastion.advance(Duration::from_secs(30));
        bastion.hands(|held| *held = hands);
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").code(), "upstream_auth");
    }
    assert_eq!(bastion.logins(), 3);
    bastion.advance(Duration::from_secs(30));
    bastion.hands(|hands| hands.login = 201);
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
}

#[test]
fn a_login_that_is_down_is_told_as_such_and_is_no_wrong_password() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { login: 0, ..Hands::default() });
    for _ in 0..4 {
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").code(), "upstream_closed");
    }
    assert_eq!(bastion.logins(), 1, "not more than once a second");
    // The upstream may still have checked the password, so claviger waits longer before each new attempt.
    for pause in [1, 2, 4, 8] {
        bastion.advance(Duration::from_millis(pause * 1000 - 100));
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").code(), "upstream_closed");
        bastion.advance(Duration::from_millis(100));
        assert_eq!(call(&world, "GET", "/api/v1/users/", "").code(), "upstream_closed");
    }
    assert_eq!(bastion.logins(), 5);
    bastion.hands(|hands| hands.login = 503);
    bastion.advance(Duration::from_secs(16));
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").code(), "upstream_invalid");
    bastion.hands(|hands| hands.login = 201);
    bastion.advance(Duration::from_secs(30));
    assert_eq!(call(&world, "GET", "/api/v1/users/", "").status, 200);
    assert_eq!(bastion.logins(), 7);
    // Down when a login is due: the first call gets the reason, and the trail has the upstream's answer.
    bastion.advance(Duration::from_mins(1));
    bastion.end_all();
    bastion.hands(|hands| hands.login = 0);
    let refused = call(&world, "GET", "/api/v1/users/", "");
    assert_eq!(refused.code(), "upstream_closed");
    let last = world.outcome_of(&refused);
    assert_eq!(
        (&last["attempts"], &last["logins"], &last["upstream_status"]),
        (&json!(1), &json!(1), &json!(401))
    );
}

#[test]
fn whoever_causes_a_login_and_leaves_ends_it_for_nobody() {
    let (bastion, world) = Bastion::serve(jumpserver(), Hands { hold: true, ..Hands::default() });
    let bastion = Arc::new(bastion);
    let mut leaving = world.connect();
    leaving.send(format!(
        "GET /api/v1/users/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ));
    bastion.wait_logins(1);
    crate::support::ledger::reset(leaving);
    let in_flight = || world.server().metrics.in_flight.get();
    until("nobody's call is left", || in_flight() == 0);
    thread::scope(|scope| {
        let others = scope.spawn(|| eight(&world, "GET", "/api/v1/users/"));
        until("all others wait for the login", || in_flight() == 8);
        bastion.hands(|hands| hands.hold = false);
        assert_eq!(others.join().unwrap(), [200; 8]);
    });
    assert_eq!(bastion.logins(), 1);
}
