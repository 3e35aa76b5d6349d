//! One call from end to end.

use crate::support::upstream::Upstream;
use crate::support::world::{ORG, TOKEN, World};

#[test]
fn a_bearer_token_makes_a_signed_recorded_call() {
    let world = World::new(Upstream::ok());
    let answer = world.get("/api/v1/users/users?limit=2", "");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{\"ok\":true}".as_slice()), "{answer:?}");
    let seen = world.upstream.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/api/v1/users/users/?limit=2"));
    assert_eq!(seen.one("x-jms-org"), ORG);
    assert!(!seen.raw_head.contains(TOKEN));
    let trail = world.trail_of(2);
    assert_eq!((&trail[0]["event"], &trail[1]["event"]), (&"intent".into(), &"outcome".into()));
    assert_eq!(trail[1]["ended"], "answered");
    assert_eq!(trail[1]["request_id"].as_str(), answer.header("x-request-id"));
}

#[test]
fn an_address_is_never_shared_with_another_gateway() {
    let first = World::new(Upstream::ok());
    let config = crate::support::world::CONFIG.replace("127.0.0.1:0", &first.address().to_string());
    let second = std::panic::catch_unwind(|| World::with(Upstream::ok(), &config));
    let why = second.map(|_| ()).unwrap_err();
    let why = why.downcast_ref::<String>().unwrap();
    assert!(why.contains("in use") && why.contains(&first.address().to_string()), "{why}");
}
