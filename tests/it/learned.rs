//! From the trail to a role, and what another configuration would change.

use std::fs;

use serde_json::Value;

use crate::process::{Process, Site};
use crate::upstream::Upstream;
use crate::world::{Answer, CONFIG, ORG, OTHER_ORG, Raw, TOKEN};

const GRANT: &str = "[roles.all]";

/// A call of the tool, in the organisation that it names or the default.
fn call(process: &Process, method: &str, target: &str, org: &str) -> Answer {
    let org = if org.is_empty() { String::new() } else { format!("X-JMS-ORG: {org}\r\n") };
    let mut raw = Raw::to(process.address);
    raw.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n{org}Content-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    raw.answer()
}

/// What the script does: method, target, organisation.
const RUN: [(&str, &str, &str); 7] = [
    ("GET", "/api/v1/users/users/?limit=2", ""),
    ("GET", "/api/v1/users/users/?limit=2&offset=2", ""),
    ("POST", "/api/v1/users/users/", ""),
    ("GET", "/api/v1/users/users/0f2/", ""),
    ("DELETE", "/api/v1/users/users/?username=new%20hire", ""),
    ("GET", "/api/v1/assets/assets/", OTHER_ORG),
    ("GET", "/api/v1/assets/assets/", ""),
];

/// Calls that differ from one of the run's in one thing.
const CHANGED: [(&str, &str, &str); 5] = [
    ("GET", "/api/v1/users/users/0f3/", ""),
    ("PUT", "/api/v1/users/users/", ""),
    ("DELETE", "/api/v1/users/users/", ""),
    ("DELETE", "/api/v1/users/users/?username=another", ""),
    ("POST", "/api/v1/users/users/", "22222222-2222-4222-8222-222222222222"),
];

fn json(site: &Site, arguments: &[&str]) -> Value {
    let done = site.run(&[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
}

#[test]
fn a_run_becomes_a_role_that_allows_it_and_nothing_else() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    for (method, target, org) in RUN {
        assert_eq!(call(&process, method, target, org).status, 200, "{method} {target}");
    }
    let learned = json(&site, &["policy", "learn", "--consumer", "tool"]);
    assert_eq!((&learned["consumer"], &learned["calls"]), (&"tool".into(), &7.into()));
    let toml = learned["toml"].as_str().unwrap();
    let text = site.run(&["policy", "learn", "--consumer", "tool"]);
    assert_eq!(String::from_utf8(text.stdout).unwrap(), toml);
    let orgs = toml.find(ORG).unwrap();
    assert!(orgs < toml.find(OTHER_ORG).unwrap(), "the default first: {toml}");
    // Under what was in force everything else is allowed too, and on the trail.
    for (method, target, org) in &CHANGED[..4] {
        assert_eq!(call(&process, method, target, org).status, 200, "{method} {target}");
    }
    assert_eq!(process.end().0, Some(0));

    let before = CONFIG.split(GRANT).next().unwrap();
    let new = site.folder.path().join("new.toml");
    let former = fs::read_to_string(site.config()).unwrap();
    let narrowed = format!("{before}{toml}[admin]\naddress = \"@ADMIN@\"\n");
    site.write(&narrowed);
    fs::rename(site.config(), &new).unwrap();
    fs::write(site.config(), former).unwrap();
    let told = site.run(&["policy", "diff", new.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1), "there are differences: {told:?}");
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(said.contains("allowed -> denied") && said.lines().count() == 4, "{said}");
    let diff = json(&site, &["policy", "diff", new.to_str().unwrap()]);
    let mut changes: Vec<String> = diff["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            format!("{} {} {} {}", change["method"], change["path"], change["now"], change["calls"])
                .replace('"', "")
        })
        .collect();
    changes.sort();
    assert_eq!(
        changes,
        [
            "DELETE /api/v1/users/users/ denied 2",
            "GET /api/v1/users/users/0f3/ denied 1",
            "PUT /api/v1/users/users/ denied 1",
        ]
    );
    assert_eq!(diff["calls"], 11);
    let same = site.run(&["policy", "diff", site.config().to_str().unwrap()]);
    assert!(same.status.success() && String::from_utf8(same.stdout).unwrap().contains("all 11 calls"));

    // In force, it allows the run and denies each of the others.
    fs::rename(&new, site.config()).unwrap();
    let process = site.start();
    for (method, target, org) in RUN {
        assert_eq!(call(&process, method, target, org).status, 200, "{method} {target}");
    }
    for (method, target, org) in CHANGED {
        assert_eq!(call(&process, method, target, org).status, 403, "{method} {target} {org}");
    }
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn what_was_not_done_or_not_in_time_is_not_learned() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    assert_eq!(call(&process, "GET", "/api/v1/before/", "").status, 200);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let between = jiff::Timestamp::now().to_string();
    assert_eq!(call(&process, "GET", "/api/v1/a*b/", "").status, 200);
    assert_eq!(call(&process, "DELETE", "/api/v1/x/?all=&name=*", "").status, 200);
    assert_eq!(call(&process, "GET", "/api/v1/refused/", "33333333-3333-4333-8333-333333333333").status, 403);
    assert_eq!(process.end().0, Some(0));
    let toml =
        json(&site, &["policy", "learn", "--consumer", "tool", "--since", &between])["toml"].to_string();
    assert!(!toml.contains("before") && !toml.contains("refused"), "{toml}");
    assert!(
        toml.contains("Left out: GET /api/v1/a*b/") && toml.contains("a condition cannot say `all`"),
        "{toml}"
    );
    assert!(!toml.contains("\"DELETE\\\""), "what cannot be said is not allowed: {toml}");
    let nobody = site.run(&["policy", "learn", "--consumer", "other"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("no call of `other` that was allowed"));
    assert_eq!(
        site.run(&["policy", "learn", "--consumer", "tool", "--since", "yesterday"]).status.code(),
        Some(2)
    );
    let copied = site.run(&[
        "--config",
        "none.toml",
        "policy",
        "learn",
        "--consumer",
        "tool",
        "--since",
        "1h",
        "--dir",
        site.audit().to_str().unwrap(),
    ]);
    assert!(copied.status.success(), "{copied:?}");
}
