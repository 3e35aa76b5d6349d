//! What file and store both have, or only one of them has any more: neither brings back what the other ended.

use serde_json::Value;

use super::{CONFIG, at_work};
use crate::process::Site;
use crate::upstream::Upstream;

/// The file without the consumer `tool`; its grant stays.
fn without_tool() -> String {
    CONFIG.replace("[consumers.tool]\n", "")
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
    // One that was never disabled gets no row either.
    site.done(&["consumer", "enable", "tool"]);
    assert_eq!(tokens(&site), former);
    site.write(&without_tool());
    assert_eq!(site.done(&["consumer", "list"]), Value::Array(Vec::new()));
}
