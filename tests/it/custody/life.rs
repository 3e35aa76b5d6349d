//! The whole lifetime with the real binary: from an empty folder to a restored copy.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self};

use serde_json::Value;

use super::{at_work, code, done, issue, soon, verified};
use crate::support::process::{Process, Site, copy};
use crate::support::upstream::{KEY_ID, OTHER_KEY_ID, SECRET, Upstream};
use crate::support::wait::{until, until_or};
use crate::support::world::Raw;

const NEXT_SECRET: &str = "fake-the-next-secret-000000000003";

/// Sends calls on one connection until it is stopped; returns the numbers of calls and of failures.
struct Load {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(process: &Process, token: &str) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count, address) = (Arc::clone(&stop), Arc::clone(&made), process.address);
        let call =
            format!("GET /api/v1/users/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        let thread = thread::spawn(move || {
            let (mut raw, mut failed) = (Raw::to(address), Vec::new());
            while !ended.load(Ordering::SeqCst) {
                raw.send(&call);
                let answer = raw.answer();
                if answer.status == 200 {
                    count.fetch_add(1, Ordering::SeqCst);
                } else {
                    failed.push(format!("{answer:?}"));
                    raw = Raw::to(address);
                }
            }
            failed
        });
        Self { stop, made, thread }
    }

    /// Waits for this many more calls.
    fn more(&self, calls: usize) {
        let wanted = self.made.load(Ordering::SeqCst) + calls;
        until("more calls", || self.made.load(Ordering::SeqCst) >= wanted || self.thread.is_finished());
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Waits until the upstream receives the key with this index.
fn wait_key(process: &Process, token: &str, place: usize) {
    let wanted = format!("{{\"key\":{place}}}");
    let missing = || format!("key {place}: {}", process.said());
    until_or(|| soon(process, token, 200).body == wanted.as_bytes(), missing);
}

fn rotate(site: &Site) -> Value {
    let arguments =
        ["credential", "rotate", "jms", "--id", OTHER_KEY_ID, "--overlap", "1h", "--output", "json"];
    done(&site.run_with(&arguments, NEXT_SECRET))
}

#[test]
fn from_an_empty_folder_to_a_restored_one() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET), (OTHER_KEY_ID, NEXT_SECRET)]));
    let (site, token) = at_work(&upstream);
    let process = site.start();
    assert_eq!(soon(&process, &token, 200).body, b"{\"key\":0}");

    // A rotation under load: no call fails, and the store keeps the former version and who used it.
    let loads = [Load::start(&process, &token), Load::start(&process, &token)];
    loads[0].more(20);
    let rotated = rotate(&site);
    assert_eq!((&rotated["version"], &rotated["stage"]), (&2.into(), &"active".into()));
    assert_eq!(rotated["used_by"][0]["consumer"], "tool");
    assert_eq!(rotated["used_by"][0]["version"], 1);
    wait_key(&process, &token, 1);
    loads[1].more(20);
    for load in loads {
        assert_eq!(load.end(), Vec::<String>::new());
    }
    let shown = site.done(&["credential", "show", "jms"]);
    assert_eq!(shown["versions"][0]["stage"], "retired");
    assert!(shown["versions"][0]["until"].is_string());
    assert_eq!(shown["versions"][1]["stage"], "active");

    // And back, without another input of the secret.
    site.done(&["credential", "activate", "jms", "1"]);
    wait_key(&process, &token, 0);
    site.done(&["credential", "activate", "jms", "2"]);
    wait_key(&process, &token, 1);

    // A token is valid until its revocation; the consumer's other token stays valid.
    let (other, id) = {
        let issued = site.done(&["token", "issue", "--consumer", "tool", "--expires", "30d"]);
        (issued["token"].as_str().unwrap().to_owned(), issued["id"].as_str().unwrap().to_owned())
    };
    soon(&process, &other, 200);
    site.done(&["token", "revoke", &id]);
    assert_eq!(code(&soon(&process, &other, 401)), "unauthenticated");
    soon(&process, &token, 200);

    site.done(&["freeze"]);
    assert_eq!(code(&soon(&process, &token, 503)), "frozen");
    site.done(&["unfreeze"]);
    soon(&process, &token, 200);
    let (ended, said) = process.end();
    assert_eq!(ended, Some(0), "{said}");
    restored(&upstream, &site, (&token, &other));
}

/// A separate copy of the state folder answers as the original did.
fn restored(upstream: &Upstream, site: &Site, (token, revoked): (&str, &str)) {
    let used = &site.done(&["token", "list"])[0]["last_used"];
    assert!(used.is_string(), "last used is known after the end: {used}");
    let copied = Site::with(upstream.address, super::CONFIG);
    copy(&site.state(), &copied.state());
    fs::remove_dir_all(site.state()).unwrap();
    let process = copied.start();
    assert_eq!(soon(&process, token, 200).body, b"{\"key\":1}");
    assert_eq!(code(&soon(&process, revoked, 401)), "unauthenticated");
    for verbs in [["token", "list"], ["consumer", "list"], ["credential", "list"]] {
        assert!(!copied.done(&verbs).as_array().unwrap().is_empty());
    }
    let changed: Vec<Value> = copied.admin_events();
    let what: Vec<&str> = changed.iter().map(|event| event["what"].as_str().unwrap()).collect();
    let expected = [
        "credential added",
        "token issued",
        "credential rotated",
        "credential activated",
        "credential activated",
        "token issued",
        "token revoked",
        "freeze",
        "unfreeze",
    ];
    assert_eq!(what, expected);
    assert!(changed.iter().all(|event| event["by"].as_str().unwrap().contains("uid")));
    // The copy accepts changes like any other store.
    let fresh = issue(&copied, "tool");
    soon(&process, &fresh, 200);
    assert_eq!(process.end().0, Some(0));
    copied.verified();
}

/// After a kill at any time, the next start has every acknowledged change.
#[test]
fn what_was_changed_survives_a_kill() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, token) = at_work(&upstream);
    for round in 0..3 {
        let process = site.start();
        soon(&process, &token, 200);
        let fresh = issue(&site, "tool");
        site.done(if round % 2 == 0 {
            &["freeze", "--upstream", "jms"]
        } else {
            &["unfreeze", "--upstream", "jms"]
        });
        process.kill();
        let process = site.start();
        soon(&process, &fresh, if round % 2 == 0 { 503 } else { 200 });
        site.done(&["unfreeze", "--upstream", "jms"]);
        soon(&process, &fresh, 200);
        process.kill();
    }
    let changes = site.admin_events().len();
    assert!(changes >= 2 + 3 * 2, "{changes}");
}
