//! A part of the store that cannot take effect does not delay the rest; the gateway reports it and retries.

use std::fs;

use claviger::storage::{Change, Sqlite, Storage as _};
use serde_json::Value;

use super::{CONFIG, SOON, at_work, begun, code, issue, soon, verified};
use crate::support::process::{Process, get};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::{lapse, until_or};

fn upstream() -> Upstream {
    Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]))
}

/// The reason that `/readyz` gives, once it is not ready.
fn unready(process: &Process) -> String {
    let answer = process.wait_readiness(503);
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    said["reasons"][0].as_str().unwrap().to_owned()
}

fn works_again(process: &Process, token: &str) {
    until_or(|| get(process.address, "/api/v1/", token).status == 200, || process.said());
    process.wait_readiness(200);
}

#[test]
fn a_master_key_that_is_away_is_told_and_tried_again() {
    let upstream = upstream();
    let site = begun(&upstream);
    let (key, away) = (site.state().join("master.key"), site.folder.path().join("away.key"));
    fs::rename(&key, &away).unwrap();
    let token = issue(&site, "tool");
    let process = site.start();
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    // The custodian keeps the key elsewhere.
    site.write(&(CONFIG.to_owned() + "[custody]\nmaster_key = { file = \"away.key\" }\n"));
    super::add(&site, "jms", SECRET);
    site.write(CONFIG);
    let why = unready(&process);
    assert!(why.contains("some of its records cannot be opened") && why.contains("master.key"), "{why}");
    assert_eq!(code(&get(process.address, "/api/v1/", &token)), "credential_unavailable");
    // All other changes take effect at once.
    site.done(&["consumer", "disable", "tool"]);
    soon(&process, &token, 401);
    site.done(&["consumer", "enable", "tool"]);
    soon(&process, &token, 503);
    lapse(2 * SOON, "it has tried again by then");
    assert_eq!(process.admin("/readyz").status, 503);
    assert_eq!(
        process.said().matches("some records of the store cannot be opened").count(),
        1,
        "{}",
        process.said()
    );
    fs::copy(&away, &key).unwrap();
    works_again(&process, &token);
    assert!(process.said().contains("the store is followed again"));
    // If the key is removed again, the opened credentials stay usable.
    fs::remove_file(&key).unwrap();
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    site.done(&["unfreeze"]);
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_credential_that_does_not_open_is_told_and_tried_again() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    super::add(&site, "other", SECRET);
    let process = site.start();
    soon(&process, &token, 200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let altered = |how: &'static str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.store());
        let mut store = runtime.block_on(options.connect()).unwrap();
        runtime.block_on(sqlx::raw_sql(how).execute(&mut store)).unwrap();
        runtime.block_on(store.close()).unwrap();
    };
    altered(
        "UPDATE credentials SET kind = 'value' WHERE name = 'other'; UPDATE store SET changes = changes + 1",
    );
    let why = unready(&process);
    assert!(why.contains("version 1 of the credential `other` does not open"), "{why}");
    assert!(!why.contains(SECRET), "{why}");
    soon(&process, &token, 200);
    // Corrected directly in the file, without a command.
    altered("UPDATE credentials SET kind = 'access-key' WHERE name = 'other'");
    works_again(&process, &token);
    assert_eq!(process.end().0, Some(0));
}

/// A recent failure does not delay new changes.
#[test]
fn a_store_that_is_back_is_followed_at_once() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let mut process = site.start();
    soon(&process, &token, 200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (away, store) =
        (site.state().join("store.away"), runtime.block_on(Sqlite::open(&site.store())).unwrap());
    let (rows, _) = runtime.block_on(store.read()).unwrap();
    fs::rename(site.store(), &away).unwrap();
    process.wait_said("the store cannot be followed");
    fs::rename(&away, site.store()).unwrap();
    let mut revoked = rows.tokens;
    for token in &mut revoked {
        token.issued.revoked = Some(1);
    }
    let revoked: Vec<Change> = revoked.into_iter().map(Change::PutToken).collect();
    runtime.block_on(store.write(&revoked, None)).unwrap();
    soon(&process, &token, 401);
    runtime.block_on(store.close());
    assert_eq!(process.end().0, Some(0));
}
