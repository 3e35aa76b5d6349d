//! `claviger audit`: reading and verifying the trail, beside a running gateway or without one.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use super::{Output, say, tell};
use crate::audit::{Proof, Trusted, Verifier, each_line, prove, segments, verify};
use crate::config;
use crate::server::public_key;

/// What to do with the trail.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Show the latest events
    Show {
        /// How many
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// Only those of this call
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Check every event against the one before it and the signed heads over it; names the first that is wrong
    Verify {
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The public key that signs the heads, or a file of it; several where it was changed
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// A file with a head that was kept elsewhere: the trail must go on from there
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
    },
    /// Print the public key that signs the trail's heads, for auditors
    Key,
    /// Print a proof that a call is on the trail, for who has neither the trail nor trust in the gateway
    Prove {
        /// The call
        request_id: String,
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Check such a proof, and print the event that it proves
    VerifyProof {
        /// The proof
        file: PathBuf,
        /// The public key that signs the heads, or a file of it
        #[arg(long, value_name = "KEY")]
        key: String,
    },
}

/// Does it; whether nothing was found wanting.
pub(super) fn run(path: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    match verb {
        Verb::Show { last, request_id, dir } => {
            let dir = folder(path, dir.as_deref())?;
            show(&dir, *last, request_id.as_deref(), output)
        }
        Verb::Verify { dir, key, head } => {
            let trusted = trusted(path, dir.as_deref(), (key, head))?;
            check(&folder(path, dir.as_deref())?, &trusted, output)
        }
        Verb::Key => {
            let kept = public_key(&settings(path)?.state_dir.value);
            let key = std::fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
            show_text("key", key.trim_end(), output);
            Ok(true)
        }
        Verb::Prove { request_id, dir } => match prove(&folder(path, dir.as_deref())?, request_id)? {
            Ok(proof) => {
                show_text("proof", &proof.text(), output);
                Ok(true)
            }
            Err(why) => anyhow::bail!("{request_id}: {why}"),
        },
        Verb::VerifyProof { file, key } => check_proof(file, key, output),
    }
}

/// Prints a text as it is, or as the one member of an object.
fn show_text(name: &str, text: &str, output: Output) {
    match output {
        Output::Json => say(&format!("{}\n", serde_json::json!({name: text}))),
        Output::Text => say(&format!("{}\n", text.trim_end())),
    }
}

/// What is trusted: the keys that are given, else that of this gateway, where it is its own trail.
fn trusted(
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

fn check_proof(file: &Path, key: &str, output: Output) -> anyhow::Result<bool> {
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

/// The folder of the trail: the given one, which needs no configuration, or the configured.
pub(super) fn folder(path: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok(settings(path)?.audit.dir.value),
    }
}

pub(super) fn settings(path: &Path) -> anyhow::Result<config::File> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (file, problems) = config::parse(&text, path);
    file.with_context(|| problems.render(false))
}

fn show(dir: &Path, last: usize, request_id: Option<&str>, output: Output) -> anyhow::Result<bool> {
    let mut kept: VecDeque<(String, Value)> = VecDeque::new();
    let keep = |line: &[u8]| {
        let event = serde_json::from_slice::<Value>(line).ok();
        let is_of = |event: &Value| {
            request_id.is_none_or(|id| event.get("request_id").and_then(Value::as_str) == Some(id))
        };
        if let Some(event) = event.filter(is_of)
            && last > 0
        {
            if kept.len() == last {
                kept.pop_front();
            }
            kept.push_back((String::from_utf8_lossy(line).into_owned(), event));
        }
        true
    };
    each_line(dir, keep).with_context(|| dir.display().to_string())?;
    for (line, event) in &kept {
        match output {
            Output::Json => say(&format!("{line}\n")),
            Output::Text => say(&row(event)),
        }
    }
    Ok(true)
}

/// One event on one line, for people.
pub(super) fn row(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let number =
        |name: &str| event.get(name).and_then(Value::as_u64).map_or("-".into(), |number| number.to_string());
    let mut row = format!("{:>6}  {}  {:<8}", number("seq"), text("time"), text("event"));
    if text("event") == "journal" {
        row.push_str(text("what"));
        if event.get("refusals").is_some() {
            let source = [("consumer ", text("consumer")), ("peer ", text("peer"))];
            for (label, source) in source.into_iter().filter(|(_, source)| *source != "-") {
                write!(row, "  {label}{source}").unwrap_or_default();
            }
            write!(row, "  {} refusals since {}", number("refusals"), text("since")).unwrap_or_default();
        }
    } else if text("event") == "head" {
        write!(row, "signed over {} events", number("size")).unwrap_or_default();
    } else if text("event") == "admin" {
        row.push_str(text("what"));
        for name in ["consumer", "credential", "upstream", "token"] {
            if event.get(name).is_some() {
                write!(row, "  {name} {}", text(name)).unwrap_or_default();
            }
        }
        write!(row, "  by {}", text("by")).unwrap_or_default();
    } else {
        let (who, what) = (text("consumer"), format!("{} {}", text("method"), text("target")));
        // Writing into a string cannot fail.
        write!(row, "{who:<16} {:<8} {:>3}  {what}", text("decision"), number("status")).unwrap_or_default();
        for (label, name) in [("", "code"), ("", "ended"), ("rule ", "rule"), ("org ", "org")] {
            if event.get(name).is_some() {
                write!(row, "  {label}{}", text(name)).unwrap_or_default();
            }
        }
    }
    row.push('\n');
    row
}

/// Shows on a terminal how far a large trail was read.
fn progress(dir: &Path) -> impl FnMut(u64) + use<> {
    use std::io::IsTerminal as _;
    /// A smaller one is read at once.
    const LARGE: u64 = 256 << 20;
    let sizes = segments(dir).unwrap_or_default().into_iter().filter_map(|path| path.metadata().ok());
    let all: u64 = sizes.map(|found| found.len()).sum();
    let (shown, mut before) = (all >= LARGE && std::io::stderr().is_terminal(), 0);
    move |read| {
        let percent = read.saturating_mul(100) / all.max(1);
        if shown && percent != before {
            before = percent;
            tell(&format!(
                "\r{percent:3} % of {} MiB read{}",
                all >> 20,
                if percent >= 99 { "\r\x1b[K" } else { "" }
            ));
        }
    }
}

fn check(dir: &Path, trusted: &Trusted, output: Output) -> anyhow::Result<bool> {
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
