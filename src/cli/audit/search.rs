//! `audit search`: finds events by an index that is derived from the trail and stored beside it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Output, eprint, folder, print, progress, row};
use crate::cli::policy::moment_ago;
use crate::policy::PathPattern;
use crate::trail_index::{EventFilter, Index, Reach};

/// Which events.
#[derive(clap::Args)]
pub(in crate::cli) struct Which {
    /// Of this consumer
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// To this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// With this method
    #[arg(long)]
    method: Option<String>,
    /// With a path like this: `*` is one segment or a part of one, `**` any number
    #[arg(long, value_name = "PATTERN", value_parser = PathPattern::parse)]
    path: Option<PathPattern>,
    /// In this organisation
    #[arg(long)]
    org: Option<String>,
    /// With this credential
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,
    /// With this version of it
    #[arg(long)]
    version: Option<u32>,
    /// That ended with this code, as `denied`
    #[arg(long)]
    code: Option<String>,
    /// That were answered with this status
    #[arg(long)]
    status: Option<u16>,
    /// Of this kind: outcome, admin, journal; intent: of calls that have no outcome yet
    #[arg(long, value_name = "KIND")]
    event: Option<String>,
    /// Of this call
    #[arg(long, value_name = "ID")]
    request_id: Option<Uuid>,
    /// That say this somewhere: in a name, the target, the user agent, the address, the reason, a change
    #[arg(long)]
    text: Option<String>,
    /// Not before: a time as 2027-01-01T00:00:00Z, or a span ago as 30d
    #[arg(long, value_name = "TIME", value_parser = moment_ago)]
    since: Option<Timestamp>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = moment_ago)]
    until: Option<Timestamp>,
}

/// What to find.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    which: Which,
    /// How many at most, the latest first to be found
    #[arg(long, default_value_t = 50)]
    last: usize,
    /// The folder of the segments, instead of the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The file of the index, instead of search.db beside the segments
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Make the index anew
    #[arg(long)]
    rebuild: bool,
}

impl Which {
    /// Converts the arguments into a filter for the index.
    pub(super) fn filter(&self) -> EventFilter {
        EventFilter {
            event: self.event.clone(),
            consumer: self.consumer.clone(),
            upstream: self.upstream.clone(),
            method: self.method.clone(),
            org: self.org.clone(),
            credential: self.credential.clone(),
            version: self.version,
            code: self.code.clone(),
            status: self.status,
            path: self.path.clone(),
            text: self.text.clone(),
            request_id: self.request_id,
            since: self.since,
            until: self.until,
        }
    }
}

pub(super) fn run(path: &Path, asked: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, asked.dir.as_deref())?;
    let file = asked.index.clone().unwrap_or_else(|| dir.join("search.db"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wanted = asked.which.filter();
    let (lines, reach) = runtime.block_on(async {
        let mut index = Index::open(&file, &dir, asked.rebuild).await?;
        if index.was_changed() {
            let changed = "was changed by something else than a search, and is made anew, as by --rebuild";
            eprint(&format!("the index {} {changed}\n", file.display()));
        }
        index.catch_up(progress(&dir)).await?;
        let mut reach = index.reach().await?;
        // Few events arrive in the meantime, unless the gateway is busy.
        if reach.newer > 0 {
            index.catch_up(progress(&dir)).await?;
            reach = index.reach().await?;
        }
        let found = index.find(&wanted, asked.last.saturating_add(1)).await?;
        index.close().await?;
        anyhow::Ok((found, reach))
    })?;
    // Prints the events in the order in which they happened.
    for line in lines.iter().take(asked.last).rev() {
        let line = String::from_utf8_lossy(line);
        match output {
            Output::Json => print(&format!("{line}\n")),
            Output::Text => print(&row(&serde_json::from_str(&line)?)),
        }
    }
    // Programs are informed only if the index does not cover the whole trail.
    if output == Output::Text || reach.newer > 0 {
        eprint(&format_reach(&reach));
    }
    if lines.len() > asked.last {
        eprint("there are more, before these: give --last or --until\n");
    }
    Ok(!lines.is_empty())
}

/// Describes how much of the trail the index covers, for people.
fn format_reach(reach: &Reach) -> String {
    let Reach { first, last, time, newer } = reach;
    let newer = match newer {
        0 => String::new(),
        newer => format!("; {newer} newer ones are not in the index yet"),
    };
    format!(
        "searched {} events, {first} to {last}, the last of {time}{newer}\n",
        (last + 1).saturating_sub(*first)
    )
}
