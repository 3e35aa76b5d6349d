//! The commands: parses the arguments, runs a command, and returns an exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use super::session::retry_on_conflict;
use super::{Output, Printable, eprint, tell_problems};
use super::{
    accept, audit, check, consumer, credential, demo, explain, freeze, init, issued, master_key, policy,
    ready, role, serve,
};

/// The keeper of the keys: a credential-custody gateway for bastions and directories.
#[derive(Parser)]
#[command(name = "claviger", version, max_term_width = 100)]
struct Cli {
    /// Path of the configuration file
    #[arg(
        long,
        global = true,
        env = "CLAVIGER_CONFIG",
        default_value = "claviger.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Format of the results
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a whole gateway at work before a stand-in JumpServer, in a temporary folder
    Demo(demo::Args),
    /// Create a folder to begin with: configuration, state folder and master key
    Init(init::InitArgs),
    /// Check the configuration without starting the gateway, and print all problems at once
    Check,
    /// Run the gateway
    Serve,
    /// Ask a running gateway whether it is ready, for health checks
    Ready,
    /// Show how the gateway would decide on a call, and the exact string that it would sign
    Explain(explain::Question),
    /// Manage the credentials of upstreams, sealed in the store
    #[command(subcommand)]
    Credential(credential::Verb),
    /// Manage the consumers that may call
    #[command(subcommand)]
    Consumer(consumer::Verb),
    /// Issue, list and revoke the tokens of consumers
    #[command(subcommand)]
    Token(issued::TokenVerb),
    /// Issue, list and revoke access keys, for scripts that sign their requests
    #[command(subcommand)]
    AccessKey(issued::AccessKeyVerb),
    /// Manage the store as a whole
    #[command(subcommand)]
    Store(accept::Verb),
    /// Stop calls at once: every call, or those to an upstream, of a consumer or with a credential
    Freeze(freeze::TargetArgs),
    /// Resume the calls that `freeze` stopped
    #[command(alias = "thaw")]
    Unfreeze(freeze::TargetArgs),
    /// Manage the master key, which encrypts the store
    #[command(subcommand)]
    MasterKey(master_key::Verb),
    /// Show the roles that ship with claviger, and those of the configuration
    #[command(subcommand)]
    Role(role::Verb),
    /// Learn roles from the audit trail, and compare configurations by the calls on it
    #[command(subcommand)]
    Policy(policy::Command),
    /// Read, export and verify the audit trail
    #[command(subcommand)]
    Audit(audit::Command),
}

/// The command line, as clap knows it; the command reference is generated from it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line. Exit code 0: success; 1: refused, or a check failed; 2: wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { config, output, command } = Cli::parse();
    let config = config.as_path();
    keep_secrets_in_memory();
    // These two commands set up the log of the gateway themselves, or run without one.
    if !matches!(command, Command::Serve | Command::Demo(_)) {
        warn_on_stderr();
    }
    let result = match &command {
        Command::Demo(args) => demo::run(args, output),
        Command::Init(args) => init::run(args, output),
        Command::Check => Ok(check::run(config, output)),
        Command::Serve => serve::run(config),
        Command::Ready => ready::run(config, output),
        Command::Explain(question) => explain::run(config, question, output),
        Command::Credential(verb) => credential::run(config, verb, output),
        Command::Consumer(verb) => retry_on_conflict(|| consumer::run(config, verb, output)),
        Command::Token(verb) => retry_on_conflict(|| issued::run_token(config, verb, output)),
        Command::AccessKey(verb) => retry_on_conflict(|| issued::run_access_key(config, verb, output)),
        Command::Store(verb) => retry_on_conflict(|| accept::run(config, verb, output)),
        Command::Freeze(args) => retry_on_conflict(|| freeze::run(config, args, true, output)),
        Command::Unfreeze(args) => retry_on_conflict(|| freeze::run(config, args, false, output)),
        Command::MasterKey(verb) => master_key::run(config, verb, output),
        Command::Role(verb) => role::run(config, verb, output),
        Command::Policy(verb) => policy::run(config, verb, output),
        Command::Audit(verb) => audit::run(config, verb, output),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            match error.downcast_ref() {
                Some(problems) => tell_problems(problems),
                None => eprint(&format!("claviger: {error:#}\n")),
            }
            ExitCode::FAILURE
        }
    }
}

/// Keeps secrets in memory out of core dumps and away from other processes of the same user.
fn keep_secrets_in_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err()
        || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        eprint("claviger: core dumps could not be disabled: secrets may be written to them\n");
    }
}

/// Logs warnings to standard error, beside a command's result.
fn warn_on_stderr() {
    let log =
        tracing_subscriber::fmt().with_env_filter("claviger=warn").with_writer(|| Printable(io::stderr()));
    log.with_ansi(false).without_time().with_target(false).init();
}
