//! Behaviours told in text files, and what plays them.

mod config_refusals;
mod exchanges;
mod packs;
