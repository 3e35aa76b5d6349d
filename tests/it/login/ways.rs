//! How products accept a login, what they issue for it, and how they report that it has ended.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::bastion::{Bastion, Hands, jumpserver, ops};
use super::{call, reason_of};
use crate::support::port::Port;
use crate::support::upstream::{Reply, SECRET, Upstream};
use crate::support::wait::until;
use crate::support::world::World;

const TOKEN: &str = "scheme.login = { preset = \"ops-token\" }";
const COOKIE: &str = "scheme.login = { preset = \"ops-cookie\" }";

/// The upstream's last received request.
fn last(world: &World) -> crate::support::upstream::Seen {
    world.upstream.seen().last().unwrap().clone()
}

#[test]
fn a_token_or_a_cookie_is_sent_back_as_the_one_cookie() {
    for scheme in [TOKEN, COOKIE] {
        let (bastion, world) = Bastion::serve(ops(scheme), Hands::default());
        let answer = call(&world, "GET", "/api/machine?start=0&count=10", "");
        assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)), "{scheme}");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(last(&world).one("cookie"), "access_token=fake-token-1");
        assert!(last(&world).all("authorization").is_empty());
        assert_eq!(bastion.logins(), 1);
    }
}

#[test]
fn a_token_may_be_sent_in_any_header() {
    for (send, header, value) in [
        ("\"bearer\"", "authorization", "Bearer fake-token-1"),
        ("\"token\"", "authorization", "Token fake-token-1"),
        ("{ header = \"x-auth\" }", "x-auth", "fake-token-1"),
        ("{ cookie = \"sid\" }", "cookie", "sid=fake-token-1"),
    ] {
        let upstream = Upstream::start(|seen| match seen.target.as_str() {
            "/api/login" => Reply::json(r#"{"ok":true,"info":{"access_token":"fake-token-1"}}"#),
            _ => Reply::json(r#"{"ok":true}"#),
        });
        let world = World::with(
            upstream,
            &ops(&format!("scheme.login = {{ preset = \"ops-token\", send = {send} }}")),
        );
        assert_eq!(call(&world, "GET", "/api/machine", "").status, 200);
        assert_eq!(last(&world).one(header), value);
    }
}

#[test]
fn a_login_that_has_ended_is_told_by_the_body_of_a_200() {
    let (bastion, world) = Bastion::serve(ops(COOKIE), Hands::default());
    assert_eq!(call(&world, "GET", "/api/machine", "").json()["ok"], true);
    bastion.end_all();
    // However soon after the login this is: its token had been valid.
    assert_eq!(call(&world, "GET", "/api/machine", "").json()["ok"], true);
    assert_eq!((bastion.logins(), bastion.calls()), (2, 3));
    bastion.advance(Duration::from_secs(31));
    bastion.end_all();
    let body = json!({"action": "add", "data": {"name": "m1"}}).to_string();
    assert_eq!(call(&world, "POST", "/api/machine", &body).json()["ok"], false, "never made twice");
    assert_eq!((bastion.logins(), bastion.calls()), (2, 4));
    assert_eq!(call(&world, "POST", "/api/machine", &body).json()["ok"], true);
    assert_eq!((bastion.logins(), bastion.calls()), (3, 5));
    // An error that is not about the login costs one login, and its token causes no other for half a minute.
    bastion.hands(|hands| hands.refuse = Some(200));
    for _ in 0..3 {
        assert_eq!(call(&world, "GET", "/api/machine", "").json()["info"], "no such machine");
    }
    assert_eq!((bastion.logins(), bastion.calls()), (4, 9));
}

#[test]
fn a_refusal_in_the_body_of_a_200_is_one_of_the_login_too() {
    let (_, world) = Bastion::serve(ops(TOKEN), Hands { login: 200, ..Hands::default() });
    let refused = call(&world, "GET", "/api/machine", "");
    assert_eq!(refused.code(), "upstream_auth");
    assert_eq!(reason_of(&world, &refused), "the answer to the login says that it failed");
}

#[test]
fn an_answer_is_the_same_whether_it_was_looked_at_or_not() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/api/login" => Reply::json(r#"{"ok":true,"info":{"access_token":"fake-token-1"}}"#),
        "/short" => Reply::json(&format!(r#"{{"ok":true,"next":"http://{}/b"}}"#, seen.one("host"))),
        "/long" => Reply::json(&format!(r#"{{"ok":false,"info":"{}"}}"#, "x".repeat(200_000))),
        "/chunked" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n6\r\n:true}\r\n0\r\n\r\n",
        ),
        _ => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"ok\": ",
        ),
    });
    let config =
        ops(TOKEN).replace("credential = \"key\"", "credential = \"key\"\nlink_members = [\"next\"]");
    let world = World::with(upstream, &config);
    assert_eq!(call(&world, "GET", "/short", "").json(), json!({"ok": true, "next": "http://gw.test/b"}));
    let long = call(&world, "GET", "/long", "");
    assert_eq!((long.status, long.body.len(), long.whole), (200, 200_022, true));
    assert_eq!(call(&world, "GET", "/chunked", "").json(), json!({"ok": true}));
    assert_eq!(call(&world, "GET", "/torn", "").body, b"{\"ok\": ");
    assert_eq!(last(&world).one("accept-encoding"), "identity");
}

#[test]
fn a_login_may_be_sent_as_a_form_under_other_names() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/base/sign-in" => Reply::raw(
            "HTTP/1.1 200 OK\r\nSet-Cookie: sid=fake-sid; Max-Age=3600\r\nContent-Length: 2\r\n\r\nok",
        ),
        _ => Reply::json("{}"),
    });
    let scheme = "scheme.login = { path = \"/sign-in\", body = \"form\", username = \"user[name]\", password = \"pass\", cookie = \"sid\" }";
    let config =
        ops(scheme).replace("http://@UPSTREAM@", "http://@UPSTREAM@/base").replace("\"svc\"", "\"s v&c\"");
    let world = World::with(upstream, &config);
    assert_eq!(call(&world, "GET", "/x", "").status, 200);
    let login = world.upstream.seen()[0].clone();
    assert_eq!(login.one("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(String::from_utf8_lossy(&login.body), format!("user%5Bname%5D=s+v%26c&pass={SECRET}"));
    assert_eq!(last(&world).one("cookie"), "sid=fake-sid");
}

/// The code of a call after this answer to its login.
fn answered(bytes: &'static [u8]) -> String {
    let upstream = Upstream::start(|_| Reply { bytes: bytes.to_vec(), close: false });
    let config = ops(TOKEN).replace("upstream_timeout = \"10s\"", "upstream_timeout = \"400ms\"");
    let world = World::with(upstream, &config);
    let code = call(&world, "GET", "/api/machine", "").code();
    assert_eq!(world.upstream.seen().len(), 1);
    code
}

#[test]
fn an_answer_that_does_not_end_or_is_none_keeps_nobody_waiting() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    for (bytes, code) in [
        (b"".as_slice(), "upstream_timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", "upstream_timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "upstream_invalid"),
        (long.into_bytes().leak(), "upstream_invalid"),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "upstream_auth"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 37\r\n\r\n{\"info\":{\"access_token\":\"a\\r\\nb: c\"}}",
            "upstream_auth",
        ),
    ] {
        assert_eq!(answered(bytes), code, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
    }
}

/// An upstream like Foresight: JWTs with a lifetime of an hour, and refresh tokens.
fn foresight(refreshes: bool) -> (Bastion, World) {
    let bastion = Bastion::default();
    let clock = bastion.clone();
    let upstream = Upstream::start(move |seen| {
        let claims = json!({"exp": super::bastion::seconds(&clock) + 3600}).to_string();
        let jwt = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let told = String::from_utf8_lossy(&seen.body);
        match seen.target.as_str() {
            "/api/v1/admin/auth/" => {
                Reply::json(&json!({"token": jwt, "refresh_token": "fake-refresh-1"}).to_string())
            }
            "/api/v1/admin/refresh/" if refreshes && told == r#"{"refresh":"fake-refresh-1"}"# => {
                Reply::json(&json!({"token": jwt}).to_string())
            }
            "/api/v1/admin/refresh/" => Reply::raw("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
            _ => Reply::json("{}"),
        }
    });
    let scheme = "scheme.login = { preset = \"foresight\", refresh = { path = \"/api/v1/admin/refresh/\", member = \"refresh\" } }";
    let world = Bastion::before(&bastion, upstream, &ops(scheme));
    (bastion, world)
}

/// The targets of the requests that the upstream received.
fn targets(world: &World) -> Vec<String> {
    world.upstream.seen().iter().map(|seen| seen.target.replace("/api/v1/admin", "")).collect()
}

#[test]
fn a_jwt_is_renewed_by_its_refresh_token_before_it_ends() {
    let (bastion, world) = foresight(true);
    assert_eq!(call(&world, "GET", "/a", "").status, 200);
    bastion.advance(Duration::from_secs(3600 - 29));
    let first = last(&world).one("authorization").to_owned();
    until("the renewed token is used", || {
        assert_eq!(call(&world, "GET", "/b", "").status, 200);
        let seen = world.upstream.seen();
        seen.iter().rfind(|seen| seen.target == "/b").unwrap().one("authorization") != first
    });
    bastion.advance(Duration::from_secs(3600 + 29));
    assert_eq!(call(&world, "GET", "/c", "").status, 200);
    let mut seen = targets(&world);
    // Calls continued during the renewal.
    seen.retain(|target| target != "/b");
    assert_eq!(seen, ["/auth/", "/a", "/refresh/", "/refresh/", "/c"]);
}

#[test]
fn where_the_refresh_token_is_refused_the_password_is_sent() {
    let (bastion, world) = foresight(false);
    assert_eq!(call(&world, "GET", "/a", "").status, 200);
    bastion.advance(Duration::from_secs(3601));
    assert_eq!(call(&world, "GET", "/b", "").status, 200);
    assert_eq!(targets(&world), ["/auth/", "/a", "/refresh/", "/auth/", "/b"]);
}

#[test]
fn a_login_that_could_not_be_sent_is_made_elsewhere() {
    let port = Port::claim();
    let gone = port.address;
    let several =
        format!("endpoints = [\"http://{gone}\", \"http://@UPSTREAM@\"]\nhealth = {{ interval = \"0s\" }}");
    // claviger picks the first endpoint at random.
    for _ in 0..8 {
        let config = jumpserver().replace("endpoint = \"http://@UPSTREAM@\"", &several);
        let (bastion, world) = Bastion::serve(config, Hands::default());
        assert_eq!(call(&world, "POST", "/api/v1/users/", "{}").status, 200);
        assert_eq!(bastion.logins(), 1);
        let host = world.upstream.address.to_string();
        assert!(world.upstream.seen().iter().all(|seen| seen.one("host") == host));
    }
}
