//! `audit fingerprint`: which events are about a secret that somebody holds in hands.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::bail;

use super::{Output, settings, show_text};
use crate::secret::Secret;
use crate::server::StateDir;

/// The longest secret, in bytes.
const LONGEST: usize = 64 * 1024;

pub(super) fn run(path: &Path, output: Output) -> anyhow::Result<bool> {
    let key = StateDir::kept_fingerprint_key(&settings(path)?.state_dir.value)?;
    let mut bytes = Vec::with_capacity(LONGEST + 1);
    if std::io::stdin().is_terminal() {
        bytes = rpassword::prompt_password("secret: ")?.into_bytes();
    } else {
        std::io::stdin().take(u64::try_from(LONGEST)? + 1).read_to_end(&mut bytes)?;
    }
    let secret = Secret::new(bytes);
    let whole = secret.expose();
    let sent = whole.strip_suffix(b"\n").unwrap_or(whole);
    let sent = sent.strip_suffix(b"\r").unwrap_or(sent);
    if sent.is_empty() || sent.len() > LONGEST {
        bail!("a secret has 1 to {LONGEST} bytes");
    }
    show_text("fingerprint", &key.fingerprint(sent), output);
    Ok(true)
}
