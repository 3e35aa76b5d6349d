//! A consumer that disconnects at any moment of its call: the trail has one outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use claviger::clock::SystemClock;

use crate::support::faulty::{Fate, Faulty, Notes};
use crate::support::ledger::{abandoned, only_call, request, reset};
use crate::support::process::patient;
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::{lapse, until};
use crate::support::world::{CONFIG, World};

#[test]
fn leaving_while_the_intent_is_flushed_is_one_abandoned_call_and_nothing_upstream() {
    let notes = Notes::new(|_, _| Fate::Works);
    let world = World::on(Upstream::ok(), &patient(CONFIG), Faulty::on(&notes), Arc::new(SystemClock));
    notes.hold(true);
    let mut raw = world.connect();
    raw.send(request("GET", "/api/v1/leaving/", ""));
    until("the intent is written", || notes.written("/api/v1/leaving/"));
    assert_eq!(world.server().metrics.in_flight.get(), 1);
    reset(raw);
    until("the call has ended", || world.server().metrics.in_flight.get() == 0);
    notes.hold(false);
    let outcome = only_call(&world, abandoned(None));
    assert_eq!(
        (&outcome["attempts"], &outcome["status"]),
        (&0.into(), &serde_json::Value::Null),
        "{outcome}"
    );
    assert_eq!(world.upstream.seen().len(), 0);
}

#[test]
fn stopping_while_an_intent_is_flushed_leaves_one_outcome() {
    let notes = Notes::new(|_, _| Fate::Works);
    let mut world = World::on(Upstream::ok(), &patient(CONFIG), Faulty::on(&notes), Arc::new(SystemClock));
    notes.hold(true);
    let mut raw = world.connect();
    raw.send(request("GET", "/api/v1/leaving/", ""));
    until("the intent is written", || notes.written("/api/v1/leaving/"));
    let server = world.server.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| server.stop(Duration::from_millis(50)));
        until("the call was cut off", || !raw_open(&mut raw));
        notes.hold(false);
    });
    only_call(&world, abandoned(None));
}

fn raw_open(raw: &mut crate::support::world::Raw) -> bool {
    raw.socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    !raw.closed()
}

/// Consumers that disconnect after every possible delay: during the flush, the connection to the upstream,
/// the answer's head, and its body.
#[test]
fn leaving_at_any_moment_leaves_one_outcome() {
    for durability in ["sync", "batched"] {
        let upstream = Upstream::start(|_| {
            lapse(Duration::from_millis(4), "consumers leave meanwhile");
            Reply::raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)))
        });
        let notes = Notes::new(|_, _| {
            lapse(Duration::from_millis(1), "consumers leave meanwhile");
            Fate::Works
        });
        let config = format!("{}[audit]\ndurability = \"{durability}\"\n", patient(CONFIG));
        let world = World::on(upstream, &config, Faulty::on(&notes), Arc::new(SystemClock));
        thread::scope(|scope| {
            for lane in 0..3_u64 {
                let world = &world;
                scope.spawn(move || {
                    for step in 0..40_u64 {
                        let mut raw = world.connect();
                        let (lines, body) =
                            if step % 2 == 0 { ("", "") } else { ("Content-Length: 2\r\n", "{") };
                        let method = if body.is_empty() { "GET" } else { "POST" };
                        raw.send(
                            [&request(method, &format!("/api/v1/{lane}-{step}/"), lines), body].concat(),
                        );
                        lapse(
                            Duration::from_micros(step * 300 + lane * 100),
                            "each leaves at another moment",
                        );
                        reset(raw);
                    }
                });
            }
        });
        // Calls that the gateway accepted only after their consumers had disconnected end as well.
        until("every one of many calls has one outcome", || {
            let calls = counted(&world);
            calls.len() > 20 && calls.values().all(|(_, outcomes)| *outcomes == 1)
        });
        lapse(Duration::from_millis(50), "an outcome too many would come at once");
        let more = counted(&world).into_values().any(|(intents, outcomes)| intents > 1 || outcomes > 1);
        assert!(!more, "{:#?}", world.trail());
    }
}

/// The numbers of intents and outcomes of each call.
fn counted(world: &World) -> HashMap<String, (usize, usize)> {
    let mut calls: HashMap<String, (usize, usize)> = HashMap::new();
    for event in world.trail() {
        let call = calls.entry(event["request_id"].as_str().unwrap().to_owned()).or_default();
        if event["event"] == "intent" {
            call.0 += 1;
        } else {
            call.1 += 1;
        }
    }
    calls
}
