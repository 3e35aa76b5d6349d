//! A store with very many consumers and tokens: the time and memory of a start. A change takes effect as
//! soon as in a small store. The bounds apply to the release build, with ten times as many: `cargo test
//! --release scale -- --nocapture` prints the figures.

use std::fs;
use std::time::{Duration, Instant};

use claviger::inbound::Directory;
use claviger::storage::{Change, ConsumerRow, Issuance, Sqlite, Storage as _, TokenRow};

use super::{add, begun, code, verified};
use crate::support::process::{Process, Site, get};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::until_or;

const MANY: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
const START: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });
const TOKEN_IDS: &str = "01a211ae-e55a-74fd-b0f6-";
/// In KiB.
const MEMORY: u64 = 150 * 1024;

fn token(number: usize) -> String {
    format!("clv_{number:030}000000")
}

fn fill(site: &Site) {
    let mut changes = Vec::with_capacity(2 * MANY);
    for number in 0..MANY {
        let consumer = if number == 0 { "tool".into() } else { format!("consumer-{number}") };
        if number > 0 {
            let name = consumer.clone();
            changes.push(Change::PutConsumer(ConsumerRow { name, created: 1, disabled: false, note: None }));
        }
        let issued = Issuance {
            id: format!("{TOKEN_IDS}{number:012}"),
            consumer,
            created: 1,
            expires: None,
            revoked: None,
            last_used: None,
            note: None,
        };
        let digest = Directory::digest(token(number).as_bytes());
        changes.push(Change::PutToken(TokenRow { issued, digest }));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(&site.store()).await.unwrap();
        store.write(&changes, None).await.unwrap();
        store.close().await;
    });
}

/// The peak memory of the process so far, in KiB.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How long it takes until the tool's calls get this status.
fn until_answered(process: &Process, status: u16) -> Duration {
    let began = Instant::now();
    let missing = || format!("{status}: {}", process.said());
    until_or(|| get(process.address, "/api/v1/", &token(0)).status == status, missing);
    began.elapsed()
}

#[test]
fn very_many_consumers_start_soon_and_in_little_memory() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let site = begun(&upstream);
    add(&site, "jms", SECRET);
    fill(&site);
    let began = Instant::now();
    let process = site.start();
    let started = began.elapsed();
    assert_eq!(get(process.address, "/api/v1/", &token(0)).status, 200);
    assert_eq!(code(&get(process.address, "/api/v1/", &token(MANY - 1))), "denied");
    let at_start = memory(&process);

    let token = format!("{TOKEN_IDS}{:012}", 0);
    let changes: [(&[&str], u16); 3] = [
        (&["freeze", "--consumer", "tool"], 403),
        (&["unfreeze", "--consumer", "tool"], 200),
        (&["token", "revoke", &token], 401),
    ];
    let took = changes.map(|(typed, status)| {
        let began = Instant::now();
        site.done(typed);
        (began.elapsed(), until_answered(&process, status))
    });
    let in_force = took.iter().map(|(_, in_force)| *in_force).max().unwrap();
    let peak = memory(&process);
    println!(
        "{MANY} consumers and tokens: start {started:?}, {} MiB at start, {} MiB after three changes; \
         commands take, and are in force later: {took:?}",
        at_start / 1024,
        peak / 1024
    );
    assert!(started < START, "{started:?}");
    assert!(at_start < MEMORY && peak < MEMORY, "{at_start} KiB, then {peak}");
    assert!(cfg!(debug_assertions) || in_force < super::SOON, "{in_force:?}");
    assert_eq!(process.end().0, Some(0));
}
