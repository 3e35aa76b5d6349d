//! HTTP/1 with a consumer, byte by byte.

mod bodies;
mod connections;
mod credentials;
mod framing;
mod hygiene;
mod limits;
mod slow;
mod targets;
mod unreadable;
