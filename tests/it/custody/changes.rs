//! Changes by the command line take effect in a running gateway within a second, without a reload.

use std::fs;
use std::time::Instant;

use super::{CONFIG, SOON, add, at_work, begun, code, done, issue, soon, verified};
use crate::support::process::{Site, get};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::{lapse, until, until_or};

fn upstream() -> Upstream {
    Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]))
}

#[test]
fn a_gateway_may_start_before_anything_is_in_the_store() {
    let upstream = upstream();
    let site = begun(&upstream);
    let process = site.start();
    let token = issue(&site, "tool");
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    add(&site, "jms", SECRET);
    soon(&process, &token, 200);
    // Only the store has this consumer; the file has a grant for it.
    site.done(&["consumer", "add", "late"]);
    let late = issue(&site, "late");
    soon(&process, &late, 200);
    site.done(&["consumer", "remove", "late", "--yes"]);
    soon(&process, &late, 401);
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_store_that_is_made_while_it_runs_is_found() {
    let upstream = upstream();
    let config = CONFIG.replace("credential = \"jms\"\n", "credential = \"key\"\n")
        + "[credentials.key]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }\n";
    let config =
        config.replace("[[grants]]\nconsumer = \"late\"\nupstream = \"jms\"\nroles = [\"all\"]\n", "");
    let site = Site::with(upstream.address, &config);
    let process = site.start();
    assert!(!site.store().exists());
    let token = issue(&site, "tool");
    soon(&process, &token, 200);
    site.done(&["freeze", "--credential", "key"]);
    assert_eq!(code(&soon(&process, &token, 503)), "frozen");
    assert!(!site.state().join("master.key").exists(), "nothing was sealed");
    assert_eq!(process.end().0, Some(0));
    assert_eq!(site.admin_events().len(), 2);
}

#[test]
fn freezes_stop_what_they_name_and_survive_a_restart() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    site.done(&["consumer", "add", "late"]);
    let late = issue(&site, "late");
    let process = site.start();
    for (which, status, expected, others) in [
        (&[] as &[&str], 503, "frozen", 503),
        (&["--upstream", "jms"], 503, "frozen", 503),
        (&["--credential", "jms"], 503, "frozen", 503),
        (&["--consumer", "tool"], 403, "consumer_frozen", 200),
    ] {
        let calls = upstream.seen().len();
        site.done(&[&["freeze"], which].concat());
        assert_eq!(code(&soon(&process, &token, status)), expected);
        assert_eq!(get(process.address, "/api/v1/", &late).status, others);
        let explained = site.run(&["explain", "--consumer", "tool", "GET", "/api/v1/", "--output", "json"]);
        assert_eq!(explained.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&explained.stdout).contains(expected), "{explained:?}");
        if others != 200 {
            soon(&process, &token, status);
            let stopped = upstream.seen().len() - calls;
            assert!(stopped < 40, "calls before the freeze was in force: {stopped}");
        }
        site.done(&[&["unfreeze"], which].concat());
        soon(&process, &token, 200);
    }
    // `explain` agrees with the gateway, which refuses the tokens of a disabled consumer.
    let explain = ["explain", "--consumer", "tool", "GET", "/api/v1/", "--output", "json"];
    site.done(&["consumer", "disable", "tool"]);
    soon(&process, &token, 401);
    let explained = site.run(&explain);
    assert_eq!(explained.status.code(), Some(1), "{explained:?}");
    let verdict: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let told = (&verdict["code"], &verdict["status"], &verdict["reason"]);
    assert_eq!(told, (&"unauthenticated".into(), &401.into(), &"disabled consumer".into()));
    site.done(&["consumer", "enable", "tool"]);
    soon(&process, &token, 200);
    assert!(site.run(&explain).status.success());
    site.done(&["freeze", "--consumer", "tool"]);
    soon(&process, &token, 403);
    process.kill();
    let process = site.start();
    assert_eq!(code(&get(process.address, "/api/v1/", &token)), "consumer_frozen");
    let refusal = site.events().into_iter().rfind(|event| event["event"] == "outcome").unwrap();
    assert_eq!((&refusal["code"], &refusal["consumer"]), (&"consumer_frozen".into(), &"tool".into()));
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn what_is_disabled_or_removed_is_refused_and_the_trail_says_why() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let process = site.start();
    soon(&process, &token, 200);
    site.done(&["consumer", "disable", "tool"]);
    assert_eq!(code(&soon(&process, &token, 401)), "unauthenticated");
    site.done(&["consumer", "enable", "tool"]);
    soon(&process, &token, 200);
    site.done(&["credential", "disable", "jms"]);
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    site.done(&["credential", "enable", "jms"]);
    soon(&process, &token, 200);
    site.done(&["credential", "remove", "jms", "--yes"]);
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    add(&site, "jms", SECRET);
    soon(&process, &token, 200);
    let id = site.done(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    site.done(&["token", "revoke", &id]);
    soon(&process, &token, 401);
    assert_eq!(process.end().0, Some(0));
    let reasons: Vec<String> =
        site.events().iter().filter_map(|event| event["reason"].as_str().map(String::from)).collect();
    for reason in [
        "disabled consumer",
        "the credential is disabled",
        "there is no such credential",
        "revoked credential",
    ] {
        assert!(reasons.iter().any(|told| told == reason), "{reason}: {reasons:?}");
    }
}

#[test]
fn a_token_ends_at_its_time() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let process = site.start();
    let brief = done(
        &site.run_with(&["token", "issue", "--consumer", "tool", "--expires", "2s", "--output", "json"], ""),
    );
    let brief = brief["token"].as_str().unwrap();
    soon(&process, brief, 200);
    until("its time is over", || get(process.address, "/api/v1/", brief).status == 401);
    assert_eq!(get(process.address, "/api/v1/", &token).status, 200);
    assert_eq!(process.end().0, Some(0));
}

/// The test repeats a change: a busy machine may be late with some, but not with most.
#[test]
fn a_change_is_in_force_within_a_second() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let process = site.start();
    let mut took = Vec::new();
    for round in 0..6 {
        let (typed, status) = if round % 2 == 0 { ("freeze", 503) } else { ("unfreeze", 200) };
        site.done(&[typed]);
        let began = Instant::now();
        soon(&process, &token, status);
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[took.len() / 2] < SOON, "{took:?}");
    assert_eq!(process.end().0, Some(0));
}

/// A problem of other files must not prevent a revocation from taking effect.
#[test]
fn a_change_is_in_force_whatever_became_of_other_files() {
    let upstream = upstream();
    let extra = "[upstreams.other]\nprofile = \"plain\"\nendpoint = \"https://other.test\"\nca_file = \"ca.pem\"\n\
        credential = \"key\"\nscheme.access-key = {}\n[[grants]]\nconsumer = \"tool\"\nupstream = \"other\"\nroles = [\"all\"]\n\
        [credentials.key]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }\n";
    let (site, token) = at_work(&upstream);
    let secret = site.folder.path().join("key.secret");
    let ca = site.folder.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    fs::write(&ca, made.cert.pem()).unwrap();
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    site.write(&(CONFIG.to_owned() + extra));
    let process = site.start();
    soon(&process, &token, 200);
    fs::remove_file(&secret).unwrap();
    fs::remove_file(&ca).unwrap();
    site.write("this is no configuration any more");
    fs::rename(site.state().join("master.key"), site.state().join("master.away")).unwrap();
    site.write(&(CONFIG.to_owned() + extra));
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    site.done(&["unfreeze"]);
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
}

/// claviger keeps a version for its overlap and no longer; the trail records who removed it.
#[test]
fn a_version_leaves_when_its_overlap_ends() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let process = site.start();
    let rotate = ["credential", "rotate", "jms", "--id", KEY_ID, "--overlap", "1s", "--output", "json"];
    done(&site.run_with(&rotate, SECRET));
    soon(&process, &token, 200);
    let versions = || site.done(&["credential", "show", "jms"])["versions"].as_array().unwrap().len();
    assert_eq!(versions(), 2);
    until_or(|| versions() == 1, || process.said());
    soon(&process, &token, 200);
    assert!(site.refused(&["credential", "activate", "jms", "1"]).contains("no version 1"));
    assert_eq!(process.end().0, Some(0));
    let last = site.admin_events().pop().unwrap();
    assert_eq!((&last["what"], &last["by"]), (&"credential version removed".into(), &"claviger".into()));
    let shown = site.run(&["audit", "show"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("credential version removed  credential jms  by claviger"), "{shown}");
}

/// If the gateway cannot follow the store, `/readyz` says so; calls continue, and it recovers by itself.
#[test]
fn a_store_that_is_away_is_told_and_what_was_in_force_stays() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let mut process = site.start();
    soon(&process, &token, 200);
    let away = site.state().join("store.away");
    fs::rename(site.store(), &away).unwrap();
    let answer = process.wait_readiness(503);
    assert!(String::from_utf8_lossy(&answer.body).contains("store: "), "{answer:?}");
    assert_eq!(get(process.address, "/api/v1/", &token).status, 200);
    // Each failed reload is logged, whatever was logged before.
    for before in 0..2 {
        process.signal(rustix::process::Signal::HUP);
        process.wait_said_again("configuration was not reloaded", before);
    }
    fs::rename(&away, site.store()).unwrap();
    process.wait_readiness(200);
    process.wait_said("the store is followed again");
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    // The gateway does not follow another file in the store's place: it may be an older one.
    fs::copy(site.store(), &away).unwrap();
    fs::rename(&away, site.store()).unwrap();
    process.wait_readiness(503);
    process.wait_said("another file was put in its place");
    process.kill();
}

#[test]
fn a_batched_trail_is_told_as_well() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    site.write(&(CONFIG.to_owned() + "[audit]\ndurability = \"batched\"\n"));
    let process = site.start();
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    assert_eq!(process.end().0, Some(0));
    let what: Vec<String> =
        site.admin_events().iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(what, ["credential added", "token issued", "freeze"]);
    site.verified();
}

/// A writer that keeps the store locked delays neither calls nor the end; no event is recorded twice.
#[test]
fn a_writer_that_hangs_holds_nothing_up() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let mut process = site.start();
    soon(&process, &token, 200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    site.done(&["freeze"]);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.store());
    let mut hanging = runtime.block_on(options.connect()).unwrap();
    runtime.block_on(sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut hanging)).unwrap();
    soon(&process, &token, 503);
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("configuration reloaded");
    runtime.block_on(hanging.close()).unwrap();
    site.done(&["unfreeze"]);
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
    let what: Vec<String> =
        site.admin_events().iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(what, ["credential added", "token issued", "freeze", "unfreeze"]);
    let next = site.start();
    assert_eq!(next.end().0, Some(0));
    assert_eq!(site.admin_events().len(), 4);
}

/// A change takes effect even if the disk accepts no writes; the gateway records a use of a token later,
/// once it can.
#[test]
fn a_use_is_told_whatever_changed_meanwhile() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let mut process = site.start();
    assert_eq!(get(process.address, "/api/v1/", &token).status, 200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.store());
    let mut hanging = runtime.block_on(options.connect()).unwrap();
    // The writer locks the store again before the gateway sees its change.
    let revoke = "UPDATE tokens SET revoked = 1; UPDATE store SET changes = changes + 1; BEGIN IMMEDIATE";
    runtime.block_on(sqlx::raw_sql(revoke).execute(&mut hanging)).unwrap();
    soon(&process, &token, 401);
    process.wait_said("the changes of the store are in force");
    lapse(SOON / 2, "it would tell of the use, were the store free");
    runtime.block_on(hanging.close()).unwrap();
    assert_eq!(process.end().0, Some(0));
    let issued = site.done(&["token", "list"]);
    assert!(issued[0]["last_used"].is_string(), "{issued}");
}
