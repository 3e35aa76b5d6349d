//! Compiles a file into a snapshot: resolves names, reads secrets, parses patterns. The result is always valid; all
//! problems are reported together.

mod compiled;
mod credentials;
mod defaults;
mod endpoints;
mod grants;
mod inputs;
mod listeners;
mod role_packs;
mod roles;
mod routes;
mod schemes;
mod secrets;
mod sinks;
mod store_rows;
mod token_slots;
mod upstreams;

pub use compiled::Compiled;
pub(super) use compiled::compile;
pub use inputs::{Base, CompileInputs};
pub use listeners::{Admin, Listener};
pub use role_packs::{Pack, allowing_rule, denying_rules};
pub use secrets::{read_secret, read_secret_file};
