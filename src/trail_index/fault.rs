//! The reasons why a search fails.

use std::io;

/// The reason why a search fails.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The segments, or the folder of the index, cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The index database cannot be used.
    #[error("the index cannot be used; build it again with --rebuild")]
    Index(#[from] sqlx::Error),
    /// The trail does not have the event with this `seq` where the index refers to it.
    #[error(
        "seq {0} is not where the index has it; check the trail with `claviger audit verify`, then use --rebuild"
    )]
    Differs(u64),
}
