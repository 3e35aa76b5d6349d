//! Behaviours in text files, and the code that plays them.

mod config_refusals;
mod exchanges;
mod packs;
