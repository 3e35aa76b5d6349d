//! `claviger policy`: learns roles from the trail, and tries configurations on it.

mod diff;
mod learn;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;

use super::Output;
use crate::audit::each_line;
use crate::clock::{Clock as _, SystemClock};
use crate::code::Code;

/// What to find out.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Propose the least role that allows what a consumer did, as TOML
    Learn {
        /// Who
        #[arg(long, value_name = "NAME")]
        consumer: String,
        #[command(flatten)]
        which: Which,
    },
    /// Decide every call on the trail by another configuration, and show what it would decide otherwise
    Diff {
        /// The other configuration
        new: PathBuf,
        #[command(flatten)]
        which: Which,
    },
}

/// Which part of the trail.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Not before: a time as 2027-01-01T00:00:00Z, or a span ago as 30d
    #[arg(long, value_name = "TIME", value_parser = moment_ago)]
    since: Option<Timestamp>,
    /// The folder of the segments, instead of the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the subcommand; returns whether there is nothing to report.
pub(super) fn run(path: &Path, verb: &Command, output: Output) -> anyhow::Result<bool> {
    match verb {
        Command::Learn { consumer, which } => learn::run(path, consumer, which, output),
        Command::Diff { new, which } => diff::run(path, new, which, output),
    }
}

/// The members of an event on whose call policy has decided.
#[derive(Debug, Deserialize)]
struct Decided {
    consumer: String,
    upstream: String,
    method: String,
    target: String,
    org: Option<String>,
    decision: String,
    code: Option<String>,
    rule: Option<String>,
    /// The time of the event (RFC 3339).
    time: String,
}

impl Decided {
    fn was_allowed(&self) -> bool {
        self.decision == "allowed"
    }

    /// Whether a grant or a rule decided; calls with other codes did not reach policy.
    fn is_by_policy(&self) -> bool {
        const CODES: [Code; 4] = [Code::Denied, Code::DeniedByRule, Code::GrantExpired, Code::OrgOverride];
        self.was_allowed() || CODES.iter().any(|code| self.code.as_deref() == Some(code.as_str()))
    }
}

impl Which {
    fn has(&self, call: &Decided) -> bool {
        self.since.is_none_or(|since| call.time.parse::<Timestamp>().is_ok_and(|time| time >= since))
    }
}

/// Passes on each call that policy has decided on. A copied folder needs no configuration.
fn each_decided(path: &Path, which: &Which, mut take: impl FnMut(Decided)) -> anyhow::Result<()> {
    let dir = super::audit::folder(path, which.dir.as_deref())?;
    let decide = |line: &[u8]| {
        // This search is cheaper than parsing events that are not wanted.
        let outcome = memchr::memmem::find(line, b"\"event\":\"outcome\"").is_some();
        let call = if outcome { serde_json::from_slice::<Decided>(line).ok() } else { None };
        if let Some(call) = call.filter(|call| call.is_by_policy() && which.has(call)) {
            take(call);
        }
        true
    };
    each_line(&dir, decide).with_context(|| dir.display().to_string())
}

/// Parses a time, or a duration before the present time.
pub(super) fn moment_ago(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = super::time::parse_duration(text).and_then(|span| u64::try_from(span).ok());
    let then = ago.and_then(|ago| SystemClock.now().checked_sub(std::time::Duration::from_secs(ago)));
    let wrong = || format!("`{text}` is neither a time as 2027-01-01T00:00:00Z nor a span as 30d");
    then.and_then(|then| Timestamp::try_from(then).ok()).ok_or_else(wrong)
}
