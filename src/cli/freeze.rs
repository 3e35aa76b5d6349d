//! `claviger freeze` and `unfreeze`: stop calls at once, and resume them; nothing is removed.

use std::path::Path;

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::Output;
use super::session::{ChangeFlags, StoreSession};
use crate::storage::{Change, FreezeTarget};

/// The calls to stop or resume; every call if none of the options is given.
#[derive(Args)]
pub(super) struct TargetArgs {
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
    flags: ChangeFlags,
}

/// Freezes or unfreezes; returns whether it succeeded.
pub(super) fn run(config: &Path, args: &TargetArgs, freeze: bool, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    desk.with(args.flags);
    let target = args.target();
    if freeze {
        check_exists(&desk, &target)?;
    }
    let kind = target.kind();
    let (name, object) = match &target {
        FreezeTarget::Gateway => (Value::Bool(true), "the gateway".to_owned()),
        FreezeTarget::Upstream(name) | FreezeTarget::Consumer(name) | FreezeTarget::Credential(name) => {
            (name.as_str().into(), format!("the {kind} {name}"))
        }
    };
    let json = json!({kind: name, "frozen": freeze});
    let (verb, state) = if freeze { ("freeze", "frozen") } else { ("unfreeze", "unfrozen") };
    if desk.rows.frozen.contains(&target) == freeze {
        desk.report(json, &format!("{object} is {state} already\n"));
        return Ok(true);
    }
    let change = if freeze { Change::Freeze(target) } else { Change::Unfreeze(target) };
    desk.change(verb, json!({kind: name}), vec![change])?;
    desk.report(json, &format!("{object} is {state}\n"));
    Ok(true)
}

impl TargetArgs {
    fn target(&self) -> FreezeTarget {
        match (&self.upstream, &self.consumer, &self.credential) {
            (Some(name), ..) => FreezeTarget::Upstream(name.clone()),
            (_, Some(name), _) => FreezeTarget::Consumer(name.clone()),
            (.., Some(name)) => FreezeTarget::Credential(name.clone()),
            (None, None, None) => FreezeTarget::Gateway,
        }
    }
}

/// Checks that the target exists. What is unfrozen may be gone.
fn check_exists(desk: &StoreSession, target: &FreezeTarget) -> anyhow::Result<()> {
    match target {
        FreezeTarget::Consumer(name) => desk.must_know_consumer(name)?,
        FreezeTarget::Upstream(name) if !desk.file.upstreams.declares(name) => {
            match desk.file.upstreams.did_you_mean(name) {
                Some(nearest) => bail!("there is no upstream `{name}`; did you mean `{nearest}`?"),
                None => bail!("there is no upstream `{name}`"),
            }
        }
        FreezeTarget::Gateway | FreezeTarget::Upstream(_) => {}
        FreezeTarget::Credential(name) => {
            let is_known = desk.rows.credential(name).is_some() || desk.file.credentials.declares(name);
            ensure!(is_known, "there is no credential `{name}`");
        }
    }
    Ok(())
}
