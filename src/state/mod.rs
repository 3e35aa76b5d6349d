//! The state folder and the trail folder: made, locked and checked at a start.

mod state_dir;
mod trail_dir;

pub use state_dir::{Amiss, StateDir, public_key};
pub use trail_dir::Trail;
