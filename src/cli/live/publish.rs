//! What the gateway tells of its own accord: the trail of changes, the store of uses, the metrics of ages.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Follower;
use crate::cli::store;
use crate::gateway::Snapshot;
use crate::metrics::{self, NameLabel};
use crate::server::Server;
use crate::storage::{Change, Rows, Storage as _, StoreError, VersionRow};

/// How often the store is told when tokens were used.
pub(super) const TELL_USE: Duration = Duration::from_secs(10);

/// How many notes the trail is told at one look: many have gathered where nobody served for long, and
/// must not keep a revocation from being seen.
const MOST_NOTES: usize = 250;

impl Follower {
    /// Takes from the rows what is to be done later.
    pub(super) fn take_pending(&mut self, rows: &Rows) {
        self.notes = rows.notes.iter().filter(|note| !self.told.contains(&note.id)).cloned().collect();
        let leaving = |row: &VersionRow| Some((row.credential.clone(), row.version, row.until?));
        self.leaving = rows.versions.iter().filter_map(leaving).collect();
    }

    /// Takes away a version whose overlap has ended; the next goes once this change was followed.
    pub(super) async fn expire_versions(&mut self) {
        let (Some(store), Some(stamp), now) = (&self.store, self.stamp, self.kept.seconds()) else { return };
        let Some((name, version, _)) = self.leaving.iter().find(|(.., until)| *until <= now) else { return };
        let told = [("credential", name.as_str().into()), ("version", (*version).into())];
        let note = store::audit_event(("credential version removed", &told), ("claviger".into(), now));
        let changes = [Change::RemoveVersion(name.clone(), *version), Change::QueueAuditEvent(note)];
        // Only where nobody has put it in use again since it was read.
        match store.write(&changes, Some(stamp)).await {
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(why @ StoreError::Unusable { .. }) => {
                tracing::warn!(%why, "a version whose overlap has ended is kept");
            }
        }
    }

    /// Tells the trail of some of what was changed, and lets the store forget notes once the trail has
    /// them; whether to go on with more at once.
    pub(super) async fn publish_changes(&mut self, server: &Server) -> bool {
        let some = self.notes.get(..MOST_NOTES).unwrap_or(&self.notes);
        let events = some.iter().map(|note| note.members.as_str());
        let count = some.len();
        if let Some(known) = self.known {
            server.journal().knows_store(known);
        }
        let new = count > 0 && server.journal().admin(events, self.known).await.is_ok();
        if new {
            self.told.extend(self.notes.drain(..count).map(|note| note.id));
        }
        let Some(store) = self.store.as_ref().filter(|_| !self.told.is_empty()) else { return false };
        let told: HashSet<String> = self.told.iter().take(MOST_NOTES).cloned().collect();
        let changes: Vec<Change> = told.iter().cloned().map(Change::AuditEventPublished).collect();
        match store.write(&changes, None).await {
            Ok(()) => {
                self.told.retain(|id| !told.contains(id));
                return new && !self.notes.is_empty();
            }
            // Tried again at the next look; should this end before, the next start tells the trail
            // once more: twice is better than never, and each has its id.
            Err(why) if new => tracing::warn!(%why, "the store keeps notes that the trail has"),
            Err(_) => {}
        }
        false
    }

    /// Tells the store when tokens were last used. Never while a change is put in force: a slow disk
    /// must not delay a revocation.
    pub(super) async fn flush_last_used(&mut self, snapshot: &Snapshot) {
        let (Some(store), since, now) = (&self.store, self.told_use.1, self.kept.seconds()) else { return };
        let used = snapshot.directory.used().chain(snapshot.directory.used_keys());
        // A call notes its use a moment after it looked at the clock.
        let used = used.filter(|(_, at)| *at >= since - 1);
        let changes: Vec<Change> = used.map(|(id, at)| Change::MarkUsed(id.to_string(), at)).collect();
        self.told_use.0 = Instant::now();
        if !changes.is_empty()
            && let Err(why) = store.write(&changes, None).await
        {
            // What could not be told now is told with the next.
            return tracing::warn!(%why, "the store was not told when tokens were used");
        }
        self.told_use.1 = now;
    }

    /// Tells the metrics how old the credentials in force are.
    pub(super) fn update_age_metrics(&self, server: &Server) {
        let ages = &server.metrics().credential_age;
        ages.clear();
        for credential in server.snapshot().custody.iter() {
            let Some(since) = credential.since else { continue };
            let age = self.kept.clock.now().duration_since(since).unwrap_or_default().as_secs();
            let credential = NameLabel(Some(credential.name));
            ages.get_or_create(&metrics::Credential { credential })
                .set(i64::try_from(age).unwrap_or(i64::MAX));
        }
    }
}
