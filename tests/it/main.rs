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

mod faulty;
mod floods;
mod heads;
mod learned;
mod http2_frames;
mod large;
mod ledger;
mod process;
mod script;
mod shadow;
mod unverified;
mod upstream;
mod world;

mod admin;
mod config_refusals;
mod exchanges;
mod configs;
mod canary;
mod cli;
mod crash;
mod custody;
mod demo;
mod descriptors;
mod disk;
mod disk_full;
mod dropped;
mod endpoints;
mod faults;
mod explained;
mod fairness;
mod http2;
mod http2_slow;
mod fuzzed;
mod logins;
mod packs;
mod pinned;
mod proofs;
mod readme;
mod reload;
mod blocked;
mod restored;
mod retention;
mod rsa;
mod search;
mod scrubbed;
mod smoke;
mod state;
mod storage;
mod tampered;
mod tidy;
mod tls;
mod tls_matrix;
mod unframed;
mod upstream_answers;
mod upstream_faults;
mod upstream_reuse;
mod wire_bodies;
mod wire_credentials;
mod wire_connections;
mod wire_framing;
mod wire_hygiene;
mod wire_limits;
mod wire_slow;
mod wire_targets;
mod wire_unreadable;
mod written;
