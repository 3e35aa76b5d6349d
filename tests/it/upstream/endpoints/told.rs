//! What operators see of endpoints, how health checks work, and what a reload keeps.

use std::time::Instant;

use rustix::process::Signal;

use super::standin::{Mood, Standin};
use crate::support::process::{PATIENCE, Process, Site, patient};
use crate::support::wait::until_or;
use crate::support::world::CONFIG;

fn config(endpoints: &[&Standin], more: &str) -> String {
    let urls: Vec<String> =
        endpoints.iter().map(|standin| format!("\"http://{}\"", standin.address)).collect();
    let lines = format!("endpoints = [{}]\n{more}", urls.join(", "));
    let config = CONFIG.replace("endpoint = \"http://@UPSTREAM@\"", &lines);
    patient(&config) + "[admin]\naddress = \"@ADMIN@\"\n"
}

/// Waits until `/metrics` reports the endpoint as up (1) or down (0).
fn wait_up(process: &Process, standin: &Standin, up: u8) {
    let line = metric(standin, "up", up);
    let metrics = || String::from_utf8(process.admin("/metrics").body).unwrap();
    until_or(|| metrics().contains(&line), || format!("`{line}` in {}", metrics()));
}

fn metric(standin: &Standin, name: &str, value: u8) -> String {
    let address = standin.address;
    format!("claviger_endpoint_{name}{{upstream=\"jms\",endpoint=\"http://{address}\"}} {value}\n")
}

fn told(process: &Process) -> serde_json::Value {
    let answer = process.admin("/readyz");
    assert_eq!(answer.status, 200, "an upstream that is unreachable is no reason not to be ready");
    answer.json()
}

#[test]
fn a_reload_leaves_the_standing_of_what_stays() {
    let (mut a, mut b, c) = (Standin::start(), Standin::start(), Standin::start());
    a.kill();
    let never = "health = { interval = \"0s\" }";
    let site = Site::with(b.address, &config(&[&a, &b], never));
    let mut process = site.start();
    for _ in 0..40 {
        assert_eq!(process.get("/api/x/").status, 200);
    }
    wait_up(&process, &a, 0);
    wait_up(&process, &b, 1);
    assert_eq!(told(&process)["unreachable"], serde_json::json!([]));
    let said = process.said();
    assert_eq!(said.matches("the endpoint is down").count(), 1, "{said}");

    site.write(&config(&[&c, &a], never));
    process.signal(Signal::HUP);
    process.wait_said("configuration reloaded");
    wait_up(&process, &a, 0);
    let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
    assert!(!metrics.contains(&b.address.to_string()), "{metrics}");
    assert!(metrics.contains(&metric(&c, "in_flight", 0)), "{metrics}");
    let up_at_all = metric(&c, "up", 0).replace(" 0\n", "");
    assert!(!metrics.contains(&up_at_all), "nobody knows yet: {metrics}");
    assert_eq!(process.get("/api/x/").status, 200);
    wait_up(&process, &c, 1);

    b.kill();
    site.write(&config(&[&a, &b], never));
    process.signal(Signal::HUP);
    let until = Instant::now() + PATIENCE;
    while told(&process)["unreachable"] != serde_json::json!(["jms"]) {
        assert!(Instant::now() < until, "{}", told(&process));
        // Until the reload takes effect, the third endpoint answers.
        process.get("/api/x/");
    }
    let ready = site.run(&["ready"]);
    assert_eq!(String::from_utf8_lossy(&ready.stdout), "ready\n  jms: none of its endpoints answers\n");
    assert_eq!(ready.status.code(), Some(0));
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn health_is_asked_for_without_a_credential_and_is_nobodys_call() {
    let (a, b) = (Standin::start(), Standin::start());
    a.set(Mood::Ill);
    let site = Site::with(b.address, &config(&[&a, &b], "health = { interval = \"1s\" }"));
    let process = site.start();
    wait_up(&process, &a, 0);
    for _ in 0..10 {
        assert_eq!(process.get("/api/x/").status, 200);
    }
    assert_eq!(a.count("GET /api/x/ "), 0);
    a.set(Mood::Answers);
    wait_up(&process, &a, 1);
    let said = process.said();
    assert_eq!(said.matches("the endpoint is down").count(), 1, "{said}");
    assert_eq!(said.matches("the endpoint is up again").count(), 1, "{said}");
    for standin in [&a, &b] {
        let checks: Vec<_> =
            standin.requests().into_iter().filter(|(head, _)| head.contains("/api/health/")).collect();
        assert!(checks.len() >= 3);
        let host = standin.address;
        let wanted = format!("GET /api/health/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert!(checks.iter().all(|(head, _)| *head == wanted), "{checks:?}");
    }
    assert_eq!(process.end().0, Some(0));
    let calls = site.events().iter().filter(|event| event["event"] == "outcome").count();
    assert_eq!(calls, 10);
    site.verified();
}

/// Waits until `/readyz` lists the upstream as unreachable, or no longer lists it.
fn wait_unreachable(process: &Process, unreachable: bool) {
    let wanted = if unreachable { serde_json::json!(["jms"]) } else { serde_json::json!([]) };
    until_or(|| told(process)["unreachable"] == wanted, || told(process).to_string());
}

#[test]
fn what_nobody_has_asked_yet_is_told_neither_up_nor_away() {
    let mut alone = Standin::start();
    alone.kill();
    let site = Site::with(alone.address, &config(&[&alone], "health = { interval = \"60s\" }"));
    let process = site.start();
    let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
    assert!(!metrics.contains("claviger_endpoint_up{"), "{metrics}");
    assert_eq!(told(&process)["unreachable"], serde_json::json!([]));
    // The first call that cannot connect reports the endpoint as down.
    assert_eq!(process.get("/api/x/").status, 502);
    wait_up(&process, &alone, 0);
    wait_unreachable(&process, true);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn an_endpoint_alone_is_found_away_and_back_without_a_call() {
    let mut alone = Standin::start();
    alone.kill();
    let site = Site::with(alone.address, &config(&[&alone], "health = { interval = \"1s\" }"));
    let process = site.start();
    wait_up(&process, &alone, 0);
    wait_unreachable(&process, true);
    alone.revive();
    wait_up(&process, &alone, 1);
    wait_unreachable(&process, false);
    alone.kill();
    wait_up(&process, &alone, 0);
    wait_unreachable(&process, true);
    let asked = alone.requests().len();
    assert!(asked > 0 && alone.count("GET /api/health/ ") == asked, "{:?}", alone.requests());
    let ready = site.run(&["ready"]);
    assert_eq!(String::from_utf8_lossy(&ready.stdout), "ready\n  jms: none of its endpoints answers\n");
    assert_eq!(process.end().0, Some(0));
    assert!(site.events().iter().all(|event| event["event"] != "intent"));
}
