//! TLS settings for consumers and upstreams, built from PEM files. No setting turns verification off.

mod certificates;
mod own;
mod reason;
mod settings;
mod trust;

pub use own::own_client;
pub use reason::reason;
pub use settings::{HTTP2, Unusable, client_config, server_config};
pub use trust::validity_problem;
