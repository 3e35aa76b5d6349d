//! The last steps of the tour: what was recorded, and that it cannot be changed undetected.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::tour::{MadeCall, Tour};
use crate::audit::trail::summary::summary;
use crate::audit::{Report, TrustAnchors, segments, verify};

/// How long the last outcome may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is changed in the copy of the trail.
const BEFORE: &str = "\"status\":403";
const AFTER: &str = "\"status\":203";

/// Shows the audit lines of the tour's calls.
pub(super) fn show_events(tour: &mut Tour<'_>) -> anyhow::Result<()> {
    let audit = &tour.scene.audit;
    let events = wait_for_outcomes(audit, tour.calls.len())?;
    for call in &tour.calls {
        check_events(call, &events)?;
    }
    for (before, received) in tour.scene.standin.received().iter().enumerate() {
        // The calls are made one after the other: each finds its own intent and those before it.
        ensure!(received.intents == before + 1, "{} left before its intent was recorded", received.target);
    }
    let text = read_all(audit)?;
    for (secret, what) in tour.scene.secrets() {
        ensure!(!text.contains(secret), "the {what} is in the trail");
    }
    tour.page.line(
        "A call that is forwarded has an intent, recorded before anything leaves, and an outcome.\n\
         A call that is refused has an outcome. No secret is in any of them.",
    );
    for event in &events {
        tour.page.quote(&summary(event.to_string().as_bytes()));
    }
    let of_first = tour.calls.first().map_or("", |call| &call.request_id);
    let first = text.lines().find(|line| line.contains(of_first));
    tour.page.line("The first of these lines as it is in the file:");
    tour.page.quote(first.context("the first call is not in the trail")?);
    Ok(())
}

/// Verifies the trail, and a copy with one byte changed.
pub(super) fn show_verification(tour: &mut Tour<'_>) -> anyhow::Result<()> {
    let dir = &tour.scene.audit;
    let intact = verify_intact(dir)?;
    tour.page.line(&format!(
        "The trail is intact: {} events, each with the hash of the one before it.\n    \
         claviger audit verify --dir {}",
        intact.events,
        dir.display()
    ));

    let copy = tour.scene.folder().join("forged");
    let seq = forge(dir, &copy)?;
    let report = verify(&copy, &TrustAnchors::default(), |_| {})?;
    let finding = report.finding.context("a changed byte went unnoticed")?;
    ensure!(finding.seq == seq, "seq {seq} was changed, and seq {} is named", finding.seq);
    ensure!(verify_intact(dir)?.head == intact.head, "the trail itself was changed");
    tour.page.line("In a copy of it one byte is changed: a refusal is made to look like an answer.");
    tour.page.quote(&format!("-{BEFORE}\n+{AFTER}"));
    tour.page.line("Verification says of the copy:");
    tour.page
        .quote(&format!("{}:{} (seq {}): {}", finding.segment, finding.line, finding.seq, finding.problem));
    tour.page.line(&format!("    claviger audit verify --dir {}", copy.display()));
    Ok(())
}

/// Copies the trail, and changes one byte of its first refusal, whose sequence number it returns.
fn forge(dir: &Path, copy: &Path) -> anyhow::Result<u64> {
    fs::create_dir(copy)?;
    let mut seq = None;
    for path in segments(dir)? {
        let mut text = fs::read_to_string(&path)?;
        let refusal = text.lines().find(|line| line.contains(BEFORE)).map(ToOwned::to_owned);
        if let (None, Some(line)) = (seq, refusal) {
            let event: Value = serde_json::from_str(&line)?;
            seq = event.get("seq").and_then(Value::as_u64);
            text = text.replacen(BEFORE, AFTER, 1);
        }
        fs::write(copy.join(path.file_name().unwrap_or_default()), text)?;
    }
    seq.context("the trail has no refusal")
}

fn verify_intact(dir: &Path) -> anyhow::Result<Report> {
    let report = verify(dir, &TrustAnchors::default(), |_| {})?;
    ensure!(report.finding.is_none(), "the trail is not intact: {:?}", report.finding);
    ensure!(report.open == 0, "{} calls have no outcome", report.open);
    Ok(report)
}

/// Returns the events of the calls, once every call has its outcome.
fn wait_for_outcomes(dir: &Path, calls: usize) -> anyhow::Result<Vec<Value>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = read_all(dir)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events: Vec<Value> =
            events.filter(|event| !matches!(word(event, "event"), "journal" | "head")).collect();
        if events.iter().filter(|event| word(event, "event") == "outcome").count() >= calls {
            return Ok(events);
        }
        ensure!(Instant::now() < until, "not every call has its outcome");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads all segments, one after the other.
fn read_all(dir: &Path) -> anyhow::Result<String> {
    segments(dir)?.iter().map(|path| Ok(fs::read_to_string(path)?)).collect()
}

/// Checks that the trail records what happened to a call.
fn check_events(call: &MadeCall, events: &[Value]) -> anyhow::Result<()> {
    let of_call = events.iter().filter(|event| word(event, "request_id") == call.request_id);
    let kinds: Vec<&str> = of_call.clone().map(|event| word(event, "event")).collect();
    let (expected, decision, ended): (&[&str], _, _) = match call.code {
        Some(_) => (&["outcome"], "denied", "refused"),
        None => (&["intent", "outcome"], "allowed", "answered"),
    };
    ensure!(kinds == expected, "the trail has {kinds:?} of the call {}", call.request_id);
    for event in of_call {
        ensure!(word(event, "consumer") == "onboarding", "the trail does not know who called");
        ensure!(word(event, "decision") == decision, "the trail has another decision");
        if word(event, "event") == "outcome" {
            let status = event.get("status").and_then(Value::as_u64);
            let is_same = status == Some(call.status.into());
            ensure!(is_same, "the trail has the status {status:?}, not {}", call.status);
            ensure!(word(event, "ended") == ended, "the trail has it ended as {}", word(event, "ended"));
            let code = call.code.as_deref().unwrap_or_default();
            ensure!(word(event, "code") == code, "the trail has another code");
        }
    }
    Ok(())
}

fn word<'e>(event: &'e Value, name: &str) -> &'e str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}
