//! The gateway's files on disk: only the gateway can read them, and one gateway at a time uses them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::ledger::request;
use crate::support::process::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{found, lapse, until, until_read};
use crate::support::world::World;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts a gateway that must refuse soon; returns its output.
fn refused(site: &Site) -> String {
    let mut command = Command::new("timeout");
    command.args(["20", env!("CARGO_BIN_EXE_claviger"), "serve", "--config"]).arg(site.config());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    said
}

#[test]
fn what_it_makes_is_open_to_nobody_else() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    assert_eq!(process.get("/api/").status, 200);
    let state = site.folder.path().join("state");
    for folder in [state.clone(), state.join("audit"), state.join("spool")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    let segments = claviger::audit::segments(&site.audit()).unwrap();
    let others = [state.join("fingerprint.key"), state.join("lock"), site.audit().join("lock")];
    assert_eq!(segments.len(), 1);
    for file in segments.iter().chain(&others) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn what_others_may_reach_refuses_to_start() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    assert_eq!(site.start().end().0, Some(0));
    let state = site.folder.path().join("state");
    let segment = claviger::audit::segments(&site.audit()).unwrap().remove(0);
    for (path, kept, open, remedy) in [
        (state.clone(), 0o700, 0o770, "chmod 700"),
        (state.clone(), 0o700, 0o777, "chmod 700"),
        (site.audit(), 0o700, 0o702, "chmod 700"),
        (segment.clone(), 0o600, 0o640, "chmod 600"),
        (segment, 0o600, 0o604, "chmod 600"),
        (state.join("fingerprint.key"), 0o600, 0o644, "chmod 600"),
    ] {
        open_to(&path, open);
        let said = refused(&site);
        assert!(said.contains(remedy) && said.contains(path.to_str().unwrap()), "{open:o}: {said}");
        open_to(&path, kept);
    }
    assert_eq!(site.start().end().0, Some(0));
}

#[test]
fn one_trail_is_kept_by_one_gateway_also_where_it_had_to_make_the_folder() {
    let upstream = Upstream::ok();
    let trail = tempfile::tempdir().unwrap();
    let dir = trail.path().join("trail");
    let more = format!("[audit]\ndir = \"{}\"\n", dir.display());
    let (first, second) = (Site::new(upstream.address, &more), Site::new(upstream.address, &more));
    let process = first.start();
    assert_eq!(process.get("/api/").status, 200);
    let said = refused(&second);
    assert!(said.contains("in use by another claviger"), "{said}");
    assert_eq!(process.end().0, Some(0));
    assert_eq!(second.start().end().0, Some(0));
}

/// If neither gateway can create the folder at its start, the first that can has it alone.
#[test]
fn one_trail_is_kept_by_one_gateway_also_where_its_folder_comes_later() {
    let upstream = Upstream::ok();
    let place = tempfile::tempdir().unwrap();
    let away = place.path().join("away");
    fs::write(&away, "in the way").unwrap();
    let more = format!("[audit]\ndir = \"{}\"\n", away.join("trail").display());
    let sites = [Site::new(upstream.address, &more), Site::new(upstream.address, &more)];
    let [mut one, mut other] = sites.each_ref().map(|site| site.launch(site.claviger().arg("serve")));
    for process in [&one, &other] {
        process.wait_readiness(503);
        assert_eq!(process.get("/api/").status, 503);
    }
    fs::remove_file(&away).unwrap();
    fs::create_dir(&away).unwrap();
    until("one is ready", || {
        std::mem::swap(&mut one, &mut other);
        one.admin("/readyz").status == 200
    });
    lapse(Duration::from_millis(2500), "the other has tried again by then, more than once");
    assert_eq!((one.get("/api/").status, other.get("/api/").status), (200, 503));
    assert!(other.said().contains("in use by another claviger"), "{}", other.said());
    assert_eq!(one.end().0, Some(0));
    other.wait_ready();
    assert_eq!(other.get("/api/").status, 200);
    assert_eq!(other.end().0, Some(0));
    // Each gateway has signed with its own key.
    let keys = sites.each_ref().map(|site| site.folder.path().join("state/audit.pub"));
    let [one, other] = keys.each_ref().map(|key| key.to_str().unwrap());
    let both = sites[0].run(&["audit", "verify", "--key", one, "--key", other]);
    assert!(both.status.success(), "{both:?}");
    let alone = sites[0].run(&["audit", "verify"]);
    let said = String::from_utf8(alone.stderr).unwrap();
    assert!(!alone.status.success() && said.contains("not signed by a key that is trusted"), "{said}");
}

/// The files under `folder` that this process has open, named or not.
fn opened(folder: &Path) -> Vec<(PathBuf, u32, u64)> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let (link, metadata) = (fs::read_link(entry.path()).ok()?, fs::metadata(entry.path()).ok()?);
        link.starts_with(folder).then(|| (link, metadata.mode() & 0o777, metadata.nlink()))
    });
    found.collect()
}

#[test]
fn a_large_chunked_body_is_kept_in_a_file_without_a_name() {
    let world = World::new(Upstream::ok());
    let spool = world.folder.path().join("state/spool");
    let mut raw = world.connect();
    raw.send(request("POST", "/api/", "Transfer-Encoding: chunked\r\n"));
    raw.send(format!("f000\r\n{}\r\n", "a".repeat(0xf000)));
    until_read(&raw.socket);
    assert_eq!(opened(&spool), [], "60 KiB stay in memory");
    raw.send(format!("f000\r\n{}\r\n", "b".repeat(0xf000)));
    let kept = found(|| Some(opened(&spool)).filter(|kept| !kept.is_empty()), || "a file".to_owned());
    assert!(matches!(kept.as_slice(), [(_, 0o600, 0)]), "{kept:?}");
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
    raw.send("0\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    let body = world.upstream.only().body;
    assert_eq!(body, ["a".repeat(0xf000), "b".repeat(0xf000)].concat().as_bytes());
    assert_eq!(opened(&spool), [], "closed with the call");
}

/// The folder's owner cannot redirect root, who starts the gateway, to another file.
#[test]
fn a_link_in_the_place_of_the_lock_is_refused() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    assert_eq!(site.start().end().0, Some(0));
    let elsewhere = site.folder.path().join("elsewhere");
    for folder in [site.folder.path().join("state"), site.audit()] {
        let lock = folder.join("lock");
        fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
        let said = refused(&site);
        assert!(said.contains(lock.to_str().unwrap()) && !elsewhere.exists(), "{said}");
        fs::remove_file(&lock).unwrap();
    }
}
