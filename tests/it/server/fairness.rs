//! Eight consumers that send calls as fast as they can must not slow down another one.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use claviger::inbound::Directory;

use crate::support::ledger::request;
use crate::support::process::{PATIENCE, Process, Site, in_memory, patient};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::lapse;
use crate::support::world::{CONFIG, Raw, TOKEN};

const NOISY: usize = 8;
/// Connections of each noisy consumer: many more than its concurrency limit.
const LANES: usize = 12;
const ROUNDS: usize = 5;
const CALLS: usize = 100;

/// An operator's configuration: a common limit, and a higher one for a single consumer. The trail is in
/// memory, because this test measures the workers, and a disk may be slow for other reasons.
fn config(audit: &Path) -> String {
    let limits = "[limits]\nrequests_per_minute = 120\nconcurrency = 2";
    let mut config = patient(CONFIG).replace("[limits]", limits).replace("workers = 1", "workers = 2");
    config = config.replace("[consumers.tool]", "[consumers.tool]\nrequests_per_minute = 0");
    for number in 0..NOISY {
        let digest = Directory::digest(noisy_token(number).as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(
            config,
            "[consumers.noisy-{number}]\ntoken_sha256 = [\"{digest}\"]\n[[grants]]\nconsumer = \"noisy-{number}\"\n\
             upstream = \"jms\"\nroles = [\"all\"]\norgs = [\"00000000-0000-0000-0000-000000000002\"]\n"
        )
        .unwrap();
    }
    write!(config, "[admin]\naddress = \"@ADMIN@\"\n[audit]\ndir = \"{}\"\n", audit.display()).unwrap();
    config
}

fn noisy_token(number: usize) -> String {
    format!("clv_fake_noisy_{number}")
}

/// The second longest duration of the quiet consumer's hundred calls.
fn quiet(process: &Process) -> Duration {
    let mut raw = Raw::to(process.address);
    raw.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let began = Instant::now();
            raw.send(request("GET", "/api/v1/quiet/", ""));
            assert_eq!(raw.answer().status, 200);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[CALLS * 99 / 100 - 1]
}

/// The answers to the noisy consumers, by consumer.
#[derive(Default)]
struct Noise {
    over: AtomicBool,
    answered: [AtomicUsize; NOISY],
    refused: [AtomicUsize; NOISY],
}

impl Noise {
    /// Sends calls over and over on one connection, whatever the answers.
    fn make(&self, process: &Process, number: usize) {
        let asked = request("GET", "/api/v1/noisy/", "").replace(TOKEN, &noisy_token(number));
        let mut raw = Raw::to(process.address);
        raw.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        while !self.over.load(Ordering::Relaxed) {
            raw.send(&asked);
            let answer = raw.answer();
            if answer.status == 200 {
                self.answered[number].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            assert_eq!(answer.status, 429, "{answer:?}");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{answer:?}");
            self.refused[number].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends an operator's requests under load; returns the longest duration.
fn watched(process: &Process) -> Duration {
    let mut slowest = Duration::ZERO;
    for target in ["/healthz", "/readyz", "/metrics"] {
        let began = Instant::now();
        assert_eq!(process.admin(target).status, 200, "{target}");
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[test]
fn eight_noisy_consumers_do_not_slow_a_quiet_one() {
    let upstream = Upstream::start(|_| {
        lapse(Duration::from_millis(5), "an upstream takes its time");
        Reply::json("{}")
    });
    let memory = in_memory();
    let site = Site::with(upstream.address, &config(&memory.path().join("audit")));
    let process = site.start();
    let noise = Noise::default();
    let (mut alone, mut beside, mut admin) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(quiet(&process));
        noise.over.store(false, Ordering::Relaxed);
        scope(|scope| {
            for lane in 0..NOISY * LANES {
                let (noise, process) = (&noise, &process);
                scope.spawn(move || noise.make(process, lane % NOISY));
            }
            lapse(Duration::from_millis(200), "it is loud for a while before the quiet one asks");
            beside.push(quiet(&process));
            admin.push(watched(&process));
            noise.over.store(true, Ordering::Relaxed);
        });
    }
    for times in [&mut alone, &mut beside, &mut admin] {
        times.sort();
    }
    let median = ROUNDS / 2;
    println!("alone {alone:?}\nbeside {beside:?}\nadmin {admin:?}");
    println!("answered {:?}\nrefused {:?}", noise.answered, noise.refused);
    assert!(beside[median] <= 3 * alone[median], "alone {alone:?}, beside the noisy ones {beside:?}");
    assert!(admin[median] < Duration::from_secs(1), "{admin:?}");
    for number in 0..NOISY {
        let answered = noise.answered[number].load(Ordering::Relaxed);
        assert!(answered >= 120, "noisy-{number} was not given what it may have: {answered}");
        assert!(noise.refused[number].load(Ordering::Relaxed) > 0, "noisy-{number} was never too loud");
    }
    assert_eq!(process.end().0, Some(0));
    site.verified();
}
