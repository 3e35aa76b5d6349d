//! The gateway as a whole: its listeners, TLS, strangers, and what it never shows.

mod admin;
mod canary;
mod descriptors;
mod fairness;
mod fuzzed;
mod smoke;
mod tls;
mod tls_matrix;
