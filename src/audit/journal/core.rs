//! The state of a journal, shared by the calls that append events and by its threads. It appends, writes and flushes,
//! and marks the trail as broken when the disk fails.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot;

use super::buffer::{EventBuffer, WakeOn};
use super::checkpoints::CheckpointSigner;
use super::recover::{self, Recovered};
use super::settings::{Durability, Opening, Settings, Unrecorded};
use super::suppressed::RefusalSource;
use crate::audit::proof::checkpoint::Signer;
use crate::audit::trail::disk::Disk;
use crate::audit::trail::event::{EventKind, JournalAction, Outcome, format_admin, format_members};
use crate::audit::trail::last_head::LastHead;
use crate::audit::trail::segment::segment_name;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::storage::{PendingAuditEvent, Revision};

/// The longest time that a flush may take. After that, calls are refused instead of waiting for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Number of pending bytes from which, with `batched`, a worker writes without waiting for the flush. The data is then
/// still in the processor's cache, and no thread has to be woken.
const WRITE: usize = 192 << 10;

/// The journal as its handles and threads share it.
pub struct JournalCore {
    pub(super) disk: Box<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(in crate::audit) metrics: Arc<Metrics>,
    pub(super) settings: Settings,
    pub(super) healthy: AtomicBool,
    started: Instant,
    /// Start of the running flush, in milliseconds since `started` plus one; 0 if no flush is running.
    flushing: AtomicU64,
    /// What recovery found of a former run, until the first segment records it.
    recovered: Mutex<Option<Recovered>>,
    /// The `seq` from which on sinks still need the events.
    pub(super) retention_floor: AtomicU64,
    /// The `seq` before which every event is on the disk.
    durable: AtomicU64,
    /// The `seq` before which every event is written to the file.
    written: AtomicU64,
    /// The `seq` before which every event must be written to the file before consumers get more bytes.
    required_seq: AtomicU64,
    /// The last head on the disk, until it is stored apart from the trail.
    unsaved_head: Mutex<Option<LastHead>>,
    /// The revision of the store after its last known change.
    store: Mutex<Option<Revision>>,
    /// Changes by operators from before the first segment, which it records.
    opening: Mutex<Vec<PendingAuditEvent>>,
    /// Lock order, if several are needed: `segment`, then `signing`, then `tail`.
    segment: Mutex<Option<Segment>>,
    pub(super) signing: Mutex<CheckpointSigner>,
    pub(super) tail: Mutex<EventBuffer>,
    pub(super) wake: Condvar,
}

struct Segment {
    file: Arc<File>,
    len: u64,
    /// The reason why the file can no longer be trusted: a flush or a truncation failed.
    broken: Option<String>,
}

impl JournalCore {
    pub(super) fn new(
        opening: Opening,
        (disk, signer): (Box<dyn Disk>, Signer),
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            disk,
            clock,
            metrics,
            settings,
            healthy: AtomicBool::new(false),
            started: Instant::now(),
            flushing: AtomicU64::new(0),
            recovered: Mutex::default(),
            // Until a retention floor is set, all events are needed.
            retention_floor: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            written: AtomicU64::new(0),
            required_seq: AtomicU64::new(0),
            unsaved_head: Mutex::default(),
            store: Mutex::new(opening.store),
            opening: Mutex::new(opening.changes),
            segment: Mutex::default(),
            signing: Mutex::new(CheckpointSigner::new(signer)),
            tail: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, EventBuffer> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self) -> MutexGuard<'_, Option<Segment>> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls can be recorded now: the last flush succeeded, and none hangs.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let since = self.flushing.load(Ordering::Acquire);
        let hangs = || Duration::from_millis(self.elapsed_ms().saturating_sub(since)) > PATIENCE;
        self.healthy.load(Ordering::Acquire) && (since == 0 || !hangs())
    }

    /// Sets the `seq` from which on events may not be deleted yet. Until this is called, none may be deleted.
    pub fn set_retention_floor(&self, seq: u64) {
        self.retention_floor.store(seq, Ordering::Release);
    }

    /// Returns the `seq` before which every event is on the disk. Sinks may read events up to there.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Stores the last head apart from the trail, if a new one is on the disk since the last time.
    pub(super) fn keep_head(&self) -> io::Result<()> {
        let head = self.unsaved_head.lock().unwrap_or_else(PoisonError::into_inner).take();
        let store = *self.store.lock().unwrap_or_else(PoisonError::into_inner);
        head.map_or(Ok(()), |head| self.disk.keep_head(&head.complete(self.disk.dir(), store)?))
    }

    /// Sets the revision of the store after its last change, for the segments that are begun from now on.
    pub fn knows_store(&self, stamp: Revision) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wakes the thread if it waits for what the buffer now holds.
    pub(super) fn wake_writer(&self, tail: &mut EventBuffer) {
        if tail.is_waited_for() {
            tail.waiting = WakeOn::Nothing;
            self.wake.notify_one();
        }
    }

    /// Whether consumers may get more bytes.
    pub(in crate::audit) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire) >= self.required_seq.load(Ordering::Acquire) || !self.healthy()
    }

    /// Writes pending events without waiting for the thread.
    pub(in crate::audit) fn write(&self) {
        // The journal's thread sees a failure again and handles it. The thread may be between its own write and its
        // flush, so the events written here need another flush.
        self.write_out().unwrap_or_default();
        let mut tail = self.tail();
        tail.unflushed = true;
        self.wake_writer(&mut tail);
    }

    /// Appends the intent of a call that arrived at `time`. With `sync`, the receiver reports when it is durable.
    pub(in crate::audit) fn intent(
        &self,
        time: SystemTime,
        facts: &[u8],
    ) -> Result<Option<oneshot::Receiver<bool>>, Unrecorded> {
        if !self.healthy() {
            return Err(Unrecorded);
        }
        let mut tail = self.tail();
        if tail.stop || tail.is_full() {
            return Err(Unrecorded);
        }
        tail.append(EventKind::Intent, time, &[facts])?;
        tail.open += 1;
        let durable = match self.settings.durability {
            Durability::Sync => {
                let (waiter, durable) = oneshot::channel();
                tail.waiters.push(waiter);
                Some(durable)
            }
            Durability::Batched => None,
        };
        self.wake_writer(&mut tail);
        Ok(durable)
    }

    /// Appends an outcome. `closes` is whether an intent of this call was appended before.
    pub(in crate::audit) fn outcome(&self, members: &[u8], closes: bool) {
        let now = self.clock.now();
        let mut tail = self.tail();
        if closes {
            tail.open = tail.open.saturating_sub(1);
        } else if tail.is_full() {
            tail.unrecorded += 1;
            return;
        }
        if tail.append(EventKind::Outcome, now, &[members]).is_err() {
            tail.unrecorded += 1;
            return;
        }
        // Consumers get no more bytes until these events are written.
        if self.settings.durability == Durability::Sync || tail.pending.len() >= WRITE {
            self.required_seq.store(tail.next_seq(), Ordering::Release);
        }
        self.wake_writer(&mut tail);
    }

    /// Counts a refusal that arrived at `time`. The trail gets one event with the count within about a minute.
    pub(in crate::audit) fn suppressed(&self, source: RefusalSource, time: SystemTime) {
        let mut tail = self.tail();
        // Only the first refusal sets the time at which the thread must wake up.
        if tail.suppressed.count(source, (time, Instant::now())) {
            self.wake_writer(&mut tail);
        }
    }

    /// Records changes by operators, and returns when all of them are on the disk. One flush covers them all.
    ///
    /// `store` is the revision of the store after these changes.
    ///
    /// # Errors
    /// [`Unrecorded`] if any event is not on the disk. The caller must retry all events, though some may be recorded.
    pub async fn admin<'e>(
        &self,
        events: impl IntoIterator<Item = &'e PendingAuditEvent>,
        store: Option<Revision>,
    ) -> Result<(), Unrecorded> {
        let (waiter, durable) = oneshot::channel();
        let events: Vec<String> = events.into_iter().map(|event| format_admin(event, store)).collect();
        {
            let mut tail = self.tail();
            if !self.healthy() || tail.stop || tail.is_full() {
                return Err(Unrecorded);
            }
            for members in &events {
                tail.append(EventKind::Admin, self.clock.now(), &[members.as_bytes()])?;
            }
            tail.waiters.push(waiter);
            self.wake_writer(&mut tail);
        }
        if self.wait_durable(durable).await { Ok(()) } else { Err(Unrecorded) }
    }

    /// Waits until an appended event is on the disk. Returns whether it is. After one time-out, no other call waits for
    /// the same flush.
    pub(in crate::audit) async fn wait_durable(&self, durable: oneshot::Receiver<bool>) -> bool {
        let flushed = tokio::time::timeout(PATIENCE, durable).await;
        if flushed.is_err() {
            let mut tail = self.tail();
            // If a flush has just succeeded, the thread's next iteration reports that.
            self.healthy.store(false, Ordering::Release);
            if !std::mem::replace(&mut tail.failing, true) {
                tracing::error!(
                    "the audit journal's disk does not answer: every call is refused until it does"
                );
            }
        }
        matches!(flushed, Ok(Ok(true)))
    }

    /// Appends one event per source of suppressed refusals. With `all`, appends those that are not due yet, too.
    pub(super) fn append_suppressed(&self, all: bool) {
        let now = self.clock.now();
        let mut tail = self.tail();
        if tail.head.is_none() || tail.is_full() {
            return;
        }
        for details in tail.suppressed.take_due(Instant::now(), all) {
            if tail.append_own(now, JournalAction::Suppressed, &details).is_err() {
                return;
            }
        }
    }

    /// Appends an event of the journal's own and waits until it is on the disk. Returns whether it is.
    pub(super) fn append_and_wait(&self, action: JournalAction, details: &[(&'static str, Value)]) -> bool {
        let (waiter, durable) = oneshot::channel();
        {
            let mut tail = self.tail();
            if tail.stop || tail.is_full() || tail.append_own(self.clock.now(), action, details).is_err() {
                return false;
            }
            tail.waiters.push(waiter);
            self.wake_writer(&mut tail);
        }
        durable.blocking_recv() == Ok(true)
    }

    pub(super) fn append_own(&self, action: JournalAction, details: &[(&'static str, Value)]) {
        if self.tail().append_own(self.clock.now(), action, details).is_err() {
            tracing::warn!(what = action.as_str(), "a journal event could not be recorded");
        }
    }

    pub(super) fn signing(&self) -> MutexGuard<'_, CheckpointSigner> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs a head if one is due. With `at_once`, signs one as soon as any event has none.
    pub(super) fn sign_head(&self, at_once: bool) {
        let signing = &mut *self.signing();
        // Add most leaves without the lock that every append needs.
        let leaves = std::mem::take(&mut self.tail().leaves);
        signing.add(leaves);
        let unsigned = signing.events_since();
        if unsigned == 0 {
            return;
        }
        let heads = self.settings.heads;
        let since = *signing.since.get_or_insert_with(Instant::now);
        let due = at_once || unsigned >= heads.events || since.elapsed() >= heads.interval;
        let mut tail = self.tail();
        tail.head_due = Some(since + heads.interval);
        if due {
            signing.sign(&mut tail, self.clock.now());
        }
    }

    /// Runs one iteration: flushes, notifies the waiters, and updates the health of the disk.
    pub(super) fn flush_once(&self) {
        let began = Instant::now();
        let mut waiters = {
            let mut tail = self.tail();
            tail.unflushed = false;
            std::mem::take(&mut tail.waiters)
        };
        self.flushing.store(self.elapsed_ms() + 1, Ordering::Release);
        let flushed = self.flush();
        self.flushing.store(0, Ordering::Release);
        self.metrics.audit_lag.set(i64::try_from(self.tail().pending_events).unwrap_or(i64::MAX));
        self.healthy.store(flushed.is_ok(), Ordering::Release);
        if let Err(error) = &flushed {
            let first = {
                let mut tail = self.tail();
                waiters.append(&mut tail.waiters);
                !std::mem::replace(&mut tail.failing, true)
            };
            if first {
                tracing::error!(%error, "the audit journal cannot record: every call is refused until it can");
            }
        } else {
            if let Some(head) = self.signing().latest_before(self.durable()) {
                *self.unsaved_head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
            }
            let (failing, unrecorded) = {
                let mut tail = self.tail();
                (std::mem::take(&mut tail.failing), std::mem::take(&mut tail.unrecorded))
            };
            // A burst that overfills the buffer leaves some events unrecorded, too.
            if failing || unrecorded > 0 {
                self.append_own(JournalAction::Resumed, &[("unrecorded", unrecorded.into())]);
                tracing::info!(unrecorded, "the audit journal records again");
            }
        }
        self.metrics.audit_commit.observe(began.elapsed().as_secs_f64());
        for waiter in waiters {
            // A waiter that was dropped has closed its entry itself.
            waiter.send(flushed.is_ok()).unwrap_or_default();
        }
    }

    fn flush(&self) -> io::Result<()> {
        let file = {
            let mut slot = self.segment();
            match &*slot {
                Some(segment) if segment.broken.is_none() => Arc::clone(&segment.file),
                _ => {
                    if let Some(broken) = &*slot {
                        // Pending events that were appended in part are appended again, in full, to the next segment.
                        self.disk.cut(&broken.file, broken.len)?;
                    }
                    let why = slot.as_ref().and_then(|broken| broken.broken.clone());
                    let action = if slot.is_some() { JournalAction::Gap } else { JournalAction::Opened };
                    let segment = self.open_segment(action, why)?;
                    Arc::clone(&slot.insert(segment).file)
                }
            }
        };
        self.write_out()?;
        let written = self.written.load(Ordering::Acquire);
        self.sync(&file)?;
        self.durable.store(written, Ordering::Release);
        let full = self.segment().as_ref().is_some_and(|segment| segment.len >= self.settings.rotate);
        if full {
            self.rotate(&file)?;
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.disk.sync(file).inspect_err(|why| {
            // The kernel may have dropped data that it failed to write: never continue with this file.
            self.mark_broken(why);
        })
    }

    fn mark_broken(&self, why: &io::Error) {
        if let Some(segment) = self.segment().as_mut() {
            segment.broken.get_or_insert_with(|| why.to_string());
        }
    }

    /// Writes all pending events to the open segment.
    pub(super) fn write_out(&self) -> io::Result<()> {
        let mut slot = self.segment();
        let Some(segment) = slot.as_mut().filter(|segment| segment.broken.is_none()) else {
            return Err(io::Error::other("no segment is open"));
        };
        let (mut batch, events, next) = {
            let mut tail = self.tail();
            if tail.pending.is_empty() {
                return Ok(());
            }
            let spare = std::mem::take(&mut tail.spare);
            let next = tail.next_seq();
            (std::mem::replace(&mut tail.pending, spare), std::mem::take(&mut tail.pending_events), next)
        };
        let appended = self.disk.append(&segment.file, &batch);
        if appended.is_ok() {
            self.written.store(next, Ordering::Release);
            segment.len += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            batch.clear();
            batch.shrink_to(4 * WRITE);
            self.tail().spare = batch;
        } else {
            segment.broken = self.disk.cut(&segment.file, segment.len).err().map(|why| why.to_string());
            let mut tail = self.tail();
            tail.pending_events += events;
            batch.append(&mut tail.pending);
            tail.pending = batch;
        }
        appended
    }

    /// Begins a segment. The first time, recovers the state of a former run before.
    fn open_segment(&self, action: JournalAction, why: Option<String>) -> io::Result<Segment> {
        let mut former = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tail().head.is_none() && former.is_none() {
            let verifier = self.signing().verifier();
            *former = Some(recover::recover(&*self.disk, &verifier)?);
        }
        let recovered = former.as_ref();
        let now = self.clock.now();
        let mut signing = self.signing();
        let mut tail = self.tail();
        let head = recovered.map(|found| &found.head).or(tail.head.as_ref()).cloned().unwrap_or_default();
        let first_seq = head.next_seq.saturating_sub(tail.pending_events);
        let file = Arc::new(self.disk.create(&segment_name(first_seq, now))?);
        tail.head = Some(head);
        if let Some(found) = recovered {
            signing.continue_tree(found.tree.clone(), tail.head.as_ref());
        }
        let key = signing.verifier().to_text();
        let Recovered { torn, lost, .. } = former.take().unwrap_or_default();
        let mut details: Vec<(&str, Value)> = why.map(|why| ("reason", why.into())).into_iter().collect();
        details.extend([("torn_bytes", torn.into()), ("lost", lost.len().into())]);
        // Lost calls count as open until the lines after this one are on the disk as well.
        let open = tail.open + u64::try_from(lost.len()).unwrap_or(u64::MAX);
        // After a gap it is unknown which outcomes are missing: the next start must read further back.
        details.extend((action != JournalAction::Gap).then(|| ("open", open.into())));
        // Every segment states the revision in its first line, so that it survives the deletion of older segments.
        let store = *self.store.lock().unwrap_or_else(PoisonError::into_inner);
        details.extend(store.map(|store| ("store", store.to_string().into())));
        details.push(("key", key.into()));
        let mut appended = tail.append_own(now, action, &details);
        let end = format_members(&[("attempts", 1.into()), ("ended", Outcome::Lost.as_str().into())]);
        for facts in &lost {
            appended = appended.and(tail.append(EventKind::Outcome, now, &[facts, end.as_bytes()]));
        }
        for change in &*self.opening.lock().unwrap_or_else(PoisonError::into_inner) {
            let members = format_admin(change, None);
            appended = appended.and(tail.append(EventKind::Admin, now, &[members.as_bytes()]));
        }
        appended.map_err(io::Error::other)?;
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if action == JournalAction::Rotated {
            signing.count_own();
        } else {
            // No trail may be without a head.
            signing.sign(&mut tail, now);
        }
        Ok(Segment { file, len: 0, broken: None })
    }

    /// Ends the full segment and begins the next one.
    fn rotate(&self, old: &File) -> io::Result<()> {
        self.sign_head(true);
        self.write_out()?;
        let next = {
            let mut slot = self.segment();
            let next = self.open_segment(JournalAction::Rotated, None)?;
            slot.replace(next)
        };
        drop(next);
        // Waiters for lines in the old file are notified only after the next iteration. If this flush fails, lines of
        // the old file may be missing, and the next segment records that.
        self.disk.sync(old).inspect_err(|why| self.mark_broken(why))
    }
}
