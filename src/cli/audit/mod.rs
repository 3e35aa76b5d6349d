//! `claviger audit`: reads and verifies the trail, with or without a running gateway.

mod accept;
pub(super) mod context;
mod export;
mod fingerprint;
mod search;
mod show;
mod tail;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::Output;
use super::session::ChangeFlags;
use crate::audit::{LastHead, prove, prove_consistency};
use crate::state::{StateDir, public_key};
use context::{folder, print_text, settings};

/// The subcommands of `audit`.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show the latest events
    Show {
        /// Number of events
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// Select the call with this id
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
        /// Folder of the segments, if not the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Verify every event against the one before it and the signed heads over it; print the first fault
    Verify {
        /// Folder of the segments, if not the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Public key that signs the heads, or a file with it; repeat the option if the key was changed
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// File with a head that was stored elsewhere; the trail must continue from it
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
    },
    /// Continue a trail from which events are missing, and record who accepted that
    Accept(ChangeFlags),
    /// Print the public key that signs the trail's heads, for auditors
    Key,
    /// Print a proof that a call is on the trail, for a verifier without the trail
    Prove {
        /// Id of the call
        request_id: String,
        /// Folder of the segments, if not the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Verify a proof of `audit prove`, and print the event that it proves
    VerifyProof {
        /// File with the proof
        file: PathBuf,
        /// Public key that signs the heads, or a file with it
        #[arg(long, value_name = "KEY")]
        key: String,
    },
    /// Prove that a later head only adds to an earlier one; with --proof, verify such a proof
    Consistency {
        /// File with the earlier head, a signed note
        earlier: PathBuf,
        /// File with the later head
        later: PathBuf,
        /// File with a proof that this command has printed; the trail is not needed then
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
        /// Public key that signs the heads, or a file with it
        #[arg(long, value_name = "KEY")]
        key: String,
        /// Folder of the segments, if not the configured one
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Find calls and changes by consumer, upstream, path, time, result and more
    Search(Box<search::Args>),
    /// Show the latest events, and with -f new ones as they come
    Tail(Box<tail::Args>),
    /// Write events to a file for other tools
    Export(Box<export::Args>),
    /// Print the fingerprint by which the trail records a rejected credential; reads the secret from a prompt or standard input
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
        Command::Accept(flags) => accept::run(path, *flags, output),
        Command::Key => {
            let file = public_key(&settings(path)?.state_dir.value);
            anyhow::ensure!(
                file.try_exists()?,
                "{}: there is no key yet; the first `claviger serve` creates it",
                file.display()
            );
            let key = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            print_text("key", key.trim_end(), output);
            Ok(true)
        }
        Command::Prove { request_id, dir } => match prove(&folder(path, dir.as_deref())?, request_id)? {
            Ok(proof) => {
                print_text("proof", &proof.text(), output);
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
            print_text("proof", &proof.map_err(anyhow::Error::msg)?, output);
            Ok(true)
        }
        Command::Search(args) => search::run(path, args, output),
        Command::Tail(args) => tail::run(path, args, output),
        Command::Export(args) => export::run(path, args, output),
        Command::Fingerprint => fingerprint::run(path, output),
    }
}
