//! The command line of claviger.

mod accept;
mod audit;
mod check;
mod command;
mod consumer;
mod credential;
mod demo;
mod explain;
mod freeze;
mod init;
mod issued;
mod master_key;
mod policy;
mod ready;
mod request_file;
mod role;
mod secret_input;
mod serve;
mod session;
mod table;
mod time;
mod usage;

pub use command::{command, main};

use std::io::{self, Write};
use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Base, CompileInputs, Compiled, File, Problem, Problems, Span};
use crate::control::{environment, eprint, store, tell_problems};
use crate::printable::printable;
use crate::signature::HmacKey;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}

impl Output {
    /// Prints a result: `json` for programs, `text` for people.
    fn print(self, json: &Value, text: &str) {
        match self {
            Self::Json => print(&format!("{json}\n")),
            Self::Text => print(text),
        }
    }
}

/// Loads the configuration as the start does, with the store if there is one, and changes nothing.
fn load(path: &Path) -> Result<(File, Compiled, Problems), Problems> {
    let mut config = config::load(path)?;
    let stored = store::read_offline(&config.file).unwrap_or_else(|why| {
        config.problems.push(Problem::error(Span::NOWHERE, format!("the store cannot be used: {why:#}")));
        None
    });
    let inputs = CompileInputs {
        environment: &environment,
        now: SystemClock.now(),
        stored: stored.as_ref(),
        base: Base::Start(HmacKey::new(b"offline")),
    };
    let (compiled, problems) = config.compile(&inputs)?;
    Ok((config.file, compiled, problems))
}

/// Prints a result with control characters escaped. A closed reader is not an error.
fn print(text: &str) {
    anstream::stdout().write_all(printable(text).as_bytes()).unwrap_or_default();
}

/// A writer to a terminal or a pipe that passes on only [printable] text.
struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
