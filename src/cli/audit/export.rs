//! `audit export`: events for other tools, as JSON lines, CSV (RFC 4180) or Parquet.

mod parquet;

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::context::{folder, progress};
use crate::audit::each_line;
use crate::audit::trail::event::{COLUMNS, Event, Value};
use crate::cli::{Output, Printable};
use crate::trail_index::EventFilter;
use parquet::{Groups, LINE};

/// The events to write, and the file.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// File to create, or `-` for standard output (not for Parquet)
    file: PathBuf,
    /// Format of the file
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    #[command(flatten)]
    filter: EventFilter,
    /// Folder of the segments, if not the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The lines of the trail, unchanged
    Jsonl,
    /// One row per event, after a row of column names
    Csv,
    /// The same columns as CSV, with types: times are timestamps
    Parquet,
}

pub(super) fn run(path: &Path, args: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, args.dir.as_deref())?;
    let to_stdout = args.file.as_os_str() == "-";
    if to_stdout && args.format == Format::Parquet {
        bail!("Parquet cannot be written to standard output; give a file");
    }
    if !to_stdout && args.file.exists() {
        bail!("{} exists already; choose another file", args.file.display());
    }
    let part = part_of(&args.file);
    let out: Box<dyn Write + Send> = if to_stdout {
        match io::stdout() {
            // Output to a terminal is escaped; a program gets the lines unchanged.
            out if out.is_terminal() => Box::new(Printable(out)),
            out => Box::new(out),
        }
    } else {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        Box::new(file.with_context(|| part.display().to_string())?)
    };
    let events = write(args, &dir, BufWriter::with_capacity(1 << 18, out));
    if to_stdout {
        return events.map(|_| true);
    }
    // The file gets its final name only when it is complete.
    let done = events.and_then(|events| {
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &args.file)?;
        Ok(events)
    });
    let events = done.inspect_err(|_| fs::remove_file(&part).unwrap_or_default())?;
    let text = format!("{events} events written to {}\n", args.file.display());
    output.print(&serde_json::json!({"events": events}), &text);
    Ok(true)
}

/// The path of the file while it is incomplete.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Writes the selected events; returns their number.
fn write(args: &Args, dir: &Path, mut out: BufWriter<Box<dyn Write + Send>>) -> anyhow::Result<u64> {
    let mut writer = match args.format {
        Format::Jsonl => Writer::Text { out, format: |line| [line, b"\n"].concat() },
        Format::Csv => {
            out.write_all(heading().as_bytes())?;
            Writer::Text { out, format: row }
        }
        Format::Parquet => Writer::Parquet(Box::new(Groups::begin(out)?)),
    };
    let (mut events, mut read, mut progress, mut failed) = (0, 0, progress(dir), None);
    each_line(dir, |line| {
        read += u64::try_from(line.len()).unwrap_or(0) + 1;
        if read >> 20 != (read - 1) >> 20 {
            progress(read);
        }
        if args.filter.matches(line) {
            events += 1;
            failed = writer.add(line).err();
        }
        failed.is_none()
    })
    .with_context(|| dir.display().to_string())?;
    failed.map_or(Ok(()), Err)?;
    writer.finish()?;
    Ok(events)
}

/// The writer of an export.
enum Writer<W: Write + Send> {
    Text { out: W, format: fn(&[u8]) -> Vec<u8> },
    Parquet(Box<Groups<W>>),
}

impl<W: Write + Send> Writer<W> {
    fn add(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Text { out, format } => Ok(out.write_all(&format(line))?),
            Self::Parquet(groups) => groups.add(line),
        }
    }

    /// Finishes the export after the last event.
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Text { mut out, .. } => Ok(out.flush()?),
            Self::Parquet(groups) => groups.finish(),
        }
    }
}

/// Formats the first row of a CSV file.
fn heading() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).chain([LINE]).collect();
    names.join(",") + "\r\n"
}

/// Formats an event as a row of a CSV file.
fn row(line: &[u8]) -> Vec<u8> {
    let event = Event::parse(line);
    let fields = COLUMNS.iter().map(|column| match column.value(event.as_ref()?)? {
        Value::Text(text) => Some(field(text)),
        Value::Number(number) => Some(number.to_string()),
    });
    let fields = fields.chain([Some(field(&String::from_utf8_lossy(line)))]).map(Option::unwrap_or_default);
    (fields.collect::<Vec<_>>().join(",") + "\r\n").into_bytes()
}

/// Formats a CSV field. A `'` is put before text that a spreadsheet would take for a formula, since callers choose some
/// of the text.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_quoted_and_no_formulas() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"\n", "\"say \"\"x\"\"\n\""),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("@x,y", "\"'@x,y\""),
            ("", ""),
        ] {
            assert_eq!(field(text), wanted);
        }
    }
}
