//! The trail: who did what, and how it ended.
//!
//! Two events a call: an `intent` that is recorded before anything leaves, and an `outcome`, of
//! which every call has exactly one. `sync` makes the intent wait for the disk; see [`Durability`].

mod retention;
mod audited_body;
pub mod chain;
mod consistency;
mod disk;
mod draft;
mod entry;
mod fields;
mod suppressed;
mod barrier;
mod checkpoints;
mod journal;
mod known_store;
mod last_head;
mod misnamed;
mod recent_nonces;
mod checkpoint;
mod own_events;
mod flush_timing;
mod prove;
mod recover;
mod segment;
mod retired;
mod buffer;
pub mod merkle;
mod verify;
mod writer;

pub use audited_body::{Audited, Broken};
pub use barrier::WriteBarrier;
pub use checkpoint::{Checkpoint, CheckpointKey, NoKey, Signer, is_origin};
pub use checkpoints::CheckpointPolicy;
pub use disk::{Disk, Folder};
pub use draft::{CallNames, Draft};
pub use entry::{Entry, Meter, Progress};
pub use fields::{Outcome, Peer, RefusalFields, escape};
pub use journal::{Durability, Journal, JournalThreads, Opening, Settings, Unrecorded};
pub use known_store::{Forgotten, find_forgotten, known_store};
pub use last_head::LastHead;
pub use misnamed::{Sorted, is_empty, set_aside};
pub use prove::{Proof, ProofError, check_consistency, prove, prove_consistency};
pub use recent_nonces::recent_nonces;
pub use retention::Retention;
pub use segment::{
    SegmentReader, each_line, is_compressed, open, open_at, parse_segment_name, read_line, segments, stem,
};
pub use suppressed::RefusalSource;
pub use verify::{Finding, Report, TrustAnchors, verify, verify_against};
