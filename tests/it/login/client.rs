//! OAuth 2.0 client credentials: claviger sends the client's secret only to the token endpoint, and the
//! token only to the upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::bastion::{Bastion, ops};
use super::{call, eight, reason_of};
use crate::support::upstream::{Reply, SECRET, Upstream};
use crate::support::wait::lapse;
use crate::support::world::World;

/// A token endpoint.
struct Giver {
    upstream: Upstream,
    status: Arc<AtomicU64>,
    given: Arc<AtomicUsize>,
}

impl Giver {
    fn start() -> Self {
        let (status, given) = (Arc::new(AtomicU64::new(200)), Arc::new(AtomicUsize::new(0)));
        let (told, count) = (Arc::clone(&status), Arc::clone(&given));
        let upstream = Upstream::start(move |_| {
            lapse(Duration::from_millis(50), "others come while it is under way");
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let status = told.load(Ordering::SeqCst);
            let body = match status {
                200 => {
                    json!({"access_token": format!("fake-token-{number}"), "expires_in": 3600, "scope": "api", "token_type": "bearer"})
                }
                _ => json!({"error": "invalid_client", "error_description": SECRET}),
            };
            let body = body.to_string();
            Reply::raw(&format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
        });
        Self { upstream, status, given }
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    /// A gateway for an upstream that accepts the tokens issued here.
    fn serve(&self, settings: &str) -> (Bastion, World) {
        let bastion = Bastion::default();
        let upstream = Upstream::start(|seen| match seen.one("authorization") {
            "Bearer fake-token-1" if seen.target == "/ended" => {
                Reply::raw("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
            }
            _ => Reply::json("{}"),
        });
        let scheme = format!(
            "scheme.client-credentials = {{ token_url = \"http://{}/oauth2/token\"{settings} }}",
            self.upstream.address
        );
        let config = ops(&scheme)
            .replace("login = { username = \"svc\", password", "client = { id = \"svc:1 ü\", secret")
            .replace('ü', "x");
        let world = bastion.before(upstream, &config);
        (bastion, world)
    }
}

#[test]
fn a_client_is_given_one_token_for_all_until_it_ends() {
    let giver = Giver::start();
    let (bastion, world) = giver.serve(", scope = \"api\"");
    for round in 1..=3 {
        assert_eq!(eight(&world, "GET", "/api/v2/users"), [200; 8]);
        assert_eq!(giver.given(), round);
        bastion.advance(Duration::from_hours(1));
    }
    let asked = giver.upstream.seen()[0].clone();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/oauth2/token"));
    assert_eq!(asked.one("host"), giver.upstream.address.to_string());
    assert_eq!(asked.one("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked.one("accept"), "application/json");
    let pair = format!("svc%3A1+x:{SECRET}");
    assert_eq!(asked.one("authorization"), format!("Basic {}", STANDARD.encode(pair)));
    assert_eq!(asked.body, b"grant_type=client_credentials&scope=api");
    for seen in world.upstream.seen() {
        let sent = format!("{}{}", seen.raw_head, String::from_utf8_lossy(&seen.body));
        assert!(!sent.contains(SECRET) && seen.one("authorization").starts_with("Bearer fake-token-"));
    }
    assert!(giver.upstream.seen().iter().all(|seen| !seen.raw_head.contains("fake-token")));
}

#[test]
fn a_client_may_prove_itself_in_the_body() {
    let giver = Giver::start();
    let (_, world) = giver.serve(", auth = \"form\"");
    assert_eq!(call(&world, "GET", "/a", "").status, 200);
    let asked = giver.upstream.seen()[0].clone();
    assert!(asked.all("authorization").is_empty());
    let body = String::from_utf8(asked.body).unwrap();
    assert_eq!(body, format!("grant_type=client_credentials&client_id=svc%3A1+x&client_secret={SECRET}"));
}

#[test]
fn a_token_that_has_ended_early_is_asked_for_once_more() {
    let giver = Giver::start();
    let (bastion, world) = giver.serve("");
    assert_eq!(call(&world, "GET", "/a", "").status, 200);
    bastion.advance(Duration::from_mins(5));
    assert_eq!(eight(&world, "GET", "/ended"), [200; 8]);
    assert_eq!(giver.given(), 2);
}

#[test]
fn a_client_that_is_refused_is_tried_twice_and_again_after_an_hour() {
    let giver = Giver::start();
    giver.status.store(401, Ordering::SeqCst);
    let (bastion, world) = giver.serve("");
    for _ in 0..3 {
        assert_eq!(eight(&world, "GET", "/a"), [502; 8]);
    }
    let refused = call(&world, "GET", "/a", "");
    assert_eq!(refused.code(), "upstream_auth");
    let reason = reason_of(&world, &refused);
    assert!(reason.ends_with("answered 401 (invalid_client)"), "{reason}");
    assert_eq!((giver.given(), world.upstream.seen().len()), (2, 0));
    giver.status.store(200, Ordering::SeqCst);
    bastion.advance(Duration::from_mins(59));
    assert_eq!((call(&world, "GET", "/a", "").status, giver.given()), (502, 2));
    bastion.advance(Duration::from_mins(1));
    assert_eq!(call(&world, "GET", "/a", "").status, 200);
}
