//! `audit search`: finds events by an index that is derived from the trail and stored beside it.

use std::path::{Path, PathBuf};

use super::context::{folder, format_line, progress};
use crate::cli::{Output, eprint, print};
use crate::trail_index::{EventFilter, Index, Reach};

/// The events to find.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filter: EventFilter,
    /// Maximum number of events; the latest are printed
    #[arg(long, default_value_t = 50)]
    last: usize,
    /// Folder of the segments, if not the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
    /// File of the index, if not search.db beside the segments
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Delete the index and build it again
    #[arg(long)]
    rebuild: bool,
}

pub(super) fn run(path: &Path, args: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, args.dir.as_deref())?;
    let file = args.index.clone().unwrap_or_else(|| dir.join("search.db"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (lines, reach) = runtime.block_on(async {
        let mut index = Index::open(&file, &dir, args.rebuild).await?;
        if index.was_changed() {
            let changed = "was changed by something else than a search, and is built again";
            eprint(&format!("the index {} {changed}\n", file.display()));
        }
        index.catch_up(progress(&dir)).await?;
        let mut reach = index.reach().await?;
        // Few events arrive in the meantime, unless the gateway is busy.
        if reach.newer > 0 {
            index.catch_up(progress(&dir)).await?;
            reach = index.reach().await?;
        }
        let found = index.find(&args.filter, args.last.saturating_add(1)).await?;
        index.close().await?;
        anyhow::Ok((found, reach))
    })?;
    // Prints the events in the order in which they happened.
    for line in lines.iter().take(args.last).rev() {
        print(&format_line(line, output));
    }
    // Programs are informed only if the index does not cover the whole trail.
    if output == Output::Text || reach.newer > 0 {
        eprint(&format_reach(&reach));
    }
    if lines.len() > args.last {
        eprint("there are more events before these; use --last or --until\n");
    }
    Ok(!lines.is_empty())
}

/// Describes how much of the trail the index covers, for people.
fn format_reach(reach: &Reach) -> String {
    let Reach { first, last, time, newer } = reach;
    let newer = match newer {
        0 => String::new(),
        newer => format!("; {newer} newer events are not in the index yet"),
    };
    format!(
        "searched {} events, {first} to {last}, the last of {time}{newer}\n",
        (last + 1).saturating_sub(*first)
    )
}
