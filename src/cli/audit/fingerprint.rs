//! `audit fingerprint`: computes the fingerprint by which the trail records a wrong credential.

use std::path::Path;

use anyhow::bail;

use super::context::{print_text, settings};
use crate::cli::Output;
use crate::cli::secret_input::read_secret;
use crate::state::StateDir;

pub(super) fn run(path: &Path, output: Output) -> anyhow::Result<bool> {
    let key = StateDir::kept_fingerprint_key(&settings(path)?.state_dir.value)?;
    let secret = read_secret(None)?;
    let sent = secret.line();
    if sent.is_empty() {
        bail!("the secret is empty; give one at the prompt or on standard input");
    }
    print_text("fingerprint", &key.fingerprint(sent), output);
    Ok(true)
}
