//! Shared by the suites: a gateway, in this process or as the binary, and its surroundings. No tests.

pub mod faulty;
pub mod frames;
pub mod ledger;
pub mod planted;
pub mod port;
pub mod process;
pub mod script;
pub mod tls;
pub mod upstream;
pub mod wait;
pub mod world;
