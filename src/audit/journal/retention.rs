//! Retention of closed segments: compressed after a while, and deleted by age or total size. A separate thread does
//! this beside the journal, at the lowest priority.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use super::core::JournalCore;
use crate::audit::proof::merkle::MerkleTree;
use crate::audit::trail::chain::{GENESIS, Hex, hex, verified_line};
use crate::audit::trail::event::{Event, JournalAction};
use crate::audit::trail::retired::RetiredStub;
use crate::audit::trail::segment::{
    compress, compressed, is_compressed, open, parse_segment_name, read_line, segments,
};

/// Interval between two scans of the folder. Neither compression nor deletion is urgent.
const LOOK: Duration = Duration::from_secs(2);
/// Interval at which a new last head is stored apart from the trail.
const KEEP_HEAD: Duration = Duration::from_millis(250);
const LOWEST_PRIORITY: i32 = 19;

/// A closed segment.
struct Closed {
    path: PathBuf,
    /// The `seq` after its last event.
    next: u64,
    ended: SystemTime,
    len: u64,
}

/// The state after the events of a segment were verified: their tree and last hash.
struct Replayed {
    tree: MerkleTree,
    last: Hex,
}

pub(super) struct Archiver {
    core: Arc<JournalCore>,
    /// The last errors that were logged for the head and for closed segments, so that each is logged once.
    logged: (Option<String>, Option<String>),
    /// The state after the oldest segments that were verified, from which the next check continues.
    passed: Option<Replayed>,
}

impl Archiver {
    pub(super) fn new(core: Arc<JournalCore>) -> Self {
        Self { core, logged: (None, None), passed: None }
    }

    /// Runs until the other end of `stop` is dropped.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        // On Linux this is the priority of one thread. If it fails, the thread only competes more with others.
        rustix::process::setpriority_process(None, LOWEST_PRIORITY).unwrap_or_default();
        let mut last_scan = Instant::now();
        while stop.recv_timeout(KEEP_HEAD) == Err(RecvTimeoutError::Timeout) {
            if !self.core.healthy() {
                continue;
            }
            let stored = self.core.keep_head();
            let what = "cannot store the last head of the trail in the state folder: a cut of the trail may go unnoticed";
            log_once(&mut self.logged.0, stored, what);
            if last_scan.elapsed() >= LOOK {
                let archived = self.rescan();
                let what = "closed segments of the trail are neither compressed nor deleted";
                log_once(&mut self.logged.1, archived, what);
                last_scan = Instant::now();
            }
        }
    }

    fn rescan(&mut self) -> io::Result<()> {
        let (keep, dir) = (self.core.settings.keep, self.core.disk.dir().to_owned());
        let now = self.core.clock.now();
        let age = |closed: &Closed| now.duration_since(closed.ended).unwrap_or_default();
        let closed = closed_segments(&dir)?;
        if let Some(stub) = RetiredStub::latest(&dir)? {
            // Remove segments that an earlier run retired but did not delete.
            let gone: Vec<_> = closed.iter().filter(|closed| closed.next <= stub.through + 1).collect();
            if !gone.is_empty() {
                return gone.into_iter().try_for_each(|closed| fs::remove_file(&closed.path));
            }
        }
        let mut total: u64 = closed.iter().map(|closed| closed.len).sum();
        let needed = self.core.retention_floor.load(Ordering::Acquire);
        let surplus = closed.iter().take_while(|oldest| {
            let goes =
                keep.age.is_some_and(|most| age(oldest) > most) || keep.size.is_some_and(|most| total > most);
            total = total.saturating_sub(oldest.len);
            goes && oldest.next <= needed
        });
        let count = surplus.count();
        if let Some((surplus, _)) = closed.split_at_checked(count).filter(|_| count > 0) {
            self.retire(&dir, surplus)?;
        }
        for aged in
            closed.iter().skip(count).filter(|aged| !is_compressed(&aged.path) && age(aged) >= keep.plain)
        {
            compress_file(&aged.path)?;
        }
        Ok(())
    }

    /// Retires the oldest segments: verifies them, records that on the trail, writes a stub, and deletes them.
    fn retire(&mut self, dir: &Path, surplus: &[Closed]) -> io::Result<()> {
        let Some(last) = surplus.last() else { return Ok(()) };
        let mut passed = match (self.passed.take(), RetiredStub::latest(dir)?) {
            (Some(passed), _) => passed,
            (None, Some(stub)) => {
                let ours = self.core.signing().verifier().open(&stub.note);
                let from = || Some(Replayed { tree: stub.tree_of(&ours?)?, last: stub.hash()? });
                from().ok_or_else(|| {
                    io::Error::other(
                        "the stub of the deleted segments is not signed by the key of this gateway",
                    )
                })?
            }
            (None, None) => Replayed { tree: MerkleTree::default(), last: GENESIS },
        };
        for closed in surplus {
            passed.pass(&closed.path)?;
        }
        let (through, segments) = (passed.tree.size, surplus.len());
        let bytes: u64 = surplus.iter().map(|closed| closed.len).sum();
        let note = self.core.signing().sign_now(&passed.tree, self.core.clock.now());
        // Record the event before anything is deleted.
        let details = [("through", through.into()), ("segments", segments.into()), ("bytes", bytes.into())];
        if !self.core.append_and_wait(JournalAction::Retired, &details) {
            return Err(io::Error::other("the journal cannot record now"));
        }
        RetiredStub::new(&passed.tree, &passed.last, note).keep(dir, &last.path)?;
        for closed in surplus {
            fs::remove_file(&closed.path)?;
        }
        tracing::info!(through, segments, bytes, "the oldest segments of the trail were deleted");
        self.passed = Some(passed);
        Ok(())
    }
}

/// Logs the error of `done` with the message `what`, unless the same error was logged the last time.
fn log_once(logged: &mut Option<String>, done: io::Result<()>, what: &str) {
    let error = done.err().map(|error| error.to_string());
    if let Some(error) = error.as_ref().filter(|error| logged.as_ref() != Some(error)) {
        tracing::error!(%error, "{what}");
    }
    *logged = error;
}

impl Replayed {
    /// Verifies one segment.
    ///
    /// # Errors
    /// An I/O error if it cannot be read or does not match the chain. Such a segment is evidence and is never deleted.
    fn pass(&mut self, path: &Path) -> io::Result<()> {
        let (mut reader, mut line, mut number) = (open(path)?, Vec::new(), 0);
        while read_line(&mut reader, &mut line)? > 0 {
            number += 1;
            let verify = || {
                let whole = line.strip_suffix(b"\n")?;
                let (_, hash) = verified_line(whole)?;
                let event = Event::parse(whole)?;
                let follows = event.prev?.as_bytes() == self.last;
                (event.seq == self.tree.size + 1 && follows).then_some(hash)
            };
            let hash = verify().ok_or_else(|| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                io::Error::other(format!(
                    "{name}:{number} is not what was recorded; run `claviger audit verify`"
                ))
            })?;
            self.tree.push(&hash);
            self.last = hex(&hash);
        }
        Ok(())
    }
}

/// Lists all segments except the one that is being written.
fn closed_segments(dir: &Path) -> io::Result<Vec<Closed>> {
    let paths = segments(dir)?;
    let mut found = Vec::new();
    for (path, next) in paths.iter().zip(paths.iter().skip(1)) {
        // A segment ends where the next one begins. A file with a foreign name ends the list.
        let Some((next, ended)) = parse_segment_name(next) else { break };
        found.push(Closed { path: path.clone(), next, ended, len: fs::metadata(path)?.len() });
    }
    Ok(found)
}

/// Compresses one segment. Removes the original once the compressed file was read back and compared with it.
fn compress_file(path: &Path) -> io::Result<()> {
    let target = compressed(path);
    let fresh = target.with_extension("new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let mut out = BufWriter::new(file);
    compress(&mut BufReader::new(File::open(path)?), &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    let mut again = BufReader::new(zstd::stream::read::Decoder::new(File::open(&fresh)?)?);
    if !is_same(&mut BufReader::new(File::open(path)?), &mut again)? {
        return Err(io::Error::other(format!(
            "{}: the compressed file differs from the segment",
            path.display()
        )));
    }
    fs::rename(&fresh, &target)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    fs::remove_file(path)
}

fn is_same(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    loop {
        of_one.clear();
        of_other.clear();
        let read = one.by_ref().take(1 << 16).read_to_end(&mut of_one)?;
        other.by_ref().take(1 << 16).read_to_end(&mut of_other)?;
        if of_one != of_other || read == 0 {
            return Ok(of_one == of_other);
        }
    }
}
