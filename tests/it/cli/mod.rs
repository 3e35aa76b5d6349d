//! The command line: arguments, output and exit codes.

mod demo;
mod explained;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::process::{Site, get};
use crate::support::upstream::{Reply, SECRET, Seen, Upstream};
use crate::support::wait::until_or;
use crate::support::world::{CONFIG, ORG, OTHER_ORG, OTHER_TOKEN, TOKEN};

const CLAVIGER: &str = env!("CARGO_BIN_EXE_claviger");

fn site() -> (Upstream, Site) {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    (upstream, site)
}

/// The binary without any reference to a configuration.
fn bare(dir: &Path) -> Command {
    let mut command = Command::new(CLAVIGER);
    command.current_dir(dir).env_remove("CLAVIGER_CONFIG").env_remove("CLAVIGER_LOG").stdin(Stdio::null());
    command
}

fn code(done: &Output) -> i32 {
    assert!(!said(done).contains(SECRET), "the secret: {done:?}");
    done.status.code().unwrap_or_else(|| panic!("{done:?}"))
}

/// The whole output.
fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn json(done: &Output) -> Value {
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

#[test]
fn usage_is_2_and_help_is_0() {
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| bare(empty.path()).args(arguments).output().unwrap();
    for wrong in [
        &[] as &[&str],
        &["frobnicate"],
        &["check", "--frobnicate"],
        &["check", "--output", "yaml"],
        &["check", "--config"],
        &["audit"],
        &["explain", "--consumer", "tool", "GET"],
        &["explain", "GET", "/"],
        &["explain", "--consumer", "tool", "G T", "/"],
        &["explain", "--consumer", "tool", "GET", "users"],
        &["explain", "--consumer", "tool", "GET", "/", "--header", "X-JMS-ORG"],
    ] {
        let done = run(wrong);
        assert_eq!(code(&done), 2, "{wrong:?}: {done:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{wrong:?}: {done:?}");
    }
    for right in [&["--help"] as &[&str], &["--version"], &["audit", "verify", "--help"]] {
        let done = run(right);
        assert!(code(&done) == 0 && !done.stdout.is_empty(), "{right:?}: {done:?}");
    }
    for missing in [&["check"] as &[&str], &["serve"], &["ready"], &["audit", "verify"], &["audit", "show"]] {
        let done = run(missing);
        assert_eq!(code(&done), 1, "{missing:?}: {done:?}");
        assert!(said(&done).contains("claviger.toml"), "{missing:?}: {done:?}");
    }
}

#[test]
fn the_configuration_is_found_wherever_it_is_named() {
    let (_upstream, site) = site();
    let (config, empty) = (site.config(), tempfile::tempdir().unwrap());
    let path = config.to_str().unwrap();
    let run = |arguments: &[&str]| code(&bare(empty.path()).args(arguments).output().unwrap());
    assert_eq!(run(&["--config", path, "check"]), 0);
    assert_eq!(run(&["check", "--config", path]), 0);
    assert_eq!(run(&["check", &format!("--config={path}")]), 0);
    assert_eq!(run(&["check"]), 1);
    let named = |value: &str, arguments: &[&str]| {
        code(&bare(empty.path()).env("CLAVIGER_CONFIG", value).args(arguments).output().unwrap())
    };
    assert_eq!(named(path, &["check"]), 0);
    assert_eq!(named("nowhere.toml", &["check"]), 1);
    assert_eq!(named("nowhere.toml", &["check", "--config", path]), 0, "a flag goes before the environment");
    assert_eq!(code(&bare(site.folder.path()).arg("check").output().unwrap()), 0, "claviger.toml, here");
}

#[test]
fn check_tells_all_that_is_wrong_and_touches_nothing() {
    let (_upstream, site) = site();
    let fine = site.run(&["check", "--output", "json"]);
    assert_eq!((code(&fine), &json(&fine)["ok"]), (0, &true.into()));
    assert!(!site.folder.path().join("state").exists(), "offline");

    let bad = CONFIG.replace("max_body", "max_bodi").replace("prefix = \"/\"", "prefix = \"api\"");
    site.write(&bad.replace("credential = \"key\"", "credential = \"kay\""));
    let done = site.run(&["check"]);
    assert_eq!(code(&done), 1);
    for problem in ["max_bodi", "did you mean `max_body`", "api", "kay", "claviger.toml:11:1"] {
        assert!(said(&done).contains(problem), "{problem}: {}", said(&done));
    }
    let told = json(&site.run(&["check", "--output", "json"]));
    assert_eq!(told["ok"], false);
    let problems = told["problems"].as_array().unwrap();
    assert!(problems.len() >= 3, "{told:#}");
    for problem in problems {
        assert!(problem["message"].is_string() && problem["level"].is_string(), "{problem}");
    }
    let done = site.run(&["serve"]);
    assert_eq!(code(&done), 1, "the same way as start-up");
    assert!(said(&done).contains("max_bodi"), "{}", said(&done));
}

#[test]
fn ready_asks_the_running_one() {
    let (_upstream, site) = site();
    let alone = site.run(&["ready"]);
    assert_eq!(code(&alone), 1);
    assert!(said(&alone).contains(&site.admin.to_string()), "{}", said(&alone));
    let process = site.start();
    let ready = site.run(&["ready"]);
    assert_eq!((code(&ready), said(&ready).as_str()), (0, "ready\n"));
    let ready = site.run(&["ready", "--output", "json"]);
    assert_eq!((code(&ready), &json(&ready)["ready"]), (0, &true.into()));
    assert_eq!(process.end().0, Some(0));
    assert_eq!(code(&site.run(&["ready"])), 1);
}

/// The signed string, built from the request that the upstream received.
fn signed(seen: &Seen) -> Vec<String> {
    let names = seen.one("authorization").split("headers=\"").nth(1).unwrap().split('"').next().unwrap();
    let line = |name: &str| match name {
        "(request-target)" => format!("{name}: {} {}", seen.method.to_lowercase(), seen.target),
        name => format!("{name}: {}", seen.one(name)),
    };
    names.split(' ').map(line).collect()
}

fn without_date(lines: &[String]) -> Vec<&String> {
    let kept: Vec<&String> = lines.iter().filter(|line| !line.starts_with("date: ")).collect();
    assert_eq!(kept.len() + 1, lines.len(), "one date: {lines:?}");
    kept
}

#[test]
fn explain_says_what_the_upstream_then_gets() {
    let (upstream, site) = site();
    let process = site.start();
    for (target, lines, org) in [
        ("/api/v1/users/users?limit=2", vec![], ORG),
        ("/api/v1/users/%75sers/?search=a%20b|c&x=%2f", vec!["Accept: text/html"], ORG),
        ("/api/v1/users/users/1/", vec!["X-JMS-ORG: 11111111-1111-1111-1111-111111111111"], OTHER_ORG),
    ] {
        let url = format!("http://gw.test{target}");
        let mut arguments = vec!["explain", "--consumer", "tool", "get", &url];
        for line in &lines {
            arguments.extend(["-H", line]);
        }
        let told = site.run(&arguments);
        arguments.extend(["--output", "json"]);
        let done = site.run(&arguments);
        let explained = json(&done);
        assert_eq!((code(&told), code(&done), &explained["decision"]), (0, 0, &"allowed".into()), "{done:?}");

        let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let before = upstream.seen().len();
        let mut raw = crate::support::world::Raw::to(process.address);
        raw.send(format!(
            "GET {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n{more}Connection: close\r\n\r\n"
        ));
        assert_eq!(raw.answer().status, 200);
        let seen = &upstream.seen()[before];
        let (sent, string) = (signed(seen), explained["signing_string"].as_str().unwrap());
        let wanted: Vec<String> = string.lines().map(String::from).collect();
        assert_eq!(without_date(&sent), without_date(&wanted));
        assert_eq!(
            (explained["target"].as_str(), explained["org"].as_str()),
            (Some(seen.target.as_str()), Some(org))
        );
        for line in wanted.iter().filter(|line| !line.starts_with("date: ")) {
            assert!(said(&told).contains(&format!("    {line}\n")), "{line}: {}", said(&told));
        }
        let trail = site.events();
        let intent = trail.iter().rfind(|event| event["event"] == "intent").unwrap();
        for member in ["rule", "org", "target", "upstream", "credential"] {
            assert_eq!(explained[member], intent[member], "{member}");
            assert!(said(&told).contains(explained[member].as_str().unwrap()), "{member}: {}", said(&told));
        }
    }
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn explain_shows_what_is_put_on_without_the_secret() {
    for (scheme, name, before) in [
        ("header = { name = \"X-Api-Key\" }", "x-api-key", ""),
        ("bearer = {}", "authorization", "Bearer "),
        ("token = {}", "authorization", "Token "),
    ] {
        let upstream = Upstream::ok();
        let site = Site::new(upstream.address, "");
        let config = std::fs::read_to_string(site.config()).unwrap();
        let config = config.replace("access-key = {}", scheme);
        let from = config.find("access-key = ").unwrap();
        let to = from + config[from..].find('\n').unwrap();
        site.write(&format!("{}value = {{ file = \"key.secret\" }}{}", &config[..from], &config[to..]));
        let process = site.start();
        let question = ["explain", "--consumer", "tool", "GET", "/api/v1/users/users/"];
        let told = site.run(&question);
        let done = site.run(&[&question[..], &["--output", "json"]].concat());
        assert_eq!((code(&told), code(&done)), (0, 0), "{told:?} {done:?}");
        assert_eq!(process.get("/api/v1/users/users/").status, 200);
        let sent = format!("{name}: {}", upstream.seen()[0].one(name));
        let (explained, shown) = (json(&done), format!("{name}: {before}…"));
        assert_eq!(shown.replace('…', SECRET), sent);
        assert_eq!(explained["header_line"], shown);
        assert_eq!((&explained["credential"], &explained["signing_string"]), (&"key".into(), &Value::Null));
        assert!(said(&told).contains(&format!("put on      {shown}\n")), "{}", said(&told));
        assert!(!said(&told).contains("to sign"), "{}", said(&told));
        assert_eq!(process.end().0, Some(0));
    }
}

#[test]
fn explain_refuses_as_the_gateway_does() {
    let (upstream, site) = site();
    let process = site.start();
    for (consumer, token, method, target) in [
        ("other", OTHER_TOKEN, "GET", "/api/v1/users/"),
        ("tool", TOKEN, "GET", "/api//v1/"),
        ("tool", TOKEN, "GET", "/api/v1/?oid=1"),
        ("tool", TOKEN, "TRACE", "/api/v1/"),
    ] {
        let done = site.run(&["explain", "--consumer", consumer, method, target, "--output", "json"]);
        let mut raw = crate::support::world::Raw::to(process.address);
        raw.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ));
        let answer = raw.answer();
        let explained = json(&done);
        assert_eq!((code(&done), &explained["decision"]), (1, &"denied".into()), "{explained}");
        assert_eq!(
            explained["code"].as_str(),
            Some(answer.code().as_str()),
            "{method} {target}: {explained}"
        );
        assert_eq!(explained["status"], answer.status, "{explained}");
        assert_eq!(explained["signing_string"], Value::Null);
        let told = site.run(&["explain", "--consumer", consumer, method, target]);
        assert!(code(&told) == 1 && said(&told).contains(&answer.code()), "{told:?}");
    }
    let stranger = site.run(&["explain", "--consumer", "nobody", "GET", "/"]);
    assert!(code(&stranger) == 1 && said(&stranger).contains("nobody"), "{stranger:?}");
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn the_trail_is_shown_and_verified_beside_a_running_gateway() {
    let (_upstream, site) = site();
    let process = site.start();
    let ids: Vec<String> = (0..4)
        .map(|call| {
            process.get(&format!("/api/v1/{call}/?token=hunter2")).header("x-request-id").unwrap().to_owned()
        })
        .collect();
    assert_eq!(get(process.address, "/api/v1/denied/", OTHER_TOKEN).status, 403);
    let lines = |done: &Output| -> Vec<Value> {
        let text = String::from_utf8(done.stdout.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let shown = site.run(&["audit", "show", "--last", "3", "--output", "json"]);
    let all = site.events();
    assert_eq!((code(&shown), lines(&shown)), (0, all[all.len() - 3..].to_vec()));
    let one = site.run(&["audit", "show", "--request-id", &ids[1], "--output", "json"]);
    let kinds: Vec<Value> = lines(&one).iter().map(|event| event["event"].clone()).collect();
    assert_eq!((code(&one), kinds), (0, vec!["intent".into(), "outcome".into()]));
    let text = site.run(&["audit", "show"]);
    for word in ["/api/v1/3/?token=***", "answered", "denied", "tool", "opened"] {
        assert!(said(&text).contains(word), "{word}: {}", said(&text));
    }
    assert!(code(&text) == 0 && !said(&text).contains("hunter2"));
    let report = site.verified();
    assert_eq!(report["events"], all.len(), "{report}");
    let audit = site.audit();
    let told = bare(site.folder.path()).args(["audit", "verify", "--dir"]).arg(&audit).output().unwrap();
    assert_eq!(code(&told), 0);
    assert!(said(&told).starts_with("the trail is intact: "), "{}", said(&told));
    assert_eq!(process.end().0, Some(0));
    let nowhere = site.run(&["audit", "verify", "--dir", "nowhere"]);
    assert!(code(&nowhere) == 1 && said(&nowhere).contains("nowhere"), "{nowhere:?}");
}

#[test]
fn an_upstream_in_clear_is_named_at_every_start() {
    let upstream = Upstream::ok();
    let site = Site::new(
        upstream.address,
        "[upstreams.far]\nprofile = \"jumpserver\"\nendpoint = \"http://192.0.2.1\"\ninsecure_plaintext = true\nscheme.access-key = {}\n",
    );
    for _start in 0..2 {
        let (status, said) = site.start().end();
        let told =
            said.lines().find(|line| line.contains("insecure_plaintext")).unwrap_or_else(|| panic!("{said}"));
        assert!(status == Some(0) && told.contains("WARN") && told.contains("\"far\""), "{said}");
        assert!(!told.contains("jms"), "one on this machine is not: {told}");
    }
}

#[test]
fn a_listener_without_tls_is_named_at_every_start() {
    let upstream = Upstream::ok();
    for (more, check) in [("", "readable"), ("insecure_plaintext = true\n", "ok")] {
        let site = Site::new(upstream.address, "");
        let config = std::fs::read_to_string(site.config()).unwrap();
        let local = "address = \"127.0.0.1:0\"\n";
        site.write(&config.replace(local, &format!("address = \"0.0.0.0:0\"\n{more}")));
        let checked = site.run(&["check"]);
        assert!(code(&checked) == 0 && said(&checked).contains(check), "{checked:?}");
        assert_eq!(said(&checked).contains("readable"), more.is_empty(), "{checked:?}");
        for _start in 0..2 {
            let (status, said) = site.start().end();
            let told = said.lines().find(|line| line.contains("WARN") && line.contains("0.0.0.0:0"));
            assert!(status == Some(0) && told.is_some_and(|line| line.contains("readable")), "{said}");
        }
    }
}

/// Without any state, each store command works or says what to do; none prints a bare error of the system.
#[test]
fn the_first_command_makes_the_state_folder() {
    let upstream = Upstream::ok();
    let id = "f7373851-ea61-47bb-8357-000000000001";
    let add = [
        "credential",
        "add",
        "other-key",
        "--upstream",
        "jms",
        "--kind",
        "access-key",
        "--id",
        id,
        "--secret-file",
        "key.secret",
    ];
    for (verb, status) in [
        (&add[..], 0),
        (&["consumer", "add", "new"], 0),
        (&["token", "issue", "--consumer", "tool"], 0),
        (&["access-key", "issue", "--consumer", "tool"], 0),
        (&["freeze", "--consumer", "tool", "--yes"], 0),
        (&["unfreeze", "--consumer", "tool", "--yes"], 0),
        (&["thaw", "--consumer", "tool", "--yes"], 0), // its former name
        (&["credential", "list"], 0),
        (&["consumer", "list"], 0),
        (&["token", "list"], 0),
        (&["access-key", "list"], 0),
        (&["credential", "rotate", "other-key", "--secret-file", "key.secret"], 1),
        (&["credential", "remove", "other-key", "--yes"], 1),
        (&["token", "revoke", id], 1),
        (&["master-key", "rotate", "--yes"], 1),
        (&["audit", "show"], 1),
        (&["audit", "verify"], 1),
        (&["audit", "search"], 1),
        (&["audit", "tail"], 1),
        (&["audit", "key"], 1),
        (&["audit", "fingerprint"], 1),
        (&["audit", "export", "out.jsonl", "--format", "jsonl"], 1),
        (&["policy", "learn", "--consumer", "tool"], 1),
    ] {
        let site = Site::new(upstream.address, "");
        let done = site.claviger().current_dir(site.folder.path()).args(verb).output().unwrap();
        assert_eq!(code(&done), status, "{verb:?}: {done:?}");
        assert!(!said(&done).contains("os error"), "{verb:?}: {done:?}");
        let made = site.folder.path().join("state");
        let looks = verb.contains(&"list") || verb.contains(&"unfreeze") || verb.contains(&"thaw");
        assert!(status != 0 || looks || made.is_dir(), "{verb:?}");
        // A gateway can start with the result.
        if made.is_dir() {
            assert_eq!(site.start().end().0, Some(0), "{verb:?}");
        }
    }
    let site = Site::new(upstream.address, "");
    let tried = site.claviger().current_dir(site.folder.path()).args(add).arg("--dry-run").output().unwrap();
    assert!(code(&tried) == 0 && !site.folder.path().join("state").exists(), "{tried:?}");
}

#[test]
fn every_metric_of_the_contract_is_told() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/api/v1/unauthorized/" => Reply::raw("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::json("{}"),
    });
    let site = Site::new(upstream.address, "");
    let process = site.start();
    assert_eq!(process.get("/api/v1/users/").status, 200);
    assert_eq!(process.get("/api/v1/unauthorized/").status, 502);
    assert_eq!(get(process.address, "/api/v1/", OTHER_TOKEN).status, 403);
    assert_eq!(get(process.address, "/api/v1/", "clv_wrong").status, 401);
    let metrics = || String::from_utf8(process.admin("/metrics").body).unwrap();
    // The lag returns to zero after a moment.
    let is_over = |name: &str| metrics().contains(&format!("\nclaviger_{name} 0\n"));
    until_or(|| ["audit_lag_events", "connections", "in_flight"].into_iter().all(is_over), metrics);
    let text = metrics();
    for line in [
        "claviger_requests_total{route=\"/\",consumer=\"tool\",method=\"GET\",code=\"200\"} 1",
        "claviger_requests_total{route=\"/\",consumer=\"tool\",method=\"GET\",code=\"502\"} 1",
        "claviger_requests_total{route=\"/\",consumer=\"other\",method=\"GET\",code=\"403\"} 1",
        "claviger_requests_total{route=\"-\",consumer=\"-\",method=\"GET\",code=\"401\"} 1",
        "claviger_request_duration_seconds_count 4",
        "claviger_upstream_duration_seconds_count{upstream=\"jms\"} 2",
        "claviger_upstream_auth_failures_total{upstream=\"jms\",credential=\"key\"} 1",
        "claviger_inbound_auth_failures_total{reason=\"unknown credential\"} 1",
        "claviger_denied_total{reason=\"denied\"} 1",
        "claviger_denied_total{reason=\"unauthenticated\"} 1",
        "claviger_audit_dropped_total 0",
        "claviger_audit_lag_events 0",
        "claviger_connections 0",
        "claviger_in_flight 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }
    for name in
        ["claviger_audit_commit_seconds_count ", "claviger_config_last_reload_success_timestamp_seconds 1"]
    {
        assert!(text.lines().any(|told| told.starts_with(name)), "{name}: {text}");
    }
    let age = text
        .lines()
        .find_map(|told| told.strip_prefix("claviger_credential_age_seconds{credential=\"key\"} "));
    assert!(
        age.is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age < 600)),
        "the secret's file is new: {text}"
    );
    let elsewhere = get(process.address, "/metrics", "");
    assert_eq!(elsewhere.status, 401, "never on the data listener");
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn serve_takes_as_many_open_files_as_it_may() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -Sn 64 && exec \"$0\" serve", CLAVIGER]);
    let process = site.launch(few.env("CLAVIGER_CONFIG", site.config()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, _] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert!(soft == hard && soft != "64", "{files}");
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn roles_are_listed_and_shown_with_and_without_a_configuration() {
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| bare(empty.path()).args(arguments).output().unwrap();
    let names = |done: &Output| -> Vec<String> {
        let roles = json(done).as_array().unwrap().clone();
        roles.iter().map(|role| role["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = run(&["role", "list", "--output", "json"]);
    let shipped = names(&listed);
    assert_eq!((code(&listed), shipped.len()), (0, 15), "{listed:?}");
    assert!(
        json(&listed).as_array().unwrap().iter().all(|role| role["ships"] == true && role["about"] != "")
    );
    let text = run(&["role", "list"]);
    assert!(
        shipped.iter().all(|name| said(&text).contains(name)) && said(&text).contains("no configuration")
    );
    let printed = String::from_utf8_lossy(&text.stdout);
    assert!(printed.lines().skip(1).all(|line| line.ends_with('.')), "whole sentences: {printed}");

    let shown = json(&run(&["role", "show", "jumpserver:users-admin", "--output", "json"]));
    let rules = |kind: &str| shown[kind].as_array().unwrap().clone();
    let filtered = rules("allow").into_iter().find(|rule| !rule["query"]["username"].is_null()).unwrap();
    assert_eq!((&filtered["methods"][0], &filtered["query"]["username"]), (&"DELETE".into(), &"*".into()));
    assert_eq!(shown["with"], "jumpserver:no-new-keys");
    let denied = rules("deny");
    assert_eq!(denied[0]["rule"], "jumpserver:no-new-keys.deny[0]");
    assert!(
        denied.iter().any(|rule| rule["body"]["*role*"] == "*")
            && shown["about"].as_str().unwrap().contains("e-mail")
    );
    let text = said(&run(&["role", "show", "jumpserver:users-admin"]));
    for part in [
        "jumpserver:users-admin.allow[0]: GET HEAD OPTIONS\n",
        ": DELETE, query username = \"*\"\n        /api/v1/users/users\n",
        "The denials of jumpserver:no-new-keys go with it.",
        "jumpserver:no-new-keys.deny[0]: any method\n        /api/*/authentication/**\n",
        "POST PUT PATCH, body *role* = \"*\"\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let itself = json(&run(&["role", "show", "ops:no-new-keys", "--output", "json"]));
    assert!(itself["with"].is_null() && itself["allow"].as_array().unwrap().is_empty());

    for (wrong, told) in [("jumpserver:readonly", "`jumpserver:read-only`"), ("zzz", "claviger role list")] {
        let done = run(&["role", "show", wrong]);
        assert!(code(&done) == 1 && said(&done).contains(told), "{wrong}: {done:?}");
    }

    let more = "\n[roles.mine]\nallow = [{ paths = [\"/a/**\"], mode = \"shadow\" }]\n";
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, more);
    let here = |arguments: &[&str]| site.claviger().args(arguments).output().unwrap();
    assert!(names(&here(&["role", "list", "--output", "json"])).contains(&"mine".to_owned()));
    let own = said(&here(&["role", "show", "mine"]));
    assert!(own.contains("mine.allow[0]: any method, shadow") && own.contains("nothing"), "{own}");
    std::fs::write(empty.path().join("claviger.toml"), "workers = -1\n").unwrap();
    assert_eq!(code(&run(&["role", "list"])), 1);
}
