//! `audit export`: events for other tools, as JSON lines, CSV (RFC 4180) or Parquet.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::search::Which;
use super::{Output, Printable, folder, print, progress};
use crate::audit::each_line;

mod parquet;

/// What to write, and where.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The file to make; `-` for standard output (not for Parquet)
    file: PathBuf,
    /// Its form
    #[arg(long, value_enum, default_value_t = Form::Jsonl)]
    format: Form,
    #[command(flatten)]
    which: Which,
    /// The folder of the segments, instead of the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The lines themselves, as they were hashed
    Jsonl,
    /// One row an event, with a first row of names
    Csv,
    /// The same in columns
    Parquet,
}

/// The type of the values in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Text,
    Number,
}

/// The columns of CSV and Parquet: members by their names. The last column is the complete line.
const COLUMNS: [(&str, Of); 32] = [
    ("seq", Of::Number),
    ("time", Of::Text),
    ("event", Of::Text),
    ("what", Of::Text),
    ("request_id", Of::Text),
    ("consumer", Of::Text),
    ("via", Of::Text),
    ("access_key", Of::Text),
    ("peer", Of::Text),
    ("listener", Of::Text),
    ("upstream", Of::Text),
    ("method", Of::Text),
    ("target", Of::Text),
    ("org", Of::Text),
    ("credential", Of::Text),
    ("credential_version", Of::Number),
    ("rule", Of::Text),
    ("decision", Of::Text),
    ("code", Of::Text),
    ("reason", Of::Text),
    ("fingerprint", Of::Text),
    ("status", Of::Number),
    ("upstream_status", Of::Number),
    ("bytes_in", Of::Number),
    ("bytes_out", Of::Number),
    ("duration_us", Of::Number),
    ("upstream_us", Of::Number),
    ("attempts", Of::Number),
    ("ended", Of::Text),
    ("user_agent", Of::Text),
    ("hash", Of::Text),
    (LINE, Of::Text),
];
const LINE: &str = "line";

/// A writer of one export format, which gets the events one by one.
trait Sink {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()>;
    /// Finishes the export after the last event.
    fn end(self: Box<Self>) -> anyhow::Result<()>;
}

pub(super) fn run(path: &Path, asked: &Args, output: Output) -> anyhow::Result<bool> {
    let dir = folder(path, asked.dir.as_deref())?;
    let to_stdout = asked.file.as_os_str() == "-";
    if to_stdout && asked.format == Form::Parquet {
        bail!("Parquet needs a file: standard output may be a terminal");
    }
    if !to_stdout && asked.file.exists() {
        bail!("{} is there already", asked.file.display());
    }
    let part = part_of(&asked.file);
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
    let events = write(asked, &dir, BufWriter::with_capacity(1 << 18, out));
    if to_stdout {
        return events.map(|_| true);
    }
    // The file gets its final name only when it is complete.
    let done = events.and_then(|events| {
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &asked.file)?;
        Ok(events)
    });
    let events = done.inspect_err(|_| fs::remove_file(&part).unwrap_or_default())?;
    match output {
        Output::Json => print(&format!("{}\n", serde_json::json!({"events": events}))),
        Output::Text => print(&format!("{events} events written to {}\n", asked.file.display())),
    }
    Ok(true)
}

/// The path of the file while it is incomplete.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Writes the selected events; returns their number.
fn write(asked: &Args, dir: &Path, out: BufWriter<Box<dyn Write + Send>>) -> anyhow::Result<u64> {
    let mut sink: Box<dyn Sink> = match asked.format {
        Form::Jsonl => Box::new(Lines(out)),
        Form::Csv => Box::new(Rows::begin(out)?),
        Form::Parquet => Box::new(parquet::Groups::begin(out)?),
    };
    let wanted = asked.which.filter();
    let (mut events, mut read, mut progress, mut failed) = (0, 0, progress(dir), None);
    each_line(dir, |line| {
        read += u64::try_from(line.len()).unwrap_or(0) + 1;
        if read >> 20 != (read - 1) >> 20 {
            progress(read);
        }
        if wanted.matches(line) {
            events += 1;
            failed = sink.take(line).err();
        }
        failed.is_none()
    })
    .with_context(|| dir.display().to_string())?;
    failed.map_or(Ok(()), Err)?;
    sink.end()?;
    Ok(events)
}

struct Lines<W>(W);

impl<W: Write> Sink for Lines<W> {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(line)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

struct Rows<W>(W);

impl<W: Write> Rows<W> {
    fn begin(mut out: W) -> anyhow::Result<Self> {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        out.write_all(format!("{}\r\n", names.join(",")).as_bytes())?;
        Ok(Self(out))
    }
}

impl<W: Write> Sink for Rows<W> {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(line);
        let event: Value = serde_json::from_str(&text).unwrap_or_default();
        let fields = COLUMNS.iter().map(|(name, of)| match (*name, of) {
            (LINE, _) => field(&text),
            (_, Of::Text) => event.get(*name).and_then(Value::as_str).map(field).unwrap_or_default(),
            (_, Of::Number) => {
                event.get(*name).and_then(Value::as_i64).map(|number| number.to_string()).unwrap_or_default()
            }
        });
        let row = fields.collect::<Vec<_>>().join(",");
        Ok(self.0.write_all(format!("{row}\r\n").as_bytes())?)
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// Formats a CSV field. A `'` is put before text that a spreadsheet would take for a formula, since callers choose some
/// of it.
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
