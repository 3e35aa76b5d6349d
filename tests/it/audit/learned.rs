//! Learning a role from the trail, and comparing the trail with another configuration.

use std::fs;

use serde_json::Value;

use crate::support::process::{Process, Site};
use crate::support::upstream::Upstream;
use crate::support::world::{Answer, CONFIG, ORG, OTHER_ORG, Raw, TOKEN};

const GRANT: &str = "[roles.all]";

/// A call of `tool`, in the given organisation or the default one.
fn call(process: &Process, method: &str, target: &str, org: &str) -> Answer {
    let org = if org.is_empty() { String::new() } else { format!("X-JMS-ORG: {org}\r\n") };
    let mut raw = Raw::to(process.address);
    raw.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n{org}Content-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    raw.answer()
}

/// The calls of the script: method, target, organisation.
const RUN: [(&str, &str, &str); 7] = [
    ("GET", "/api/v1/users/users/?limit=2", ""),
    ("GET", "/api/v1/users/users/?limit=2&offset=2", ""),
    ("POST", "/api/v1/users/users/", ""),
    ("GET", "/api/v1/users/users/0f2/", ""),
    ("DELETE", "/api/v1/users/users/?username=new%20hire", ""),
    ("GET", "/api/v1/assets/assets/", OTHER_ORG),
    ("GET", "/api/v1/assets/assets/", ""),
];

/// Calls that each differ in one detail from a call of the script.
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
    // The present rules allow all other calls too, and the trail records them.
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

    // The learned role allows the script's calls and denies each of the others.
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
    let between = jiff::Timestamp::now().to_string();
    assert_eq!(call(&process, "GET", "/api/v1/a*b/", "").status, 200);
    assert_eq!(call(&process, "DELETE", "/api/v1/x/?all=&name=*", "").status, 200);
    for unknown in ["Get", "DELET"] {
        assert_eq!(call(&process, unknown, "/api/v1/odd/", "").status, 200);
    }
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
    for unknown in ["Get", "DELET"] {
        let left_out = format!("Left out: {unknown} /api/v1/odd/: a rule cannot name its method");
        assert!(toml.contains(&left_out), "`check` refuses such a rule: {toml}");
    }
    assert!(!toml.contains("methods = [\\\"Get") && !toml.contains("DELET\\\""), "{toml}");
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

/// The rules in effect while the trail is written.
const CONDITIONS: &str = r#"[roles.all]
allow = [
  { methods = ["POST"], paths = ["/api/v1/users/"], body = { source = "local" } },
  { methods = ["GET"], paths = ["/api/v1/users/**"], query = { kind = "a*" } },
  { methods = ["PATCH"], paths = ["/api/v1/users/*/"] },
  { methods = ["GET"], paths = ["/api/v1/keys/"], query = { token_id = "7" } },
  { methods = ["GET"], paths = ["/api/v1/plain/"] },
]
deny = [
  { methods = ["PATCH"], paths = ["/api/v1/users/*/"], body = { is_staff = "*" } },
  { paths = ["/api/v1/users/**"], query = { export = "*" } },
  { paths = ["/api/v1/elsewhere/"], body = { x = "*" } },
]
"#;

/// The configuration with other roles, and with one further replacement.
fn with_roles(roles: &str, (from, to): (&str, &str)) -> String {
    let config = CONFIG.replace("[roles.all]\nallow = [{ paths = [\"/**\"] }]\n", roles);
    assert!(config.contains(from), "{from}");
    format!("{}[admin]\naddress = \"@ADMIN@\"\n", crate::support::process::patient(&config.replace(from, to)))
}

fn with_body(process: &Process, method: &str, target: &str, body: &str) -> u16 {
    let mut raw = Raw::to(process.address);
    raw.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ));
    raw.answer().status
}

/// The calls under [`CONDITIONS`]: method, target, body.
const DONE: [(&str, &str, &str); 4] = [
    ("POST", "/api/v1/users/", r#"{"source":"local"}"#),
    ("PATCH", "/api/v1/users/1/", r#"{"name":"a"}"#),
    ("GET", "/api/v1/users/?kind=ab", ""),
    ("GET", "/api/v1/plain/", ""),
];

#[test]
fn conditions_in_force_are_kept() {
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, &with_roles(CONDITIONS, ("", "")));
    let process = site.start();
    for (method, target, body) in DONE {
        assert_eq!(with_body(&process, method, target, body), 200, "{method} {target}");
    }
    assert_eq!(process.end().0, Some(0));
    let learned = json(&site, &["policy", "learn", "--consumer", "tool"]);
    let toml = learned["toml"].as_str().unwrap();
    assert!(!toml.contains("elsewhere") && !toml.contains("Not in the configuration"), "{toml}");
    let before = CONFIG.split(GRANT).next().unwrap();
    site.write(&format!(
        "{}{toml}[admin]\naddress = \"@ADMIN@\"\n",
        crate::support::process::patient(before)
    ));
    let process = site.start();
    for (method, target, body) in DONE {
        assert_eq!(with_body(&process, method, target, body), 200, "{method} {target}: {toml}");
    }
    for (method, target, body) in [
        ("POST", "/api/v1/users/", r#"{"source":"ldap"}"#),
        ("POST", "/api/v1/users/", ""),
        ("PATCH", "/api/v1/users/1/", r#"{"is_staff":true}"#),
        ("GET", "/api/v1/users/?kind=b", ""),
        ("GET", "/api/v1/users/", ""),
        ("GET", "/api/v1/users/?kind=ab&export=1", ""),
    ] {
        assert_eq!(with_body(&process, method, target, body), 403, "{method} {target} {body}: {toml}");
    }
    assert_eq!(process.end().0, Some(0));
    // If a rule no longer exists, the output says so.
    site.write(&with_roles("[roles.all]\nallow = [{ methods = [\"GET\"], paths = [\"/**\"] }]\n", ("", "")));
    let toml = json(&site, &["policy", "learn", "--consumer", "tool"])["toml"].to_string();
    assert!(toml.contains("Not in the configuration as it was: all.allow[2]"), "{toml}");
}

#[test]
fn what_cannot_be_known_is_no_change() {
    let upstream = Upstream::ok();
    let end = (jiff::Timestamp::now() + std::time::Duration::from_hours(1)).to_string();
    let site = Site::with(upstream.address, &with_roles(CONDITIONS, ("", "")));
    let process = site.start();
    for (method, target, body) in DONE {
        assert_eq!(with_body(&process, method, target, body), 200, "{method} {target}");
    }
    assert_eq!(with_body(&process, "GET", "/api/v1/keys/?token_id=7", ""), 200);
    assert_eq!(with_body(&process, "POST", "/api/v1/users/", r#"{"source":"ldap"}"#), 403);
    assert_eq!(process.end().0, Some(0));
    let new = site.folder.path().join("new.toml");
    let former = fs::read_to_string(site.config()).unwrap();
    let diff = |config: &str| {
        site.write(config);
        fs::rename(site.config(), &new).unwrap();
        fs::write(site.config(), &former).unwrap();
        let new = new.to_str().unwrap();
        let (text, diff) = (site.run(&["policy", "diff", new]), json(&site, &["policy", "diff", new]));
        let of = |list: &str| -> Vec<String> {
            let list = diff[list].as_array().unwrap_or_else(|| panic!("{diff}"));
            let told =
                |one: &Value| format!("{} {} {}", one["method"], one["path"], one["now"]).replace('"', "");
            list.iter().map(told).collect()
        };
        let (changes, unknown) = (of("changes"), of("unknown"));
        assert_eq!(diff["calls"], 6, "{diff}");
        assert_eq!(text.status.code(), Some(i32::from(!changes.is_empty())), "{text:?}");
        let said = String::from_utf8(text.stdout).unwrap();
        assert_eq!(said.contains("cannot be decided again"), !unknown.is_empty(), "{said}");
        assert!(!said.contains("-> unknown"), "{said}");
        (changes, unknown)
    };
    let none: [&str; 0] = [];
    let same = |more: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = more.iter().map(ToString::to_string).collect();
        all.sort();
        all
    };
    let open = [
        "GET /api/v1/keys/ unknown",
        "PATCH /api/v1/users/1/ unknown",
        "POST /api/v1/users/ unknown",
        "POST /api/v1/users/ unknown",
    ];
    // The same rules cause no change.
    let (changes, mut unknown) = diff(&with_roles(CONDITIONS, ("", "")));
    unknown.sort();
    assert_eq!((changes, unknown), (same(&none), same(&open)));
    // No rule allows this call, whatever its body was, though a deny rule looks at bodies: a change.
    let narrowed = CONDITIONS.replace("  { methods = [\"PATCH\"], paths = [\"/api/v1/users/*/\"] },\n", "");
    let (changes, unknown) = diff(&with_roles(&narrowed, ("", "")));
    assert_eq!(changes, ["PATCH /api/v1/users/1/ denied"], "{unknown:?}");
    // These rules allow the calls whatever their bodies were; a call that was denied then is a change.
    let (changes, unknown) = diff(&with_roles("[roles.all]\nallow = [{ paths = [\"/**\"] }]\n", ("", "")));
    assert_eq!((changes, unknown), (same(&["POST /api/v1/users/ allowed"]), same(&none)));
    // A grant that expired before the calls, or that expires since then only in the new configuration.
    for end in ["2001-01-01T00:00:00Z", &jiff::Timestamp::now().to_string()] {
        let expired = format!("roles = [\"all\"]\nexpires = \"{end}\"\n");
        let (changes, _) = diff(&with_roles(CONDITIONS, ("roles = [\"all\"]\n", &expired)));
        assert!(changes.contains(&"GET /api/v1/plain/ denied".to_owned()), "{end}: {changes:?}");
    }
    let later = format!("roles = [\"all\"]\nexpires = \"{end}\"\n");
    let (changes, _) = diff(&with_roles(CONDITIONS, ("roles = [\"all\"]\n", &later)));
    assert_eq!(changes, none);
    // A consumer without a grant, or a call without a route, is denied.
    let (changes, _) = diff(&with_roles(
        CONDITIONS,
        ("[[grants]]\nconsumer = \"tool\"", "[[grants]]\nconsumer = \"other\""),
    ));
    assert!(changes.contains(&"GET /api/v1/plain/ denied".to_owned()), "{changes:?}");
}

#[test]
fn a_grant_that_has_expired_since_in_both_configurations_is_no_change() {
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, &with_roles(CONDITIONS, ("", "")));
    let process = site.start();
    assert_eq!(with_body(&process, "GET", "/api/v1/plain/", ""), 200);
    assert_eq!(process.end().0, Some(0));
    let ended = format!("roles = [\"all\"]\nexpires = \"{}\"\n", jiff::Timestamp::now());
    site.write(&with_roles(CONDITIONS, ("roles = [\"all\"]\n", &ended)));
    let diff = json(&site, &["policy", "diff", site.config().to_str().unwrap()]);
    assert_eq!((&diff["changes"], &diff["calls"]), (&serde_json::json!([]), &1.into()), "{diff}");
    let why = diff["unknown"][0]["why"].to_string();
    assert!(why.contains("expired since") && diff["unknown"][1].is_null(), "{diff}");
}
