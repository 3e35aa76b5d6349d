//! The documents, the shipped configurations and the sources are consistent.

mod commands;
mod configs;
mod keys;
mod proofs;
mod readme;
mod sources;
mod suite;
mod tidy;
