//! The disk fails, or the process ends, at each operation in turn: no acknowledged change is lost, and no
//! store opens as an empty one.

mod master_key;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::custody::CONFIG;
use crate::support::process::{Site, copy, get, in_memory};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::until;

/// How an operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The operation fails, once.
    Error,
    /// The operation and all later ones fail.
    Disk,
    /// The process ends before the operation.
    Kill,
    /// The process ends in the middle of the operation, or after it if it has no middle.
    Torn,
}

const KINDS: [Kind; 4] = [Kind::Error, Kind::Disk, Kind::Kill, Kind::Torn];

/// The shim, built once for the process.
struct Shim {
    folder: tempfile::TempDir,
    runs: AtomicUsize,
}

/// The result of a run.
struct Run {
    output: Output,
    /// Whether an operation went wrong.
    struck: bool,
    /// Every operation, in order.
    operations: Vec<String>,
}

impl Shim {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/audit/faults/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([folder.path().join("shim.so"), source])
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(built.success());
        Self { folder, runs: AtomicUsize::new(0) }
    }

    /// Runs `command`; the `at`-th operation under `folder` goes wrong, or none if `at` is 0.
    fn run(&self, command: &mut Command, folder: &Path, (kind, at): (Kind, usize)) -> Run {
        let log = self.arm(command, folder, (kind, at));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = fs::read_to_string(&log).unwrap_or_default();
        let operations: Vec<String> = told.lines().map(String::from).collect();
        Run { output, struck: told.contains(" FAULT"), operations }
    }

    /// Makes the `at`-th operation of `command` under `folder` go wrong; returns the log of the operations.
    fn arm(&self, command: &mut Command, folder: &Path, (kind, at): (Kind, usize)) -> PathBuf {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        let log = self.folder.path().join(format!("{number}.log"));
        command
            .env("LD_PRELOAD", self.folder.path().join("shim.so"))
            .env("FAULT_UNDER", folder)
            .env("FAULT_LOG", &log)
            .env("FAULT_AT", at.to_string())
            .env("FAULT_KIND", format!("{kind:?}").to_lowercase());
        log
    }
}

/// Tries every operation with every kind of fault, each kind on its own ground. `once` runs the command
/// there and checks the result; it returns whether anything went wrong.
fn every<G>(ground: impl Fn() -> G + Sync, once: impl Fn(&G, (Kind, usize)) -> bool + Sync) {
    std::thread::scope(|scope| {
        for kind in KINDS {
            let (ground, once) = (&ground, &once);
            scope.spawn(move || {
                let (ground, mut at) = (ground(), 1);
                while once(&ground, (kind, at)) {
                    at += 1;
                    assert!(at < 500, "{kind:?}: there is no end to it");
                }
                assert!(at > 5, "{kind:?}: only {at} operations");
            });
        }
    });
}

/// A folder with configuration and state, which each try copies.
struct Ground {
    site: Site,
    _upstream: Upstream,
}

impl Ground {
    fn new() -> Self {
        let upstream = Upstream::ok();
        // Only the shim decides what fails, so the folder is in memory.
        let site = Site::within(in_memory(), upstream.address, CONFIG);
        fs::create_dir(site.folder.path().join("state")).unwrap();
        Self { site, _upstream: upstream }
    }

    fn state(&self) -> PathBuf {
        self.site.folder.path().join("state")
    }

    /// The state folder at the start of a try.
    fn keep(&self) -> Kept {
        let kept = in_memory();
        copy(&self.state(), &kept.path().join("state"));
        Kept(kept)
    }

    fn back_to(&self, kept: &Kept) {
        fs::remove_dir_all(self.state()).unwrap();
        copy(&kept.0.path().join("state"), &self.state());
    }

    fn tried(&self, shim: &Shim, arguments: &[&str], fault: (Kind, usize)) -> Run {
        let mut command = self.site.claviger();
        command.args(arguments).args(["--output", "json"]);
        shim.run(&mut command, &self.state(), fault)
    }

    /// The ids of all tokens in the store, which must open.
    fn tokens(&self) -> Vec<String> {
        self.listed("token", "id")
    }

    /// The names of all consumers in the store, which must open.
    fn consumers(&self) -> Vec<String> {
        self.listed("consumer", "consumer")
    }

    fn listed(&self, what: &str, member: &str) -> Vec<String> {
        let rows = json(&self.site.run(&[what, "list", "--output", "json"]));
        rows.as_array().unwrap().iter().map(|row| row[member].as_str().unwrap().to_owned()).collect()
    }

    fn added(&self, name: &str) {
        assert_eq!(self.site.run(&["consumer", "add", name]).status.code(), Some(0));
    }

    /// The arguments that take the upstream's key into custody.
    fn add(&self, name: &str) -> Vec<String> {
        let secret = self.site.folder.path().join("secret.txt");
        fs::write(&secret, SECRET).unwrap();
        let add = ["credential", "add", name, "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
        let file = ["--secret-file", secret.to_str().unwrap()];
        add.iter().chain(&file).map(ToString::to_string).collect()
    }

    /// Checks that the master key opens everything in the store; returns the warnings of `check`.
    fn opens(&self) -> String {
        let checked = self.site.run(&["check"]);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        String::from_utf8(checked.stderr).unwrap()
    }
}

struct Kept(tempfile::TempDir);

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A refusal gives its reason; an interrupted process prints nothing.
fn acknowledged(run: &Run) -> bool {
    match run.output.status.code() {
        Some(0) => true,
        Some(code) => {
            assert!(code == 1 && !run.output.stderr.is_empty(), "{:?}", run.output);
            false
        }
        None => false,
    }
}

#[test]
fn what_was_acknowledged_is_never_lost() {
    let shim = Shim::build();
    let begun = || {
        let ground = Ground::new();
        for name in ["one", "two", "three"] {
            ground.added(name);
        }
        let kept = ground.keep();
        (ground, kept)
    };
    every(begun, |(ground, kept), fault| {
        ground.back_to(kept);
        let run = ground.tried(&shim, &["consumer", "add", "new"], fault);
        let found = ground.consumers();
        let wanted = ["one", "two", "three"].iter().chain(acknowledged(&run).then_some(&"new"));
        for name in wanted {
            assert!(
                found.iter().any(|found| found == name),
                "{fault:?}: {name} is lost: {:?}",
                run.operations
            );
        }
        // The store still accepts changes.
        ground.added("next");
        assert_eq!(ground.consumers().len(), found.len() + 1);
        run.struck
    });
}

fn empty() -> (Ground, Kept) {
    let ground = Ground::new();
    let kept = ground.keep();
    (ground, kept)
}

#[test]
fn the_first_change_makes_a_whole_store_or_none() {
    let shim = Shim::build();
    every(empty, |(ground, kept), fault| {
        ground.back_to(kept);
        let run = ground.tried(&shim, &["consumer", "add", "new"], fault);
        let found = ground.consumers();
        let new = found.iter().any(|name| name == "new");
        assert!(new || !acknowledged(&run), "{fault:?}: {:?}", run.operations);
        let marked = ground.state().join("store.marker").exists();
        assert!(marked || !new, "{fault:?}: its loss would not be noticed: {:?}", run.operations);
        ground.added("next");
        assert_eq!(ground.consumers().len(), found.len() + 1);
        run.struck
    });
}

#[test]
fn a_key_and_what_it_seals_come_together() {
    let shim = Shim::build();
    let begun = || {
        let ground = Ground::new();
        ground.added("one");
        let kept = ground.keep();
        (ground, kept)
    };
    every(begun, |(ground, kept), fault| {
        ground.back_to(kept);
        let run = ground.tried(&shim, &words(&ground.add("jms")), fault);
        let absent = ground.opens().contains("a credential `jms`");
        assert!(!(absent && acknowledged(&run)), "{fault:?}: {:?}", run.operations);
        let second = ground.site.run(&words(&ground.add("other")));
        assert_eq!(second.status.code(), Some(0), "{fault:?}: {second:?}");
        ground.opens();
        run.struck
    });
}

#[test]
fn a_beginning_that_was_cut_off_can_be_made_again() {
    let shim = Shim::build();
    every(Ground::new, |ground, fault| {
        let dir = ground.site.folder.path().join("new");
        let config = dir.join("claviger.toml");
        let init = ["init", "--dir", dir.to_str().unwrap()];
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        let run = shim.run(ground.site.claviger().args(init), &dir, fault);
        if !acknowledged(&run) && !config.exists() {
            let again = ground.site.run(&init);
            assert_eq!(again.status.code(), Some(0), "{fault:?}: {again:?}");
        }
        let checked = ground.site.run(&["check", "--config", config.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(0), "{fault:?}: {checked:?} {:?}", run.operations);
        run.struck
    });
}

/// While a gateway has the store open, the operations differ: the log file stays and is shared.
#[test]
fn beside_a_running_gateway_nothing_is_lost_either() {
    let shim = Shim::build();
    let begun = || {
        let ground = Ground::new();
        assert_eq!(ground.site.run(&words(&ground.add("jms"))).status.code(), Some(0));
        let process = ground.site.start();
        (ground, process, Mutex::new(Vec::new()))
    };
    every(begun, |(ground, process, issued), fault| {
        let run = ground.tried(&shim, &["token", "issue", "--consumer", "tool"], fault);
        let mut issued = issued.lock().unwrap();
        if acknowledged(&run) {
            let made = json(&run.output);
            let text = |name: &str| made[name].as_str().unwrap().to_owned();
            issued.push((text("id"), text("token")));
        }
        let found = ground.tokens();
        assert!(issued.iter().all(|(id, _)| found.contains(id)), "{fault:?}: {:?}", run.operations);
        if !run.struck {
            for (_, token) in &*issued {
                until(token, || get(process.address, "/api/v1/", token).status == 200);
            }
            process.signal(rustix::process::Signal::TERM);
        }
        run.struck
    });
}

/// The gateway itself writes only statistics for the custodian there; it still follows changes.
#[test]
fn a_gateway_that_cannot_write_its_store_still_follows_it() {
    let (shim, ground) = (Shim::build(), Ground::new());
    assert_eq!(ground.site.run(&words(&ground.add("jms"))).status.code(), Some(0));
    let store = ground.state().join("store.db");
    // This run has recorded the addition on the trail, so the next one only opens the store.
    assert_eq!(ground.site.start().end().0, Some(0));
    let mut well = ground.site.claviger();
    let log = shim.arm(well.arg("serve"), &store, (Kind::Disk, 0));
    let process = ground.site.launch(&mut well);
    let opening = fs::read_to_string(log).unwrap().lines().count();
    assert_eq!(process.end().0, Some(0));
    let mut struck = 0;
    for (round, later) in [1, 2, 4].into_iter().enumerate() {
        let at = opening + later;
        let mut serve = ground.site.claviger();
        let log = shim.arm(serve.arg("serve"), &store, (Kind::Disk, at));
        let process = ground.site.launch(&mut serve);
        let issue = ground.site.run(&["token", "issue", "--consumer", "tool", "--output", "json"]);
        let token = json(&issue)["token"].as_str().unwrap().to_owned();
        until("it follows", || get(process.address, "/api/v1/", &token).status == 200);
        struck += usize::from(fs::read_to_string(log).unwrap().contains(" FAULT"));
        let (code, said) = process.end();
        assert_eq!(code, Some(0), "{said}");
        // The store could not record that the trail has an event, so the gateway records the event again.
        let next = ground.site.start();
        assert_eq!(get(next.address, "/api/v1/", &token).status, 200);
        assert_eq!(next.end().0, Some(0));
        let admin: Vec<Value> =
            ground.site.events().into_iter().filter(|event| event["event"] == "admin").collect();
        let changes: std::collections::BTreeSet<_> =
            admin.iter().map(|event| event["change"].as_str()).collect();
        assert_eq!(changes.len(), 2 + round, "each change is on the trail, by its id: {admin:#?}");
    }
    assert!(struck > 0);
}

/// claviger flushes before it acknowledges: a kill cannot show that, but the order of operations does.
#[test]
fn a_change_is_flushed_before_it_is_acknowledged() {
    let (shim, ground) = (Shim::build(), Ground::new());
    ground.added("one");
    let alone = ground.tried(&shim, &["token", "issue", "--consumer", "tool"], (Kind::Error, 0));
    flushed(&alone.operations);
    let fresh = ground.site.folder.path().join("new");
    let mut init = ground.site.claviger();
    let begun = shim.run(init.args(["init", "--dir", fresh.to_str().unwrap()]), &fresh, (Kind::Error, 0));
    flushed(&begun.operations);
    let state = fresh.join("state").display().to_string();
    let named = ["rename master.key", "rename store.db", "create store.marker"].map(|named| {
        let (how, name) = named.split_once(' ').unwrap();
        let told = format!("{how} {state}/{name}");
        let at = begun.operations.iter().position(|operation| *operation == told).unwrap();
        let synced = begun.operations[at..].iter().any(|told| *told == format!("sync {state}"));
        assert!(synced, "{name} has a name that may be lost: {:?}", begun.operations);
        at
    });
    assert!(named.is_sorted(), "the mark comes after the store: {:?}", begun.operations);
}

fn flushed(operations: &[String]) {
    let said = operations.iter().position(|told| told == "write stdout").unwrap();
    let mut unflushed = std::collections::BTreeSet::new();
    for told in &operations[..said] {
        let (operation, path) = told.split_once(' ').unwrap();
        match operation {
            "write" if !path.ends_with("-shm") => drop(unflushed.insert(path)),
            "sync" | "unlink" => drop(unflushed.remove(path)),
            _ => {}
        }
    }
    assert!(operations[..said].iter().any(|told| told.starts_with("write") && told.contains("store.db")));
    assert!(unflushed.is_empty(), "{unflushed:?} of {operations:?}");
}
