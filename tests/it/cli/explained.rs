//! `claviger explain` decides as the running gateway does. The same requests, over a socket and from a file
//! or the command line, end with the same code and rule.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::process::{Process, Site};
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, OTHER_ORG, Raw, TOKEN};

/// Rules of every kind, and routes that do not cover every path.
const RULES: &str = r#"[roles.all]
allow = [
  { methods = ["GET", "DELETE"], paths = ["/users/**"] },
  { methods = ["POST"], paths = ["/users/"], body = { name = "*" } },
  { methods = ["PATCH"], paths = ["/users/*/"] },
  { methods = ["PUT"], paths = ["/users/"], query = { id = "*" } },
  { paths = ["/any/**"] },
]
deny = [
  { methods = ["DELETE"], paths = ["/users/*/keep/"] },
  { methods = ["PATCH"], paths = ["/users/*/"], body = { is_staff = "*" } },
  { paths = ["/users/**"], query = { action = "remove" } },
]
"#;
const ROUTES: &str = r#"[[routes]]
prefix = "/api"
upstream = "jms"
[[routes]]
host = "only.test"
prefix = "/only"
upstream = "jms"
"#;
const LIMITS: &str = "max_body = \"4KiB\"\nmax_judged_body = \"1KiB\"\nmax_target_bytes = \"1KiB\"\nmax_header_bytes = \"4KiB\"\nmax_headers = 20\n";

/// A request, as arguments of `explain` and as bytes to send.
struct Case {
    method: &'static str,
    target: String,
    /// Header lines besides `Host`, the credential and the length.
    lines: Vec<String>,
    body: Option<Vec<u8>>,
}

impl Case {
    fn new(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), lines: Vec::new(), body: None }
    }

    fn with(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Adds a body and its type.
    fn body(self, kind: &str, body: &[u8]) -> Self {
        Self { body: Some(body.to_vec()), ..self.with(&format!("Content-Type: {kind}")) }
    }

    /// The bytes to send, with this credential.
    fn wire(&self, credential: &str) -> Vec<u8> {
        let host =
            if self.lines.iter().any(|line| line.starts_with("Host:")) { "" } else { "Host: gw.test\r\n" };
        let lines: String = self.lines.iter().map(|line| format!("{line}\r\n")).collect();
        let length = self.body.as_ref().map(|body| format!("Content-Length: {}\r\n", body.len()));
        let mut wire = format!(
            "{} {} HTTP/1.1\r\n{host}{credential}{lines}{}\r\n",
            self.method,
            self.target,
            length.unwrap_or_default()
        )
        .into_bytes();
        wire.extend(self.body.iter().flatten());
        wire
    }
}

/// A decision: the code of a refusal, and the rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Decided(Option<String>, Option<String>);

fn text(value: &Value) -> Option<String> {
    value.as_str().map(String::from)
}

/// The decision of the gateway.
fn sent(site: &Site, process: &Process, wire: &[u8]) -> Decided {
    let outcomes = || site.events().into_iter().filter(|event| event["event"] == "outcome");
    let before = outcomes().count();
    let mut raw = Raw::to(process.address);
    raw.socket.set_read_timeout(Some(crate::support::process::PATIENCE)).unwrap();
    raw.send(wire);
    let answer = raw.any_answer();
    let code = answer.header("claviger-error").map(String::from);
    assert!(code.is_some() || answer.status == 200, "{answer:?}");
    let event = outcomes().nth(before).unwrap_or_else(|| panic!("no outcome: {answer:?}"));
    Decided(code, text(&event["rule"]))
}

/// The decision of `explain`.
fn explained(site: &Site, arguments: &[&str]) -> Decided {
    let done = site.run(&[&["explain", "--output", "json"], arguments].concat());
    let json: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {done:?}"));
    assert_eq!(done.status.code(), Some(i32::from(json["decision"] != "allowed")), "{json}");
    Decided(text(&json["code"]), text(&json["rule"]))
}

fn site(upstream: &Upstream) -> Site {
    let config = CONFIG
        .replace("[roles.all]\nallow = [{ paths = [\"/**\"] }]\n", RULES)
        .replace("[[routes]]\nprefix = \"/\"\nupstream = \"jms\"\n", ROUTES)
        .replace("max_body = \"256KiB\"\n", LIMITS);
    assert!(config.contains("is_staff") && config.contains("only.test") && config.contains("4KiB"));
    Site::with(
        upstream.address,
        &format!("{}[admin]\naddress = \"@ADMIN@\"\n", crate::support::process::patient(&config)),
    )
}

fn cases() -> Vec<Case> {
    heads().into_iter().chain(bodies()).collect()
}

/// Cases that the head alone decides.
fn heads() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "get", "delete", "DELETE", "TRACE", "Connect", "PURGE"] {
        for target in ["/api/users/", "/api/any/x", "/api/users/1/keep/"] {
            cases.push(Case::new(method, target));
        }
    }
    for target in [
        "/",
        "/apix",
        "/only/users/",
        "/api/users",
        "/api/users/?oid=1",
        "/api//users/",
        "/api/users/%2e%2e/",
        "/api/%75sers/",
        "/api/users/1;x/",
        "/api/users/?action=remove",
        "/api/users/?action=%72emove&x=1",
        "/api/users/?action=",
        "/api",
        "*",
        "http://gw.test/api/users/",
        "//gw.test/api/users/",
        "/api/users/#x",
    ] {
        cases.push(Case::new("GET", target));
    }
    let users = || Case::new("GET", "/api/users/");
    for line in [
        "X-JMS-ORG: 33333333-3333-3333-3333-333333333333",
        "X-JMS-ORG:",
        "Expect: 100-continue",
        "Expect: tea",
        "Accept: text/html",
        "Accept: caf\u{e9}",
        "Host: only.test",
        "Host: ONLY.test:7070",
        "Upgrade: websocket",
        "Content-Length: 9999",
        "X-Long: x",
        "Transfer-Encoding: gzip",
        "X_Under: 1",
        "Connection: x-jms-org",
    ] {
        cases.push(users().with(line));
    }
    cases.push(users().with(&format!("X-JMS-ORG: {OTHER_ORG}")));
    cases.push(users().with(&format!("X-JMS-ORG: {OTHER_ORG}")).with(&format!("X-JMS-ORG: {OTHER_ORG}")));
    cases.push(Case::new("GET", "/only/users/").with("Host: only.test:80"));
    cases.push(users().with(&format!("X-Long: {}", "x".repeat(5000))));
    cases.push(Case::new("GET", &format!("/api/users/?x={}", "x".repeat(1200))));
    cases.push((0..20).fold(users(), |case, at| case.with(&format!("X-Line-{at}: 1"))));
    cases.push(Case::new("PUT", "/api/users/?id=7"));
    cases.push(Case::new("PUT", "/api/users/?id=7&id=8"));
    cases.push(Case::new("PUT", "/api/users/?id=%20"));
    cases.push(Case::new("POST", "/api/users/"));
    cases.push(Case::new("PATCH", "/api/users/1/"));
    cases
}

/// Cases that need the body for a decision.
fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let long = format!("{{\"name\":\"{}\"}}", "n".repeat(1100));
    for body in [
        r#"{"name":"a"}"#,
        r#"{"name":""}"#,
        r#"{"Name":"a"}"#,
        r#"{"name":"a","name":"b"}"#,
        r#"[{"name":"a"}]"#,
        "name=a",
        "",
        "{",
        r#"{"is_staff":false}"#,
        long.as_str(),
    ] {
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            cases.push(Case::new("POST", "/api/users/").body(kind, body.as_bytes()));
            cases.push(Case::new("PATCH", "/api/users/1/").body(kind, body.as_bytes()));
        }
    }
    for kind in [
        "text/csv",
        "application/json; charset=utf-8",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
    ] {
        cases.push(Case::new("PATCH", "/api/users/1/").body(kind, br#"{"name":"a"}"#));
    }
    let patch = || Case::new("PATCH", "/api/users/1/").body("application/json", br#"{"name":"a"}"#);
    cases.push(patch().with("Content-Encoding: gzip"));
    cases.push(patch().with("Content-Type: text/plain"));
    cases.push(patch().with("Connection: content-type"));
    cases.push(Case::new("PATCH", "/api/users/1/").body("application/json", &[b'x'; 5000]));
    cases.push(Case::new("POST", "/api/any/").body("text/plain", &[b'x'; 5000]));
    cases.push(Case::new("GET", "/api/users/").body("application/json", br#"{"name":"a"}"#));
    cases
}

/// The codes that the table must reach, so that it is complete.
const CODES: [&str; 11] = [
    "body_too_large",
    "denied",
    "denied_by_rule",
    "expectation_failed",
    "headers_too_large",
    "malformed",
    "method_not_allowed",
    "no_route",
    "non_canonical",
    "org_override",
    "target_too_long",
];

#[test]
fn explain_decides_as_the_gateway_does() {
    let upstream = Upstream::ok();
    let site = site(&upstream);
    let process = site.start();
    let (file, body) = (site.folder.path().join("request"), site.folder.path().join("body"));
    let (mut wrong, mut codes) = (Vec::new(), BTreeSet::new());
    for case in cases() {
        let wire = case.wire(&format!("Authorization: Bearer {TOKEN}\r\n"));
        let shown = String::from_utf8_lossy(&wire[..wire.len().min(200)]).into_owned();
        let decided = sent(&site, &process, &wire);
        codes.insert(decided.0.clone().unwrap_or_default());
        fs::write(&file, &wire).unwrap();
        let received = explained(&site, &["--received", file.to_str().unwrap()]);
        if received != decided {
            wrong.push(format!("--received: {received:?}, the gateway: {decided:?}\n{shown}"));
        }
        if !case.target.starts_with('/') {
            continue;
        }
        let mut arguments = vec!["--consumer", "tool", case.method, case.target.as_str()];
        if !case.lines.iter().any(|line| line.starts_with("Host:")) {
            arguments.extend(["-H", "Host: gw.test"]);
        }
        arguments.extend(case.lines.iter().flat_map(|line| ["-H", line]));
        if let Some(bytes) = &case.body {
            fs::write(&body, bytes).unwrap();
            arguments.extend(["--body", body.to_str().unwrap()]);
        }
        let typed = explained(&site, &arguments);
        if typed != decided {
            wrong.push(format!("typed: {typed:?}, the gateway: {decided:?}\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = CODES.iter().filter(|code| !codes.contains(**code)).collect();
    assert!(missing.is_empty() && codes.contains(""), "never met: {missing:?} of {codes:?}");
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn explain_knows_a_received_request_by_its_credential_as_the_gateway_does() {
    let upstream = Upstream::ok();
    let site = site(&upstream);
    let process = site.start();
    let file = site.folder.path().join("request");
    for (credential, code) in [
        (String::new(), "unauthenticated"),
        ("Authorization: Bearer clv_wrong\r\n".into(), "unauthenticated"),
        (format!("Authorization: Bearer {TOKEN}\r\nX-Api-Key: {TOKEN}\r\n"), "duplicate_credential"),
    ] {
        for (case, code) in [
            (Case::new("GET", "/api/users/"), code),
            (Case::new("Trace", "/api/users/"), "method_not_allowed"),
            (Case::new("GET", "/api/../users/"), "non_canonical"),
        ] {
            let wire = case.wire(&credential);
            assert_eq!(sent(&site, &process, &wire).0.as_deref(), Some(code));
            fs::write(&file, &wire).unwrap();
            assert_eq!(explained(&site, &["--received", file.to_str().unwrap()]).0.as_deref(), Some(code));
        }
    }
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn explain_asks_for_a_body_that_a_rule_looks_at() {
    let upstream = Upstream::ok();
    let site = site(&upstream);
    let ask = |arguments: &[&str]| site.run(&[&["explain", "--consumer", "tool"], arguments].concat());
    let unknown =
        ask(&["PATCH", "/api/users/1/", "-H", "Content-Length: 12", "-H", "Content-Type: application/json"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.status.code() == Some(1) && said.contains("--body"), "{said}");
    // If no rule looks at the body, its absence does not matter.
    assert!(ask(&["DELETE", "/api/users/1/", "-H", "Content-Length: 12"]).status.success());
    // The default type of a body is JSON.
    let body = site.folder.path().join("body");
    fs::write(&body, r#"{"name":"a"}"#).unwrap();
    let body = body.to_str().unwrap();
    assert!(ask(&["POST", "/api/users/", "--body", body]).status.success());
    let form = ask(&["POST", "/api/users/", "--body", body, "-H", "Content-Type: text/plain"]);
    let said = String::from_utf8(form.stdout).unwrap();
    assert!(form.status.code() == Some(1) && said.contains("content type"), "{said}");
    // `explain` does not change the case of a method, and suggests the upper-case one.
    let lower = ask(&["get", "/api/users/"]);
    let said = String::from_utf8(lower.stdout).unwrap();
    assert!(lower.status.code() == Some(1) && said.contains("GET"), "{said}");
}

/// The trail records why a query cannot be judged, and `explain` gives the same reason.
#[test]
fn a_query_that_cannot_be_judged_is_named_as_the_reason() {
    let upstream = Upstream::ok();
    let plain = |config: &str| {
        let lines = config.lines().filter(|line| !line.starts_with("orgs")).map(|line| format!("{line}\n"));
        lines.collect::<String>().replace("profile = \"jumpserver\"", "profile = \"plain\"")
    };
    let many = (0..257).map(|name| format!("a{name}.x")).collect::<Vec<_>>().join("&");
    let site = site(&upstream);
    let with_orgs = std::fs::read_to_string(site.config()).unwrap();
    for (config, code) in [(with_orgs.clone(), "org_override"), (plain(&with_orgs), "denied_by_rule")] {
        site.write(&config.replace("1KiB", "8KiB"));
        let process = site.start();
        let case = Case::new("GET", &format!("/api/users/?{many}"));
        let credential = format!("Authorization: Bearer {TOKEN}\r\n");
        let Decided(sent, _) = sent(&site, &process, &case.wire(&credential));
        assert_eq!(sent.as_deref(), Some(code));
        let event = site.events().into_iter().rfind(|event| event["event"] == "outcome").unwrap();
        assert_eq!(event["reason"], "the query has too many members to be judged");
        let done = site.run(&["explain", "--output", "json", "--consumer", "tool", "GET", &case.target]);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&json["code"], &json["reason"]), (&Value::from(code), &event["reason"]), "{json}");
        assert_eq!(process.end().0, Some(0));
    }
    assert!(upstream.seen().is_empty());
}
