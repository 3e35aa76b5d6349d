//! If the store is unreadable for too long, claviger refuses calls that depend on it; other calls continue.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use super::{CONFIG, SOON, at_work, code, issue, slow, soon, verified};
use crate::support::process::{Process, get};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::{found, lapse};

/// Consumers that the file declares, besides those of the store; `fixed` needs nothing from the store.
const DECLARED: &str = r#"
[custody]
store_max_staleness = "2s"
[credentials.key]
access-key = { id = "@KEY_ID@", secret = { file = "key.secret" } }
[consumers.fixed]
token_sha256 = ["@fixed@"]
[[grants]]
consumer = "fixed"
upstream = "jms"
roles = ["all"]
credential = "key"
[consumers.mixed]
token_sha256 = ["@mixed@"]
[[grants]]
consumer = "mixed"
upstream = "jms"
roles = ["all"]
[consumers.held]
token_sha256 = ["@held@"]
[[grants]]
consumer = "held"
upstream = "jms"
roles = ["all"]
credential = "key"
"#;

/// The token of a consumer that the file declares.
fn token_of(name: &str) -> String {
    format!("clv_{name:0>30}000000")
}

fn config() -> String {
    let declared = ["fixed", "mixed", "held"].iter().fold(DECLARED.to_owned(), |text, name| {
        let digest = claviger::inbound::Directory::digest(token_of(name).as_bytes());
        let hex = digest.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        text.replace(&format!("@{name}@"), &hex)
    });
    CONFIG.to_owned() + &declared
}

/// Calls until the store has been unreadable for too long; returns how long that took.
fn until_refused(process: &Process, token: &str) -> Duration {
    let began = Instant::now();
    let look = || Some(get(process.address, "/api/v1/", token)).filter(|answer| answer.status != 200);
    let answer = found(look, || process.said());
    assert_eq!((answer.status, code(&answer).as_str()), (503, "store_unavailable"));
    began.elapsed()
}

#[test]
fn what_rests_on_a_store_that_is_away_is_refused_past_the_bound() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, token) = at_work(&upstream);
    site.done(&["consumer", "add", "held"]);
    super::keys::write(&site.folder.path().join("key.secret"), SECRET);
    site.write(&config());
    let own = issue(&site, "fixed");
    let mut process = site.start();
    let (fixed, stored) = (token_of("fixed"), [token, own, token_of("mixed"), token_of("held")]);
    let away = site.state().join("store.away");
    for _ in 0..2 {
        for token in stored.iter().chain([&fixed]) {
            soon(&process, token, 200);
        }
        let slowly = slow::begun(&process, &stored[0]);
        fs::rename(site.store(), &away).unwrap();
        let took = until_refused(&process, &stored[0]);
        assert!(took > SOON, "{took:?}");
        let calls = upstream.seen().len();
        for token in &stored {
            let answer = get(process.address, "/api/v1/", token);
            assert_eq!((answer.status, code(&answer).as_str()), (503, "store_unavailable"), "{token}");
        }
        assert_eq!(slow::ended(slowly), (503, "store_unavailable".to_owned()));
        assert_eq!(upstream.seen().len(), calls, "nothing left");
        assert_eq!(get(process.address, "/api/v1/", &fixed).status, 200);
        process.wait_said("calls that depend on it are refused");
        let answer = process.wait_readiness(503);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.contains("calls that depend on it are refused"), "{said}");
        fs::rename(&away, site.store()).unwrap();
        for token in stored.iter().chain([&fixed]) {
            soon(&process, token, 200);
        }
    }
    assert_eq!(process.end().0, Some(0));
    let refused: Vec<_> =
        site.events().into_iter().filter(|event| event["code"] == "store_unavailable").collect();
    assert!(refused.len() >= 10, "{refused:#?}");
    assert!(refused.iter().any(|event| event["reason"] == "the store could not be read for too long"));
    site.verified();
}

/// Other failures than an unreadable store cause no refusal, however long they last.
#[test]
fn a_key_that_is_away_does_not_count() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, token) = at_work(&upstream);
    super::keys::write(&site.folder.path().join("key.secret"), SECRET);
    site.write(&config());
    let process = site.start();
    soon(&process, &token, 200);
    // The store is sealed again with a key that the gateway cannot read.
    let key = site.state().join("master.key");
    let away = site.folder.path().join("away.key");
    fs::rename(&key, &away).unwrap();
    site.write(&config().replace("[custody]\n", "[custody]\nmaster_key = { file = \"away.key\" }\n"));
    site.done(&["master-key", "rotate"]);
    site.write(&config());
    let said = process.wait_readiness(503);
    assert!(String::from_utf8_lossy(&said.body).contains("some of its records cannot be opened"), "{said:?}");
    lapse(3 * SOON, "`store_max_staleness` is over by then");
    soon(&process, &token, 200);
    site.done(&["consumer", "disable", "tool"]);
    soon(&process, &token, 401);
    assert_eq!(process.end().0, Some(0));
}
