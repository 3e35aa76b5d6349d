//! Recovery of a former run's state from the folder: the chain's end, a torn tail, calls without an outcome.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::audit::proof::checkpoint::CheckpointKey;
use crate::audit::proof::merkle::{Hash, MerkleTree};
use crate::audit::trail::chain::{self, ChainHead};
use crate::audit::trail::disk::Disk;
use crate::audit::trail::event::{Event, EventKind};
use crate::audit::trail::misnamed::find_misnamed;
use crate::audit::trail::retired::RetiredStub;
use crate::audit::trail::segment::{is_damage, open, read_line, segments};

/// The largest accepted `seq`. No real chain reaches it, so a larger one is forged. The chain needs numbers to
/// continue with after it.
const LAST_SEQ: u64 = u64::MAX / 2;

/// The recovered state of a former run.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The end of the chain, from which it continues.
    pub(super) head: ChainHead,
    /// Number of bytes cut off the last segment because they are not a complete line.
    pub(super) torn: u64,
    /// The members of each intent without an outcome.
    pub(super) lost: Vec<Vec<u8>>,
    /// The Merkle tree over all existing events.
    pub(super) tree: MerkleTree,
}

/// Reads the existing segments, and cuts a torn tail off the last one (its bytes are kept in a file beside it). Reads
/// back to a point where no call was open, and to a head that `verifier` accepts.
pub(super) fn recover(disk: &dyn Disk, verifier: &CheckpointKey) -> io::Result<Recovered> {
    disk.prepare()?;
    let mut recovered = Recovered::default();
    let mut outcomes: HashSet<String> = HashSet::new();
    let (mut last, mut reaches_back) = (true, false);
    let (mut tree, mut leaves): (Option<MerkleTree>, Vec<Vec<Hash>>) = (None, Vec::new());
    for path in segments(disk.dir())?.iter().rev() {
        if let Some(seq) = find_misnamed(path)? {
            tracing::error!(segment = %path.display(), seq, "a segment does not begin with the event that its name says, and is left out");
            continue;
        }
        let scan = Scan::of(path, &mut outcomes, verifier)?;
        if tree.is_none() {
            tree = scan.tree;
            leaves.push(scan.leaves);
        }
        if reaches_back {
            if tree.is_some() {
                break;
            }
            continue;
        }
        if last && scan.good_end < scan.len {
            recovered.torn += scan.len - scan.good_end;
            cut(disk, path, scan.good_end)?;
        }
        recovered.lost.splice(0..0, scan.lost);
        let Some(head) = scan.head else { continue };
        if last {
            recovered.head = head;
            last = false;
        }
        reaches_back = scan.reaches_back;
        if reaches_back && tree.is_some() {
            break;
        }
    }
    if let Some(stub) = RetiredStub::latest(disk.dir())?.filter(|_| tree.is_none()) {
        // Existing events continue from the retired ones. A trail with nothing but a stub does, too.
        tree = stub.tree();
        if last {
            recovered.head =
                ChainHead { next_seq: stub.through + 1, hash: stub.hash().unwrap_or(chain::GENESIS) };
        }
    }
    recovered.tree = tree.unwrap_or_default();
    for leaf in leaves.iter().rev().flatten() {
        recovered.tree.push(leaf);
    }
    Ok(recovered)
}

/// The result of reading one segment.
#[derive(Default)]
struct Scan {
    len: u64,
    /// The byte offset after the last complete line that carries its own hash.
    good_end: u64,
    head: Option<ChainHead>,
    lost: Vec<Vec<u8>>,
    /// Whether a line states that no call was open at that point: earlier segments then hold no orphaned intent.
    reaches_back: bool,
    /// The tree of the last head in the segment. `leaves` are the hashes of the lines from that head on, or of all
    /// lines if there is no head.
    tree: Option<MerkleTree>,
    leaves: Vec<Hash>,
}

impl Scan {
    fn of(path: &Path, outcomes: &mut HashSet<String>, verifier: &CheckpointKey) -> io::Result<Self> {
        let mut reader = open(path)?;
        let (mut scan, mut line) = (Self::default(), Vec::new());
        let mut intents: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let read = match read_line(&mut reader, &mut line) {
                Ok(0) => break,
                Err(error) if is_damage(&error) => {
                    tracing::error!(segment = %path.display(), %error, "a compressed segment is damaged");
                    break;
                }
                read => read?,
            };
            scan.len += u64::try_from(read).unwrap_or(u64::MAX);
            let Some(whole) = line.strip_suffix(b"\n") else { continue };
            let Some((body, hash)) = chain::verified_line(whole) else { continue };
            let Some(event) = Event::parse(whole) else { continue };
            if event.seq > LAST_SEQ {
                continue;
            }
            scan.good_end = scan.len;
            scan.head = Some(ChainHead { next_seq: event.seq + 1, hash: chain::hex(&hash) });
            if event.event == EventKind::Head
                && let Some(tree) = verified_tree(&event, verifier)
            {
                (scan.tree, scan.leaves) = (Some(tree), Vec::new());
            }
            scan.leaves.push(hash);
            match (event.event, event.request_id.as_deref()) {
                (EventKind::Intent, Some(id)) => intents.push((id.to_owned(), facts_of(body))),
                (EventKind::Outcome, Some(id)) => {
                    outcomes.insert(id.to_owned());
                }
                _ => scan.reaches_back |= event.open == Some(0),
            }
        }
        let orphans = intents.into_iter().filter(|(id, _)| !outcomes.remove(id));
        scan.lost = orphans.map(|(_, facts)| facts).collect();
        Ok(scan)
    }
}

/// Returns the tree before a head, if the verifier's key has signed its root.
fn verified_tree(event: &Event<'_>, verifier: &CheckpointKey) -> Option<MerkleTree> {
    let head = verifier.open(event.note.as_deref()?)?;
    head.tree(&event.peaks).filter(|_| head.size + 1 == event.seq)
}

/// Returns those members of an intent that its outcome repeats.
fn facts_of(body: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"\"event\":\"intent\"";
    let at = memchr::memmem::find(body, MARK).map_or(body.len(), |at| at + MARK.len());
    body.get(at..).unwrap_or_default().to_vec()
}

fn cut(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(len))?;
    file.read_to_end(&mut torn)?;
    let torn_file = path.with_extension("torn");
    OpenOptions::new().append(true).create(true).mode(0o600).open(torn_file)?.write_all(&torn)?;
    disk.cut(&file, len)?;
    disk.sync(&file)
}
