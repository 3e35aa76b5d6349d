//! What keeps a running gateway in step with its file and its store.

mod telling;

use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{environment, store, tell};
use crate::clock::Clock;
use crate::config::{self, Compiled, File, Problems, Surroundings};
use crate::custody::{MasterKey, Stored};
use crate::gateway::Snapshot;
use crate::gateway::limits::Failures;
use crate::metrics::Metrics;
use crate::server::Server;
use crate::signature::HmacKey;
use crate::storage::{Note, Seconds, Sqlite, Stamp, Storage as _};
use telling::TELL_USE;

/// How often the store is asked whether it was changed.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How long until what could not be put in force is tried again, if nothing changes meanwhile.
const RETRY: Duration = Duration::from_secs(2);

/// How long the store may not be followed until the gateway says that it is not ready.
const APART: Duration = Duration::from_secs(2);

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
    key: Option<Rc<MasterKey>>,
    /// What the trail was not told yet.
    notes: Vec<Note>,
    /// Notes that the trail has and the store still holds.
    told: HashSet<String>,
    /// Versions whose overlap ends: credential, version and when.
    leaving: Vec<(String, u32, Seconds)>,
    trouble: Option<Trouble>,
    told_use: (Instant, Seconds),
}

/// What keeps the store from being followed.
struct Trouble {
    /// As it was said.
    why: String,
    since: Instant,
    /// When it was last tried.
    tried: Instant,
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
        let stored = opened.as_ref().map(|opened| &opened.stored);
        let around = kept.around((stored, None), false);
        let (compiled, told) = match config::compile(&file, problems.clone(), around) {
            Ok(compiled) => compiled,
            Err(problems) => return Ok(Err(problems)),
        };
        kept.metrics.last_reload.set(kept.seconds());
        let mut live = Self::without_store(kept, file, problems);
        if let Some(store::Opened { store, stored, stamp, key }) = opened {
            store::made::mark_if_possible(&store::path_of(&live.first));
            (live.store, live.stamp, live.key) = (Some(store), Some(stamp), key);
            live.heard(&stored.rows);
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
            key: None,
            notes: Vec::new(),
            told: HashSet::new(),
            leaving: Vec::new(),
            trouble: None,
            told_use,
        }
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
        let (stored, stamp) = match self.read(&file).await {
            Ok(read) => read,
            Err(why) => {
                // Somebody asked for this, and is told each time; the trouble itself only once.
                let told = format!("{why:#}");
                tracing::error!(why = %told, "the configuration was not reloaded: the former one stays");
                return self.troubled(&why);
            }
        };
        let former = server.snapshot();
        let around = self.kept.around((stored.as_ref(), Some(Arc::clone(&former))), false);
        match config::compile(&file, problems.clone(), around) {
            Ok((compiled, told)) => {
                tell(&told.render(true));
                for what in needs_restart(&self.first, &file) {
                    tracing::warn!(what, "changed in the file, and takes effect at the next start only");
                }
                server.replace(compiled);
                self.kept.metrics.last_reload.set(self.kept.seconds());
                (self.file, self.problems, self.stamp) = (file, problems, stamp);
                tracing::info!("configuration reloaded");
                // Last: a slow disk must not keep a revocation from taking effect.
                self.tell_use(&former).await;
            }
            Err(problems) => not_reloaded(&problems),
        }
    }

    /// Looks whether the store was changed, and puts in force what it holds now.
    pub(super) async fn look(&mut self, server: &Server) {
        let waits = self.trouble.as_ref().is_some_and(|trouble| trouble.tried.elapsed() < RETRY);
        match self.changed().await {
            Ok(true) if !waits => self.follow(server).await,
            Ok(true) => {}
            Ok(false) => self.untroubled(),
            Err(why) => self.troubled(&why),
        }
        self.tell_trail(server).await;
        self.tell_ages(server);
        if self.told_use.0.elapsed() >= TELL_USE {
            self.tell_use(&server.snapshot()).await;
            self.let_go().await;
        }
    }

    /// Whether the store could not be followed for so long that nobody should rely on what is in force.
    pub(super) fn is_apart(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.since.elapsed() >= APART)
    }

    async fn changed(&self) -> anyhow::Result<bool> {
        match &self.store {
            None => store::made::is_there(&store::path_of(&self.first)),
            Some(store) => Ok(Some(store.stamp().await?) != self.stamp),
        }
    }

    async fn follow(&mut self, server: &Server) {
        let file = self.file.clone();
        let (stored, stamp) = match self.read(&file).await {
            Ok(read) => read,
            Err(why) => return self.troubled(&why),
        };
        let former = server.snapshot();
        let around = self.kept.around((stored.as_ref(), Some(Arc::clone(&former))), true);
        match config::compile(&file, self.problems.clone(), around) {
            Ok((compiled, _)) => {
                server.replace(compiled);
                self.stamp = stamp;
                self.untroubled();
                tracing::info!("what was changed in the store is in force");
                // Last, as in a reload.
                self.tell_use(&former).await;
            }
            Err(problems) => self.troubled(&anyhow::anyhow!("{}", problems.summary())),
        }
    }

    /// What the store holds now. What of it cannot be unsealed is told, and not used.
    async fn read(&mut self, file: &File) -> anyhow::Result<(Option<Stored>, Option<Stamp>)> {
        let Some(store) = &self.store else {
            let Some(opened) = store::stored(&self.first).await? else { return Ok((None, None)) };
            store::made::mark_if_possible(&store::path_of(&self.first));
            (self.store, self.key) = (Some(opened.store), opened.key);
            self.heard(&opened.stored.rows);
            return Ok((Some(opened.stored), Some(opened.stamp)));
        };
        let (rows, stamp) = store.read().await?;
        self.heard(&rows);
        Ok((Some(store::opened(file, rows, &mut self.key)), Some(stamp)))
    }

    /// Tells what is left to tell, and closes the store.
    pub(super) async fn end(mut self, server: &Server) {
        if let (Some(store), Ok(true)) = (&self.store, self.changed().await)
            && let Ok((rows, _)) = store.read().await
        {
            self.heard(&rows);
        }
        self.tell_trail(server).await;
        self.tell_use(&server.snapshot()).await;
        if let Some(store) = self.store {
            store.close().await;
        }
    }

    /// Says once what keeps the store from being followed. What is in force stays.
    fn troubled(&mut self, why: &anyhow::Error) {
        let (why, now) = (format!("{why:#}"), Instant::now());
        if self.trouble.as_ref().is_none_or(|trouble| trouble.why != why) {
            tracing::error!(%why, "the store cannot be followed: what was in force stays");
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { why, since, tried: now });
    }

    fn untroubled(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the store is followed again");
        }
    }
}

fn not_reloaded(problems: &Problems) {
    tell(&problems.render(true));
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
    compare("admin", first.admin.address.value == now.admin.address.value);
    let audit = |file: &File| (file.audit.dir.value.clone(), file.audit.durability, file.audit.rotate);
    compare("audit", audit(first) == audit(now));
    changed
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
