//! The commands themselves: their output, their refusals, and that a refusal changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::{CONFIG, add, at_work, begun, done, issue, refused};
use crate::support::process::Site;
use crate::support::upstream::{KEY_ID, SECRET, Upstream};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_makes_what_is_needed_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, CONFIG);
    let dir = folder.path().join("new/place");
    let made = site.done(&["init", "--dir", dir.to_str().unwrap()]);
    let config = dir.join("claviger.toml");
    assert_eq!(made["config"], config.to_str().unwrap());
    for (path, expected) in
        [("claviger.toml", 0o600), ("state", 0o700), ("state/master.key", 0o600), ("state/store.db", 0o600)]
    {
        assert_eq!(mode(&dir.join(path)), expected, "{path}");
    }
    let key = fs::read(dir.join("state/master.key")).unwrap();
    let checked = site.run(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "what it makes can be used: {checked:?}");
    fs::write(&config, "mine").unwrap();
    assert!(site.refused(&["init", "--dir", dir.to_str().unwrap()]).contains("is not overwritten"));
    assert_eq!(fs::read(&config).unwrap(), b"mine");
    fs::remove_file(&config).unwrap();
    site.done(&["init", "--dir", dir.to_str().unwrap()]);
    assert_eq!(fs::read(dir.join("state/master.key")).unwrap(), key);
}

#[test]
fn a_secret_comes_by_standard_input_or_file_and_is_checked() {
    let upstream = Upstream::ok();
    let site = begun(&upstream);
    let with = |kind: &str, id: &[&str], upstream: &str, secret: &str| {
        let add = ["credential", "add", "jms", "--upstream", upstream, "--kind", kind];
        site.run_with(&[&add[..], id].concat(), secret)
    };
    let id = ["--id", KEY_ID];
    for (output, why) in [
        (with("access-key", &["--id", "no-uuid"], "jms", SECRET), "not a UUID"),
        (with("access-key", &[], "jms", SECRET), "--id"),
        (with("access-key", &id, "jms", ""), "empty"),
        (with("access-key", &id, "jms", "two words"), "printable"),
        (with("access-key", &id, "jms", &"x".repeat(70_000)), "longer than any secret"),
        (with("access-key", &id, "jsm", SECRET), "no upstream `jsm`"),
        (with("login", &id, "jms", SECRET), "access-key"),
        (
            site.run_with(&["credential", "add", "no/name", "--upstream", "jms", "--kind", "access-key"], ""),
            "is not a name",
        ),
    ] {
        let said = refused(&output);
        assert!(said.contains(why) && !said.contains(SECRET), "{said}");
    }
    assert_eq!(site.done(&["credential", "list"]), Value::Array(Vec::new()));
    // No option takes a secret on the command line.
    let typed =
        site.run(&["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--secret", "x"]);
    assert_eq!(typed.status.code(), Some(2));

    let file = site.folder.path().join("secret.txt");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let path = file.to_str().unwrap();
    let add = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    site.done(&[&add[..], &["--secret-file", path, "--dry-run"]].concat());
    assert_eq!(site.done(&["credential", "list"]), Value::Array(Vec::new()));
    let added = site.done(&[&add[..], &["--secret-file", path]].concat());
    assert_eq!((&added["credential"], &added["version"]), (&"jms".into(), &1.into()));
    assert!(site.refused(&[&add[..], &["--secret-file", path]].concat()).contains("already"));
    let kept = fs::read(site.store()).unwrap();
    assert!(!kept.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
}

#[test]
fn a_token_is_shown_once_and_listed_without_it() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let issued = site.done(&[
        "token",
        "issue",
        "--consumer",
        "tool",
        "--note",
        "for the night job",
        "--expires",
        "2100-01-01T00:00:00Z",
    ]);
    let members: Vec<&String> = issued.as_object().unwrap().keys().collect();
    assert_eq!(members, ["consumer", "expires", "id", "token"]);
    assert!(claviger::inbound::token::is_well_formed(issued["token"].as_str().unwrap()));
    assert_eq!(issued["expires"], "2100-01-01T00:00:00Z");
    let listed = site.run(&["token", "list", "--output", "json"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(issued["token"].as_str().unwrap()));
    let listed = done(&listed);
    let row = listed.as_array().unwrap().iter().find(|row| row["id"] == issued["id"]).unwrap();
    assert_eq!(
        (&row["note"], &row["last_used"], &row["revoked"]),
        (&"for the night job".into(), &Value::Null, &Value::Null)
    );
    for (arguments, why) in [
        (&["token", "issue", "--consumer", "tol"] as &[&str], "did you mean `tool`"),
        (&["token", "issue", "--consumer", "tool", "--expires", "2001-01-01T00:00:00Z"], "in the past"),
        (&["token", "issue", "--consumer", "tool", "--expires", "soon"], "neither a time"),
        (&["token", "revoke", "unknown"], "no token with the id"),
    ] {
        assert!(site.refused(arguments).contains(why), "{arguments:?}");
    }
    let id = issued["id"].as_str().unwrap();
    assert_eq!(site.done(&["token", "revoke", id, "--dry-run"])["dry_run"], true);
    assert_eq!(site.done(&["token", "revoke", id])["revoked"], true);
    assert!(site.refused(&["token", "revoke", id]).contains("already"));
}

#[test]
fn what_cannot_be_undone_is_asked_for() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.done(&["consumer", "add", "late", "--note", "n"]);
    issue(&site, "late");
    assert!(site.refused(&["consumer", "remove", "late"]).contains("--yes"));
    assert!(site.refused(&["credential", "remove", "jms"]).contains("--yes"));
    assert_eq!(site.done(&["consumer", "remove", "late", "--dry-run"])["dry_run"], true);
    assert_eq!(site.done(&["consumer", "show", "late"])["tokens"].as_array().unwrap().len(), 1);
    assert!(site.refused(&["consumer", "add", "tool"]).contains("the file declares"));
    assert!(site.refused(&["consumer", "add", "late"]).contains("already"));
    site.done(&["consumer", "remove", "late", "--yes"]);
    assert!(site.refused(&["consumer", "show", "late"]).contains("no consumer `late`"));
    assert_eq!(site.done(&["token", "list", "--consumer", "late"]), Value::Array(Vec::new()));
}

#[test]
fn a_version_may_be_staged_first() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let rotate = ["credential", "rotate", "jms", "--id", KEY_ID, "--output", "json"];
    let staged = done(&site.run_with(&[&rotate[..], &["--stage"]].concat(), "fake-next"));
    assert_eq!((&staged["version"], &staged["stage"]), (&2.into(), &"staged".into()));
    assert_eq!(site.done(&["credential", "list"])[0]["version"], 1);
    assert!(site.refused(&["credential", "activate", "jms", "3"]).contains("no version 3"));
    assert!(site.refused(&["credential", "activate", "jms", "1"]).contains("in use already"));
    site.done(&["credential", "activate", "jms", "2"]);
    let shown = site.done(&["credential", "show", "jms"]);
    let stages: Vec<&str> =
        shown["versions"].as_array().unwrap().iter().map(|row| row["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["retired", "active"]);
    // Added again, the credential continues its version numbers: the trail names the earlier versions.
    site.done(&["credential", "remove", "jms", "--yes"]);
    assert_eq!(add(&site, "jms", SECRET)["version"], 3);
    let said =
        refused(&site.run_with(&["credential", "rotate", "jms", "--id", KEY_ID, "--overlap", "1y"], "x"));
    assert!(said.contains("not a duration"), "{said}");
    assert!(site.refused(&["credential", "show", "none"]).contains("no credential `none`"));
}

#[test]
fn tables_are_for_people_and_json_for_machines() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    for verbs in [
        &["token", "list"] as &[&str],
        &["consumer", "list"],
        &["credential", "list"],
        &["credential", "show", "jms"],
        &["consumer", "show", "tool"],
    ] {
        let text = site.run(verbs);
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("tool") || text.contains("jms"), "{text}");
        assert!(text.lines().any(|line| line.starts_with(char::is_uppercase)), "{text}");
        assert!(!text.contains(&token) && !text.contains(SECRET));
        site.done(verbs);
    }
    for usage in [
        &["token"] as &[&str],
        &["credential", "add"],
        &["freeze", "--consumer", "tool", "--upstream", "jms"],
        &["master-key"],
    ] {
        assert_eq!(site.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert!(site.refused(&["freeze", "--upstream", "jsm"]).contains("did you mean `jms`"));
    assert_eq!(site.done(&["freeze"])["frozen"], true);
    assert_eq!(site.done(&["freeze"])["frozen"], true, "twice is no error");
}

#[test]
fn two_custodians_do_not_undo_each_others_work() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let issue = || site.claviger().args(["token", "issue", "--consumer", "tool"]).output().unwrap();
    let results: Vec<bool> = std::thread::scope(|scope| {
        let each: Vec<_> = (0..8).map(|_| scope.spawn(|| issue().status.success())).collect();
        each.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, [true; 8]);
    assert_eq!(site.done(&["token", "list"]).as_array().unwrap().len(), 1 + 8);
}
