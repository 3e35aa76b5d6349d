//! What keeps a running gateway in step with its file and its store.

mod telling;
mod trouble;

use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::bail;

use super::{environment, store, tell_problems};
use crate::clock::Clock;
use crate::config::{self, Compiled, File, Problems, Surroundings};
use crate::custody::{MasterKey, Stored};
use crate::gateway::Snapshot;
use crate::gateway::failures::Failures;
use crate::metrics::Metrics;
use crate::server::Server;
use crate::signature::HmacKey;
use crate::storage::{Note, Rows, Seconds, Sqlite, Stamp, Storage as _};
use telling::TELL_USE;
use trouble::{Extent, Trouble};

/// How often the store is asked whether it was changed.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// What outlives a reload.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) failures: Arc<Failures>,
    pub(super) fingerprints: HmacKey,
    pub(super) metrics: Arc<Metrics>,
}

/// The file and the store that are in force.
pub(super) struct Live {
    kept: Kept,
    first: File,
    file: File,
    problems: Problems,
    store: Option<Sqlite>,
    /// The stamp of what is in force; none where that is not all of the store.
    stamp: Option<Stamp>,
    /// What was read last, from which what is changed is followed.
    rows: Option<(Rows, Stamp)>,
    key: Option<Rc<MasterKey>>,
    /// What the trail was not told yet.
    notes: Vec<Note>,
    /// Notes that the trail has and the store still holds.
    told: HashSet<String>,
    /// Versions whose overlap ends: credential, version and when.
    leaving: Vec<(String, u32, Seconds)>,
    trouble: Option<Trouble>,
    /// Whether calls that rest on the store are refused.
    lapsed: bool,
    told_use: (Instant, Seconds),
    /// The state of the store that the trail knows, or will with the next event that says it.
    known: Option<Stamp>,
}

/// What was read of the store.
struct Read {
    stored: Option<Stored>,
    stamp: Option<Stamp>,
    /// Why not all of it could be opened.
    sealed: Option<String>,
}

impl Read {
    /// From which the next change is followed.
    fn rows(self) -> Option<(Rows, Stamp)> {
        self.stored.map(|stored| stored.rows).zip(self.stamp)
    }
}

impl Live {
    /// Opens the store, and compiles it with the file.
    ///
    /// # Errors
    /// Where the store cannot be used; `Ok(Err(_))` where the file cannot.
    pub(super) async fn start(
        kept: Kept,
        (file, problems): (File, Problems),
    ) -> anyhow::Result<Result<(Self, Compiled, Problems), Problems>> {
        let opened = store::stored(&file).await?;
        if !problems.has_errors() {
            store::known::agree(&file, opened.as_ref().map(|opened| &opened.store)).await?;
        }
        let stored = opened.as_ref().map(|opened| &opened.stored);
        let around = kept.around((stored, None), false);
        let (compiled, told) = match config::compile(&file, problems.clone(), around) {
            Ok(compiled) => compiled,
            Err(problems) => return Ok(Err(problems)),
        };
        kept.metrics.last_reload.set(kept.seconds());
        compiled.snapshot.vouched.renew(file.custody.store_bound);
        let mut live = Self::without_store(kept, file, problems);
        if let Some(store::Opened { store, stored, stamp, key }) = opened {
            store::made::mark_if_possible(&store::path_of(&live.first));
            (live.store, live.stamp, live.key) = (Some(store), Some(stamp), key);
            live.known = Some(stamp);
            live.heard(&stored.rows);
            live.rows = Some((stored.rows, stamp));
        }
        Ok(Ok((live, compiled, told)))
    }

    fn without_store(kept: Kept, file: File, problems: Problems) -> Self {
        let (first, told_use) = (file.clone(), (Instant::now(), kept.seconds()));
        Self {
            kept,
            first,
            file,
            problems,
            store: None,
            stamp: None,
            rows: None,
            key: None,
            notes: Vec::new(),
            told: HashSet::new(),
            leaving: Vec::new(),
            trouble: None,
            lapsed: false,
            told_use,
            known: None,
        }
    }

    /// The state of the store that is in force.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The key of fingerprints, which is known only once the state folder is ours.
    pub(super) fn fingerprint_by(&mut self, key: HmacKey) {
        self.kept.fingerprints = key;
    }

    /// Takes the file again. A bad one changes nothing.
    pub(super) async fn reload(&mut self, server: &Server) {
        let (file, problems) = match config::read_file(&self.kept.path) {
            Ok(read) => read,
            Err(problems) => return not_reloaded(&problems),
        };
        // All of it, whatever is thought to have changed.
        self.rows = None;
        let read = match self.read(&file).await {
            Ok(read) => read,
            Err(why) => {
                // Somebody asked for this, and is told each time; the trouble itself only once.
                let why = format!("{why:#}");
                tracing::error!(%why, "the configuration was not reloaded: the former one stays");
                return self.troubled(Extent::Unread, why);
            }
        };
        let around = self.kept.around((read.stored.as_ref(), Some(server.snapshot())), false);
        match config::compile(&file, problems.clone(), around) {
            Ok((compiled, told)) => {
                tell_problems(&told);
                for what in needs_restart(&self.first, &file) {
                    tracing::warn!(what, "changed in the file, and takes effect at the next start only");
                }
                server.replace(compiled);
                self.kept.metrics.last_reload.set(self.kept.seconds());
                (self.file, self.problems) = (file, problems);
                self.settled(read);
                tracing::info!("configuration reloaded");
            }
            Err(problems) => {
                self.rows = read.rows();
                not_reloaded(&problems);
            }
        }
    }

    /// Looks whether the store was changed, and puts in force what it holds now.
    pub(super) async fn look(&mut self, server: &Server) {
        match self.stamped().await {
            Ok(stamp) if stamp == self.stamp => self.untroubled(),
            Ok(stamp) if self.trouble.as_ref().is_some_and(|trouble| trouble.may_wait(stamp)) => {}
            Ok(_) => self.follow(server).await,
            Err(why) => self.troubled(Extent::Unread, format!("{why:#}")),
        }
        self.vouch(server);
        self.tell_trail(server).await;
        self.tell_ages(server);
        if self.told_use.0.elapsed() >= TELL_USE {
            self.tell_use(&server.snapshot()).await;
            server.snapshot().nonces.tidy(self.kept.clock.now());
            self.let_go().await;
        }
    }

    /// Why nobody should rely on what is in force, where that is so.
    pub(super) fn apart(&self) -> Option<String> {
        self.trouble.as_ref()?.unready(self.lapsed)
    }

    /// Lets what came from the store be good for longer where it could be read.
    fn vouch(&mut self, server: &Server) {
        let snapshot = server.snapshot();
        if self.trouble.as_ref().is_none_or(Trouble::is_followed) {
            snapshot.vouched.renew(self.file.custody.store_bound);
        }
        let lapsed = !snapshot.vouched.stands();
        if lapsed && !self.lapsed {
            tracing::error!(
                "the store could not be followed for too long: calls that rest on it are refused"
            );
        }
        self.lapsed = lapsed;
    }

    /// The stamp of what the store holds now; none where there never was a store.
    async fn stamped(&mut self) -> anyhow::Result<Option<Stamp>> {
        if self.store.is_none() {
            self.store = store::open(&self.first).await?;
            if self.store.is_some() {
                store::made::mark_if_possible(&store::path_of(&self.first));
            }
        }
        let Some(store) = &self.store else { return Ok(None) };
        Ok(Some(store.stamp().await?))
    }

    async fn follow(&mut self, server: &Server) {
        let file = self.file.clone();
        let read = match self.read(&file).await {
            Ok(read) => read,
            Err(why) => return self.troubled(Extent::Unread, format!("{why:#}")),
        };
        if self.is_in_force_but_for(&read) {
            return self.settled(read);
        }
        let around = self.kept.around((read.stored.as_ref(), Some(server.snapshot())), true);
        match config::compile(&file, self.problems.clone(), around) {
            Ok((compiled, _)) => {
                server.replace(compiled);
                self.settled(read);
                tracing::info!("what was changed in the store is in force");
            }
            Err(problems) => {
                let extent = read.stamp.map_or(Extent::Unread, Extent::Unfit);
                self.rows = read.rows();
                self.troubled(extent, problems.summary());
            }
        }
    }

    /// What the store holds now. What of it cannot be opened comes as a reason, and is not used.
    async fn read(&mut self, file: &File) -> anyhow::Result<Read> {
        self.stamped().await?;
        let Some(store) = &self.store else {
            return Ok(Read { stored: None, stamp: None, sealed: None });
        };
        if let Some(known) = self.known
            && !store.history().await?.holds(known)
        {
            bail!(
                "an older state of it, or another store, was put in its place: `claviger store accept` says what it \
                 would forget"
            );
        }
        let (rows, stamp) = match self.rows.take() {
            Some((rows, from)) => store.renew(rows, from).await?,
            None => store.read().await?,
        };
        self.known = Some(stamp);
        self.heard(&rows);
        let (stored, sealed) = store::opened(file, rows, &mut self.key);
        Ok(Read { stored: Some(stored), stamp: Some(stamp), sealed })
    }

    /// Whether the same was tried before, and as little of it could be opened as now.
    fn is_in_force_but_for(&self, read: &Read) -> bool {
        let (Some(trouble), Some(stamp), Some(why)) = (&self.trouble, read.stamp, &read.sealed) else {
            return false;
        };
        trouble.is(Extent::Sealed(stamp), why)
    }

    /// Tells what is left to tell, and closes the store.
    pub(super) async fn end(mut self, server: &Server) {
        if let Ok(stamp) = self.stamped().await
            && stamp != self.stamp
        {
            let file = self.file.clone();
            self.read(&file).await.map_or_else(
                |why| {
                    tracing::warn!(
                        why = format!("{why:#}"),
                        "what was changed last is recorded at the next start"
                    );
                },
                drop,
            );
        }
        while self.tell_trail(server).await {}
        self.tell_use(&server.snapshot()).await;
        if let Some(store) = self.store {
            store.close().await;
        }
    }

    /// What was read is in force, but for what is `sealed`: that is tried again.
    fn settled(&mut self, read: Read) {
        match (read.stamp, &read.sealed) {
            (Some(stamp), Some(why)) => {
                self.stamp = None;
                self.troubled(Extent::Sealed(stamp), why.clone());
            }
            (stamp, _) => {
                self.stamp = stamp;
                self.untroubled();
            }
        }
        self.rows = read.rows();
    }

    fn troubled(&mut self, extent: Extent, why: String) {
        self.trouble = Some(Trouble::after(self.trouble.as_ref(), (extent, why)));
    }

    fn untroubled(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the store is followed again");
        }
    }
}

fn not_reloaded(problems: &Problems) {
    tell_problems(problems);
    tracing::error!("the configuration was not reloaded: {}; the former one stays", problems.summary());
}

impl Kept {
    fn around<'a>(
        &self,
        (stored, former): (Option<&'a Stored>, Option<Arc<Snapshot>>),
        following: bool,
    ) -> Surroundings<'a> {
        Surroundings {
            environment: &environment,
            now: self.clock.now(),
            failures: Arc::clone(&self.failures),
            former,
            fingerprints: self.fingerprints.clone(),
            stored,
            following,
        }
    }

    fn seconds(&self) -> Seconds {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX)
    }
}

/// What of the file a running server cannot change.
fn needs_restart(first: &File, now: &File) -> Vec<&'static str> {
    let addresses = |file: &File| {
        file.listeners
            .iter()
            .map(|listener| (listener.address.value, listener.tls.is_some()))
            .collect::<Vec<_>>()
    };
    let mut changed = Vec::new();
    let mut compare = |what, same: bool| {
        if !same {
            changed.push(what);
        }
    };
    compare("state_dir", first.state_dir.value == now.state_dir.value);
    compare("workers", first.workers == now.workers);
    compare("listeners", addresses(first) == addresses(now));
    let admin = |file: &File| (file.admin.address.value, file.admin.tls.is_some());
    compare("admin", admin(first) == admin(now));
    compare("audit", first.audit.said() == now.audit.said());
    changed
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
