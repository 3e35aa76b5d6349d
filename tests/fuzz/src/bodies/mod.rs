//! What each target holds of any bytes. Used by libFuzzer (`main.rs`), and by the main suite (`tests/it/server/fuzzed.rs`) on the
//! kept inputs and on changes of them. A body that panics has found something.

mod config;
mod connection;
mod framer;
mod hyper_reads;
mod links;
mod room;
mod signature;
mod target;
mod trail;

/// What a target holds, or panics.
pub type Body = fn(&[u8]);

/// Name and body of every target.
pub const ALL: [(&str, Body); 7] = [
    ("target", target::body),
    ("framer", framer::body),
    ("signature", signature::body),
    ("links", links::body),
    ("trail", trail::body),
    ("config", config::body),
    ("connection", connection::body),
];
