//! The master key: its sources, and the refusal with a reason if it is wrong or missing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{CONFIG, add, at_work, code, done, issue, refused, soon, verified};
use crate::support::process::{Site, copy, get};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::lapse;

fn upstream() -> Upstream {
    Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]))
}

fn key(site: &Site) -> PathBuf {
    site.state().join("master.key")
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn some_key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// `check` and `serve` both refuse for this reason, and change nothing.
fn neither_starts(site: &Site, reason: &str) {
    neither_starts_with(site, |command| command, reason);
}

fn neither_starts_with(site: &Site, told: impl Fn(&mut Command) -> &mut Command, reason: &str) {
    let before = fs::read(site.store()).unwrap();
    for verb in ["check", "serve"] {
        let output = told(site.claviger().arg(verb)).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{verb}: {said}");
        assert!(!said.contains(SECRET));
    }
    assert!(fs::read(site.store()).unwrap() == before, "the store is left as it was");
}

#[test]
fn a_wrong_key_or_none_keeps_it_from_starting() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let right = fs::read_to_string(key(&site)).unwrap();
    write(&key(&site), &some_key(7));
    neither_starts(&site, "the store was sealed with the master key");
    for torn in ["", &right[..20], &right[1..], "not a key"] {
        write(&key(&site), torn);
        neither_starts(&site, "it is no master key");
    }
    fs::remove_file(key(&site)).unwrap();
    neither_starts(&site, "master.key");
    assert!(!key(&site).exists(), "no other is made while something is sealed");
    let add = ["credential", "add", "b", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    assert!(refused(&site.run_with(&add, SECRET)).contains("master.key"));
    write(&key(&site), &right);
    fs::set_permissions(key(&site), fs::Permissions::from_mode(0o644)).unwrap();
    neither_starts(&site, "open to others");
    write(&key(&site), &right);
    for (mode, reason) in [(0o720, "writable by others"), (0o702, "writable by others")] {
        fs::set_permissions(site.state(), fs::Permissions::from_mode(mode)).unwrap();
        neither_starts(&site, reason);
    }
    fs::set_permissions(site.state(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(site.store(), fs::Permissions::from_mode(0o640)).unwrap();
    neither_starts(&site, "chmod 600");
    fs::set_permissions(site.store(), fs::Permissions::from_mode(0o600)).unwrap();
    let process = site.start();
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
}

/// After a change of any byte of a sealed record, or a torn page of it, the gateway does not start.
#[test]
fn an_altered_record_keeps_it_from_starting() {
    let upstream = upstream();
    let (site, _) = at_work(&upstream);
    let whole = fs::read(site.store()).unwrap();
    // The format and the key's id also begin the proof of the key: the last match is the version's.
    let id = site.done(&["master-key", "rotate", "--dry-run"])["from"].as_str().unwrap().to_owned();
    let id: Vec<u8> = (0..8).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
    let mut places: Vec<usize> = whole
        .windows(9)
        .enumerate()
        .filter(|(_, part)| part[0] == 1 && part[1..] == id)
        .map(|(at, _)| at)
        .collect();
    places.sort_unstable();
    assert_eq!(places.len(), 2, "one version and the proof");
    for place in places {
        for offset in [0, 4, 9, 30, 60, 75, 85] {
            let mut altered = whole.clone();
            altered[place + offset] ^= 0x10;
            fs::write(site.store(), &altered).unwrap();
            let output = site.run(&["serve"]);
            assert_eq!(output.status.code(), Some(1), "{offset}: {output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                said.contains("altered") || said.contains("form") || said.contains("master key"),
                "{said}"
            );
        }
    }
    fs::write(site.store(), &whole[..whole.len() - 4096]).unwrap();
    neither_starts(&site, "store.db");
    fs::write(site.store(), "").unwrap();
    neither_starts(&site, "cut off");
}

/// Without the key, an attacker who can write the store cannot redirect a secret or send it in plaintext.
#[test]
fn a_row_of_another_upstream_or_kind_keeps_it_from_starting() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    add(&site, "other", SECRET);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let altered = |set: &'static str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.store());
        let mut store = runtime.block_on(options.connect()).unwrap();
        runtime.block_on(sqlx::raw_sql(set).execute(&mut store)).unwrap();
        runtime.block_on(store.close()).unwrap();
    };
    for set in [
        "UPDATE credentials SET kind = 'value' WHERE name = 'jms'",
        "UPDATE credentials SET upstream = 'elsewhere' WHERE name = 'jms'",
    ] {
        let whole = fs::read(site.store()).unwrap();
        altered(set);
        neither_starts(&site, "sealed for another upstream or kind");
        fs::write(site.store(), whole).unwrap();
    }
    let process = site.start();
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_key_may_come_from_a_variable() {
    let upstream = upstream();
    let (one, two) = (some_key(1), some_key(2));
    let site =
        Site::with(upstream.address, &(CONFIG.to_owned() + "[custody]\nmaster_key = { env = \"KEY\" }\n"));
    let with = |value: &str, arguments: &[&str]| {
        let mut command = site.claviger();
        command.args(arguments).env("KEY", value);
        command
    };
    let secret = site.folder.path().join("secret.txt");
    write(&secret, SECRET);
    let secret = secret.to_str().unwrap();
    let add = [
        "credential",
        "add",
        "jms",
        "--upstream",
        "jms",
        "--kind",
        "access-key",
        "--id",
        KEY_ID,
        "--secret-file",
        secret,
    ];
    assert!(site.refused(&add).contains("no variable `KEY`"));
    assert!(refused(&with("short", &add).output().unwrap()).contains("it is no master key"));
    assert!(with(&one, &add).status().unwrap().success());
    assert!(!key(&site).exists());
    let token = issue(&site, "tool");
    neither_starts(&site, "no variable `KEY`");
    neither_starts_with(&site, |command| command.env("KEY", &two), "the store was sealed with");
    let process = site.launch(with(&one, &["serve"]).env("CLAVIGER_LOG", "info"));
    soon(&process, &token, 200);

    // The next key is in a file. The running gateway continues with its snapshot, revocations included.
    assert!(refused(&with(&one, &["master-key", "rotate"]).output().unwrap()).contains("--new-file"));
    let next = site.folder.path().join("next.key");
    write(&next, &two);
    let rotate = ["master-key", "rotate", "--new-file", next.to_str().unwrap(), "--output", "json"];
    assert_eq!(done(&with(&one, &rotate).output().unwrap())["versions"], 1);
    let late = issue(&site, "tool");
    soon(&process, &late, 200);
    site.done(&["freeze"]);
    soon(&process, &token, 503);
    site.done(&["unfreeze"]);
    soon(&process, &token, 200);
    assert!(process.said().contains("their last known content stays in force"));
    process.wait_readiness(503);
    // A removed credential does not return under its name, whatever the new credential is.
    lapse(super::SOON, "it has looked at the store again");
    assert!(with(&two, &["credential", "remove", "jms", "--yes"]).status().unwrap().success());
    assert!(with(&two, &add).status().unwrap().success());
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    assert_eq!(process.end().0, Some(0));
    neither_starts_with(&site, |command| command.env("KEY", &one), "the store was sealed with");
    let process = site.launch(&mut with(&two, &["serve"]));
    soon(&process, &token, 200);
}

#[test]
fn a_key_may_come_from_a_passphrase() {
    let upstream = upstream();
    let config = CONFIG.to_owned() + "[custody]\nmaster_key = { passphrase = { file = \"phrase\" } }\n";
    let site = Site::with(upstream.address, &config);
    let phrase = site.folder.path().join("phrase");
    write(&phrase, "short\n");
    let add_it = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    assert!(refused(&site.run_with(&add_it, SECRET)).contains("at least 12"));
    write(&phrase, "correct horse battery\n");
    add(&site, "jms", SECRET);
    let token = issue(&site, "tool");
    let process = site.start();
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
    write(&phrase, "correct horse batterY\n");
    neither_starts(&site, "not the one that the store was sealed with");
    let next = site.folder.path().join("next");
    write(&next, "another horse entirely");
    write(&phrase, "correct horse battery\n");
    site.done(&["master-key", "rotate", "--new-file", next.to_str().unwrap()]);
    neither_starts(&site, "not the one that the store was sealed with");
    fs::rename(&next, &phrase).unwrap();
    let process = site.start();
    soon(&process, &token, 200);
    // The file now names a key file.
    assert_eq!(process.end().0, Some(0));
    site.write(CONFIG);
    write(&key(&site), &some_key(1));
    neither_starts(&site, "sealed with a passphrase");
}

#[test]
fn a_rotation_while_it_runs_changes_nothing_for_calls() {
    let upstream = upstream();
    let (site, token) = at_work(&upstream);
    let before = tempfile::tempdir().unwrap();
    copy(&site.state(), &before.path().join("state"));
    let process = site.start();
    soon(&process, &token, 200);
    for _ in 0..3 {
        site.done(&["master-key", "rotate"]);
        let fresh = issue(&site, "tool");
        soon(&process, &fresh, 200);
    }
    add(&site, "other", SECRET);
    site.done(&["credential", "disable", "jms"]);
    assert_eq!(code(&soon(&process, &token, 503)), "credential_unavailable");
    site.done(&["credential", "enable", "jms"]);
    soon(&process, &token, 200);
    assert!(!process.said().contains("ERROR"), "{}", process.said());
    process.kill();
    let process = site.start();
    soon(&process, &token, 200);
    assert_eq!(process.end().0, Some(0));
    // An earlier copy opens with its own key, and not with the present one.
    let present = fs::read(key(&site)).unwrap();
    let old = Site::with(upstream.address, CONFIG);
    copy(&before.path().join("state"), &old.state());
    let process = old.start();
    assert_eq!(get(process.address, "/api/v1/", &token).status, 200);
    assert_eq!(process.end().0, Some(0));
    fs::write(key(&old), present).unwrap();
    neither_starts(&old, "the store was sealed with the master key");
}

/// Until the operator fixes it, every command that needs the key reports the problem.
#[test]
fn a_key_that_is_not_in_its_place_is_told_by_every_verb() {
    let upstream = upstream();
    let (site, _) = at_work(&upstream);
    fs::rename(key(&site), site.state().join("master.key.next")).unwrap();
    fs::create_dir(key(&site)).unwrap();
    let add = ["credential", "add", "b", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    for arguments in [&["check"] as &[&str], &["explain", "--consumer", "tool", "GET", "/api/v1/"], &add] {
        let output = site.run_with(&[arguments, &["--output", "json"]].concat(), SECRET);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("cannot be moved into place") && told.contains("master.key.next"), "{told}");
        done(&output);
    }
    fs::remove_dir(key(&site)).unwrap();
    let completed = site.run(&["check"]);
    let told = String::from_utf8_lossy(&completed.stderr);
    assert!(completed.status.success() && !told.contains("in its place"), "{told}");
    assert!(key(&site).is_file());
}

#[test]
fn with_nothing_sealed_there_is_nothing_to_rotate() {
    let upstream = upstream();
    let site = Site::with(upstream.address, CONFIG);
    assert!(site.refused(&["master-key", "rotate"]).contains("nothing is sealed"));
    assert!(!site.state().join("master.key.next").exists());
    site.write(&(CONFIG.to_owned() + "[custody]\nmaster_key = { file = \"elsewhere.key\" }\n"));
    let add_it = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    // Only the default key file is created automatically.
    assert!(refused(&site.run_with(&add_it, SECRET)).contains("elsewhere.key"));
    write(&site.folder.path().join("elsewhere.key"), &some_key(3));
    add(&site, "jms", SECRET);
    site.done(&["master-key", "rotate"]);
    assert_ne!(fs::read_to_string(site.folder.path().join("elsewhere.key")).unwrap(), some_key(3));
    assert!(!key(&site).exists());
}
