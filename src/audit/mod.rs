//! The trail: who did what, and how it ended.
//!
//! Two events a call: an `intent` that is recorded before anything leaves, and an `outcome`, of
//! which every call has exactly one. `sync` makes the intent wait for the disk; see [`Durability`].

mod archive;
mod body;
pub mod chain;
mod consistent;
mod disk;
mod draft;
mod entry;
mod event;
mod flood;
mod gate;
mod heads;
mod journal;
mod known_store;
mod last_head;
mod misnamed;
mod nonces;
mod note;
mod own;
mod pace;
mod prove;
mod recover;
mod segment;
mod stub;
mod tail;
pub mod tree;
mod verify;
mod writer;

pub use archive::Keep;
pub use body::{Audited, Broken};
pub use disk::{Disk, Folder};
pub use draft::{Draft, Parties};
pub use entry::{Entry, Meter, Progress};
pub use event::{Arrival, Ended, Known, escaped};
pub use flood::Source;
pub use gate::Gate;
pub use heads::Heads;
pub use journal::{Durability, Flusher, Journal, Opening, Settings, Unrecorded};
pub use known_store::{Forgotten, forgotten, known_store};
pub use last_head::LastHead;
pub use misnamed::{Sorted, is_empty, set_aside};
pub use nonces::recent_nonces;
pub use note::{Checkpoint, NoKey, Signer, Verifier, is_origin};
pub use prove::{Proof, Unproven, adds_to, prove, prove_addition};
pub use segment::{Places, each_line, is_packed, named, open, open_at, read_line, segments, stem};
pub use verify::{Finding, Report, Trusted, verify, verify_against};
