//! The command line: what was typed → what is done → an exit code.

mod audit;
mod check;
mod demo;
mod explain;
mod ready;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Compiled, File, Problems, Surroundings};
use crate::gateway::limits::Failures;
use crate::signature::HmacKey;

/// The keeper of the keys: a credential-custody gateway for bastions and directories.
#[derive(Parser)]
#[command(name = "claviger", version, max_term_width = 100)]
struct Typed {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "CLAVIGER_CONFIG",
        default_value = "claviger.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Show a whole gateway at work on a stand-in JumpServer, in a temporary folder
    Demo(demo::Asked),
    /// Check the configuration offline, as start-up would; tells all that is wrong at once
    Check,
    /// Run the gateway
    Serve,
    /// Ask a running gateway whether it is ready (for HEALTHCHECK)
    Ready,
    /// Show what would happen to a call, and the exact string that would be signed
    Explain(explain::Question),
    /// Read and verify the audit trail
    #[command(subcommand)]
    Audit(audit::Verb),
}

/// Runs what the command line asks for. Exit code 0: done; 1: refused or found wanting; 2: usage.
#[must_use]
pub fn main() -> ExitCode {
    let typed = Typed::parse();
    let done = match &typed.verb {
        Verb::Demo(asked) => demo::run(asked, typed.output),
        Verb::Check => Ok(check::run(&typed.config, typed.output)),
        Verb::Serve => serve::run(&typed.config),
        Verb::Ready => ready::run(&typed.config, typed.output),
        Verb::Explain(question) => explain::run(&typed.config, question, typed.output),
        Verb::Audit(verb) => audit::run(&typed.config, verb, typed.output),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("claviger: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration as start-up does, without touching any state.
fn load(path: &std::path::Path) -> Result<(File, Compiled, Problems), Problems> {
    let around = Surroundings {
        environment: &environment,
        now: SystemClock.now(),
        failures: Arc::new(Failures::default()),
        former: None,
        fingerprints: HmacKey::new(b"offline"),
        stored: None,
        following: false,
    };
    config::load(path, around)
}

/// An environment variable, if it is set and is text.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints a result. A reader that has gone away is no error of ours.
fn say(text: &str) {
    use std::io::Write as _;
    anstream::stdout().write_all(text.as_bytes()).unwrap_or_default();
}

/// Prints what went wrong.
fn tell(text: &str) {
    use std::io::Write as _;
    anstream::stderr().write_all(text.as_bytes()).unwrap_or_default();
}
