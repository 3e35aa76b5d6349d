//! Tokens that an upstream issues: how they are fetched, cached and renewed.

pub(super) mod cache;
pub mod client_credentials;
pub(super) mod context;
pub(super) mod error;
pub(super) mod fetch;
pub(super) mod form;
pub mod login;
pub(super) mod refused;
pub(super) mod response;
pub(super) mod source;
