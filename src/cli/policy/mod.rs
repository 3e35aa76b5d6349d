//! `claviger policy`: from the trail to roles, and back.

mod diff;
mod learn;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;

use super::Output;
use crate::audit::segments;
use crate::clock::{Clock as _, SystemClock};

/// What to find out.
#[derive(Subcommand)]
pub(super) enum Verb {
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

/// Does it; whether there is nothing to be told of.
pub(super) fn run(path: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    match verb {
        Verb::Learn { consumer, which } => learn::run(path, consumer, which, output),
        Verb::Diff { new, which } => diff::run(path, new, which, output),
    }
}

/// What the trail tells of a call that policy has decided on.
#[derive(Debug, Deserialize)]
struct Decided {
    consumer: String,
    upstream: String,
    method: String,
    target: String,
    org: Option<String>,
    decision: String,
    code: Option<String>,
    /// RFC 3339.
    time: String,
}

impl Decided {
    fn was_allowed(&self) -> bool {
        self.decision == "allowed"
    }
}

/// Hands over each call that policy has decided on. A copied folder needs no configuration.
fn each_decided(path: &Path, which: &Which, mut take: impl FnMut(Decided)) -> anyhow::Result<()> {
    /// With these a call is refused by a grant or a rule; with others it never came so far.
    const BY_POLICY: [&str; 4] = ["denied", "denied_by_rule", "grant_expired", "org_override"];
    let dir = super::audit::folder(path, which.dir.as_deref())?;
    for segment in segments(&dir).with_context(|| dir.display().to_string())? {
        for line in BufReader::new(std::fs::File::open(&segment)?).split(b'\n') {
            let line = line?;
            // Cheaper than reading what is not wanted.
            if memchr::memmem::find(&line, b"\"event\":\"outcome\"").is_none() {
                continue;
            }
            let Ok(call) = serde_json::from_slice::<Decided>(&line) else { continue };
            let decided =
                call.was_allowed() || call.code.as_deref().is_some_and(|code| BY_POLICY.contains(&code));
            if decided
                && which
                    .since
                    .is_none_or(|since| call.time.parse::<Timestamp>().is_ok_and(|time| time >= since))
            {
                take(call);
            }
        }
    }
    Ok(())
}

fn moment_ago(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = super::store::words::span(text).and_then(|span| u64::try_from(span).ok());
    let then = ago.and_then(|ago| SystemClock.now().checked_sub(std::time::Duration::from_secs(ago)));
    let wrong = || format!("`{text}` is neither a time as 2027-01-01T00:00:00Z nor a span as 30d");
    then.and_then(|then| Timestamp::try_from(then).ok()).ok_or_else(wrong)
}
