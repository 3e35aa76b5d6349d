//! Entries in both the file and the store, or in only one of them: neither restores what the other has ended.

use std::fmt::Write as _;

use serde_json::Value;

use super::{CONFIG, at_work, code, issue, refused, soon, verified};
use crate::support::process::Site;
use crate::support::upstream::{KEY_ID, SECRET, Upstream};

/// The file without the consumer `tool`; its grant stays.
fn without_tool() -> String {
    CONFIG.replace("[consumers.tool]\n", "")
}

/// The file, with the digests of these tokens for `tool`.
fn declaring(tokens: &[&str]) -> String {
    let hex = |token: &&str| {
        let digest = claviger::inbound::Directory::digest(token.as_bytes());
        digest.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let digests: Vec<String> = tokens.iter().map(hex).collect();
    CONFIG.replace("[consumers.tool]\n", &format!("[consumers.tool]\ntoken_sha256 = {digests:?}\n"))
}

fn tokens(site: &Site) -> Vec<Value> {
    site.done(&["token", "list"]).as_array().unwrap().clone()
}

#[test]
fn a_new_consumer_inherits_no_tokens() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.write(&without_tool());
    let said = site.refused(&["consumer", "add", "tool"]);
    assert!(said.contains("claviger consumer remove tool") && said.contains("token revoke"), "{said}");
    assert_eq!(site.done(&["consumer", "list"]), Value::Array(Vec::new()));
    assert!(site.refused(&["consumer", "remove", "tool"]).contains("--yes"));
    site.done(&["consumer", "remove", "tool", "--yes"]);
    assert_eq!(tokens(&site), Vec::<Value>::new());
    assert!(site.refused(&["consumer", "remove", "tool", "--yes"]).contains("no consumer `tool`"));
    site.done(&["consumer", "add", "tool"]);
}

#[test]
fn a_revoked_token_keeps_no_name() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.write(&without_tool());
    let id = tokens(&site)[0]["id"].as_str().unwrap().to_owned();
    site.done(&["token", "revoke", &id]);
    site.done(&["consumer", "add", "tool"]);
}

#[test]
fn what_the_store_has_of_a_declared_consumer_can_be_removed() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.done(&["consumer", "disable", "tool"]);
    let removed = site.run(&["consumer", "remove", "tool", "--yes"]);
    let said = String::from_utf8_lossy(&removed.stdout);
    assert!(removed.status.success() && said.contains("the file still declares"), "{removed:?}");
    assert_eq!(tokens(&site), Vec::<Value>::new());
    assert_eq!(site.done(&["consumer", "list"])[0]["disabled"], false);
    assert!(site.refused(&["consumer", "remove", "tool", "--yes"]).contains("declared in the file"));
}

#[test]
fn what_was_enabled_again_ends_with_its_declaration() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.done(&["consumer", "disable", "tool"]);
    site.done(&["consumer", "enable", "tool"]);
    let former = tokens(&site);
    assert_eq!(former.len(), 1, "its tokens stay");
    site.write(&without_tool());
    assert_eq!(site.done(&["consumer", "list"]), Value::Array(Vec::new()));
    site.write(CONFIG);
    // A consumer that was never disabled gets no row either.
    site.done(&["consumer", "enable", "tool"]);
    assert_eq!(tokens(&site), former);
    site.write(&without_tool());
    assert_eq!(site.done(&["consumer", "list"]), Value::Array(Vec::new()));
}

#[test]
fn the_files_credential_is_changed_in_the_file() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let before = site.done(&["credential", "show", "jms"]);
    let declared =
        "[credentials.jms]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }\n";
    site.write(&(CONFIG.to_owned() + declared));
    for verb in [
        &["disable", "jms"] as &[&str],
        &["enable", "jms"],
        &["activate", "jms", "1"],
        &["rotate", "jms", "--id", KEY_ID],
    ] {
        let said = refused(&site.run_with(&[&["credential"], verb].concat(), SECRET));
        assert!(said.contains("the file's is in force"), "{verb:?}: {said}");
    }
    assert_eq!(site.done(&["credential", "show", "jms"]), before);
    let removed = site.run(&["credential", "remove", "jms", "--yes"]);
    let said = String::from_utf8_lossy(&removed.stdout);
    assert!(removed.status.success() && said.contains("the file's stays in force"), "{removed:?}");
    assert!(site.refused(&["credential", "remove", "jms", "--yes"]).contains("in the file"));
    site.write(CONFIG);
    assert!(site.refused(&["credential", "show", "jms"]).contains("no credential `jms`"));
}

#[test]
fn a_declaration_brings_no_token_back() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let (site, revoked) = at_work(&upstream);
    site.done(&["consumer", "add", "late"]);
    let (late, good) = (issue(&site, "late"), issue(&site, "tool"));
    site.write(&declaring(&[&revoked, &late, &good]));
    let process = site.start();
    for token in [&revoked, &late, &good] {
        soon(&process, token, 200);
    }
    let all = tokens(&site);
    let first = all.iter().find(|row| row["consumer"] == "tool" && row["id"] == all[0]["id"]).unwrap();
    site.done(&["token", "revoke", first["id"].as_str().unwrap()]);
    assert_eq!(code(&soon(&process, &revoked, 401)), "unauthenticated");
    site.done(&["consumer", "disable", "late"]);
    assert_eq!(code(&soon(&process, &late, 401)), "unauthenticated");
    soon(&process, &good, 200);
    // Nor does removing the consumer's row from the store, as long as the file declares the consumer.
    site.done(&["consumer", "remove", "tool", "--yes"]);
    let left = tokens(&site);
    let left: Vec<_> = left.iter().filter(|row| row["consumer"] == "tool").collect();
    assert!(left.len() == 1 && left[0]["revoked"].is_string(), "{left:?}");
    let said = site.refused(&["consumer", "remove", "tool", "--yes"]);
    assert!(said.contains("revoked"), "{said}");
    soon(&process, &good, 200);
    soon(&process, &revoked, 401);
    assert_eq!(process.end().0, Some(0));
    let process = site.start();
    soon(&process, &revoked, 401);
    site.done(&["consumer", "enable", "late"]);
    soon(&process, &late, 200);
    assert_eq!(process.end().0, Some(0));
    site.write(&without_tool());
    site.done(&["consumer", "remove", "tool", "--yes"]);
    assert!(tokens(&site).iter().all(|row| row["consumer"] != "tool"));
}
