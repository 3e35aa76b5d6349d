//! `claviger policy`: learns roles from the trail, and tries configurations on it.

mod calls;
mod diff;
mod learn;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Output;
use calls::Which;

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

/// Runs the subcommand; returns whether there is nothing to report.
pub(super) fn run(path: &Path, verb: &Command, output: Output) -> anyhow::Result<bool> {
    match verb {
        Command::Learn { consumer, which } => learn::run(path, consumer, which, output),
        Command::Diff { new, which } => diff::run(path, new, which, output),
    }
}
