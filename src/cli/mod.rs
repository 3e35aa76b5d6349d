//! The command line: parses the arguments, runs the command, and returns an exit code.

mod accept;
mod access_key;
mod audit;
mod check;
mod consumer;
mod credential;
mod demo;
mod explain;
mod freeze;
mod init;
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
mod token;
mod usage;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, CompileInputs, Compiled, File, Problem, Problems, Span};
use crate::control::{environment, eprint, store, tell_problems};
use crate::gateway::failure_limiter::FailureLimiter;
use crate::printable::printable;
use crate::signature::HmacKey;

/// The keeper of the keys: a credential-custody gateway for bastions and directories.
#[derive(Parser)]
#[command(name = "claviger", version, max_term_width = 100)]
struct Cli {
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
    verb: Command,
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
enum Command {
    /// Show a whole gateway at work on a stand-in JumpServer, in a temporary folder
    Demo(demo::Args),
    /// Make a folder to begin in: configuration, state and master key
    Init(init::Asked),
    /// Check the configuration offline, as start-up would; tells all that is wrong at once
    Check,
    /// Run the gateway
    Serve,
    /// Ask a running gateway whether it is ready (for HEALTHCHECK)
    Ready,
    /// Show what would happen to a call, and the exact string that would be signed
    Explain(explain::Question),
    /// Keep the upstreams' keys, sealed in the store
    #[command(subcommand)]
    Credential(credential::Verb),
    /// Say who may call
    #[command(subcommand)]
    Consumer(consumer::Verb),
    /// Issue and revoke what consumers prove themselves with
    #[command(subcommand)]
    Token(token::Verb),
    /// Issue and revoke access keys, by which scripts that sign are known
    #[command(subcommand)]
    AccessKey(access_key::Command),
    /// Look after the store as a whole
    #[command(subcommand)]
    Store(accept::Verb),
    /// Stop every call, or those to an upstream, of a consumer or with a credential, at once
    Freeze(freeze::Which),
    /// Resume the calls that `freeze` stopped
    #[command(alias = "thaw")]
    Unfreeze(freeze::Which),
    /// Look after the key by which the store is sealed
    #[command(subcommand)]
    MasterKey(master_key::Verb),
    /// See the roles that ship, and those of the configuration; needs no configuration
    #[command(subcommand)]
    Role(role::Verb),
    /// Learn roles from the trail, and try a configuration on it
    #[command(subcommand)]
    Policy(policy::Command),
    /// Read and verify the audit trail
    #[command(subcommand)]
    Audit(audit::Command),
}

/// Runs the command line. Exit code 0: success; 1: refused, or a check failed; 2: wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let typed = Cli::parse();
    keep_secrets_in_memory();
    let (config, output) = (typed.config.as_path(), typed.output);
    // These two commands set up the log of the gateway themselves, or run without one.
    if !matches!(typed.verb, Command::Serve | Command::Demo(_)) {
        warn_on_stderr();
    }
    let done = match &typed.verb {
        Command::Demo(asked) => demo::run(asked, output),
        Command::Init(asked) => init::run(asked, output),
        Command::Check => Ok(check::run(config, output)),
        Command::Serve => serve::run(config),
        Command::Ready => ready::run(config, output),
        Command::Explain(question) => explain::run(config, question, output),
        Command::Credential(verb) => credential::run(config, verb, output),
        Command::Consumer(verb) => session::retry_on_conflict(|| consumer::run(config, verb, output)),
        Command::Token(verb) => session::retry_on_conflict(|| token::run(config, verb, output)),
        Command::AccessKey(verb) => session::retry_on_conflict(|| access_key::run(config, verb, output)),
        Command::Store(verb) => session::retry_on_conflict(|| accept::run(config, verb, output)),
        Command::Freeze(which) => session::retry_on_conflict(|| freeze::run(config, which, true, output)),
        Command::Unfreeze(which) => session::retry_on_conflict(|| freeze::run(config, which, false, output)),
        Command::MasterKey(verb) => master_key::run(config, verb, output),
        Command::Role(verb) => role::run(config, verb, output),
        Command::Policy(verb) => policy::run(config, verb, output),
        Command::Audit(verb) => audit::run(config, verb, output),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprint(&format!("claviger: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration as the start does, with the store if there is one, and changes nothing.
fn load(path: &Path) -> Result<(File, Compiled, Problems), Problems> {
    let (file, mut problems) = config::read_file(path)?;
    let opened = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                let Some(store::Opened { store, stored, .. }) = store::stored(&file).await? else {
                    return Ok(None);
                };
                store.close().await;
                Ok(Some(stored))
            })
        });
    let stored = opened.unwrap_or_else(|why| {
        problems.push(Problem::error(Span::NOWHERE, format!("the store cannot be used: {why:#}")));
        None
    });
    let around = CompileInputs {
        environment: &environment,
        now: SystemClock.now(),
        failures: Arc::new(FailureLimiter::default()),
        former: None,
        fingerprints: HmacKey::new(b"offline"),
        stored: stored.as_ref(),
        following: false,
    };
    let (compiled, problems) = config::compile(&file, problems, around)?;
    Ok((file, compiled, problems))
}

/// Keeps secrets in memory out of core dumps and away from other processes of the same user.
fn keep_secrets_in_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err()
        || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        eprint("claviger: core dumps could not be turned off\n");
    }
}

/// Logs warnings to standard error, beside a command's result.
fn warn_on_stderr() {
    let log = tracing_subscriber::fmt()
        .with_env_filter("claviger=warn")
        .with_writer(|| Printable(std::io::stderr()));
    log.with_ansi(false).without_time().with_target(false).init();
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
