//! The rotation of the master key, interrupted at each operation.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Ground, Kind, Shim, acknowledged, every, json};
use crate::support::upstream::{KEY_ID, SECRET};

/// A store with several sealed versions of two credentials.
fn sealed() -> Ground {
    let ground = Ground::new();
    let secret = ground.site.folder.path().join("secret.txt");
    fs::write(&secret, SECRET).unwrap();
    let from = ["--id", KEY_ID, "--secret-file", secret.to_str().unwrap()];
    for verb in [
        &["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key"] as &[&str],
        &["credential", "add", "other", "--upstream", "jms", "--kind", "access-key"],
        &["credential", "rotate", "jms"],
        &["credential", "rotate", "jms", "--stage"],
    ] {
        let done = ground.site.run(&[verb, &from].concat());
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
    ground
}

fn files(ground: &Ground) -> Vec<String> {
    let entries = fs::read_dir(ground.state()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn cut_off_anywhere_everything_still_opens() {
    let shim = Shim::build();
    let (before, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = || {
        let ground = sealed();
        let kept = ground.keep();
        let former = fs::read(ground.state().join("master.key")).unwrap();
        (ground, kept, former)
    };
    every(begun, |(ground, kept, former), fault| {
        ground.back_to(kept);
        let run = ground.tried(&shim, &["master-key", "rotate"], fault);
        ground.opens();
        let key = fs::read(ground.state().join("master.key")).unwrap();
        if acknowledged(&run) {
            assert_ne!(key, *former, "{fault:?}");
        }
        let which = if key == *former { &before } else { &after };
        which.fetch_add(1, Ordering::SeqCst);
        // The next rotation continues it, and ends with one key and no other files.
        let again = json(&ground.site.run(&["master-key", "rotate", "--output", "json"]));
        assert_eq!(again["versions"], 4, "{fault:?}");
        ground.opens();
        assert_eq!(files(ground), ["master.key", "store.db", "store.marker"], "{fault:?}");
        run.struck
    });
    let (before, after) = (before.into_inner(), after.into_inner());
    assert!(before > 10 && after > 3, "{before} before and {after} after the change");
}

/// A gateway that starts after an interrupted rotation finds the right key as well.
#[test]
fn a_gateway_starts_on_what_is_left() {
    let (shim, ground) = (Shim::build(), sealed());
    let issued = json(&ground.site.run(&["token", "issue", "--consumer", "tool", "--output", "json"]));
    let token = issued["token"].as_str().unwrap().to_owned();
    let kept = ground.keep();
    let whole = ground.tried(&shim, &["master-key", "rotate"], (Kind::Kill, 0)).operations;
    let renamed = whole.iter().position(|told| told.ends_with("state/master.key")).unwrap() + 1;
    for at in [1, 3, renamed - 1, renamed, renamed + 1] {
        ground.back_to(&kept);
        let run = ground.tried(&shim, &["master-key", "rotate"], (Kind::Kill, at));
        assert!(run.struck);
        let process = ground.site.start();
        assert_eq!(crate::support::process::get(process.address, "/api/v1/", &token).status, 200);
        process.kill();
    }
}
