//! Changes that commands make to the store. Each change is one transaction, together with its audit event in the
//! outbox. A running gateway sees it within a second.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Output, environment, eprint};
use crate::clock::{Clock as _, SystemClock, seconds};
use crate::config::{self, File};
use crate::control::store::path_of;
use crate::control::store_marker;
use crate::name::Name;
use crate::state::StateDir;
use crate::storage::{
    Change, History, PendingAuditEvent, Revision, Rows, Seconds, Sqlite, Storage as _, StoreError,
};

/// The flags of every command that changes the store.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct ChangeFlags {
    /// Print what would change, and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// A name, for commands that need nothing else.
#[derive(Debug, Args)]
pub(super) struct NameArg {
    /// The name, as `list` prints it
    pub(super) name: String,
    #[command(flatten)]
    pub(super) flags: ChangeFlags,
}

/// The open store, for the commands of an operator.
pub(super) struct StoreSession {
    pub(super) file: File,
    pub(super) runtime: Runtime,
    pub(super) store: Option<Sqlite>,
    pub(super) rows: Rows,
    pub(super) revision: Option<Revision>,
    pub(super) now: Seconds,
    pub(super) flags: ChangeFlags,
    pub(super) output: Output,
}

/// Repeats `work` if another operator changed the store between its read and its write.
pub(super) fn retry_on_conflict(mut work: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    /// The number of attempts; in each failed one, another change succeeded.
    const ROUNDS: u32 = 50;
    for round in 1..ROUNDS {
        match work() {
            Err(why) if matches!(why.downcast_ref(), Some(StoreError::Conflict)) => {
                std::thread::sleep(std::time::Duration::from_millis(u64::from(round)));
            }
            done => return done,
        }
    }
    work()
}

impl StoreSession {
    /// Opens the store of the configuration at `config`. A store that is gone is an error.
    pub(super) fn open(config: &Path, output: Output) -> anyhow::Result<Self> {
        Self::open_if(config, output, store_marker::store_exists)
    }

    /// Like [`Self::open`], with a store only if `exists` finds it at its path.
    pub(super) fn open_if(
        config: &Path,
        output: Output,
        exists: impl Fn(&Path) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let file = config::load(config)?.checked()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let path = path_of(&file);
        let (rows, flags) = (Rows::default(), ChangeFlags::default());
        let mut desk = Self { file, runtime, store: None, rows, revision: None, now: now(), flags, output };
        if exists(&path)? {
            StateDir::check(&desk.file.state_dir.value)?;
            desk.store = Some(desk.runtime.block_on(Sqlite::open(&path))?);
            desk.reload()?;
        }
        Ok(desk)
    }

    /// Sets the flags of the command.
    pub(super) fn with(&mut self, flags: ChangeFlags) -> &mut Self {
        self.flags = flags;
        self
    }

    /// The revisions that the store went through; empty without a store.
    pub(super) fn history(&self) -> anyhow::Result<History> {
        let Some(store) = &self.store else { return Ok(History::default()) };
        Ok(self.runtime.block_on(store.history())?)
    }

    /// Reads the present content of the store.
    pub(super) fn reload(&mut self) -> anyhow::Result<()> {
        if let Some(store) = &self.store {
            let (rows, revision) = self.runtime.block_on(store.read())?;
            (self.rows, self.revision) = (rows, Some(revision));
        }
        Ok(())
    }

    /// Applies `changes`, recorded on the trail as `what` with `members`. A missing store is created.
    pub(super) fn change(
        &mut self,
        what: &str,
        members: Value,
        mut changes: Vec<Change>,
    ) -> anyhow::Result<()> {
        if self.flags.dry_run {
            return Ok(());
        }
        changes.push(Change::QueueAuditEvent(PendingAuditEvent::new(what, operator(), self.now, members)));
        if self.store.is_none() {
            StateDir::prepare(&self.file.state_dir.value)?;
            self.store = Some(self.runtime.block_on(Sqlite::create(&path_of(&self.file)))?);
            let former = std::mem::take(&mut self.rows);
            self.reload()?;
            // The changes were prepared for an empty store.
            if self.rows != former {
                return Err(StoreError::Conflict.into());
            }
        }
        let store = self.store.as_ref().context("there is no store")?;
        store_marker::write_marker(&path_of(&self.file))?;
        self.runtime.block_on(store.write(&changes, self.revision))?;
        Ok(())
    }

    /// Whether the file or the store has a consumer of this name.
    pub(super) fn knows_consumer(&self, name: &str) -> bool {
        self.file.consumers.declares(name) || self.rows.consumer(name).is_some()
    }

    /// Fails if neither the file nor the store has such a consumer.
    pub(super) fn must_know_consumer(&self, name: &str) -> anyhow::Result<()> {
        if self.knows_consumer(name) {
            return Ok(());
        }
        let known =
            self.file.consumers.names().chain(self.rows.consumers.iter().map(|row| row.name.as_str()));
        let nearest = config::did_you_mean(name, known).map(|nearest| format!("; did you mean `{nearest}`?"));
        bail!("there is no consumer `{name}`{}", nearest.unwrap_or_default())
    }

    /// The warning that no grant names this consumer yet; empty if one does.
    pub(super) fn warn_ungranted(&self, consumer: &str) -> String {
        if self.file.grants.iter().any(|grant| *grant.consumer.value == *consumer) {
            return String::new();
        }
        format!("no grant names {consumer} yet: it may do nothing until [[grants]] in the file does\n")
    }

    /// Prints what was changed, or would be changed in a dry run.
    pub(super) fn report(&self, mut json: Value, text: &str) {
        if !self.flags.dry_run {
            return self.output.print(&json, text);
        }
        if let Some(members) = json.as_object_mut() {
            members.insert("dry_run".into(), true.into());
        }
        self.output.print(&json, &format!("would be done: {text}"));
    }

    /// Makes and reports the changes that enable or disable an object of this kind.
    pub(super) fn set_disabled(
        &mut self,
        kind: &str,
        name: &str,
        disabled: bool,
        changes: Vec<Change>,
    ) -> anyhow::Result<()> {
        let state = enabled_word(disabled);
        self.change(&format!("{kind} {state}"), json!({kind: name}), changes)?;
        self.report(json!({kind: name, "disabled": disabled}), &format!("{kind} {name} {state}\n"));
        Ok(())
    }
}

/// The word for the state of an object.
pub(super) fn enabled_word(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}

impl Drop for StoreSession {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }
}

/// Asks the operator to confirm an action that cannot be undone.
pub(in crate::cli) fn confirm(question: &str, flags: ChangeFlags) -> anyhow::Result<bool> {
    use std::io::{BufRead as _, IsTerminal as _};
    if flags.yes || flags.dry_run {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("{question} Say --yes to do it without being asked.");
    }
    eprint(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// The operator, as the system knows them: user id and user name.
pub(in crate::cli) fn operator() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = environment("SUDO_USER").or_else(|| environment("LOGNAME")).or_else(|| environment("USER"));
    match name.as_deref().and_then(Name::parse) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

pub(in crate::cli) fn now() -> Seconds {
    seconds(SystemClock.now())
}

/// Checks that a typed text is a valid name.
pub(super) fn parse_name(text: &str) -> anyhow::Result<&str> {
    if Name::parse(text).is_some() {
        return Ok(text);
    }
    bail!(
        "`{}` is not a name: use letters, digits, `.`, `_` and `-`, at most 64, a letter or digit first",
        text.escape_debug()
    )
}
