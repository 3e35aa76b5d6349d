//! `claviger freeze` and `unfreeze`: stop calls at once, and resume them; nothing is removed.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::Output;
use super::session::{ChangeFlags, StoreSession};
use crate::config;
use crate::storage::{Change, FreezeTarget};

/// What to freeze or unfreeze; everything where nothing is named.
#[derive(Args)]
pub(in crate::cli) struct Which {
    /// Every call to this upstream
    #[arg(long, value_name = "NAME", group = "which")]
    upstream: Option<String>,
    /// Every call of this consumer
    #[arg(long, value_name = "NAME", group = "which")]
    consumer: Option<String>,
    /// Every call with this credential
    #[arg(long, value_name = "NAME", group = "which")]
    credential: Option<String>,
    #[command(flatten)]
    manner: ChangeFlags,
}

/// Freezes or unfreezes; returns whether it succeeded.
pub(in crate::cli) fn run(
    config: &Path,
    which: &Which,
    freeze: bool,
    output: Output,
) -> anyhow::Result<bool> {
    let Some(mut desk) = StoreSession::open(config, output)? else { return Ok(false) };
    let frozen = which.target(&desk, freeze)?;
    let (member, name) = match &frozen {
        FreezeTarget::Gateway => ("gateway", Value::Bool(true)),
        FreezeTarget::Upstream(name) => ("upstream", name.as_str().into()),
        FreezeTarget::Consumer(name) => ("consumer", name.as_str().into()),
        FreezeTarget::Credential(name) => ("credential", name.as_str().into()),
    };
    let object = name.as_str().map_or("the gateway".to_owned(), |name| format!("the {member} {name}"));
    let is = desk.rows.frozen.contains(&frozen);
    let (verb, done) = if freeze { ("freeze", "frozen") } else { ("unfreeze", "unfrozen") };
    if is == freeze {
        desk.report(
            which.manner,
            json!({member: name, "frozen": freeze}),
            &format!("{object} is {done} already\n"),
        );
        return Ok(true);
    }
    let change = if freeze { Change::Freeze(frozen) } else { Change::Unfreeze(frozen) };
    desk.change((verb, &[(member, name.clone())]), vec![change], which.manner)?;
    desk.report(which.manner, json!({member: name, "frozen": freeze}), &format!("{object} is {done}\n"));
    Ok(true)
}

impl Which {
    /// The object to freeze or unfreeze. It must exist to be frozen; it may be gone when it is unfrozen.
    fn target(&self, desk: &StoreSession, freeze: bool) -> anyhow::Result<FreezeTarget> {
        if let Some(name) = &self.consumer {
            if freeze {
                desk.must_know_consumer(name)?;
            }
            return Ok(FreezeTarget::Consumer(name.clone()));
        }
        if let Some(name) = &self.upstream {
            if freeze && !desk.file.upstreams.declares(name) {
                let nearest = config::did_you_mean(name, desk.file.upstreams.names());
                bail!("there is no upstream `{name}`{}", did_you_mean(nearest));
            }
            return Ok(FreezeTarget::Upstream(name.clone()));
        }
        let Some(name) = &self.credential else { return Ok(FreezeTarget::Gateway) };
        let stored = desk.rows.credentials.iter().map(|row| row.name.as_str());
        let mut known = desk.file.credentials.names().chain(stored);
        if freeze && !known.any(|known| known == name) {
            bail!("there is no credential `{name}`");
        }
        Ok(FreezeTarget::Credential(name.clone()))
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}
