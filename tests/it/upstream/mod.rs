//! The behaviour of upstreams, and its consequences.

mod answers;
mod dropped;
mod endpoints;
mod faults;
mod pinned;
mod reuse;
mod unframed;
