//! `claviger init`: creates a folder to begin with. It asks no questions, and overwrites nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::Output;
use crate::control::store_marker;
use crate::custody::key_file;
use crate::fs::trust;
use crate::state::StateDir;
use crate::storage::Sqlite;

/// The text of a new configuration.
const STARTER: &str = include_str!("../../config/starter.toml");

/// Where to begin.
#[derive(Args)]
pub(super) struct InitArgs {
    /// The folder; made where it is missing
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

/// Creates the configuration, and the state folder with master key and store.
pub(super) fn run(args: &InitArgs, output: Output) -> anyhow::Result<bool> {
    let dir = &args.dir;
    let (state, config) = (dir.join("state"), dir.join("claviger.toml"));
    if config.try_exists()? {
        bail!("{} is not overwritten", config.display());
    }
    trust::create_folder(dir).with_context(|| dir.display().to_string())?;
    StateDir::prepare(&state)?;
    let (key, store) = (state.join("master.key"), state.join("store.db"));
    // An existing store may be sealed with a key that is kept elsewhere.
    if !store_marker::store_exists(&store)? {
        key_file::create(&key).with_context(|| key.display().to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let empty = runtime.block_on(Sqlite::create(&store))?;
        runtime.block_on(empty.close());
    }
    store_marker::write_marker(&store)?;
    // The configuration is written last: if it exists, everything else is complete.
    write(&config).with_context(|| config.display().to_string())?;
    let report = json!({"config": config, "state_dir": state, "master_key": key});
    let text = format!(
        "{} says where the upstream is: edit it\n{} is the master key: back it up apart from the rest\nnext:\n  \
         claviger credential add jms --upstream jumpserver --kind access-key --id … --config {0}\n  \
         claviger token issue --consumer script --config {0}\n  claviger serve --config {0}\n",
        config.display(),
        key.display(),
    );
    output.print(&report, &text);
    Ok(true)
}

/// Writes the configuration and gives it its name once it is complete; it never replaces another file.
fn write(config: &Path) -> io::Result<()> {
    let new = config.with_extension("toml.new");
    trust::remove_if_present(&new)?;
    trust::write_new(&new, STARTER.as_bytes())?;
    fs::hard_link(&new, config)?;
    fs::remove_file(&new)?;
    trust::sync_folder(config)
}
