//! An upstream with several endpoints: the endpoint of each call, and what happens if one does not answer.

mod standin;
mod told;

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::upstream::Upstream;
use crate::support::wait::{lapse, until, until_or};
use crate::support::world::{CONFIG, World};
use standin::{Mood, Standin};

/// A configuration with these endpoints and no health checks; only calls find out whether one is up again.
fn config(endpoints: &[&Standin]) -> String {
    let urls: Vec<String> =
        endpoints.iter().map(|standin| format!("\"http://{}\"", standin.address)).collect();
    let lines = format!("endpoints = [{}]\nhealth = {{ interval = \"0s\" }}", urls.join(", "));
    CONFIG.replace("endpoint = \"http://@UPSTREAM@\"", &lines)
}

fn world(endpoints: &[&Standin]) -> World {
    World::with(Upstream::ok(), &config(endpoints))
}

/// Whether each endpoint is up, in the order of the file.
fn up(world: &World) -> Vec<bool> {
    let snapshot = world.server().snapshot();
    snapshot.upstreams[0].destinations().map(|way| way.endpoint.state.is_up()).collect()
}

/// The number of calls of each endpoint.
fn loads(world: &World) -> Vec<i64> {
    let snapshot = world.server().snapshot();
    snapshot.upstreams[0].destinations().map(|way| way.endpoint.state.in_flight()).collect()
}

fn post(world: &World, target: &str, body: &str) -> crate::support::world::Answer {
    let length = body.len();
    let lines = format!("Content-Length: {length}\r\nConnection: close\r\n");
    world.exchange(crate::support::ledger::request("POST", target, &lines) + body)
}

#[test]
fn calls_go_to_all_of_them_each_told_its_own_host() {
    let (a, b) = (Standin::start(), Standin::start());
    let world = world(&[&a, &b]);
    for call in 0..40 {
        assert_eq!(world.get(&format!("/api/{call}/"), "").status, 200);
    }
    for standin in [&a, &b] {
        let requests = standin.requests();
        assert!(requests.len() >= 5, "{} of 40", requests.len());
        let host = format!("\r\nhost: {}\r\n", standin.address);
        assert!(requests.iter().all(|(head, _)| head.contains(&host)), "{requests:?}");
    }
    assert_eq!(a.requests().len() + b.requests().len(), 40);
}

#[test]
fn a_call_goes_where_there_is_less_to_do() {
    let (a, b) = (Standin::start(), Standin::start());
    let config = config(&[&a, &b]).replace("\"600ms\"", "\"10s\"");
    let world = World::with(Upstream::ok(), &config);
    a.set(Mood::Hangs);
    b.set(Mood::Hangs);
    thread::scope(|scope| {
        for call in 0..20 {
            let world = &world;
            scope.spawn(move || assert_eq!(world.get(&format!("/api/{call}/"), "").status, 200));
            until("the call has come", || a.requests().len() + b.requests().len() > call);
        }
        assert_eq!((a.requests().len(), b.requests().len()), (10, 10));
        assert_eq!(loads(&world), [10, 10]);
        a.set(Mood::Answers);
        b.set(Mood::Answers);
    });
    until_or(|| loads(&world) == [0, 0], || format!("no load: {:?}", loads(&world)));
}

#[test]
fn one_that_is_killed_under_load_costs_no_call_that_begins_after() {
    let (mut a, b) = (Standin::start(), Standin::start());
    let world = world(&[&a, &b]);
    let (over, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let made = thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut made = 0;
                    while !over.load(Ordering::SeqCst) {
                        let began = Instant::now();
                        let answer = world.get("/api/x/", "");
                        made += 1;
                        if answer.status != 200 {
                            failed.lock().unwrap().push((began, answer));
                        }
                    }
                    made
                })
            })
            .collect();
        until("it is under load", || a.requests().len() >= 20);
        a.kill();
        let killed = Instant::now();
        lapse(Duration::from_millis(1500), "many calls begin after its end");
        over.store(true, Ordering::SeqCst);
        let made: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        for (began, answer) in failed.lock().unwrap().iter() {
            assert!(*began < killed, "it began after the end: {answer:?}");
        }
        made
    });
    assert!(failed.lock().unwrap().len() <= 4, "no more than were in flight");
    assert!(made > 40 && b.requests().len() > 20, "{made}");
    assert_eq!(up(&world), [false, true]);
}

#[test]
fn one_that_times_out_is_left_out_until_a_call_finds_it_again() {
    let (a, b) = (Standin::start(), Standin::start());
    let world = world(&[&a, &b]);
    a.set(Mood::Hangs);
    let mut slow = 0;
    while up(&world) == [true, true] {
        let answer = world.get("/api/x/", "");
        slow += u32::from(answer.status == 504);
        assert!(answer.status == 200 || answer.code() == "upstream_timeout");
    }
    let down = Instant::now();
    assert_eq!((slow, up(&world)), (3, vec![false, true]));
    let before = a.requests().len();
    while down.elapsed() < Duration::from_millis(500) {
        assert_eq!(world.get("/api/x/", "").status, 200);
    }
    assert_eq!(a.requests().len(), before, "nobody asks it");
    // The first call that tries the endpoint again times out; the others do not wait.
    lapse(Duration::from_millis(700), "the second is over for which it is left out");
    assert_eq!(world.get("/api/x/", "").status, 504);
    assert_eq!(world.get("/api/x/", "").status, 200);
    assert_eq!(a.requests().len(), before + 1);
    a.set(Mood::Answers);
    until("it comes back", || {
        assert_eq!(world.get("/api/x/", "").status, 200);
        up(&world) == [true, true]
    });
}

#[test]
fn what_could_not_be_sent_goes_elsewhere_whatever_it_is() {
    let (mut a, b) = (Standin::start(), Standin::start());
    a.kill();
    let world = world(&[&a, &b]);
    // With so many calls, chance sends three of them to the dead endpoint, except once in 1,000,000,000 runs.
    let bodies: Vec<String> =
        (0..40).map(|call| format!("body {call} {}", "x".repeat(call % 12 * 9000))).collect();
    for (call, body) in bodies.iter().enumerate() {
        assert_eq!(post(&world, &format!("/api/{call}/"), body).status, 200);
    }
    let came: Vec<Vec<u8>> = b.requests().into_iter().map(|(_, body)| body).collect();
    assert_eq!(came, bodies.iter().map(|body| body.as_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(up(&world), [false, true]);
    let trail = world.trail_of(80);
    let outcomes = trail.iter().filter(|event| event["event"] == "outcome");
    assert!(outcomes.clone().all(|event| event["attempts"] == 1), "{trail:#?}");
    assert_eq!(outcomes.count(), 40);
}

#[test]
fn what_was_sent_is_not_sent_elsewhere() {
    let (a, b) = (Standin::start(), Standin::start());
    a.set(Mood::Closes);
    let world = world(&[&a, &b]);
    let mut closed = 0;
    for call in 0..30 {
        let target = format!("/api/{call}/");
        let answer = if call % 2 == 0 { post(&world, &target, "hi") } else { world.get(&target, "") };
        closed += usize::from(answer.status == 502 && answer.code() == "upstream_closed");
        let asked = format!(" {target} ");
        assert_eq!(a.count(&asked) + b.count(&asked), 1, "{call}: {answer:?}");
    }
    assert_eq!(a.requests().len(), closed);
    assert!((3..30).contains(&closed), "{closed}");
    assert_eq!(up(&world), [true, true], "that it answers wrongly is nothing to leave it out for");
}

#[test]
fn where_none_answers_all_are_tried() {
    let (mut a, mut b) = (Standin::start(), Standin::start());
    a.kill();
    b.kill();
    let world = world(&[&a, &b]);
    for _ in 0..8 {
        assert_eq!(world.get("/api/x/", "").code(), "upstream_unreachable");
    }
    assert_eq!(up(&world), [false, false]);
    b.revive();
    // Calls that chance sends to the other endpoint first succeed as well, and at once.
    for _ in 0..8 {
        assert_eq!(world.get("/api/x/", "").status, 200);
    }
    a.revive();
    assert_eq!(b.requests().len(), 8);
}

#[test]
fn a_name_that_leads_to_this_machine_leads_nowhere() {
    let upstream = Upstream::ok();
    let port = upstream.address.port();
    // The resolver reads this name as 127.0.0.1, as it may any name; as written it is no address.
    let named = |more: &str| {
        let lines = format!("endpoint = \"http://127.1:{port}\"\ninsecure_plaintext = true\n{more}");
        CONFIG.replace("endpoint = \"http://@UPSTREAM@\"", &lines)
    };
    let world = World::with(upstream, &named(""));
    assert_eq!(world.get("/api/x/", "").code(), "upstream_unreachable");
    let reason = world.trail_of(2)[1]["reason"].to_string();
    assert!(reason.contains("address denied") && reason.contains("127.0.0.1"), "{reason}");
    assert!(world.upstream.seen().is_empty());

    let allowed = Upstream::ok();
    let config = named("allow_addresses = [\"127.0.0.1\"]");
    let config = config.replace(&format!(":{port}"), &format!(":{}", allowed.address.port()));
    let world = World::with(allowed, &config);
    assert_eq!(world.get("/api/x/", "").status, 200);
}

#[test]
fn a_name_without_an_address_is_told_from_one_where_nobody_listens() {
    let lines = "endpoint = \"http://nowhere.invalid\"\ninsecure_plaintext = true";
    let config = CONFIG.replace("endpoint = \"http://@UPSTREAM@\"", lines).replace("\"600ms\"", "\"10s\"");
    let world = World::with(Upstream::ok(), &config);
    assert_eq!(world.get("/api/x/", "").code(), "upstream_dns");
    let outcome = world.trail_of(2)[1].clone();
    assert!(outcome["reason"].to_string().contains("no address for nowhere.invalid"), "{outcome}");
}

/// The kernel accepts the connections, and nothing answers a handshake.
#[test]
fn two_that_do_not_let_connect_share_one_time_out() {
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [a, b] = silent.each_ref().map(|listener| listener.local_addr().unwrap());
    let lines = format!("endpoints = [\"https://{a}\", \"https://{b}\"]\nhealth = {{ interval = \"0s\" }}");
    let config = CONFIG.replace("endpoint = \"http://@UPSTREAM@\"", &lines).replace("\"600ms\"", "\"4s\"");
    let world = World::with(Upstream::ok(), &config);
    let began = Instant::now();
    assert_eq!(world.get("/api/x/", "").code(), "upstream_timeout");
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(7),
        "two time-outs would be 8 s: {took:?}"
    );
    for listener in silent {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok(), "both are tried");
    }
}
