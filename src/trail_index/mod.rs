//! A search index of the trail by consumer, upstream, time and more. It is derived from the segments, which alone are
//! evidence. Every event found is read from its segment and checked before it is returned.

mod event_columns;
mod fault;
mod filter;
mod index;
mod interner;
mod seal;
mod update;

pub use fault::Fault;
pub use filter::EventFilter;
pub use index::Index;
pub use update::Reach;
