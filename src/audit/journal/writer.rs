//! The journal's thread: it writes, flushes and rotates, and resumes after a disk failure.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer::{EventBuffer, WakeOn};
use super::checkpoints::CheckpointSigner;
use super::own_events::journal_event;
use super::recover::{self, Recovered};
use super::{Durability, Opening, Settings};
use crate::audit::call::fields::{ascii_json, escape_non_ascii};
use crate::audit::proof::checkpoint::Signer;
use crate::audit::trail::disk::Disk;
use crate::audit::trail::last_head::{LastHead, Signed};
use crate::audit::trail::segment::segment_name;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::storage::Revision;

/// The longest time that a flush may take. After that, calls are refused instead of waiting for it.
pub(in crate::audit) const PATIENCE: Duration = Duration::from_secs(2);
/// Number of pending bytes from which, with `batched`, a worker writes without waiting for the flush. The data is then
/// still in the processor's cache, and no thread has to be woken.
const WRITE: usize = 192 << 10;

pub(in crate::audit) struct JournalCore {
    pub(in crate::audit) disk: Box<dyn Disk>,
    pub(in crate::audit) clock: Arc<dyn Clock>,
    pub(in crate::audit) metrics: Arc<Metrics>,
    pub(in crate::audit) settings: Settings,
    pub(in crate::audit) healthy: AtomicBool,
    started: Instant,
    /// Start of the running flush, in milliseconds since `started` plus one; 0 if no flush is running.
    flushing: AtomicU64,
    /// What recovery found of a former run, until the first segment records it.
    recovered: Mutex<Option<Recovered>>,
    /// The `seq` from which on sinks still need the events.
    needed: AtomicU64,
    /// The `seq` before which every event is on the disk.
    durable: AtomicU64,
    /// The `seq` before which every event is written to the file.
    written: AtomicU64,
    /// The `seq` before which every event must be written to the file before consumers get more bytes.
    required_seq: AtomicU64,
    /// The last head on the disk, until it is stored apart from the trail.
    kept: Mutex<Option<Signed>>,
    /// The revision of the store after its last known change.
    store: Mutex<Option<Revision>>,
    /// Changes by operators from before the first segment, which it records.
    opening: Mutex<Vec<String>>,
    /// Lock order, if several are needed: `segment`, then `signing`, then `tail`.
    segment: Mutex<Option<Segment>>,
    pub(in crate::audit) signing: Mutex<CheckpointSigner>,
    pub(in crate::audit) tail: Mutex<EventBuffer>,
    pub(in crate::audit) wake: Condvar,
}

struct Segment {
    file: Arc<File>,
    len: u64,
    /// The reason why the file can no longer be trusted: a flush or a truncation failed.
    broken: Option<String>,
}

/// A drop guard: however the thread ends, the journal refuses to record after it.
struct Outcome<'s>(&'s JournalCore);

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.0.healthy.store(false, Ordering::Release);
    }
}

impl JournalCore {
    pub(in crate::audit) fn new(
        (disk, signer): (Box<dyn Disk>, Signer),
        (settings, opening): (Settings, Opening),
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
            needed: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            written: AtomicU64::new(0),
            required_seq: AtomicU64::new(0),
            kept: Mutex::default(),
            store: Mutex::new(opening.store),
            opening: Mutex::new(opening.changes),
            segment: Mutex::default(),
            signing: Mutex::new(CheckpointSigner::new(signer)),
            tail: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(in crate::audit) fn tail(&self) -> MutexGuard<'_, EventBuffer> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self) -> MutexGuard<'_, Option<Segment>> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls can be recorded now: the last flush succeeded, and none hangs.
    pub(in crate::audit) fn healthy(&self) -> bool {
        let since = self.flushing.load(Ordering::Acquire);
        let hangs = || Duration::from_millis(self.elapsed_ms().saturating_sub(since)) > PATIENCE;
        self.healthy.load(Ordering::Acquire) && (since == 0 || !hangs())
    }

    /// Returns the `seq` from which on events may not be deleted.
    pub(in crate::audit) fn retention_floor(&self) -> u64 {
        self.needed.load(Ordering::Acquire)
    }

    pub(in crate::audit) fn set_retention_floor(&self, seq: u64) {
        self.needed.store(seq, Ordering::Release);
    }

    /// Returns the `seq` before which every event is on the disk.
    pub(in crate::audit) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Refuses calls until a flush succeeds. If one has just succeeded, the thread's next iteration reports that.
    pub(in crate::audit) fn mark_hung(&self) {
        let mut tail = self.tail();
        self.healthy.store(false, Ordering::Release);
        if !std::mem::replace(&mut tail.failing, true) {
            tracing::error!("the audit journal's disk does not answer: every call is refused until it does");
        }
    }

    /// Stores the last head apart from the trail, if a new one is on the disk since the last time.
    pub(in crate::audit) fn keep_head(&self) -> io::Result<()> {
        let head = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let store = *self.store.lock().unwrap_or_else(PoisonError::into_inner);
        head.map_or(Ok(()), |head| self.disk.keep_head(&LastHead::of(head, self.disk.dir(), store)?))
    }

    /// Sets the revision of the store after its last change.
    pub(in crate::audit) fn knows_store(&self, stamp: Revision) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wakes the thread if it waits for what the buffer now holds.
    pub(in crate::audit) fn wake_writer(&self, tail: &mut EventBuffer) {
        if tail.is_waited_for() {
            tail.waiting = WakeOn::Nothing;
            self.wake.notify_one();
        }
    }

    /// Requires that all events so far are written before consumers get more bytes. With `sync` this always applies;
    /// with `batched` only once enough bytes are pending.
    pub(in crate::audit) fn require_written(&self, tail: &EventBuffer) {
        if self.settings.durability == Durability::Sync || tail.pending.len() >= WRITE {
            self.required_seq.store(tail.next_seq(), Ordering::Release);
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

    pub(in crate::audit) fn run(&self) {
        let _ended = Outcome(self);
        loop {
            let stop = self.wait();
            self.append_suppressed(stop);
            if stop {
                self.append_own("closed", "");
            }
            self.sign_head(stop);
            self.flush_once();
            if stop {
                self.end();
                return;
            }
        }
    }

    /// Flushes the events of the last iteration, and logs how many are not recorded.
    fn end(&self) {
        if !self.tail().pending.is_empty() {
            self.flush_once();
        }
        let tail = self.tail();
        if tail.pending_events + tail.unrecorded > 0 {
            let (pending, unrecorded) = (tail.pending_events, tail.unrecorded);
            tracing::error!(
                pending,
                unrecorded,
                "the audit journal ends with events that it could not record"
            );
        }
    }

    /// Runs one iteration: flushes, notifies the waiters, and updates the health of the disk.
    pub(in crate::audit) fn flush_once(&self) {
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
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
            }
            let (failing, unrecorded) = {
                let mut tail = self.tail();
                (std::mem::take(&mut tail.failing), std::mem::take(&mut tail.unrecorded))
            };
            // A burst that overfills the buffer leaves some events unrecorded, too.
            if failing || unrecorded > 0 {
                self.append_own("resumed", &format!(",\"unrecorded\":{unrecorded}"));
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
                    let segment =
                        self.open_segment(if slot.is_some() { "gap" } else { "opened" }, why.as_deref())?;
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
    pub(in crate::audit) fn write_out(&self) -> io::Result<()> {
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
    fn open_segment(&self, what: &str, why: Option<&str>) -> io::Result<Segment> {
        let mut kept = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tail().head.is_none() && kept.is_none() {
            let verifier = self.signing().verifier();
            *kept = Some(recover::recover(&*self.disk, &verifier)?);
        }
        let recovered = kept.as_ref();
        let now = self.clock.now();
        let mut signing = self.signing();
        let mut tail = self.tail();
        let head = recovered.map(|found| &found.head).or(tail.head.as_ref()).cloned().unwrap_or_default();
        let first_seq = head.next_seq.saturating_sub(tail.pending_events);
        let file = Arc::new(self.disk.create(&segment_name(first_seq, now))?);
        tail.head = Some(head);
        if let Some(found) = recovered {
            signing.go_on(found.tree.clone(), tail.head.as_ref());
        }
        let key = signing.verifier().to_text();
        let Recovered { torn, lost, .. } = kept.take().unwrap_or_default();
        // Lost calls count as open until the lines after this one are on the disk as well.
        let open = tail.open + u64::try_from(lost.len()).unwrap_or(u64::MAX);
        // After a gap it is unknown which outcomes are missing: the next start must read further back.
        let open = if what == "gap" { String::new() } else { format!(",\"open\":{open}") };
        let why = why.map_or(String::new(), |why| format!(",\"reason\":{}", ascii_json(why)));
        // Every segment states the revision in its first line, so that it survives the deletion of older segments.
        let store = *self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let store = store.map_or(String::new(), |stamp| format!(",\"store\":\"{stamp}\""));
        let detail =
            format!("{why},\"torn_bytes\":{torn},\"lost\":{}{open}{store},\"key\":\"{key}\"", lost.len());
        let mut appended = tail.append("journal", now, &[journal_event(what, &detail).as_bytes()]);
        for facts in &lost {
            appended =
                appended.and(tail.append("outcome", now, &[facts, b",\"attempts\":1,\"ended\":\"lost\""]));
        }
        for members in &*self.opening.lock().unwrap_or_else(PoisonError::into_inner) {
            appended = appended.and(tail.append("admin", now, &[escape_non_ascii(members).as_bytes()]));
        }
        appended.map_err(io::Error::other)?;
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if what == "rotated" {
            signing.pass_over();
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
            let next = self.open_segment("rotated", None)?;
            slot.replace(next)
        };
        drop(next);
        // Waiters for lines in the old file are notified only after the next iteration. If this flush fails, lines of
        // the old file may be missing, and the next segment records that.
        self.disk.sync(old).inspect_err(|why| self.mark_broken(why))
    }
}
