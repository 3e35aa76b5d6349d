//! The audit trail: who did what, and how it ended.
//!
//! Each call has at most two events: an `intent`, recorded before anything is sent upstream, and exactly one `outcome`.
//! Suppressed refusals are the exception: the trail only counts them. With `sync`, the intent waits for the disk; see
//! [`Durability`].

mod call;
mod journal;
pub mod proof;
pub mod trail;

pub use call::draft::Draft;
pub use call::entry::{Audited, Entry};
pub use call::fields::{CallNames, Peer, RefusalFields};
pub use call::meter::{Meter, Progress};
pub use journal::barrier::WriteBarrier;
pub use journal::settings::{CheckpointPolicy, Durability, Opening, Retention, Settings, Unrecorded};
pub use journal::suppressed::RefusalSource;
pub use journal::{Journal, JournalCore, JournalThreads};
pub use proof::checkpoint::{Checkpoint, CheckpointKey, NoKey, Signer, is_origin};
pub use proof::prove::{Proof, ProofError, check_consistency, prove, prove_consistency};
pub use proof::verify::{Finding, Report, TrustAnchors, verify, verify_against};
pub use trail::disk::{Disk, Folder};
pub use trail::known_store::{Forgotten, find_forgotten, known_store};
pub use trail::last_head::LastHead;
pub use trail::misnamed::{Sorted, is_empty, set_aside};
pub use trail::recent_nonces::recent_nonces;
pub use trail::segment::{
    SegmentReader, each_line, is_compressed, open, open_at, parse_segment_name, read_line, segments, stem,
};
