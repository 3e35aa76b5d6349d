//! The trail: who did what, and how it ended.
//!
//! Two events a call: an `intent` that is recorded before anything leaves, and an `outcome`, of
//! which every call has exactly one. `sync` makes the intent wait for the disk; see [`Durability`].

mod body;
pub mod chain;
mod disk;
mod draft;
mod entry;
mod event;
mod flood;
mod journal;
mod nonces;
mod own;
mod recover;
mod verify;
mod writer;

pub use body::{Audited, Broken};
pub use disk::{Disk, Folder};
pub use draft::{Draft, Parties};
pub use entry::{Entry, Meter, Progress};
pub use event::{Arrival, Ended, Known, escaped};
pub use flood::Source;
pub use journal::{Durability, Flusher, Journal, Settings, Unrecorded};
pub use nonces::recent_nonces;
pub use recover::segments;
pub use verify::{Finding, Report, verify};
