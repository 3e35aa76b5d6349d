//! What upstreams do, and what comes of it.

mod answers;
mod dropped;
mod endpoints;
mod faults;
mod pinned;
mod reuse;
mod unframed;
