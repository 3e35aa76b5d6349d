//! Custody with the command line and the binary: the custodian's commands, and their effect on calls.

mod apart;
mod backlog;
mod both;
mod bound;
mod canary;
mod changes;
mod keys;
mod life;
mod missing;
mod owners;
mod passes;
mod reload;
mod restored;
mod scale;
mod signed;
mod slow;
mod state;
mod storage;
mod typed;
mod verbs;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{Process, Site, get};
use crate::support::upstream::{KEY_ID, SECRET, Seen, Upstream};
use crate::support::wait::found;
use crate::support::world::Answer;

/// A change takes effect within this time.
const SOON: Duration = Duration::from_secs(1);

/// The store holds everything that may change while the gateway runs.
pub const CONFIG: &str = r#"
state_dir = "state"
workers = 1
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "@ADMIN@"
[limits]
auth_failures_per_minute = 0
[upstreams.jms]
profile = "jumpserver"
endpoint = "http://@UPSTREAM@"
org = "00000000-0000-0000-0000-000000000002"
credential = "jms"
scheme.access-key = {}
[[routes]]
prefix = "/"
upstream = "jms"
[consumers.tool]
[roles.all]
allow = [{ paths = ["/**"] }]
[[grants]]
consumer = "tool"
upstream = "jms"
roles = ["all"]
[[grants]]
consumer = "late"
upstream = "jms"
roles = ["all"]
"#;

/// A folder as `init` creates it, with [`CONFIG`] for `upstream`.
fn begun(upstream: &Upstream) -> Site {
    begun_with(upstream, CONFIG)
}

/// As [`begun`], with another configuration.
fn begun_with(upstream: &Upstream, config: &str) -> Site {
    let site = Site::with(upstream.address, config);
    fs::remove_file(site.config()).unwrap();
    fs::remove_file(site.folder.path().join("key.secret")).unwrap();
    let made = site.run(&["init", "--dir", site.folder.path().to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    site.write(config);
    site
}

/// A folder with the upstream's key in custody, and an issued token, which is returned.
fn at_work(upstream: &Upstream) -> (Site, String) {
    let site = begun(upstream);
    add(&site, "jms", SECRET);
    let token = issue(&site, "tool");
    (site, token)
}

impl Site {
    fn store(&self) -> PathBuf {
        self.state().join("store.db")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs the binary with `secret` on its standard input.
    fn run_with(&self, arguments: &[&str], secret: &str) -> Output {
        let mut command = self.claviger();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses at once does not read its input.
        let _written = child.stdin.take().unwrap().write_all(secret.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs the binary, which must succeed; returns its output as JSON.
    fn done(&self, arguments: &[&str]) -> Value {
        done(&self.run_with(&[arguments, &["--output", "json"]].concat(), ""))
    }

    /// Runs the binary, which must refuse; returns the reason.
    fn refused(&self, arguments: &[&str]) -> String {
        refused(&self.run_with(arguments, ""))
    }

    /// The events of custodians' changes.
    fn admin_events(&self) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == "admin").collect()
    }
}

fn done(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn add(site: &Site, name: &str, secret: &str) -> Value {
    let add = ["credential", "add", name, "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    done(&site.run_with(&[&add[..], &["--output", "json"]].concat(), secret))
}

fn issue(site: &Site, consumer: &str) -> String {
    site.done(&["token", "issue", "--consumer", consumer])["token"].as_str().unwrap().to_owned()
}

/// Calls until the status is `status`; returns that answer. `changes` measures how soon that is.
fn soon(process: &Process, token: &str, status: u16) -> Answer {
    let call = || get(process.address, "/api/v1/users/", token);
    let look = || Some(call()).filter(|answer| answer.status == status);
    found(look, || format!("{status}: {:?} {}", call(), process.said()))
}

/// The code of an answer by claviger.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["code"].as_str().unwrap().to_owned()
}

/// The upstream's answer: it depends on whether one of `keys` made the signature.
fn verified(seen: &Seen, keys: &[(&str, &str)]) -> crate::support::upstream::Reply {
    match seen.signed_by(&seen.target, keys) {
        Ok(place) => crate::support::upstream::Reply::json(&format!("{{\"key\":{place}}}")),
        Err(_) => {
            crate::support::upstream::Reply::raw("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        }
    }
}
