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
use crate::clock::parse_past_time;
use crate::code::Code;

/// The subcommands of `policy`.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print, as TOML, the smallest role that allows the calls a consumer made
    Learn {
        /// Name of the consumer
        #[arg(long, value_name = "NAME")]
        consumer: String,
        #[command(flatten)]
        which: Which,
    },
    /// Decide every call on the trail by another configuration, and print the calls it decides differently
    Diff {
        /// File of the other configuration
        new: PathBuf,
        #[command(flatten)]
        which: Which,
    },
}

/// The part of the trail to read.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Read calls from this time on: a time such as 2027-01-01T00:00:00Z, or 30d for the last 30 days
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    since: Option<Timestamp>,
    /// Folder of the segments, if not the configured one
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

/// Passes on each call that policy has decided on. A copied folder needs no configuration.
fn each_decided(path: &Path, which: &Which, mut take: impl FnMut(Decided)) -> anyhow::Result<()> {
    let dir = super::audit::folder(path, which.dir.as_deref())?;
    let decide = |line: &[u8]| {
        // This search is cheaper than parsing events that are not wanted.
        let outcome = memchr::memmem::find(line, b"\"event\":\"outcome\"").is_some();
        let call = if outcome { serde_json::from_slice::<Decided>(line).ok() } else { None };
        let is_selected = |call: &Decided| {
            let time = call.time.parse::<Timestamp>();
            call.is_by_policy() && which.since.is_none_or(|since| time.is_ok_and(|time| time >= since))
        };
        if let Some(call) = call.filter(is_selected) {
            take(call);
        }
        true
    };
    each_line(&dir, decide).with_context(|| dir.display().to_string())
}
