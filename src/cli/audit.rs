//! `claviger audit`: reading and verifying the trail, beside a running gateway or without one.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use super::{Output, say, tell};
use crate::audit::{segments, verify};
use crate::config;

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
    /// Check every event against the one before it; names the first that is wrong
    Verify {
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Does it; whether nothing was found wanting.
pub(super) fn run(path: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    match verb {
        Verb::Show { last, request_id, dir } => {
            let dir = folder(path, dir.as_deref())?;
            show(&dir, *last, request_id.as_deref(), output)
        }
        Verb::Verify { dir } => check(&folder(path, dir.as_deref())?, output),
    }
}

fn folder(path: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (file, problems) = config::parse(&text, path);
    match file {
        Some(file) => Ok(file.audit.dir.value),
        None => anyhow::bail!("{}", problems.render(false)),
    }
}

fn show(dir: &Path, last: usize, request_id: Option<&str>, output: Output) -> anyhow::Result<bool> {
    let mut kept: VecDeque<(String, Value)> = VecDeque::new();
    for path in segments(dir).with_context(|| dir.display().to_string())? {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let Ok(line) = String::from_utf8(line?) else { continue };
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let wanted =
                request_id.is_none_or(|id| event.get("request_id").and_then(Value::as_str) == Some(id));
            if wanted && last > 0 {
                if kept.len() == last {
                    kept.pop_front();
                }
                kept.push_back((line, event));
            }
        }
    }
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

fn check(dir: &Path, output: Output) -> anyhow::Result<bool> {
    let report = verify(dir).with_context(|| dir.display().to_string())?;
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
    say(&format!("the trail is intact: {events} events in {segments} segments\nhead {}\n", report.head));
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
