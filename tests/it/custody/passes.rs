//! Credentials that are exchanged for a token, or that sign with RSA: custody, use and rotation. Neither
//! they nor their tokens appear anywhere.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::canary::{clean, kept, printed};
use super::{begun_with, done, refused};
use crate::support::process::{Process, Site, get};
use crate::support::upstream::{Reply, Seen, Upstream};
use crate::support::wait::{Gate, lapse, until, until_or};
use crate::support::world::TOKEN;

const PASSWORD: &str = "canary of-the-password-\"3f1c9a7e";
const NEXT: &str = "canary-of-the-next-password-b2d8e0";
const CLIENT: &str = "canary-of-the-client-secret-7712aa";
const PASS: &str = "canary-of-the-cookie-given-e90155c4";
const NEXT_PASS: &str = "canary-of-the-next-cookie-44ab91d0";
const BEARER: &str = "canary-of-the-bearer-token-0d3377f1";

const CONFIG: &str = r#"
state_dir = "state"
workers = 2
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "@ADMIN@"
[upstreams.ops]
profile = "plain"
endpoint = "http://@UPSTREAM@"
credential = "ops"
scheme.login = { preset = "ops-cookie" }
[upstreams.account]
profile = "plain"
endpoint = "http://@UPSTREAM@"
credential = "account"
scheme.client-credentials = { token_url = "http://@UPSTREAM@/token" }
[upstreams.system]
profile = "plain"
endpoint = "http://@UPSTREAM@"
credential = "system"
scheme.rsa = {}
[[routes]]
prefix = "/ops"
upstream = "ops"
[[routes]]
prefix = "/account"
upstream = "account"
[[routes]]
prefix = "/system"
upstream = "system"
[consumers.tool]
token_sha256 = ["@TOKEN@"]
[roles.all]
allow = [{ paths = ["/**"] }]
[[grants]]
consumer = "tool"
upstream = "ops"
roles = ["all"]
[[grants]]
consumer = "tool"
upstream = "account"
roles = ["all"]
[[grants]]
consumer = "tool"
upstream = "system"
roles = ["all"]
"#;

/// A login, a token endpoint and an upstream in one. It repeats everything that it receives.
fn reply(seen: &Seen) -> Reply {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let pass = match body["password"].as_str() {
        Some(PASSWORD) => Some(PASS),
        Some(NEXT) => Some(NEXT_PASS),
        Some(_) | None => None,
    };
    let refused = |repeated: &str| {
        let body = serde_json::json!({"ok": false, "error": repeated, "info": repeated}).to_string();
        Reply::raw(&format!(
            "HTTP/1.1 400 No\r\nX-Repeated: {repeated}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    match (seen.target.as_str(), pass) {
        ("/api/login", Some(pass)) => Reply::raw(&format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: access_token={pass}\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{{\"ok\":true}}"
        )),
        ("/api/login", None) => refused(body["password"].as_str().unwrap()),
        ("/token", _) => Reply::json(&format!(r#"{{"access_token":"{BEARER}","expires_in":900}}"#)),
        ("/whoami", _) => {
            let sent = [seen.all("cookie"), seen.all("authorization")].concat().join("");
            let known = [PASS, NEXT_PASS, BEARER, "Signature keyId=\"system/"];
            let place = known.iter().position(|known| sent.contains(known));
            Reply::json(&serde_json::json!({"ok": true, "known": place}).to_string())
        }
        _ => refused("nothing"),
    }
}

/// A call that waits for a login is not made if it is frozen meanwhile.
#[test]
fn a_call_that_waited_for_a_login_is_judged_again() {
    let login = Gate::default();
    let gate = login.clone();
    let upstream = Upstream::start(move |seen| {
        if seen.target == "/api/login" {
            gate.pass();
        }
        reply(seen)
    });
    let site = begun_with(&upstream, CONFIG);
    done(&add(&site, "ops", &["--kind", "login", "--username", "svc"], PASSWORD));
    let process = site.start();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| get(process.address, "/ops/whoami", TOKEN));
        login.reached(1);
        site.done(&["freeze", "--upstream", "ops"]);
        // The trail records a change a moment after it takes effect.
        until("the freeze is on the trail", || {
            site.admin_events().iter().any(|event| event["what"] == "freeze")
        });
        lapse(super::SOON, "a call that waited for less is not judged again");
        login.open();
        let answer = call.join().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "frozen"));
    });
    assert_eq!((asked(&upstream, "/api/login"), asked(&upstream, "/whoami")), (1, 0));
    site.done(&["unfreeze", "--upstream", "ops"]);
    known_soon(&process, "ops", &Value::from(0));
    assert_eq!(asked(&upstream, "/api/login"), 1, "what it gave is used by others");
}

/// After the operator corrects an error, claviger does not wait for the end of the minute.
#[test]
fn a_setting_that_is_corrected_is_tried_at_once() {
    let upstream = Upstream::start(reply);
    let wrong = CONFIG.replace("preset = \"ops-cookie\"", "preset = \"ops-cookie\", path = \"/api/logon\"");
    let site = begun_with(&upstream, &wrong);
    done(&add(&site, "ops", &["--kind", "login", "--username", "svc"], PASSWORD));
    let mut process = site.start();
    for _ in 0..4 {
        assert_eq!(known(&process, "ops"), "upstream_auth");
    }
    assert_eq!(asked(&upstream, "/api/logon"), 2);
    site.write(CONFIG);
    process.signal(Signal::HUP);
    process.wait_said("configuration reloaded");
    assert_eq!(known(&process, "ops"), 0);
    assert_eq!((asked(&upstream, "/api/logon"), asked(&upstream, "/api/login")), (2, 1));
}

/// A refused login waits for another credential; nothing else in a running gateway causes another attempt.
#[test]
fn a_refused_login_waits_for_its_credential_to_change() {
    let upstream = Upstream::start(reply);
    let site = begun_with(&upstream, CONFIG);
    done(&add(&site, "ops", &["--kind", "login", "--username", "svc"], "canary-of-a-wrong-password-1c0f"));
    let mut process = site.start();
    for _ in 0..5 {
        assert_eq!(known(&process, "ops"), "upstream_auth");
    }
    let ready = process.admin("/readyz");
    assert_eq!(ready.status, 200, "other upstreams are served");
    let told = ready.json()["logins"][0].as_str().unwrap().to_owned();
    assert!(told.starts_with("ops: credential ops: no login now, but after "), "{told}");
    assert!(told.ends_with("(correct the name or the secret): the login was answered 400"), "{told}");
    let ready = site.run(&["ready"]);
    assert!(String::from_utf8_lossy(&ready.stdout).contains(&told), "{ready:?}");
    let metrics = |process: &Process| String::from_utf8(process.admin("/metrics").body).unwrap();
    let held = |value| format!("claviger_login_held{{upstream=\"ops\",credential=\"ops\"}} {value}\n");
    assert!(metrics(&process).contains(&held(1)), "{}", metrics(&process));
    let said = process.said();
    assert_eq!(said.matches("the upstream refuses the login").count(), 1, "{said}");
    assert!(said.contains("correct the name or the secret"), "{said}");

    site.write(&format!("{CONFIG}\n# changed\n"));
    process.signal(Signal::HUP);
    process.wait_said("configuration reloaded");
    site.done(&["freeze", "--credential", "ops"]);
    site.done(&["unfreeze", "--credential", "ops"]);
    known_soon(&process, "ops", &Value::from("upstream_auth"));
    assert_eq!(asked(&upstream, "/api/login"), 2);

    done(&site.run_with(&["--output", "json", "credential", "rotate", "ops", "--username", "svc"], PASSWORD));
    known_soon(&process, "ops", &Value::from(0));
    assert_eq!(asked(&upstream, "/api/login"), 3);
    assert_eq!(process.admin("/readyz").json()["logins"], serde_json::json!([]));
    assert!(metrics(&process).contains(&held(0)), "{}", metrics(&process));
}

/// However often the gateway starts, and however it ends: the account would lock after seven attempts.
#[test]
fn a_restart_repeats_no_login_that_was_refused() {
    const WRONG: &str = "canary-of-a-wrong-password-1c0f";
    let upstream = Upstream::start(reply);
    let site = begun_with(&upstream, CONFIG);
    done(&add(&site, "ops", &["--kind", "login", "--username", "svc"], WRONG));
    let file = site.state().join("logins.refused");
    for start in 0..4 {
        let process = site.start();
        if start > 0 {
            let told = process.admin("/readyz").json()["logins"][0].as_str().unwrap().to_owned();
            assert!(told.starts_with("ops: credential ops: no login now, but after "), "{told}");
        }
        for _ in 0..3 {
            assert_eq!(known(&process, "ops"), "upstream_auth");
        }
        assert_eq!(asked(&upstream, "/api/login"), 2, "start {start}");
        kept(&site, &[WRONG]);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        if start % 2 == 0 {
            process.kill();
        } else {
            assert_eq!(process.end().0, Some(0));
        }
    }
    // A new version is another credential; claviger forgets the refusal of the old one.
    done(&site.run_with(&["--output", "json", "credential", "rotate", "ops", "--username", "svc"], PASSWORD));
    let process = site.start();
    assert!(!file.exists());
    assert_eq!((known(&process, "ops"), asked(&upstream, "/api/login")), (Value::from(0), 3));
    assert_eq!(process.end().0, Some(0));
}

/// A secret in a file or in the environment has no version: claviger recognises it by its contents.
#[test]
fn a_restart_recognises_a_refused_secret_that_has_no_version() {
    const WRONG: &str = "canary-of-a-wrong-password-1c0f";
    let upstream = Upstream::start(reply);
    let login = "[credentials.ops]\nlogin = { username = \"svc\", password = { env = \"OPS\" } }\n";
    let site = begun_with(&upstream, &format!("{CONFIG}{login}"));
    let start = |password: &str| {
        let process = site.launch(site.claviger().arg("serve").env("OPS", password));
        process.wait_ready();
        process
    };
    for _ in 0..3 {
        let process = start(WRONG);
        for _ in 0..3 {
            assert_eq!(known(&process, "ops"), "upstream_auth");
        }
        assert_eq!(asked(&upstream, "/api/login"), 2);
        process.kill();
        let text = std::fs::read_to_string(site.state().join("logins.refused")).unwrap();
        super::canary::clean("the file of refused logins", &text, &[WRONG]);
    }
    let process = start(PASSWORD);
    assert_eq!((known(&process, "ops"), asked(&upstream, "/api/login")), (Value::from(0), 3));
    assert!(!site.state().join("logins.refused").exists());
    assert_eq!(process.end().0, Some(0));
}

fn genrsa(site: &Site, bits: &str) -> String {
    let made = Command::new("openssl").args(["genrsa", bits]).current_dir(site.folder.path()).output();
    let made = made.expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

/// Adds a credential, with its secret on standard input.
fn add(site: &Site, upstream: &str, options: &[&str], secret: &str) -> std::process::Output {
    let add = ["--output", "json", "credential", "add", upstream, "--upstream", upstream];
    site.run_with(&[&add[..], options].concat(), secret)
}

fn known(process: &Process, upstream: &str) -> Value {
    let answer = get(process.address, &format!("/{upstream}/whoami"), TOKEN);
    if answer.status == 200 { answer.json()["known"].clone() } else { answer.json()["code"].clone() }
}

fn known_soon(process: &Process, upstream: &str, wanted: &Value) {
    let missing = || format!("{upstream}: {wanted}: {}", process.said());
    until_or(|| known(process, upstream) == *wanted, missing);
}

/// How often the upstream was called at this path.
fn asked(upstream: &Upstream, target: &str) -> usize {
    upstream.seen().iter().filter(|seen| seen.target == target).count()
}

#[test]
fn what_cannot_be_such_a_credential_is_refused_and_never_shown() {
    let upstream = Upstream::start(reply);
    let site = begun_with(&upstream, CONFIG);
    let short = genrsa(&site, "1024");
    let encrypted = short.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (upstream, options, secret, why) in [
        ("ops", &["--kind", "login"] as &[&str], NEXT, "--username"),
        ("ops", &["--kind", "login", "--id", "svc"], NEXT, "has no id"),
        ("ops", &["--kind", "login", "--username", ""], NEXT, "the user name is empty"),
        ("ops", &["--kind", "login", "--username", "svc"], "", "the secret is empty"),
        (
            "ops",
            &["--kind", "login", "--username", "svc"],
            "canary-first\ncanary-second",
            "control characters",
        ),
        ("ops", &["--kind", "value"], NEXT, "takes a credential of the kind `login`"),
        ("account", &["--kind", "client"], CLIENT, "--id"),
        ("account", &["--kind", "client", "--id", "a", "--username", "b"], CLIENT, "has no user name"),
        ("system", &["--kind", "rsa"], &short, "--id"),
        ("system", &["--kind", "rsa", "--id", "system/a"], &short, "less than 2048 bits"),
        ("system", &["--kind", "rsa", "--id", "system/a"], &encrypted, "no RSA private key in PEM"),
        ("system", &["--kind", "rsa", "--id", "system/a"], CLIENT, "no RSA private key in PEM"),
        ("system", &["--kind", "rsa", "--id", "system/\"a"], &short, "a quote"),
    ] {
        let said = refused(&add(&site, upstream, options, secret));
        assert!(said.contains(why), "{options:?}: {said}");
        for line in secret.lines().filter(|line| line.len() > 12 && !line.starts_with("---")) {
            assert!(!said.contains(line), "{said}");
        }
    }
    assert!(site.done(&["credential", "list"]).as_array().unwrap().iter().all(|row| row["in"] == "file"));
}

#[test]
fn they_are_used_kept_over_reloads_rotated_and_found_nowhere() {
    let upstream = Upstream::start(reply);
    let site = begun_with(&upstream, CONFIG);
    let key = genrsa(&site, "2048");
    done(&add(&site, "ops", &["--kind", "login", "--username", "svc gateway"], &format!("{PASSWORD}\n")));
    done(&add(&site, "account", &["--kind", "client", "--id", "svc"], CLIENT));
    done(&add(&site, "system", &["--kind", "rsa", "--id", "system/5e9f"], &key));
    let mut secrets = vec![PASSWORD, NEXT, CLIENT, PASS, NEXT_PASS, BEARER];
    secrets.extend(key.lines().filter(|line| line.len() == 64));
    assert!(secrets.len() > 20, "the lines of the key: {key}");

    let mut process = site.launch(site.claviger().arg("serve").env("CLAVIGER_LOG", "trace"));
    process.wait_ready();
    for _ in 0..3 {
        assert_eq!(
            [known(&process, "ops"), known(&process, "account"), known(&process, "system")],
            [0, 2, 3]
        );
    }
    process.signal(Signal::HUP);
    process.wait_said("configuration reloaded");
    site.done(&["token", "issue", "--consumer", "tool"]);
    process.wait_said("the changes of the store are in force");
    assert_eq!([known(&process, "ops"), known(&process, "account"), known(&process, "system")], [0, 2, 3]);
    assert_eq!((asked(&upstream, "/api/login"), asked(&upstream, "/token")), (1, 1), "over reloads");
    done(
        &site.run_with(
            &["credential", "rotate", "ops", "--username", "svc gateway", "--output", "json"],
            NEXT,
        ),
    );
    known_soon(&process, "ops", &Value::from(1));
    assert_eq!(asked(&upstream, "/api/login"), 2);
    // A wrong password; the upstream repeats it wherever it can.
    let wrong = "canary_of_a_wrong_password_5c01d2";
    done(
        &site.run_with(
            &["credential", "rotate", "ops", "--username", "svc gateway", "--output", "json"],
            wrong,
        ),
    );
    secrets.push(wrong);
    known_soon(&process, "ops", &Value::from("upstream_auth"));
    for _ in 0..10 {
        assert_eq!(known(&process, "ops"), "upstream_auth");
    }
    assert_eq!(asked(&upstream, "/api/login"), 4);

    kept(&site, &secrets);
    for (verbs, told) in [
        (&["explain", "--consumer", "tool", "GET", "/ops/a"] as &[&str], "cookie: access_token=… (by login)"),
        (
            &["explain", "--consumer", "tool", "GET", "/account/a"],
            "authorization: Bearer … (by client credentials, of http://",
        ),
        (&["explain", "--consumer", "tool", "GET", "/system/a?b=c"], "    GET /a?b=c HTTP/1.1\n    date: "),
        (&["credential", "show", "ops"], "login"),
        (&["credential", "list"], "rsa"),
        (&["audit", "show", "--last", "500", "--output", "json"], "the login was answered 400"),
        (&["check"], ""),
    ] {
        let output = site.claviger().args(verbs).env("CLAVIGER_LOG", "trace").output().unwrap();
        assert!(printed(&output).contains(told), "{}", printed(&output));
        clean(&format!("{verbs:?}"), &printed(&output), &secrets);
    }
    clean("the metrics", &String::from_utf8_lossy(&process.admin("/metrics").body), &secrets);
    let (code, said) = process.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("DEBUG claviger") && said.contains("logged in"), "the log says too little");
    clean("the log", &said, &secrets);
    kept(&site, &secrets);
}
