//! `audit tail`: prints the latest events, and follows new ones.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;

use super::context::{folder, format_line};
use crate::audit::trail::event::{Event, EventKind, Outcome};
use crate::audit::{open_at, read_line, segments, stem};
use crate::cli::Output;
use crate::trail_index::EventFilter;

/// How often the command polls for new events.
const LOOK: Duration = Duration::from_millis(200);

/// The events to show.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Keep running, and print new events
    #[arg(short, long)]
    follow: bool,
    /// Number of existing events to print first
    #[arg(short = 'n', long, default_value_t = 10)]
    last: usize,
    #[command(flatten)]
    filter: EventFilter,
    /// Folder of the segments, if not the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The read position in the trail.
#[derive(Default)]
struct Place {
    stem: String,
    next: u64,
}

pub(super) fn run(path: &Path, args: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, args.dir.as_deref())?;
    let (mut place, mut latest) = (Place::default(), VecDeque::new());
    let found = segments(&dir).with_context(|| dir.display().to_string())?;
    // Reads from the newest segment backwards, until there are enough events.
    for (at, path) in found.iter().enumerate().rev() {
        let (mut lines, mut here) = (VecDeque::new(), Place { stem: stem(path), next: 0 });
        here.read(path, &args.filter, |line| lines.push_back(line.to_vec()))?;
        if at + 1 == found.len() {
            place = here;
        }
        lines.append(&mut latest);
        latest = lines;
        if latest.len() >= args.last {
            break;
        }
    }
    latest.drain(..latest.len().saturating_sub(args.last));
    let mut out = anstream::stdout();
    let mut show = |line: &[u8]| {
        let (text, style) = (format_line(line, output), style(line));
        match output {
            Output::Json => out.write_all(text.as_bytes())?,
            Output::Text => writeln!(out, "{style}{}{style:#}", text.trim_end())?,
        }
        out.flush()
    };
    for line in &latest {
        if show(line).is_err() {
            return Ok(true);
        }
    }
    if args.follow {
        follow(&dir, place, &args.filter, show)?;
    }
    Ok(true)
}

/// Prints new events until the reader closes the output.
fn follow(
    dir: &Path,
    mut place: Place,
    filter: &EventFilter,
    mut show: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let found = segments(dir).with_context(|| dir.display().to_string())?;
        let from = found.iter().position(|path| stem(path) == place.stem).unwrap_or(0);
        let mut is_closed = false;
        for path in found.iter().skip(from) {
            if stem(path) != place.stem {
                place = Place { stem: stem(path), next: 0 };
            }
            place.read(path, filter, |line| is_closed |= show(line).is_err())?;
        }
        if is_closed {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

impl Place {
    /// Passes on the complete lines from this position on.
    fn read(&mut self, path: &Path, filter: &EventFilter, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut reader = open_at(path, self.next).with_context(|| path.display().to_string())?;
        let mut line = Vec::new();
        loop {
            let bytes = read_line(&mut reader, &mut line)?;
            let Some(whole) = line.strip_suffix(b"\n").filter(|_| bytes > 0) else { return Ok(()) };
            self.next += u64::try_from(bytes)?;
            if filter.matches(whole) {
                take(whole);
            }
        }
    }
}

/// Returns the style of an event: failures stand out, and the gateway's own events are dimmed.
fn style(line: &[u8]) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    let Some(event) = Event::parse(line) else { return Style::new() };
    match (event.event, event.outcome()) {
        (EventKind::Journal | EventKind::Head | EventKind::Intent, _) => Style::new().dimmed(),
        (EventKind::Admin, _) => colour(AnsiColor::Cyan),
        (_, Some(Outcome::Refused)) => colour(AnsiColor::Red),
        (_, Some(Outcome::Failed | Outcome::Abandoned | Outcome::Lost)) => colour(AnsiColor::Yellow),
        (EventKind::Outcome | EventKind::Unknown, Some(Outcome::Answered) | None) => Style::new(),
    }
}
