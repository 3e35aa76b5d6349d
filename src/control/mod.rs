//! The loop of a running gateway: it follows the file and the store, publishes changes, and runs health checks.

mod degraded;
pub mod health_checks;
pub(crate) mod known;
mod follow;
pub(crate) mod rotation;
pub(crate) mod store;
pub(crate) mod store_marker;

pub(crate) use follow::{Context, Follower, POLL_INTERVAL};

use std::io::Write as _;

use crate::config::Problems;
use crate::printable::printable;

/// The value of an environment variable, if it is set and is valid Unicode.
#[expect(clippy::disallowed_methods, reason = "here alone the environment is read")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints the problems of a configuration to standard error, with colours on a terminal.
pub(crate) fn tell_problems(problems: &Problems) {
    anstream::stderr().write_all(problems.render(true).as_bytes()).unwrap_or_default();
}

/// Prints an error message to standard error, with control characters escaped.
pub(crate) fn eprint(text: &str) {
    anstream::stderr().write_all(printable(text).as_bytes()).unwrap_or_default();
}
