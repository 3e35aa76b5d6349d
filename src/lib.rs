//! claviger, the keeper of the keys: a credential-custody gateway.
//!
//! The modules stand in the order of their layers; each uses only those above it.

pub mod name;
pub mod printable;
pub mod origin;
pub mod secret;
pub mod scanner;
pub mod clock;
pub mod io;
pub mod code;
pub mod query;
pub mod spelling;
pub mod target;
pub mod framing;
pub mod metrics;
pub mod fs;
pub mod tls;

pub mod signature;
pub mod storage;

pub mod inbound;
pub mod route;
pub mod policy;

pub mod audit;
pub mod trail_index;
pub mod custody;

pub mod transport;
pub mod scheme;
pub mod upstream;
pub mod sinks;

pub mod gateway;

pub mod config;
pub mod state;
pub mod server;
pub mod admin;
pub mod control;
pub mod cli;
