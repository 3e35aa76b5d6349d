//! The gateway as a whole: listeners, TLS, strangers, and secrets that it never shows.

mod admin;
mod canary;
mod descriptors;
mod fairness;
mod fuzzed;
mod smoke;
mod tls;
mod tls_matrix;
