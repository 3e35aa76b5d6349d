//! What the subcommands of `audit` share: the folder of the trail, and how they print.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::audit::segments;
use crate::audit::trail::summary::summary;
use crate::cli::Output;
use crate::config;
use crate::printable::printable_value;

/// Formats an event for people, or its line for programs.
pub(super) fn format_line(line: &[u8], output: Output) -> String {
    match output {
        Output::Json => printable_value(&String::from_utf8_lossy(line)).into_owned() + "\n",
        Output::Text => summary(line),
    }
}

/// Prints a text as it is, or as the only member of an object.
pub(super) fn print_text(name: &str, text: &str, output: Output) {
    output.print(&serde_json::json!({name: text}), &format!("{}\n", text.trim_end()));
}

/// The folder of the trail: the given one, which needs no configuration, or the configured one.
///
/// # Errors
/// If there is no such folder, or no trail in it. Otherwise the result would look as if nothing had happened.
pub(in crate::cli) fn folder(path: &Path, dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => settings(path)?.audit.dir.value,
    };
    anyhow::ensure!(
        dir.try_exists()?,
        "{}: there is no such folder; the first `claviger serve` creates it",
        dir.display()
    );
    if segments(&dir).with_context(|| dir.display().to_string())?.is_empty() {
        bail!("{}: there is no trail in this folder: no audit-*.jsonl is in it", dir.display());
    }
    Ok(dir)
}

/// Reads the configuration, which must have no error: a misspelt key would leave its default in effect.
pub(in crate::cli) fn settings(path: &Path) -> anyhow::Result<config::File> {
    config::load(path)
        .and_then(config::Loaded::checked)
        .map_err(|problems| anyhow::anyhow!("the configuration cannot be used\n{}", problems.render(false)))
}

/// Shows on a terminal how much of a large trail has been read.
pub(super) fn progress(dir: &Path) -> impl FnMut(u64) + use<> {
    use std::io::{IsTerminal as _, Write as _};
    /// The size in bytes from which progress is shown.
    const LARGE: u64 = 256 << 20;
    let sizes = segments(dir).unwrap_or_default().into_iter().filter_map(|path| path.metadata().ok());
    let all: u64 = sizes.map(|found| found.len()).sum();
    let (is_shown, mut before) = (all >= LARGE && std::io::stderr().is_terminal(), 0);
    move |read| {
        let percent = read.saturating_mul(100) / all.max(1);
        if is_shown && percent != before {
            before = percent;
            let end = if percent >= 99 { "\r\x1b[K" } else { "" };
            // Not by way of `eprint`: this needs the terminal's carriage return.
            write!(std::io::stderr(), "\r{percent:3} % of {} MiB read{end}", all >> 20).unwrap_or_default();
        }
    }
}
