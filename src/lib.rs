//! claviger, the keeper of the keys: a credential-custody gateway.
//!
//! Scripts call claviger with a token. claviger finds out who calls, decides whether this consumer may make this call,
//! records the decision, puts the real credential on, and forwards the call to a bastion or directory.
//!
//! # The way of one request
//!
//! 1. A worker of [`server`] accepts a connection. The strict framer judges each request head before hyper reads it, by
//!    the rules of [`framing`].
//! 2. [`gateway::Gateway::handle`] is the control flow of one call. It drafts the event of the call ([`audit`]).
//! 3. The decision uses no I/O: the canonical [`target`], the caller ([`inbound`]), the [`route`], the organisation and
//!    the rules ([`policy`]). It ends in a [`policy::Permit`] or a [`gateway::Refusal`].
//! 4. The journal appends the intent. Only then does custody unseal the credential ([`custody`]).
//! 5. A [`scheme`] signs the request or adds the credential to it, and [`transport`] sends it. Where the upstream wants a
//!    token, `scheme/issued` logs in for it, once for all calls that wait, and keeps it until it ends.
//! 6. The answer is read by strict rules, scrubbed of the credential, and streamed back. Its outcome is recorded before
//!    the last byte is handed over.
//!
//! # Proofs
//!
//! Each value can be made only from the one before it, so the order above cannot be changed by mistake:
//! [`inbound::Identity`] → [`policy::Permit`] → [`audit::Entry`] → [`transport::Outbound`] → [`transport::Signed`] →
//! [`audit::Audited`]. Documentation tests show what must not compile, each beside a twin that compiles.
//!
//! # Threads
//!
//! Each worker is one thread with its own runtime, listening sockets and upstream connections. Workers share an immutable
//! [`gateway::Snapshot`] of the configuration and the [`audit::Journal`], whose state and flush are in
//! `audit/journal/core.rs`. One thread (`audit/journal/writer.rs`) decides when the trail is flushed. The
//! main thread runs the loop of [`control`]: it follows the configuration file and the store.
//!
//! # Files on disk
//!
//! | file | contents | written by |
//! | --- | --- | --- |
//! | `claviger.toml` | upstreams, routes, roles, grants, limits | the operator; read by [`config`] |
//! | `state/store.db` | consumers, token digests, sealed credentials (`SQLite`) | [`storage`] |
//! | `state/trail.head` | the last flushed head of the trail | [`state`] |
//! | `audit/*.jsonl`, `audit/*.zst` | the segments of the trail | [`audit`] |
//! | `audit/search.db` | an index of the trail for `audit search`, rebuilt at need | [`trail_index`] |
//!
//! # Glossary
//!
//! | term | meaning |
//! | --- | --- |
//! | consumer | a script or tool that calls claviger with a token of claviger's |
//! | credential | the key, token or password that an upstream accepts; it never leaves claviger towards a consumer |
//! | custody | the sealed store of credentials, and the rules of where each may be used |
//! | draft, entry | the event of a call before and after its intent is on the trail |
//! | grant | which consumer has which role at which upstream, with which credential |
//! | journal | what appends events to the trail and flushes them |
//! | master key | the key that seals all credentials in the store |
//! | outbox | audit events of changes that a command made, kept in the store until the trail has them |
//! | permit | the proof that policy allows one call |
//! | profile | what claviger knows of a product, for example JumpServer |
//! | role, rule | a named list of rules; a rule allows or denies by method, path, query and body |
//! | scheme | the way in which a credential is put on a request |
//! | sink | a receiver of events outside claviger: syslog, HTTP, OTLP, a witness |
//! | snapshot | one configuration, compiled; a call sees one snapshot from beginning to end |
//! | trail | the chain of audit events in segments, with signed heads over it |
//! | upstream | the bastion or directory that calls are forwarded to |
//!
//! # Layers
//!
//! The modules stand in the order of their layers; each uses only those above it.

pub mod name;
pub mod ids;
pub mod encoding;
pub mod printable;
pub mod units;
pub mod origin;
pub mod secret;
pub mod scanner;
pub mod clock;
pub mod io;
pub mod code;
pub mod query;
pub mod spelling;
pub mod target;
pub mod headers;
pub mod framing;
pub mod metrics;
pub mod fs;
pub mod tls;

pub mod signature;
pub mod storage;

pub mod inbound;
pub mod route;
pub mod policy;

pub mod audit;
pub mod trail_index;
pub mod custody;

pub mod transport;
pub mod scheme;
pub mod upstream;
pub mod sinks;

pub mod gateway;

pub mod config;
pub mod state;
pub mod server;
pub mod admin;
pub mod control;
pub mod cli;
