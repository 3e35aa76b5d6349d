//! Shadow rules: the trail records what they would decide, and they have no other effect.

use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, World};

const ALL: &str = "allow = [{ paths = [\"/**\"] }]\n";

#[test]
fn a_shadow_is_recorded_and_decides_nothing() {
    let rules = "allow = [
  { methods = [\"GET\"], paths = [\"/api/v1/users/**\"] },
  { methods = [\"POST\"], paths = [\"/api/v1/users/**\"], mode = \"shadow\" },
]
deny = [
  { paths = [\"/api/v1/users/secret/**\"], mode = \"shadow\" },
  { paths = [\"/api/v1/users/closed/\"], mode = \"enforce\" },
  { methods = [\"DELETE\"], paths = [\"/**\"] },
]
";
    assert!(CONFIG.contains(ALL));
    let world = World::with(Upstream::ok(), &CONFIG.replace(ALL, rules));
    let call = |method: &str, path: &str| {
        let token = crate::support::world::TOKEN;
        let answer = world.exchange(format!(
            "{method} {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        let id = answer.header("x-request-id").unwrap().to_owned();
        let mut events = world.trail();
        events.retain(|event| event["request_id"] == id.as_str());
        let shadows: Vec<_> = events.iter().map(|event| event["shadow"].as_str().map(String::from)).collect();
        (answer.status, shadows)
    };
    let told = |rule: &str| Some(rule.to_owned());
    assert_eq!(call("GET", "/api/v1/users/1/"), (200, vec![None, None]));
    // Allowed, and the shadow rules would deny it: on both of its events.
    let shadow = told("all.deny[0]");
    assert_eq!(call("GET", "/api/v1/users/secret/1/"), (200, vec![shadow.clone(), shadow]));
    // Denied, and the shadow rules would allow it.
    assert_eq!(call("POST", "/api/v1/users/1/"), (403, vec![told("all.allow[1]")]));
    // If a rule denies a call, no other rule could allow it.
    assert_eq!(call("DELETE", "/api/v1/users/1/"), (403, vec![None]));
    assert_eq!(call("GET", "/api/v1/users/closed/"), (403, vec![None]));
    assert_eq!(call("POST", "/api/v1/assets/"), (403, vec![None]));
}
