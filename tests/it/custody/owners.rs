//! The owners of files and folders. Only root can change them: without root, these tests say so and end.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::{CONFIG, add, at_work, done, issue, soon};
use crate::support::process::Site;
use crate::support::upstream::{SECRET, Upstream};

/// The user of the gateway.
const GATEWAY: u32 = 65_534;
/// An unrelated user.
const STRANGER: u32 = 12_345;

/// A consumer in the file, and the credential file that it uses.
const REFERENCES: &str =
    "[credentials.jms]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"@FILE@\" } }\n";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can give a file to another");
    }
    root
}

fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
}

fn give_all(path: &Path, owner: u32) {
    let mut chown = std::process::Command::new("chown");
    assert!(chown.args(["-Rh", &format!("{owner}:{owner}")]).arg(path).status().unwrap().success());
}

/// Runs the binary as the gateway's user.
fn as_gateway(site: &Site, arguments: &[&str]) -> Output {
    site.claviger().args(arguments).uid(GATEWAY).gid(GATEWAY).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{:?} {}", output.status.code(), String::from_utf8_lossy(&output.stderr))
}

/// `check` and `serve` refuse `path` while the stranger owns it, and both print the remedy.
fn refused_while_foreign(site: &Site, path: &Path) {
    let owner = fs::symlink_metadata(path).unwrap().uid();
    give(path, STRANGER);
    let remedy = format!("root {}", path.display());
    for verb in ["check", "serve"] {
        let mut command = std::process::Command::new("timeout");
        command.args(["20", env!("CARGO_BIN_EXE_claviger"), verb, "--config"]).arg(site.config());
        let said = said(&command.output().unwrap());
        let refused = said.starts_with("Some(1)") && said.contains("another user (uid 12345)");
        assert!(refused && said.contains("chown ") && said.contains(&remedy), "{verb} {said}");
    }
    give(path, owner);
}

#[test]
fn what_belongs_to_a_stranger_is_refused() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    assert_eq!(site.start().end().0, Some(0));
    let state = site.state();
    let mut paths: Vec<PathBuf> = claviger::audit::segments(&site.audit()).unwrap();
    paths.extend([site.audit(), site.store(), state.join("master.key"), state.join("fingerprint.key")]);
    assert_eq!(paths.len(), 5);
    for path in paths {
        refused_while_foreign(&site, &path);
    }
    assert_eq!(site.start().end().0, Some(0));
}

#[test]
fn a_secret_on_a_way_that_a_stranger_can_alter_is_refused() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let (keys, links) = (site.folder.path().join("keys"), site.folder.path().join("links"));
    fs::create_dir(&keys).unwrap();
    fs::create_dir(&links).unwrap();
    let (secret, link) = (keys.join("key"), links.join("link"));
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../keys/key", &link).unwrap();
    site.write(&(CONFIG.to_owned() + &REFERENCES.replace("@FILE@", "links/link")));
    let checked = site.run(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
    // The path in the link is not written out in the configuration.
    for path in [&links, &link] {
        refused_while_foreign(&site, path);
    }
    let through = links.join("../keys");
    refused_while_foreign(&site, &through);
    refused_while_foreign(&site, &through.join("key"));
    fs::set_permissions(&links, fs::Permissions::from_mode(0o777)).unwrap();
    let said = said(&site.run(&["check"]));
    assert!(said.contains("chmod go-w") && said.contains("/links"), "{said}");
}

/// The owner of a state folder in /tmp, which anybody may have put there, is not the gateway's user.
#[test]
fn a_strangers_state_folder_is_refused() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let planted = tempfile::tempdir_in("/tmp").unwrap();
    give(planted.path(), STRANGER);
    let place = planted.path().to_str().unwrap();
    site.write(&CONFIG.replace("state_dir = \"state\"", &format!("state_dir = \"{place}\"")));
    for (arguments, made) in [(&["token", "issue", "--consumer", "tool"][..], 0), (&["check"], 1)] {
        if made > 0 {
            fs::copy(site.store(), planted.path().join("store.db")).unwrap();
        }
        let said = said(&site.run(arguments));
        assert!(said.starts_with("Some(1)") && said.contains(&format!("chown root {place}")), "{said}");
        assert_eq!(fs::read_dir(place).unwrap().count(), made);
    }
    // The gateway's user accepts no folder of another user.
    site.write(CONFIG);
    give_all(site.folder.path(), GATEWAY);
    assert!(as_gateway(&site, &["check"]).status.success());
    give(&site.state(), STRANGER);
    fs::set_permissions(site.state(), fs::Permissions::from_mode(0o755)).unwrap();
    let said = said(&as_gateway(&site, &["check"]));
    assert!(said.starts_with("Some(1)") && said.contains("chown 65534 "), "{said}");
}

/// As Kubernetes mounts secrets: owned by root, readable for the gateway's group, through links.
#[test]
fn a_mounted_secret_is_taken() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let mount = site.folder.path().join("mount");
    fs::create_dir_all(mount.join("..2026")).unwrap();
    let file = mount.join("..2026/key");
    fs::write(&file, SECRET).unwrap();
    symlink("..2026", mount.join("..data")).unwrap();
    symlink("..data/key", mount.join("key")).unwrap();
    give_all(site.folder.path(), GATEWAY);
    give_all(&mount, 0);
    lchown(&file, Some(0), Some(GATEWAY)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    fs::set_permissions(&mount, fs::Permissions::from_mode(0o1777)).unwrap();
    site.write(&(CONFIG.to_owned() + &REFERENCES.replace("@FILE@", "mount/key")));
    for checked in [as_gateway(&site, &["check"]), site.run(&["check"])] {
        assert!(checked.status.success(), "{}", said(&checked));
    }
}

/// Files that root creates for a gateway of another user must belong to that user.
#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let site = Site::with(upstream.address, CONFIG);
    give_all(site.folder.path(), GATEWAY);
    // This creates the state folder as well.
    issue(&site, "tool");
    add(&site, "jms", SECRET);
    site.done(&["master-key", "rotate"]);
    for name in ["", "store.db", "master.key"] {
        let made = fs::metadata(site.state().join(name)).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o077), (GATEWAY, GATEWAY, 0), "{name}");
    }
    let process = site.launch(site.claviger().arg("serve").uid(GATEWAY).gid(GATEWAY));
    process.wait_ready();
    // With a running gateway, SQLite's files beside the store belong to the gateway too.
    let token = issue(&site, "tool");
    soon(&process, &token, 200);
    for entry in fs::read_dir(site.state()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), GATEWAY, "{entry:?}");
    }
    assert_eq!(process.end().0, Some(0));
    done(&as_gateway(&site, &["token", "list", "--output", "json"]));
    assert!(as_gateway(&site, &["check"]).status.success());
}

/// Users with read access to the former master key can read the next one, wherever root keeps it.
#[test]
fn a_rotated_master_key_is_open_to_whom_the_former_was() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let (keys, key) = (site.folder.path().join("keys"), site.folder.path().join("keys/master"));
    fs::create_dir(&keys).unwrap();
    fs::rename(site.state().join("master.key"), &key).unwrap();
    site.write(&format!("{CONFIG}[custody]\nmaster_key = {{ file = \"keys/master\" }}\n"));
    give_all(site.folder.path(), GATEWAY);
    give(&keys, 0);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
    for (owner, mode) in [(GATEWAY, 0o600), (0, 0o440)] {
        lchown(&key, Some(owner), Some(GATEWAY)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let former = fs::read(&key).unwrap();
        site.done(&["master-key", "rotate"]);
        assert_ne!(fs::read(&key).unwrap(), former);
        let made = fs::metadata(&key).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (owner, GATEWAY, mode));
        let checked = as_gateway(&site, &["check"]);
        assert!(checked.status.success(), "{}", said(&checked));
    }
}
