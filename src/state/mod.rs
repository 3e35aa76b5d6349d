//! The state folder and the trail folder. A start creates, locks and checks them.

mod state_dir;
mod trail_dir;

pub use state_dir::{Amiss, StateDir, public_key};
pub use trail_dir::Trail;
