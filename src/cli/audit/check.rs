//! `audit verify`, `audit verify-proof`: what an auditor checks.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Output, progress, row, say, settings, tell};
use crate::audit::{Checkpoint, Proof, Trusted, Verifier, adds_to, verify};
use crate::server::public_key;

/// What is trusted: the keys that are given, else that of this gateway, where it is its own trail.
pub(super) fn trusted(
    path: &Path,
    dir: Option<&Path>,
    (keys, heads): (&[String], &[PathBuf]),
) -> anyhow::Result<Trusted> {
    let mut trusted = Trusted::default();
    for key in keys {
        trusted.keys.push(public(key)?);
    }
    if keys.is_empty() && dir.is_none() {
        // One that never served has none.
        let own = std::fs::read_to_string(public_key(&settings(path)?.state_dir.value));
        trusted.keys.extend(own.ok().map(|own| Verifier::parse(&own)).transpose()?);
    }
    for file in heads {
        let note = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let wrong = || format!("{}: no head that a trusted key has signed", file.display());
        trusted.heads.push(trusted.open(&note).with_context(wrong)?);
    }
    Ok(trusted)
}

/// A public key, given as it is or by its file.
fn public(given: &str) -> anyhow::Result<Verifier> {
    if let Ok(key) = Verifier::parse(given) {
        return Ok(key);
    }
    let text =
        std::fs::read_to_string(given).with_context(|| format!("no public key, and no file: {given}"))?;
    Verifier::parse(&text).with_context(|| given.to_owned())
}

/// Two heads that the key has signed.
pub(super) fn heads(key: &str, (earlier, later): (&Path, &Path)) -> anyhow::Result<(Checkpoint, Checkpoint)> {
    let key = public(key)?;
    let open = |file: &Path| {
        let note = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        key.open(&note).with_context(|| format!("{}: no head that this key has signed", file.display()))
    };
    Ok((open(earlier)?, open(later)?))
}

/// Checks a proof of consistency.
pub(super) fn consistency(
    (earlier, later): (Checkpoint, Checkpoint),
    proof: &Path,
    output: Output,
) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(proof).with_context(|| proof.display().to_string())?;
    let holds = adds_to(&earlier, &later, &text);
    match output {
        Output::Json => say(&format!("{}\n", serde_json::json!({"consistent": holds}))),
        Output::Text if holds => {
            say(&format!(
                "the {} events of the later head begin with the {} of the earlier\n",
                later.size, earlier.size
            ));
        }
        Output::Text => tell("this does not show that the later head only adds to the earlier\n"),
    }
    Ok(holds)
}

pub(super) fn proof(file: &Path, key: &str, output: Output) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let key = public(key)?;
    let checked = Proof::parse(&text).and_then(|proof| proof.check(&key).map(|head| (proof, head)));
    let (proof, head) = checked.with_context(|| file.display().to_string())?;
    let line = String::from_utf8_lossy(&proof.line).into_owned();
    match output {
        Output::Json => say(&format!("{line}\n")),
        Output::Text => {
            let (place, size, time) = (proof.index + 1, head.size, head.time);
            say(&format!("proven: event {place} of the {size} that were signed at {time}\n"));
            say(&row(&serde_json::from_str(&line)?));
        }
    }
    Ok(true)
}

pub(super) fn run(dir: &Path, trusted: &Trusted, output: Output) -> anyhow::Result<bool> {
    let report = verify(dir, trusted, progress(dir)).with_context(|| dir.display().to_string())?;
    let ok = report.finding.is_none();
    if output == Output::Json {
        say(&format!("{}\n", serde_json::to_string(&report)?));
        return Ok(ok);
    }
    if let Some(finding) = &report.finding {
        let (segment, line, seq) = (&finding.segment, finding.line, finding.seq);
        tell(&format!("the trail is not intact: {segment}:{line} (seq {seq}): {}\n", finding.problem));
        return Ok(false);
    }
    if report.retired > 0 {
        say(&format!("the first {} events were let go; a signed stub stands for them\n", report.retired));
    }
    let (events, segments) = (report.events, report.segments);
    say(&format!("the trail is intact: {events} events in {segments} segments\n"));
    let (heads, unsigned) = (report.heads, report.unsigned);
    if trusted.keys.is_empty() {
        say(&format!("heads: {heads}, whose signatures were not checked: give --key\n"));
    } else {
        say(&format!("heads: {heads}, all signed by a trusted key; events since the last: {unsigned}\n"));
    }
    if report.open > 0 {
        say(&format!(
            "{} calls have no outcome yet: in flight, or lost when the gateway last ended\n",
            report.open
        ));
    }
    if report.unfinished_bytes > 0 {
        say(&format!("{} bytes after the last event are no whole line yet\n", report.unfinished_bytes));
    }
    Ok(ok)
}
