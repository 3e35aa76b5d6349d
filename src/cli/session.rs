//! Changes that commands make to the store. Each change is one transaction, together with its audit event in the
//! outbox. A running gateway sees it within a second.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::time;
use super::{Output, environment, eprint, print, tell_problems};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, File};
use crate::control::store::path_of;
use crate::control::{rotation, store_marker};
use crate::custody::MasterKey;
use crate::name::Name;
use crate::state::StateDir;
use crate::storage::{
    Change, History, PendingAuditEvent, Revision, Rows, Seconds, Sqlite, Storage as _, StoreError,
};

/// How a change is made.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ChangeFlags {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What is issued, to whom and until when.
#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    /// For whom
    #[arg(long)]
    pub(super) consumer: String,
    /// When it ends: 2027-01-01T00:00:00Z, or 90d from now
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<String>,
    /// Words for other custodians
    #[arg(long)]
    pub(super) note: Option<String>,
}

impl IssueArgs {
    pub(super) fn ends(&self, desk: &StoreSession) -> anyhow::Result<Option<Seconds>> {
        self.expires.as_deref().map(|text| time::parse_time(text, desk.now)).transpose()
    }
}

/// The open store, for the commands of an operator.
pub(super) struct StoreSession {
    pub(super) file: File,
    pub(super) runtime: Runtime,
    pub(super) store: Option<Sqlite>,
    pub(super) rows: Rows,
    pub(super) stamp: Option<Revision>,
    pub(super) now: Seconds,
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
    /// Opens the store of the configuration at `config`; `None` if the file is invalid, which has been reported.
    pub(super) fn open(config: &Path, output: Output) -> anyhow::Result<Option<Self>> {
        Self::open_if(config, output, store_marker::store_exists)
    }

    /// Like [`Self::open`], but treats a store that is gone as if there never was one.
    pub(super) fn open_whatever_is_gone(config: &Path, output: Output) -> anyhow::Result<Option<Self>> {
        Self::open_if(config, output, |store| Ok(store.try_exists()?))
    }

    fn open_if(
        config: &Path,
        output: Output,
        is_there: impl Fn(&Path) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<Self>> {
        let (file, problems) = match config::read_file(config) {
            Ok(read) => read,
            Err(problems) => {
                tell_problems(&problems);
                return Ok(None);
            }
        };
        if problems.has_errors() {
            tell_problems(&problems);
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let path = path_of(&file);
        let mut desk =
            Self { file, runtime, store: None, rows: Rows::default(), stamp: None, now: now(), output };
        if is_there(&path)? {
            StateDir::check(&desk.file.state_dir.value)?;
            desk.store = Some(desk.runtime.block_on(Sqlite::open(&path))?);
            desk.reload()?;
        }
        Ok(Some(desk))
    }

    /// The revisions that the store went through; empty without a store.
    pub(super) fn history(&self) -> anyhow::Result<History> {
        let Some(store) = &self.store else { return Ok(History::default()) };
        Ok(self.runtime.block_on(store.history())?)
    }

    /// Reads the present content of the store.
    pub(super) fn reload(&mut self) -> anyhow::Result<()> {
        if let Some(store) = &self.store {
            let (rows, stamp) = self.runtime.block_on(store.read())?;
            (self.rows, self.stamp) = (rows, Some(stamp));
        }
        Ok(())
    }

    /// Applies `changes`, recorded on the trail as `what` with `members`. A missing store is created.
    pub(super) fn change(
        &mut self,
        (what, members): (&str, &[(&str, Value)]),
        mut changes: Vec<Change>,
        manner: ChangeFlags,
    ) -> anyhow::Result<()> {
        if manner.dry_run {
            return Ok(());
        }
        changes.push(Change::QueueAuditEvent(PendingAuditEvent::new(what, operator(), self.now, members)));
        if self.store.is_none() {
            StateDir::prepare(&self.file.state_dir.value)?;
            self.store = Some(self.runtime.block_on(Sqlite::create(&path_of(&self.file)))?);
            let none = std::mem::take(&mut self.rows);
            self.reload()?;
            // The changes were prepared for an empty store.
            if self.rows != none {
                return Err(StoreError::Conflict.into());
            }
        }
        let store = self.store.as_ref().context("there is no store")?;
        store_marker::write_marker(&path_of(&self.file))?;
        self.runtime.block_on(store.write(&changes, self.stamp))?;
        Ok(())
    }

    /// Whether the file or the store has a consumer of this name.
    pub(super) fn knows_consumer(&self, name: &str) -> bool {
        self.file.consumers.declares(name) || self.rows.consumers.iter().any(|row| row.name == name)
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

    /// Prints a result: `json` for programs, `text` for people.
    pub(super) fn show(&self, json: &Value, text: &str) {
        match self.output {
            Output::Json => print(&format!("{json}\n")),
            Output::Text => print(text),
        }
    }

    /// Prints what was changed, or would be changed in a dry run.
    pub(super) fn report(&self, manner: ChangeFlags, json: Value, text: &str) {
        let mut json = json;
        if manner.dry_run
            && let Some(members) = json.as_object_mut()
        {
            members.insert("dry_run".into(), true.into());
        }
        let text = if manner.dry_run { format!("would be done: {text}") } else { text.to_owned() };
        self.show(&json, &text);
    }
}

impl Drop for StoreSession {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }
}

/// Asks the operator to confirm an action that cannot be undone.
pub(in crate::cli) fn confirm(question: &str, manner: ChangeFlags) -> anyhow::Result<bool> {
    use std::io::{BufRead as _, IsTerminal as _};
    if manner.yes || manner.dry_run {
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
    let number = rustix::process::getuid().as_raw();
    let name = environment("SUDO_USER").or_else(|| environment("LOGNAME")).or_else(|| environment("USER"));
    match name.as_deref().and_then(Name::parse) {
        Some(name) => format!("{name} (uid {number})"),
        None => format!("uid {number}"),
    }
}

pub(in crate::cli) fn now() -> Seconds {
    let since = SystemClock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX)
}

/// Checks that a typed text is a valid name.
pub(super) fn parse_name(text: &str) -> anyhow::Result<&str> {
    if Name::parse(text).is_some() {
        return Ok(text);
    }
    bail!(
        "`{}` is no name: letters, digits, `.`, `_` and `-`, at most 64, a letter or digit first",
        text.escape_debug()
    )
}

/// The master key of this configuration; see [`rotation::for_sealing`].
pub(super) fn sealing_key(desk: &StoreSession) -> anyhow::Result<(Rc<MasterKey>, Option<Change>)> {
    rotation::for_sealing(&desk.file, &desk.rows)
}
