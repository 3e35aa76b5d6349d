//! The documents, the shipped configurations and the sources are consistent.

mod commands;
mod configs;
mod keys;
mod proofs;
mod readme;
mod suite;
mod tidy;
