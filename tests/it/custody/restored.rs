//! A restored store brings back nothing that was removed from it, unless a custodian accepts that.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{CONFIG, at_work, begun_with, code, issue, soon, verified};
use crate::support::process::{Site, copy, refused_start};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};

fn upstream() -> Upstream {
    Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]))
}

/// Runs the gateway for one call.
fn serve(site: &Site, token: &str, status: u16) {
    let process = site.start();
    soon(&process, token, status);
    assert_eq!(process.end().0, Some(0));
}

/// The contents of the store, while nothing runs.
fn kept(site: &Site) -> Vec<u8> {
    assert!(!with_end(&site.store(), "-wal").exists());
    fs::read(site.store()).unwrap()
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn put_back(site: &Site, store: &[u8]) {
    for end in ["-wal", "-shm"] {
        drop(fs::remove_file(with_end(&site.store(), end)));
    }
    fs::write(site.store(), store).unwrap();
}

fn id_of(site: &Site, at: usize) -> String {
    site.done(&["token", "list"])[at]["id"].as_str().unwrap().to_owned()
}

/// The store before and after the revocation of a token; the trail records both.
fn revoked(site: &Site, token: &str) -> (Vec<u8>, String) {
    serve(site, token, 200);
    let before = kept(site);
    let id = id_of(site, 0);
    let process = site.start();
    site.done(&["token", "revoke", &id]);
    soon(&process, token, 401);
    assert_eq!(process.end().0, Some(0));
    (before, id)
}

#[test]
fn a_revoked_token_comes_back_only_where_a_custodian_accepts_it() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let (before, id) = revoked(&site, &token);
    let after = kept(&site);
    put_back(&site, &before);
    let said = refused_start(&site);
    for wanted in ["would forget 1 changes", "token revoked", &id, "claviger store accept"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("token revoked"), "{checked:?}");
    // Restoring the right store is one remedy.
    put_back(&site, &after);
    serve(&site, &token, 401);
    let after = kept(&site);
    // The other remedy is to accept the loss.
    put_back(&site, &before);
    let asked = site.run(&["store", "accept"]);
    assert_eq!((asked.status.code(), asked.stdout.len()), (Some(1), 0), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("token revoked"), "{asked:?}");
    let dry = site.done(&["store", "accept", "--dry-run"]);
    assert_eq!((&dry["forgotten"][0]["token"], &dry["dry_run"]), (&id.clone().into(), &true.into()));
    assert!(refused_start(&site).contains("token revoked"));
    let done = site.done(&["store", "accept", "--yes"]);
    assert_eq!(done["forgotten"][0]["token"], id);
    serve(&site, &token, 200);
    let events = site.admin_events();
    let accepted = events.iter().find(|event| event["what"] == "store accepted").unwrap();
    let revocation = events.iter().find(|event| event["what"] == "token revoked").unwrap();
    assert_eq!((&accepted["forgotten"], &accepted["changes"][0]), (&1.into(), &revocation["change"]));
    assert_eq!(accepted["trail_knew"], revocation["store"]);
    assert!(accepted["by"].as_str().unwrap().contains("uid "), "{accepted}");
    serve(&site, &token, 200);
    assert_eq!(site.done(&["store", "accept"]), serde_json::json!({"forgotten": []}));
    // After that, it is the other store that lacks an event.
    put_back(&site, &after);
    let said = refused_start(&site);
    assert!(said.contains("store accepted"), "{said}");
}

#[test]
fn a_store_that_is_put_back_together_with_the_trail_is_noticed_by_the_last_head() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    serve(&site, &token, 200);
    let elsewhere = tempfile::tempdir().unwrap();
    let trail = elsewhere.path().join("audit");
    copy(&site.audit(), &trail);
    let before = kept(&site);
    let id = id_of(&site, 0);
    site.done(&["token", "revoke", &id]);
    serve(&site, &token, 401);
    put_back(&site, &before);
    fs::remove_dir_all(site.audit()).unwrap();
    copy(&trail, &site.audit());
    assert!(refused_start(&site).contains("claviger audit accept"));
    // The trail is incomplete too: the command names the right order.
    let first = site.run(&["store", "accept", "--yes"]);
    assert_eq!(first.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&first.stderr).contains("claviger audit accept"), "{first:?}");
    site.done(&["audit", "accept", "--yes"]);
    let accepted = site.events().into_iter().find(|event| event["what"] == "trail accepted").unwrap();
    for _ in 0..2 {
        let said = refused_start(&site);
        let until = accepted["until"].as_str().unwrap();
        for wanted in ["the store is older", until, "claviger store accept"] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
    site.done(&["store", "accept", "--yes"]);
    serve(&site, &token, 200);
    serve(&site, &token, 200);
    // A head of an earlier version, which does not name the store, is valid as well.
    let head = site.folder.path().join("state/trail.head");
    let text = fs::read_to_string(&head).unwrap();
    let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(older["store"].is_string(), "{older}");
    older.as_object_mut().unwrap().remove("store");
    fs::write(&head, format!("{older}\n")).unwrap();
    serve(&site, &token, 200);
}

#[test]
fn a_trail_that_is_gone_with_its_head_is_missed_by_the_store() {
    let upstream = upstream();
    // A store that only commands have used has no trail.
    let (site, token) = at_work(&upstream);
    site.done(&["freeze"]);
    site.done(&["unfreeze"]);
    assert_eq!(site.run(&["check"]).status.code(), Some(0));
    let nothing = site.run(&["audit", "accept", "--yes"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("nothing to accept"), "{nothing:?}");
    serve(&site, &token, 200);
    for is_folder_left in [true, false] {
        fs::remove_dir_all(site.audit()).unwrap();
        fs::remove_file(site.state().join("trail.head")).unwrap();
        if is_folder_left {
            fs::create_dir(site.audit()).unwrap();
        }
        // Commands do not need the trail.
        site.done(&["token", "list"]);
        let head = site.state().join("trail.head");
        let checked = String::from_utf8(site.run(&["check"]).stderr).unwrap();
        for said in [refused_start(&site), refused_start(&site), checked] {
            for wanted in [&site.store(), &head, &site.audit()].map(|path| path.to_str().unwrap()) {
                assert!(said.contains(wanted), "{wanted}: {said}");
            }
            assert!(said.contains("claviger audit accept"), "{said}");
        }
        let dry = site.done(&["audit", "accept", "--dry-run"]);
        assert!(dry["accepted"].as_str().unwrap().contains("nothing is left of it"), "{dry}");
        assert!(refused_start(&site).contains("claviger audit accept"));
        site.done(&["audit", "accept", "--yes"]);
        let events = site.events();
        assert_eq!((&events[0]["seq"], &events[1]["what"]), (&1.into(), &"trail accepted".into()));
        assert!(events[1]["missing"].as_str().unwrap().contains("store.db"), "{}", events[1]);
        for _ in 0..2 {
            serve(&site, &token, 200);
            site.verified();
        }
    }
}

#[test]
fn what_was_changed_after_it_was_put_back_makes_it_no_newer() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let (before, id) = revoked(&site, &token);
    put_back(&site, &before);
    for name in ["one", "two", "three"] {
        site.done(&["consumer", "add", name]);
    }
    let said = refused_start(&site);
    assert!(said.contains("token revoked") && said.contains(&id), "{said}");
    site.done(&["store", "accept", "--yes"]);
    serve(&site, &token, 200);
    assert_eq!(site.admin_events().iter().filter(|event| event["what"] == "consumer added").count(), 3);
}

#[test]
fn what_is_changed_while_nothing_serves_is_no_other_history() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    serve(&site, &token, 200);
    site.done(&["freeze"]);
    let frozen = kept(&site);
    site.done(&["unfreeze"]);
    serve(&site, &token, 200);
    put_back(&site, &frozen);
    let said = refused_start(&site);
    assert!(said.contains("unfreeze"), "{said}");
    // A store and a trail of the same day match, with the records of the state folder.
    let (site, token) = at_work(&upstream);
    serve(&site, &token, 200);
    let day = tempfile::tempdir().unwrap();
    copy(&site.state(), &day.path().join("state"));
    let id = id_of(&site, 0);
    site.done(&["token", "revoke", &id]);
    serve(&site, &token, 401);
    fs::remove_dir_all(site.state()).unwrap();
    copy(&day.path().join("state"), &site.state());
    serve(&site, &token, 200);
    site.verified();
}

#[test]
fn a_store_that_is_gone_with_its_mark_is_missed_by_the_trail() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let (_, id) = revoked(&site, &token);
    fs::remove_file(site.store()).unwrap();
    for mark in [true, false] {
        if !mark {
            fs::remove_file(site.state().join("store.marker")).unwrap();
            let said = refused_start(&site);
            assert!(said.contains("token revoked") && said.contains(&id), "{said}");
        }
        let said = refused_start(&site);
        assert!(said.contains("claviger store accept"), "{said}");
        // Another store, without these events.
        if !mark {
            site.done(&["consumer", "add", "one"]);
            assert!(refused_start(&site).contains("token revoked"));
        }
    }
    fs::remove_file(site.store()).unwrap();
    let done = site.done(&["store", "accept", "--yes"]);
    assert!(done["forgotten"].as_array().unwrap().len() >= 2, "{done}");
    site.done(&["token", "issue", "--consumer", "tool"]);
    let add = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    assert!(site.run_with(&add, SECRET).status.success());
    assert_eq!(site.start().end().0, Some(0));
    assert!(site.admin_events().iter().any(|event| event["what"] == "store accepted"));
}

#[test]
fn the_trail_knows_also_after_retention() {
    let upstream = upstream();
    let config =
        format!("{CONFIG}[audit]\nrotate = \"8KiB\"\nretain_size = \"10KiB\"\ncheckpoint_events = 10\n");
    let site = begun_with(&upstream, &config);
    super::add(&site, "jms", SECRET);
    let (token, other) = (issue(&site, "tool"), issue(&site, "tool"));
    serve(&site, &token, 200);
    let before = kept(&site);
    let process = site.start();
    site.done(&["token", "revoke", &id_of(&site, 0)]);
    soon(&process, &token, 401);
    let until = std::time::Instant::now() + crate::support::process::PATIENCE;
    let has_changes = || {
        let mut found = false;
        let look = |line: &[u8]| {
            found |= String::from_utf8_lossy(line).contains("\"event\":\"admin\"");
            true
        };
        claviger::audit::each_line(&site.audit(), look).unwrap();
        found
    };
    while has_changes() {
        assert!(std::time::Instant::now() < until, "it is not let go");
        for _ in 0..10 {
            soon(&process, &other, 200);
        }
    }
    assert_eq!(process.end().0, Some(0));
    put_back(&site, &before);
    let said = refused_start(&site);
    assert!(said.contains("not the one that the trail knows") && said.contains("store accept"), "{said}");
    site.done(&["store", "accept", "--yes"]);
    serve(&site, &token, 200);
}

/// Like `.restore` of the sqlite3 program, in one transaction.
#[test]
fn a_state_that_is_put_back_while_it_serves_is_not_put_in_force() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let mut process = site.start();
    soon(&process, &token, 200);
    let id = id_of(&site, 0);
    site.done(&["token", "revoke", &id]);
    assert_eq!(code(&soon(&process, &token, 401)), "unauthenticated");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut store = SqliteConnectOptions::new().filename(site.store()).connect().await.unwrap();
        let restore = "BEGIN; UPDATE tokens SET revoked = NULL; DELETE FROM marks WHERE stamp = (SELECT changes FROM store); \
            UPDATE store SET changes = changes - 1; COMMIT";
        sqlx::raw_sql(restore).execute(&mut store).await.unwrap();
        store.close().await.unwrap();
    });
    let told = process.wait_readiness(503);
    assert!(String::from_utf8_lossy(&told.body).contains("claviger store accept"), "{told:?}");
    assert_eq!(crate::support::process::get(process.address, "/api/v1/users/", &token).status, 401);
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("reloaded");
    assert_eq!(
        crate::support::process::get(process.address, "/api/v1/users/", &token).status,
        401,
        "nor by a reload"
    );
    site.done(&["store", "accept", "--yes"]);
    soon(&process, &token, 200);
    process.wait_ready();
    assert_eq!(process.end().0, Some(0));
    assert!(site.admin_events().iter().any(|event| event["what"] == "store accepted"));
    serve(&site, &token, 200);
}
