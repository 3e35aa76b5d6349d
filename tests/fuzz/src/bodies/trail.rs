//! Trails: any bytes are read without a panic, and of an intact one no byte can be changed unnoticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::audit::trail::chain::{ChainHead, hash_of, hex};
use claviger::audit::{
    CheckpointPolicy, Disk, Durability, Folder, Journal, Opening, Report, Retention, Settings, Signer,
    TrustAnchors, recent_nonces,
};
use claviger::clock::SystemClock;
use claviger::metrics::Metrics;

use super::room;

const SEGMENT: &str = "audit-000000000001-20260101T000000.000000Z.jsonl";

/// The first byte says what the rest is: a segment as it stands, lines to which their hashes are to be added, or the texts
/// of events that are to be chained.
pub fn body(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    room::with(|room| {
        let dir = room.join("trail");
        fs::create_dir_all(&dir).unwrap();
        match kind % 3 {
            0 => any(&dir, rest),
            1 => any(&dir, &hashed(rest)),
            _ => chained(&dir, rest),
        }
        fs::remove_dir_all(&dir).unwrap();
    });
}

/// Whatever stands there, it can be verified, and a gateway can start on it.
fn any(dir: &Path, segment: &[u8]) {
    let before = put(dir, segment);
    recent_nonces(dir, SystemTime::UNIX_EPOCH, |_, _| {}).unwrap();
    let heads = CheckpointPolicy { events: 1000, interval: Duration::from_secs(10) };
    let keep = Retention { plain: Duration::from_secs(10), age: None, size: None };
    let settings = Settings { durability: Durability::Batched, rotate: 1 << 20, heads, keep };
    let disk: (Box<dyn Disk>, _) =
        (Box::new(Folder::new(PathBuf::from(dir))), Signer::new("fuzzed", &[7; 32]).unwrap());
    let (clock, metrics) = (Arc::new(SystemClock), Arc::<Metrics>::default());
    let (journal, threads) = Journal::open(Opening::default(), disk, settings, clock, metrics).unwrap();
    journal.close(threads);
    let after = verified(dir);
    if before.finding.is_none() {
        assert_eq!(after.finding, None, "what was intact is intact after a start");
        assert_eq!((after.open, after.unfinished_bytes), (0, 0));
        assert!(after.events > before.events);
    }
    if before.finding.is_none() && before.unfinished_bytes == 0 {
        changed(dir, segment, before.events, usize::from(*segment.first().unwrap_or(&0)));
    }
}

fn verified(dir: &Path) -> Report {
    claviger::audit::verify(dir, &TrustAnchors::default(), |_| {}).unwrap()
}

/// A trail as it is written, with texts of our own.
fn chained(dir: &Path, rest: &[u8]) {
    let (place, texts) = rest.split_at(rest.len().min(2));
    let mut head = ChainHead::default();
    let mut segment = Vec::new();
    for text in String::from_utf8_lossy(texts).split('\n').take(8) {
        head.append(&mut segment, |out| {
            out.extend_from_slice(b"\"event\":\"admin\",\"text\":");
            out.extend_from_slice(serde_json::to_string(text).unwrap().as_bytes());
        });
    }
    let report = put(dir, &segment);
    assert_eq!((report.finding, report.unfinished_bytes), (None, 0));
    assert_eq!(report.events, head.next_seq - 1);
    assert_eq!(report.head.as_bytes(), head.hash);
    let place = place.iter().fold(0, |place, byte| place * 256 + usize::from(*byte));
    changed(dir, &segment, report.events, place);
}

/// Changes a byte of an intact segment, each bit once, and drops it.
fn changed(dir: &Path, segment: &[u8], events: u64, place: usize) {
    let Some(at) = place.checked_rem(segment.len()) else { return };
    let noticed = |other: &[u8], how: &dyn Fn() -> String| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir_all(dir).unwrap();
        let report = put(dir, other);
        let whole = report.finding.is_none() && report.unfinished_bytes == 0;
        assert!(!whole || report.events < events, "{}", how());
    };
    for bit in 0..8 {
        let mut other = segment.to_vec();
        other[at] ^= 1 << bit;
        noticed(&other, &|| format!("bit {bit} of byte {at}"));
    }
    let shorter = [&segment[..at], &segment[at + 1..]].concat();
    noticed(&shorter, &|| format!("without byte {at}"));
}

fn put(dir: &Path, segment: &[u8]) -> Report {
    room::write(&dir.join(SEGMENT), segment);
    verified(dir)
}

/// Each line with its hash, as if whoever wrote it knew how.
fn hashed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        out.extend_from_slice(line);
        out.extend_from_slice(b",\"hash\":\"");
        out.extend_from_slice(&hex(&hash_of(line)));
        out.extend_from_slice(b"\"}\n");
    }
    out
}
