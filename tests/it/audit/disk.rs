//! Every operation of the journal's disk fails, once and for a while: no unrecorded call leaves the gateway.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self};
use std::time::{Duration, Instant};

use claviger::audit::{Disk, Folder};
use claviger::clock::SystemClock;
use serde_json::Value;

use crate::support::faulty::{Act, Fate, Faulty, Notes};
use crate::support::process::{PATIENCE, patient};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{found, lapse, until};
use crate::support::world::{CONFIG, World, events, verified};

/// A gateway with a faulty disk, and the calls that were sent to it.
struct Run {
    world: World,
    notes: Arc<Notes>,
    /// The calls that reached the upstream before their intents were durable.
    early: Arc<Mutex<Vec<String>>>,
    made: usize,
    refused: HashSet<String>,
}

impl Run {
    fn new(durability: &str, notes: Arc<Notes>) -> Self {
        let early = Arc::<Mutex<Vec<String>>>::default();
        let (watched, told) = (Arc::clone(&notes), Arc::clone(&early));
        let upstream = Upstream::start(move |seen| {
            if !watched.durable(&seen.target) {
                told.lock().unwrap().push(seen.target.clone());
            }
            Reply::json("{}")
        });
        let config =
            format!("{}[audit]\ndurability = \"{durability}\"\nrotate = \"3KiB\"\n", patient(CONFIG));
        let world = World::on(upstream, &config, Faulty::on(&notes), Arc::new(SystemClock));
        Self { world, notes, early, made: 0, refused: HashSet::new() }
    }

    /// Sends a call; returns whether it was recorded.
    fn call(&mut self) -> bool {
        let target = format!("/api/v1/call-{}/", self.made);
        self.made += 1;
        let answer = self.world.get(&target, "");
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code().as_str()), (503, "unrecorded"), "{answer:?}");
            self.refused.insert(target);
        }
        answer.status == 200
    }

    fn wait_healthy(&self) {
        until("it works again", || self.world.server().journal().healthy());
    }

    /// Heals the disk and checks the trail; returns whether any operation had failed.
    fn check(mut self, durability: &str) -> bool {
        let failed = self.notes.failed();
        self.notes.heal();
        self.wait_healthy();
        // A flush that began earlier may still fail, and with it the call that waits for it.
        until("a call on a disk that works again", || {
            let recorded = self.call();
            if !recorded {
                self.wait_healthy();
            }
            recorded
        });
        let seen: HashSet<String> = self.world.upstream.seen().into_iter().map(|seen| seen.target).collect();
        let (early, made, refused) = (self.early, self.made, self.refused);
        let dir = self.world.folder.path().join("state/audit");
        let folder = std::mem::replace(&mut self.world.folder, tempfile::tempdir().unwrap());
        // `World` checks its default folder when it drops; the test checks the trail's present folder here.
        std::fs::create_dir_all(self.world.folder.path().join("state/audit")).unwrap();
        drop(self.world);
        let report = verified(&dir).unwrap();
        assert_eq!((report.finding, report.open, report.unfinished_bytes), (None, 0, 0));
        let events = events(&dir);
        drop(folder);

        if durability == "sync" {
            assert_eq!(*early.lock().unwrap(), [] as [String; 0], "before its intent was durable");
        }
        assert_eq!(seen.len() + refused.len(), made, "{seen:?} {refused:?}");
        assert!(seen.is_disjoint(&refused), "refused and made: {seen:?} {refused:?}");
        let targets = |kind: &str, code: Option<&str>| -> Vec<String> {
            let wanted = |event: &&Value| event["event"] == kind && event["code"].as_str() == code;
            events.iter().filter(wanted).map(|event| event["target"].as_str().unwrap().to_owned()).collect()
        };
        let intents: HashSet<String> = targets("intent", None).into_iter().collect();
        assert!(seen.is_subset(&intents), "{seen:?} {intents:?}");
        let answered = targets("outcome", None);
        assert_eq!(answered.len(), seen.len(), "{answered:?}");
        assert_eq!(answered.into_iter().collect::<HashSet<_>>(), seen);
        let told = targets("outcome", Some("unrecorded"));
        let journal = || events.iter().filter(|event| event["event"] == "journal");
        let counted: u64 = journal().filter_map(|event| event["unrecorded"].as_u64()).sum();
        assert_eq!(told.len() as u64 + counted, refused.len() as u64, "{told:?} and {counted}: {refused:?}");
        if !refused.is_empty() {
            assert!(journal().any(|event| ["resumed", "gap"].contains(&event["what"].as_str().unwrap())));
        }
        failed
    }
}

/// One operation of the disk fails once, for each operation in a run of calls.
fn each_once(durability: &'static str, act: Act, fate: Fate, cut_fails: bool) {
    let (next, failed, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let nth = next.fetch_add(1, Ordering::SeqCst);
                    let notes = Notes::new(move |asked, count| match asked {
                        Act::Cut if cut_fails && count == 0 => Fate::Fails,
                        asked if asked == act && count == nth => fate,
                        Act::Create | Act::Append | Act::Sync | Act::Cut => Fate::Works,
                    });
                    let mut run = Run::new(durability, notes);
                    for _ in 0..20 {
                        if !run.call() {
                            run.wait_healthy();
                        }
                        if durability == "batched" {
                            lapse(Duration::from_millis(4), "each call has a flush of its own");
                        }
                    }
                    // The first operation that a run does not reach ends the test: a busy machine performs
                    // fewer.
                    if run.check(durability) {
                        failed.fetch_add(1, Ordering::SeqCst);
                    } else {
                        done.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(failed.into_inner() >= 1, "nothing failed");
}

#[test]
fn each_segment_fails_to_begin_once() {
    each_once("sync", Act::Create, Fate::Fails, false);
    each_once("batched", Act::Create, Fate::Fails, false);
}

#[test]
fn each_append_fails_once() {
    each_once("sync", Act::Append, Fate::Fails, false);
    each_once("batched", Act::Append, Fate::Fails, false);
}

#[test]
fn each_append_is_cut_off_halfway_once() {
    each_once("sync", Act::Append, Fate::Halfway, false);
    each_once("batched", Act::Append, Fate::Halfway, false);
}

#[test]
fn each_append_is_cut_off_halfway_once_and_cannot_be_taken_back_at_once() {
    each_once("sync", Act::Append, Fate::Halfway, true);
    each_once("batched", Act::Append, Fate::Halfway, true);
}

#[test]
fn each_flush_fails_once() {
    each_once("sync", Act::Sync, Fate::Fails, false);
    each_once("batched", Act::Sync, Fate::Fails, false);
}

#[test]
fn a_disk_that_fails_for_a_while_stops_all_calls_until_it_works() {
    for durability in ["sync", "batched"] {
        for act in [Act::Create, Act::Append, Act::Sync] {
            for nth in [0, 1, 4] {
                let notes = Notes::new(
                    move |asked, count| {
                        if asked == act && count >= nth { Fate::Fails } else { Fate::Works }
                    },
                );
                let mut run = Run::new(durability, notes);
                let until = Instant::now() + PATIENCE;
                while run.world.server().journal().healthy() {
                    run.call();
                    assert!(Instant::now() < until, "the disk never failed");
                }
                for _ in 0..5 {
                    assert!(!run.call(), "{act:?} fails: no call is made");
                }
                assert!(run.check(durability));
            }
        }
    }
}

#[test]
fn a_torn_tail_is_told_even_where_the_first_segment_cannot_be_made_at_once() {
    let notes = Notes::new(|act, count| match act {
        Act::Create if count < 2 => Fate::Fails,
        Act::Create | Act::Append | Act::Sync | Act::Cut => Fate::Works,
    });
    let faulty = Faulty::on(&notes);
    let torn = |dir: std::path::PathBuf| {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("audit-000000000001-20260101T000000.000000Z.jsonl"), "{\"seq\":1,").unwrap();
        faulty(dir)
    };
    let world = World::on(Upstream::ok(), &patient(CONFIG), torn, Arc::new(SystemClock));
    until("it works", || world.server().journal().healthy());
    let events = events(&world.folder.path().join("state/audit"));
    assert_eq!((&events[0]["what"], &events[0]["torn_bytes"]), (&"opened".into(), &9.into()), "{events:#?}");
}

#[test]
fn the_chain_is_not_continued_from_a_segment_under_a_wrong_name() {
    let other = World::new(Upstream::ok());
    let segment = claviger::audit::segments(&other.folder.path().join("state/audit")).unwrap().remove(0);
    let stray = "audit-000000000900-20260101T000000.000000Z.jsonl";
    let beside = |dir: std::path::PathBuf| -> Box<dyn Disk> {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(&segment, dir.join(stray)).unwrap();
        Box::new(Folder::new(dir))
    };
    let world = World::on(Upstream::ok(), CONFIG, beside, Arc::new(SystemClock));
    assert_eq!(world.get("/api/v1/users/", "").status, 200);
    let dir = world.folder.path().join("state/audit");
    std::fs::remove_file(dir.join(stray)).unwrap();
    let report = verified(&dir).unwrap();
    assert!(report.finding.is_none() && report.events > 0, "{report:#?}");
    assert_eq!(events(&dir)[0]["seq"], 1);
}

#[test]
fn calls_refused_before_the_folder_could_be_read_are_counted() {
    let notes = Notes::new(|act, _| if act == Act::Create { Fate::Fails } else { Fate::Works });
    let mut run = Run::new("sync", notes);
    for _ in 0..7 {
        assert!(!run.call());
    }
    run.notes.heal();
    run.wait_healthy();
    let told = || events(&run.world.folder.path().join("state/audit"));
    let resumed = found(
        || told().into_iter().find(|event| event["what"] == "resumed"),
        || format!("`resumed`: {:#?}", told()),
    );
    assert_eq!(resumed["unrecorded"], 7, "{resumed}");
    assert!(run.check("sync"));
}
