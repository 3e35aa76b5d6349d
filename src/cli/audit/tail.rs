//! `audit tail`: prints the latest events, and follows new ones.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;

use serde_json::Value;

use super::search::Which;
use super::{Output, folder, row};
use crate::audit::{open_at, read_line, segments, stem};
use crate::printable::printable_value;
use crate::trail_index::EventFilter;

/// How often the command polls for new events.
const LOOK: Duration = Duration::from_millis(200);

/// What to show.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How many of those that are there
    #[arg(short = 'n', long, default_value_t = 10)]
    last: usize,
    #[command(flatten)]
    which: Which,
    /// The folder of the segments, instead of the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The read position in the trail.
#[derive(Default)]
struct Place {
    stem: String,
    next: u64,
}

pub(super) fn run(path: &Path, asked: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, asked.dir.as_deref())?;
    let wanted = asked.which.filter();
    let (mut place, mut latest) = (Place::default(), VecDeque::new());
    let found = segments(&dir).with_context(|| dir.display().to_string())?;
    // Reads from the newest segment backwards, until there are enough events.
    for (at, path) in found.iter().enumerate().rev() {
        let (mut lines, mut here) = (VecDeque::new(), Place { stem: stem(path), next: 0 });
        here.read(path, &wanted, |line| lines.push_back(line.to_vec()))?;
        if at + 1 == found.len() {
            place = here;
        }
        lines.append(&mut latest);
        latest = lines;
        if latest.len() >= asked.last {
            break;
        }
    }
    latest.drain(..latest.len().saturating_sub(asked.last));
    let mut out = anstream::stdout();
    let mut show =
        |line: &[u8]| out.write_all(format_line(line, output).as_bytes()).and_then(|()| out.flush());
    for line in &latest {
        if show(line).is_err() {
            return Ok(true);
        }
    }
    if asked.follow {
        go_on(&dir, place, &wanted, show)?;
    }
    Ok(true)
}

/// Prints new events until the reader closes the output.
fn go_on(
    dir: &Path,
    mut place: Place,
    wanted: &EventFilter,
    mut show: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let found = segments(dir).with_context(|| dir.display().to_string())?;
        let from = found.iter().position(|path| stem(path) == place.stem).unwrap_or(0);
        let mut gone = false;
        for path in found.iter().skip(from) {
            if stem(path) != place.stem {
                place = Place { stem: stem(path), next: 0 };
            }
            place.read(path, wanted, |line| gone |= show(line).is_err())?;
        }
        if gone {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

impl Place {
    /// Passes on the complete lines from this position on.
    fn read(&mut self, path: &Path, wanted: &EventFilter, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut reader = open_at(path, self.next).with_context(|| path.display().to_string())?;
        let mut line = Vec::new();
        loop {
            let bytes = read_line(&mut reader, &mut line)?;
            let Some(whole) = line.strip_suffix(b"\n").filter(|_| bytes > 0) else { return Ok(()) };
            self.next += u64::try_from(bytes)?;
            if wanted.matches(whole) {
                take(whole);
            }
        }
    }
}

fn format_line(line: &[u8], output: Output) -> String {
    let text = String::from_utf8_lossy(line);
    let event: Value = serde_json::from_str(&text).unwrap_or_default();
    match output {
        Output::Json => format!("{}\n", printable_value(&text)),
        Output::Text => {
            let style = style(&event);
            format!("{style}{}{style:#}\n", row(&event).trim_end())
        }
    }
}

/// The style of an event: failures stand out, and the gateway's own events are dimmed.
fn style(event: &Value) -> Style {
    let word = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match (word("event"), word("ended")) {
        ("journal" | "head" | "intent", _) => Style::new().dimmed(),
        ("admin", _) => colour(AnsiColor::Cyan),
        (_, "refused") => colour(AnsiColor::Red),
        (_, "failed" | "abandoned" | "lost") => colour(AnsiColor::Yellow),
        _ => Style::new(),
    }
}
