//! Keeps a running gateway in step with its configuration file and its store.

use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use super::degraded::{Degraded, Extent};
use super::{environment, known, store, tell_problems};
use crate::clock::{Clock, seconds};
use crate::config::{self, Base, CompileInputs, Compiled, File, Loaded, Problems};
use crate::custody::{MasterKey, UnsealedStore};
use crate::gateway::Snapshot;
use crate::metrics::{self, Metrics, NameLabel};
use crate::server::Server;
use crate::signature::HmacKey;
use crate::storage::{
    Change, History, PendingAuditEvent, Revision, Rows, Seconds, Sqlite, Storage as _, StoreError, VersionRow,
};

/// How often the times of the last use of tokens are written to the store.
const USE_INTERVAL: Duration = Duration::from_secs(10);

/// How many pending audit events are published per poll. Many can gather while no gateway runs, and publishing them
/// must not delay a revocation.
const MOST_NOTES: usize = 250;

/// How often the gateway polls the store for changes.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The state that outlives a reload.
pub(crate) struct Context {
    /// The path of the configuration file.
    pub path: PathBuf,
    /// The clock that gives the time of day.
    pub clock: Arc<dyn Clock>,
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
}

/// Follows the file and the store, and applies their changes to the server.
pub(crate) struct Follower {
    context: Context,
    first: File,
    config: Loaded,
    store: Option<Sqlite>,
    /// The revision of the store that is in force; `None` unless the whole store is in force.
    pub(crate) stamp: Option<Revision>,
    /// The rows that were read last, with their revision: the base of the next incremental read.
    rows: Option<(Rows, Revision)>,
    key: Option<Rc<MasterKey>>,
    /// The pending audit events that are not on the trail yet.
    notes: Vec<PendingAuditEvent>,
    /// The ids of audit events that are on the trail and still in the store's outbox.
    published: HashSet<String>,
    /// The versions whose overlap will end: credential, version, and the end of the overlap.
    leaving: Vec<(String, u32, Seconds)>,
    degraded: Option<Degraded>,
    /// Whether the lease has expired, so that calls that depend on the store are refused.
    lease_expired: bool,
    use_reported: (Instant, Seconds),
    /// The revision that the trail records, or will record with the next event that carries it.
    known: Option<Revision>,
}

/// The store content that was read.
struct Read {
    stored: Option<UnsealedStore>,
    stamp: Option<Revision>,
    /// The reason why some of it could not be opened.
    sealed: Option<String>,
}

impl Read {
    /// The rows and their revision: the base of the next incremental read.
    fn rows(self) -> Option<(Rows, Revision)> {
        self.stored.map(|stored| stored.rows).zip(self.stamp)
    }
}

impl Follower {
    /// Opens the store and compiles it together with the file.
    ///
    /// # Errors
    /// [`Problems`] if the file cannot be used, or the reason why the store cannot.
    pub(crate) async fn start(
        context: Context,
        config: Loaded,
    ) -> anyhow::Result<(Self, Compiled, Problems)> {
        let file = &config.file;
        let opened = store::stored(file).await?;
        if !config.problems.has_errors() {
            let history = match &opened {
                Some(store::Opened { store, .. }) => store.history().await?,
                None => History::default(),
            };
            known::check_against_trail(file, &history)?;
        }
        let stored = opened.as_ref().map(|opened| &opened.stored);
        // The key of fingerprints is set once this process holds the state folder.
        let base = Base::Start(HmacKey::new(b"none yet"));
        let (compiled, warnings) = config.compile(&context.inputs(stored, base))?;
        context.metrics.last_reload.set(seconds(context.clock.now()));
        compiled.snapshot.store_lease.renew(file.custody.store_max_staleness);
        let mut follower = Self::without_store(context, config);
        if let Some(store::Opened { store, stored, stamp, key }) = opened {
            super::store_marker::mark_if_possible(&store::path_of(&follower.first));
            (follower.store, follower.stamp, follower.key) = (Some(store), Some(stamp), key);
            follower.known = Some(stamp);
            follower.take_pending(&stored.rows);
            follower.rows = Some((stored.rows, stamp));
        }
        Ok((follower, compiled, warnings))
    }

    fn without_store(context: Context, config: Loaded) -> Self {
        let (first, use_reported) = (config.file.clone(), (Instant::now(), seconds(context.clock.now())));
        Self {
            context,
            first,
            config,
            store: None,
            stamp: None,
            rows: None,
            key: None,
            notes: Vec::new(),
            published: HashSet::new(),
            leaving: Vec::new(),
            degraded: None,
            lease_expired: false,
            use_reported,
            known: None,
        }
    }

    /// Reads the configuration file again and applies it. An invalid file changes nothing.
    pub(crate) async fn reload(&mut self, server: &Server) {
        let config = match config::load(&self.context.path) {
            Ok(config) => config,
            Err(problems) => return not_reloaded(&problems),
        };
        // Read all rows again, even those that are thought to be unchanged.
        self.rows = None;
        let read = match self.read(&config.file).await {
            Ok(read) => read,
            Err(why) => {
                // An operator asked for the reload, so each failure is logged; the store's problem itself is logged
                // only once.
                let why = format!("{why:#}");
                tracing::error!(%why, "the configuration was not reloaded: the former one stays");
                return self.mark_degraded(Extent::Unread, why);
            }
        };
        let snapshot = server.snapshot();
        match config.compile(&self.context.inputs(read.stored.as_ref(), Base::Reload(&snapshot))) {
            Ok((compiled, warnings)) => {
                tell_problems(&warnings);
                for what in needs_restart(&self.first, &config.file) {
                    tracing::warn!(what, "the change of this setting takes effect only at the next start");
                }
                server.replace(compiled);
                self.context.metrics.last_reload.set(seconds(self.context.clock.now()));
                self.config = config;
                self.mark_synced(read);
                tracing::info!("configuration reloaded");
            }
            Err(problems) => {
                self.rows = read.rows();
                not_reloaded(&problems);
            }
        }
    }

    /// Polls the store, and puts its content in force if it has changed.
    pub(crate) async fn poll_store(&mut self, server: &Server) {
        match self.current_revision().await {
            Ok(stamp) if stamp == self.stamp => self.clear_degraded(),
            Ok(stamp) if self.degraded.as_ref().is_some_and(|degraded| degraded.may_wait(stamp)) => {}
            Ok(_) => self.follow(server).await,
            Err(why) => self.mark_degraded(Extent::Unread, format!("{why:#}")),
        }
        self.renew_lease(server);
        self.publish_changes(server).await;
        self.update_age_metrics(server);
        if self.use_reported.0.elapsed() >= USE_INTERVAL {
            self.flush_last_used(&server.snapshot()).await;
            server.snapshot().nonces.tidy(self.context.clock.now());
            self.expire_versions().await;
        }
    }

    /// The reason why the gateway is not ready, if it is not.
    pub(crate) fn unready_reason(&self) -> Option<String> {
        self.degraded.as_ref()?.unready(self.lease_expired)
    }

    /// Renews the lease on the store data, if the store could be read.
    fn renew_lease(&mut self, server: &Server) {
        let snapshot = server.snapshot();
        if self.degraded.as_ref().is_none_or(Degraded::is_followed) {
            snapshot.store_lease.renew(self.config.file.custody.store_max_staleness);
        }
        let is_expired = !snapshot.store_lease.is_valid();
        if is_expired && !self.lease_expired {
            tracing::error!(
                "the store could not be followed for too long: calls that depend on it are refused"
            );
        }
        self.lease_expired = is_expired;
    }

    /// The present revision of the store; `None` if there never was a store.
    async fn current_revision(&mut self) -> anyhow::Result<Option<Revision>> {
        if self.store.is_none() {
            self.store = store::open(&self.first).await?;
            if self.store.is_some() {
                super::store_marker::mark_if_possible(&store::path_of(&self.first));
            }
        }
        let Some(store) = &self.store else { return Ok(None) };
        Ok(Some(store.stamp().await?))
    }

    async fn follow(&mut self, server: &Server) {
        let file = self.config.file.clone();
        let read = match self.read(&file).await {
            Ok(read) => read,
            Err(why) => return self.mark_degraded(Extent::Unread, format!("{why:#}")),
        };
        if self.is_in_force_but_for(&read) {
            return self.mark_synced(read);
        }
        let snapshot = server.snapshot();
        match self.config.compile(&self.context.inputs(read.stored.as_ref(), Base::StoreOnly(&snapshot))) {
            Ok((compiled, _)) => {
                server.replace(compiled);
                self.mark_synced(read);
                tracing::info!("the changes of the store are in force");
            }
            Err(problems) => {
                let extent = read.stamp.map_or(Extent::Unread, Extent::Unfit);
                self.rows = read.rows();
                self.mark_degraded(extent, problems.summary());
            }
        }
    }

    /// Reads the content of the store. The reason for anything that cannot be opened is returned beside the rest.
    async fn read(&mut self, file: &File) -> anyhow::Result<Read> {
        self.current_revision().await?;
        let Some(store) = &self.store else {
            return Ok(Read { stored: None, stamp: None, sealed: None });
        };
        if let Some(known) = self.known
            && !store.history().await?.holds(known)
        {
            bail!(
                "an older state of it, or another store, was put in its place: `claviger store accept` shows which \
                 changes would be lost"
            );
        }
        let (rows, stamp) = match self.rows.take() {
            Some((rows, from)) => store.read_since(rows, from).await?,
            None => store.read().await?,
        };
        self.known = Some(stamp);
        self.take_pending(&rows);
        let (stored, sealed) = store::unseal_rows(file, rows, &mut self.key);
        Ok(Read { stored: Some(stored), stamp: Some(stamp), sealed })
    }

    /// Whether this revision was tried before, and the same parts of it could not be opened.
    fn is_in_force_but_for(&self, read: &Read) -> bool {
        let (Some(degraded), Some(stamp), Some(why)) = (&self.degraded, read.stamp, &read.sealed) else {
            return false;
        };
        degraded.is(Extent::Sealed(stamp), why)
    }

    /// Publishes the pending audit events, and closes the store.
    pub(crate) async fn end(mut self, server: &Server) {
        if let Ok(stamp) = self.current_revision().await
            && stamp != self.stamp
        {
            let file = self.config.file.clone();
            if let Err(why) = self.read(&file).await {
                let why = format!("{why:#}");
                tracing::warn!(why, "the latest changes of the store will be recorded at the next start");
            }
        }
        while self.publish_changes(server).await {}
        self.flush_last_used(&server.snapshot()).await;
        if let Some(store) = self.store {
            store.close().await;
        }
    }

    /// Records that the content read is in force, except what could not be opened (`sealed`), which is retried.
    fn mark_synced(&mut self, read: Read) {
        match (read.stamp, &read.sealed) {
            (Some(stamp), Some(why)) => {
                self.stamp = None;
                self.mark_degraded(Extent::Sealed(stamp), why.clone());
            }
            (stamp, _) => {
                self.stamp = stamp;
                self.clear_degraded();
            }
        }
        self.rows = read.rows();
    }

    fn mark_degraded(&mut self, extent: Extent, why: String) {
        self.degraded = Some(Degraded::after(self.degraded.as_ref(), extent, why));
    }

    fn clear_degraded(&mut self) {
        if self.degraded.take().is_some() {
            tracing::info!("the store is followed again");
        }
    }

    /// Takes over the pending audit events and the ends of overlaps from the rows.
    pub(crate) fn take_pending(&mut self, rows: &Rows) {
        self.notes = rows.notes.iter().filter(|note| !self.published.contains(&note.id)).cloned().collect();
        let leaving = |row: &VersionRow| Some((row.credential.clone(), row.version, row.until?));
        self.leaving = rows.versions.iter().filter_map(leaving).collect();
    }

    /// Removes one version whose overlap has ended. The next is removed after this change was followed.
    pub(crate) async fn expire_versions(&mut self) {
        let (Some(store), Some(stamp), now) = (&self.store, self.stamp, seconds(self.context.clock.now()))
        else {
            return;
        };
        let Some((name, version, _)) = self.leaving.iter().find(|(.., until)| *until <= now) else { return };
        let members = json!({"credential": name, "version": version});
        let note = PendingAuditEvent::new("credential version removed", "claviger".into(), now, members);
        let changes = [Change::RemoveVersion(name.clone(), *version), Change::QueueAuditEvent(note)];
        // Only if the store has not changed since it was read: the version may be in use again.
        match store.write(&changes, Some(stamp)).await {
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(why @ StoreError::Unusable { .. }) => {
                tracing::warn!(%why, "a credential version whose overlap has ended could not be removed");
            }
        }
    }

    /// Publishes a batch of pending audit events to the trail, and deletes them from the store's outbox. Returns
    /// whether the caller should publish more at once.
    pub(crate) async fn publish_changes(&mut self, server: &Server) -> bool {
        let some = self.notes.get(..MOST_NOTES).unwrap_or(&self.notes);
        let count = some.len();
        if let Some(known) = self.known {
            server.journal().knows_store(known);
        }
        let new = count > 0 && server.journal().admin(some, self.known).await.is_ok();
        if new {
            self.published.extend(self.notes.drain(..count).map(|note| note.id));
        }
        let Some(store) = self.store.as_ref().filter(|_| !self.published.is_empty()) else { return false };
        let published: HashSet<String> = self.published.iter().take(MOST_NOTES).cloned().collect();
        let changes: Vec<Change> = published.iter().cloned().map(Change::AuditEventPublished).collect();
        match store.write(&changes, None).await {
            Ok(()) => {
                self.published.retain(|id| !published.contains(id));
                return new && !self.notes.is_empty();
            }
            // The next poll retries. If the process ends before, the next start publishes the events again. A duplicate
            // is better than a loss, and each event has its id.
            Err(why) if new => {
                tracing::warn!(%why, "audit events that are on the trail could not be deleted from the store");
            }
            Err(_) => {}
        }
        false
    }

    /// Writes the times of the last use of tokens to the store. This never happens while a change is applied: a slow
    /// disk must not delay a revocation.
    pub(crate) async fn flush_last_used(&mut self, snapshot: &Snapshot) {
        let (Some(store), since, now) = (&self.store, self.use_reported.1, seconds(self.context.clock.now()))
        else {
            return;
        };
        let used = snapshot.directory.used().chain(snapshot.directory.used_keys());
        // A call records its use a moment after it read the clock.
        let used = used.filter(|(_, at)| *at >= since - 1);
        let changes: Vec<Change> = used.map(|(id, at)| Change::MarkUsed(id.to_string(), at)).collect();
        self.use_reported.0 = Instant::now();
        if !changes.is_empty()
            && let Err(why) = store.write(&changes, None).await
        {
            // The next write includes what could not be written now.
            return tracing::warn!(%why, "the times of the last use of tokens could not be stored");
        }
        self.use_reported.1 = now;
    }

    /// Updates the metrics of the age of the credentials in force.
    pub(crate) fn update_age_metrics(&self, server: &Server) {
        let ages = &server.metrics.credential_age;
        ages.clear();
        for credential in server.snapshot().custody.iter() {
            let Some(since) = credential.since else { continue };
            let age = self.context.clock.now().duration_since(since).unwrap_or_default().as_secs();
            let credential = NameLabel(Some(credential.name));
            ages.get_or_create(&metrics::Credential { credential })
                .set(i64::try_from(age).unwrap_or(i64::MAX));
        }
    }
}

fn not_reloaded(problems: &Problems) {
    tell_problems(problems);
    tracing::error!("the configuration was not reloaded: {}; the former one stays", problems.summary());
}

impl Context {
    fn inputs<'a>(&self, stored: Option<&'a UnsealedStore>, base: Base<'a>) -> CompileInputs<'a> {
        CompileInputs { environment: &environment, now: self.clock.now(), stored, base }
    }
}

/// The settings that differ and that a running server cannot change.
fn needs_restart(first: &File, now: &File) -> Vec<&'static str> {
    let addresses = |file: &File| {
        file.listeners
            .iter()
            .map(|listener| (listener.address.value, listener.tls.is_some()))
            .collect::<Vec<_>>()
    };
    let admin = |file: &File| (file.admin.address.value, file.admin.tls.is_some());
    let differs = [
        ("state_dir", first.state_dir.value != now.state_dir.value),
        ("workers", first.workers != now.workers),
        ("listeners", addresses(first) != addresses(now)),
        ("admin", admin(first) != admin(now)),
        ("audit", first.audit != now.audit),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::storage::{Change, CredentialRow, Stage, VersionRow};

    /// Until the whole store is in force, the rows that were read may be outdated.
    #[tokio::test(flavor = "current_thread")]
    async fn lets_go_of_nothing_without_the_stamp_of_what_it_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claviger.toml");
        std::fs::write(&path, include_str!("../../config/minimal.toml")).unwrap();
        let config = config::load(&path).unwrap();
        let store = Sqlite::create(&folder.path().join("store.db")).await.unwrap();
        let (upstream, kind) = ("jms".into(), "value".into());
        let credential = CredentialRow { name: "jms".into(), upstream, kind, created: 0, disabled: false };
        let (sealed, until) = (vec![1], Some(1));
        let version = VersionRow {
            credential: "jms".into(),
            version: 1,
            stage: Stage::Retired,
            sealed,
            created: 0,
            until,
        };
        store.write(&[Change::PutCredential(credential), Change::PutVersion(version)], None).await.unwrap();
        let (rows, stamp) = store.read().await.unwrap();
        let context = Context { path, clock: Arc::new(SystemClock), metrics: Arc::default() };
        let mut live = Follower { store: Some(store), ..Follower::without_store(context, config) };
        live.take_pending(&rows);
        for (known, left) in [(None, 1), (Some(stamp), 0)] {
            live.stamp = known;
            live.expire_versions().await;
            let (rows, _) = live.store.as_ref().unwrap().read().await.unwrap();
            assert_eq!(rows.versions.len(), left, "{known:?}");
        }
    }
}
