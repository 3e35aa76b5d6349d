//! `claviger audit`: reads and verifies the trail, with or without a running gateway.

mod accept;
mod export;
mod fingerprint;
mod search;
mod show;
mod tail;
mod verify;

pub(super) use crate::audit::trail::summary::summary as row;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::session::ChangeFlags;
use super::{Output, Printable, eprint, print};
use crate::audit::prove;
use crate::audit::{LastHead, prove_consistency, segments};
use crate::config;
use crate::state::{StateDir, public_key};

/// What to do with the trail.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show the latest events
    Show {
        /// How many
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// Only those of this call
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Check every event against the one before it and the signed heads over it; names the first that is wrong
    Verify {
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The public key that signs the heads, or a file of it; several where it was changed
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// A file with a head that was kept elsewhere: the trail must go on from there
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
    },
    /// Continue with a trail of which events are missing, and record who accepted that
    Accept {
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Print the public key that signs the trail's heads, for auditors
    Key,
    /// Print a proof that a call is on the trail, for who has neither the trail nor trust in the gateway
    Prove {
        /// The call
        request_id: String,
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Check such a proof, and print the event that it proves
    VerifyProof {
        /// The proof
        file: PathBuf,
        /// The public key that signs the heads, or a file of it
        #[arg(long, value_name = "KEY")]
        key: String,
    },
    /// Prove that a later head only adds to an earlier one, or with --proof check that
    Consistency {
        /// The earlier head, a signed note
        earlier: PathBuf,
        /// The later one
        later: PathBuf,
        /// A proof that this verb has printed: nothing but it, the heads and the key is needed
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
        /// The public key that signs the heads, or a file of it
        #[arg(long, value_name = "KEY")]
        key: String,
        /// The folder of the segments, instead of the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Find calls and changes: by whom, where, when, how they ended
    Search(Box<search::Args>),
    /// Show the latest events, and with -f those that come
    Tail(Box<tail::Args>),
    /// Write events into a file, for other tools
    Export(Box<export::Args>),
    /// Print the fingerprint of a secret (prompted for, or on standard input), as the trail has it of wrong credentials
    Fingerprint,
}

/// Runs the subcommand; returns whether all checks passed.
pub(super) fn run(path: &Path, verb: &Command, output: Output) -> anyhow::Result<bool> {
    match verb {
        Command::Show { last, request_id, dir } => {
            let dir = folder(path, dir.as_deref())?;
            show::run(&dir, *last, request_id.as_deref(), output)
        }
        Command::Verify { dir, key, head } => {
            let last = match dir {
                Some(_) => None,
                // The head is read before the trail, which only grows.
                None => StateDir::last_head(&settings(path)?.state_dir.value)?,
            };
            let found = folder(path, dir.as_deref());
            let folder = match last.as_ref().filter(|_| found.is_err()) {
                Some(LastHead { events, time, .. }) => {
                    found.context(format!("the state folder knows of {events} events, the last of {time}"))?
                }
                None => found?,
            };
            let trusted = verify::trust_anchors(path, dir.as_deref(), (key, head))?;
            verify::run(&folder, (&trusted, last.as_ref()), output)
        }
        Command::Accept { manner } => accept::run(path, *manner, output),
        Command::Key => {
            let kept = public_key(&settings(path)?.state_dir.value);
            anyhow::ensure!(
                kept.try_exists()?,
                "{}: there is no key yet; the first `claviger serve` makes it",
                kept.display()
            );
            let key = std::fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
            show_text("key", key.trim_end(), output);
            Ok(true)
        }
        Command::Prove { request_id, dir } => match prove(&folder(path, dir.as_deref())?, request_id)? {
            Ok(proof) => {
                show_text("proof", &proof.text(), output);
                Ok(true)
            }
            Err(why) => bail!("{request_id}: {why}"),
        },
        Command::VerifyProof { file, key } => verify::proof(file, key, output),
        Command::Consistency { earlier, later, proof, key, dir } => {
            let heads = verify::heads(key, (earlier, later))?;
            if let Some(proof) = proof {
                return verify::consistency(heads, proof, output);
            }
            let proof = prove_consistency(&folder(path, dir.as_deref())?, &heads.0, &heads.1)?;
            show_text("proof", &proof.map_err(anyhow::Error::msg)?, output);
            Ok(true)
        }
        Command::Search(asked) => search::run(path, asked, output),
        Command::Tail(asked) => tail::run(path, asked, output),
        Command::Export(asked) => export::run(path, asked, output),
        Command::Fingerprint => fingerprint::run(path, output),
    }
}

/// Prints a text as it is, or as the only member of an object.
fn show_text(name: &str, text: &str, output: Output) {
    match output {
        Output::Json => print(&format!("{}\n", serde_json::json!({name: text}))),
        Output::Text => print(&format!("{}\n", text.trim_end())),
    }
}

/// The folder of the trail: the given one, which needs no configuration, or the configured one.
///
/// # Errors
/// If there is no such folder, or no trail in it. Otherwise the result would look as if nothing had happened.
pub(super) fn folder(path: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => settings(path)?.audit.dir.value,
    };
    anyhow::ensure!(
        dir.try_exists()?,
        "{}: there is no such folder; the first `claviger serve` makes it",
        dir.display()
    );
    if segments(&dir).with_context(|| dir.display().to_string())?.is_empty() {
        bail!("{}: there is no trail in this folder: no audit-*.jsonl is in it", dir.display());
    }
    Ok(dir)
}

/// Reads the configuration, which must have no error: a misspelt key would leave its default in effect.
pub(super) fn settings(path: &Path) -> anyhow::Result<config::File> {
    let read = config::read_file(path).and_then(
        |(file, problems)| {
            if problems.has_errors() { Err(problems) } else { Ok(file) }
        },
    );
    read.map_err(|problems| anyhow::anyhow!("the configuration cannot be used\n{}", problems.render(false)))
}

/// Shows on a terminal how much of a large trail has been read.
fn progress(dir: &Path) -> impl FnMut(u64) + use<> {
    use std::io::{IsTerminal as _, Write as _};
    /// The size in bytes from which progress is shown.
    const LARGE: u64 = 256 << 20;
    let sizes = segments(dir).unwrap_or_default().into_iter().filter_map(|path| path.metadata().ok());
    let all: u64 = sizes.map(|found| found.len()).sum();
    let (shown, mut before) = (all >= LARGE && std::io::stderr().is_terminal(), 0);
    move |read| {
        let percent = read.saturating_mul(100) / all.max(1);
        if shown && percent != before {
            before = percent;
            let end = if percent >= 99 { "\r\x1b[K" } else { "" };
            // Not by way of `eprint`: this needs the terminal's carriage return.
            write!(std::io::stderr(), "\r{percent:3} % of {} MiB read{end}", all >> 20).unwrap_or_default();
        }
    }
}
