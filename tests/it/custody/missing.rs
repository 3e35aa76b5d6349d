//! claviger does not mistake a deleted store for one that never existed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{CONFIG, SECRET, at_work, begun, issue, refused, soon};
use crate::support::process::Site;
use crate::support::upstream::{KEY_ID, Upstream};

/// A configuration with everything in files: it needs no store.
fn file_only() -> String {
    let config =
        CONFIG.replace("[[grants]]\nconsumer = \"late\"\nupstream = \"jms\"\nroles = [\"all\"]\n", "");
    config + "[credentials.jms]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }\n"
}

impl Site {
    fn mark(&self) -> PathBuf {
        self.state().join("store.marker")
    }

    fn lose_the_store(&self) {
        for end in ["db", "db-wal", "db-shm"] {
            drop(fs::remove_file(self.state().join("store").with_extension(end)));
        }
        assert!(!self.store().exists());
    }
}

#[test]
fn nothing_starts_and_nothing_is_changed_without_the_store_that_was_there() {
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    site.done(&["freeze"]);
    assert_eq!(fs::metadata(site.mark()).unwrap().mode() & 0o777, 0o600);
    let whole = fs::read(site.store()).unwrap();
    site.lose_the_store();
    for verb in [
        &["serve"] as &[&str],
        &["consumer", "list"],
        &["consumer", "add", "new"],
        &["token", "issue", "--consumer", "tool"],
        &["credential", "list"],
        &["freeze"],
        &["unfreeze", "--dry-run"],
        &["master-key", "rotate"],
    ] {
        let said = site.refused(verb);
        assert!(said.contains("store.db is missing: restore it"), "{verb:?}: {said}");
        assert!(said.contains("backup") && said.contains(site.mark().to_str().unwrap()), "{verb:?}: {said}");
    }
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(
        String::from_utf8_lossy(&checked.stderr).contains("store.db is missing: restore it"),
        "{checked:?}"
    );
    let add = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    assert!(refused(&site.run_with(&add, SECRET)).contains("is missing: restore it"));
    fs::remove_file(site.config()).unwrap();
    assert!(
        site.refused(&["init", "--dir", site.folder.path().to_str().unwrap()])
            .contains("missing: restore it")
    );
    site.write(CONFIG);
    assert!(!site.store().exists(), "nothing made another");

    // Both remedies work.
    super::keys::write(&site.store(), "");
    fs::write(site.store(), whole).unwrap();
    assert_eq!(site.start().end().0, Some(0));
    site.lose_the_store();
    site.done(&["store", "accept", "--yes"]);
    assert!(site.store().exists() && site.done(&["token", "list"]).as_array().unwrap().is_empty());
    super::keys::write(&site.folder.path().join("key.secret"), SECRET);
    site.write(&file_only());
    assert_eq!(site.start().end().0, Some(0));
}

#[test]
fn a_configuration_that_needs_no_store_gets_none() {
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, &file_only());
    for _ in 0..2 {
        assert_eq!(site.run(&["check"]).status.code(), Some(0));
        assert_eq!(site.start().end().0, Some(0));
        assert!(!site.mark().exists() && !site.store().exists());
    }
}

/// A store from an earlier version, restored without its marker, or left by a kill between the two steps.
#[test]
fn a_store_without_its_mark_gets_one_from_who_uses_it() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    fs::remove_file(site.mark()).unwrap();
    assert_eq!(site.run(&["check"]).status.code(), Some(0));
    site.done(&["consumer", "list"]);
    assert!(!site.mark().exists(), "who only looks changes nothing");
    let process = site.start();
    assert!(site.mark().exists());
    soon(&process, &token, 200);
    fs::remove_file(site.mark()).unwrap();
    issue(&site, "tool");
    assert!(site.mark().exists());
    assert_eq!(process.end().0, Some(0));
    site.lose_the_store();
    assert!(site.refused(&["serve"]).contains("is missing: restore it"));
}

/// The marker of an earlier version counts; the next start or change renames it.
#[test]
fn a_marker_of_an_earlier_version_counts_and_is_renamed() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    let former = site.mark().with_extension("made");
    fs::rename(site.mark(), &former).unwrap();
    let process = site.start();
    soon(&process, &token, 200);
    assert!(site.mark().exists() && !former.exists());
    assert_eq!(process.end().0, Some(0));
    fs::rename(site.mark(), &former).unwrap();
    issue(&site, "tool");
    assert!(site.mark().exists() && !former.exists());
    fs::rename(site.mark(), &former).unwrap();
    site.lose_the_store();
    assert!(site.refused(&["serve"]).contains("is missing: restore it"));
    assert!(former.exists() && !site.store().exists());
}

/// A store that is created and lost while the gateway runs is missed as well.
#[test]
fn a_store_that_is_made_while_it_runs_is_marked() {
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, &file_only());
    let process = site.start();
    let token = issue(&site, "tool");
    soon(&process, &token, 200);
    assert!(site.mark().exists());
    site.lose_the_store();
    process.wait_readiness(503);
    process.kill();
    assert!(site.refused(&["serve"]).contains("is missing: restore it"));
    let fresh = begun(&upstream);
    assert!(fresh.mark().exists(), "init makes it as well");
}
