//! The calls on the trail that policy has decided on.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::each_line;
use crate::cli::audit::context::folder;
use crate::clock::parse_past_time;
use crate::code::Code;

/// The part of the trail to read.
#[derive(clap::Args)]
pub(in crate::cli) struct Which {
    /// Read calls from this time on: a time such as 2027-01-01T00:00:00Z, or 30d for the last 30 days
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    since: Option<Timestamp>,
    /// Folder of the segments, if not the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The members of an event on whose call policy has decided.
#[derive(Debug, Deserialize)]
pub(super) struct Decided {
    pub(super) consumer: String,
    pub(super) upstream: String,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) org: Option<String>,
    pub(super) decision: String,
    pub(super) code: Option<String>,
    pub(super) rule: Option<String>,
    /// The time of the event (RFC 3339).
    pub(super) time: String,
}

impl Decided {
    pub(super) fn was_allowed(&self) -> bool {
        self.decision == "allowed"
    }

    /// Whether a grant or a rule decided; calls with other codes did not reach policy.
    fn is_by_policy(&self) -> bool {
        const CODES: [Code; 4] = [Code::Denied, Code::DeniedByRule, Code::GrantExpired, Code::OrgOverride];
        self.was_allowed() || CODES.iter().any(|code| self.code.as_deref() == Some(code.as_str()))
    }
}

/// Passes on each call that policy has decided on. A copied folder needs no configuration.
pub(super) fn each_decided(path: &Path, which: &Which, mut take: impl FnMut(Decided)) -> anyhow::Result<()> {
    let dir = folder(path, which.dir.as_deref())?;
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
