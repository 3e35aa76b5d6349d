//! Behaviour over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::large_stack_arrays,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    unreachable_pub,
    reason = "tests say what they mean, and fail loudly"
)]

mod support;

mod audit;
mod cases;
mod cli;
mod custody;
mod docs;
mod http2;
mod login;
mod server;
mod upstream;
mod wire;
