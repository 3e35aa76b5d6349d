//! Compiles the whole file.

use std::net::SocketAddr;
use std::sync::Arc;

use super::grants::Access;
use super::inputs::{Base, CompileInputs, Scope};
use super::listeners::{Admin, Listener, admin, listeners};
use super::{credentials, grants, listeners, routes, sinks, store_rows, token_slots, upstreams};
use crate::audit::{CheckpointPolicy, Retention, Settings};
use crate::config::{File, Problem, Problems, file};
use crate::custody::Custody;
use crate::framing::HeadLimits;
use crate::gateway::Snapshot;
use crate::gateway::limits::Limits;
use crate::gateway::quota::Quota;
use crate::inbound::Consumer;
use crate::sinks::SinkConfig;
use crate::storage::Revision;
use crate::tls;

/// The compiled configuration file.
pub struct Compiled {
    /// The snapshot that calls use.
    pub snapshot: Snapshot,
    /// The addresses to listen on.
    pub listeners: Vec<Listener>,
    /// The settings of the admin listener; `None` if only the store was read again.
    pub admin: Option<Admin>,
    /// The settings of the journal.
    pub journal: Settings,
    /// The sinks that receive events as they are recorded.
    pub sinks: Vec<SinkConfig>,
    /// Upstreams that are reached in plaintext beyond this machine; each start logs them.
    pub plaintext_upstreams: Vec<String>,
    /// Listeners without TLS that other machines can reach; each start logs them.
    pub plaintext: Vec<SocketAddr>,
    /// The revision of the store, for the trail, if a server starts with it.
    pub store: Option<Revision>,
}

/// Compiles the file; `None` if there are errors, which are added to `problems`.
#[must_use]
pub(in crate::config) fn compile(
    file: &File,
    problems: &mut Problems,
    inputs: &CompileInputs<'_>,
) -> Option<Compiled> {
    let scope = &mut Scope { file, problems, inputs };
    let is_store_alone = inputs.base.retained().is_some();
    let listeners = if is_store_alone { Vec::new() } else { listeners(scope) };
    let admin = if is_store_alone { None } else { admin(scope) };
    let mut upstreams = upstreams::compile(scope);
    let routes = routes::compile(scope, &upstreams.places);
    let Access { directory, policy } = grants::compile(scope, &mut upstreams);
    let mut credentials = credentials::compile(scope, &upstreams);
    let mut freezes = store_rows::freezes(inputs.stored, &upstreams, &directory);
    credentials.extend(store_rows::credentials(scope, &upstreams, &mut freezes));
    credentials.sort_by_key(|(id, _)| *id);
    if !is_store_alone {
        warn_of_old_certificates(scope);
    }
    let sinks = sinks::compile(scope);
    if scope.problems.has_errors() {
        return None;
    }
    let former = inputs.base.former();
    let custody = Custody::new(credentials.into_iter().map(|(_, credential)| credential).collect());
    let refused_logins = former.map(|former| Arc::clone(&former.refused_logins)).unwrap_or_default();
    let fingerprints = match &inputs.base {
        Base::Start(key) => key.clone(),
        Base::Reload(former) | Base::StoreOnly(former) => former.fingerprints.clone(),
    };
    Some(Compiled {
        plaintext_upstreams: upstreams::plaintext(&upstreams.compiled),
        snapshot: Snapshot {
            quotas: quotas(file, directory.consumers(), former),
            freezes,
            store_lease: former.map(|former| Arc::clone(&former.store_lease)).unwrap_or_default(),
            directory: match former {
                Some(former) => directory.after(&former.directory),
                None => directory,
            },
            routes,
            policy,
            token_slots: token_slots::slots(&upstreams, &custody, former, &refused_logins),
            custody,
            refused_logins,
            upstreams: upstreams.compiled,
            limits: limits(&file.limits),
            failures: former.map(|former| Arc::clone(&former.failures)).unwrap_or_default(),
            nonces: former.map(|former| Arc::clone(&former.nonces)).unwrap_or_default(),
            fingerprints,
        },
        listeners,
        admin,
        journal: Settings {
            durability: file.audit.durability,
            rotate: file.audit.rotate,
            heads: CheckpointPolicy {
                events: file.audit.checkpoint_events,
                interval: file.audit.checkpoint_interval,
            },
            keep: Retention {
                plain: file.audit.compress_after,
                age: file.audit.retain,
                size: file.audit.retain_size,
            },
        },
        sinks,
        plaintext: listeners::plaintext(&file.listeners),
        store: None,
    })
}

/// The quota of each consumer, with what it has used of it so far.
fn quotas(file: &File, consumers: &[Consumer], former: Option<&Snapshot>) -> Vec<Arc<Quota>> {
    let quota = |consumer: &Consumer| {
        let per_minute = consumer.requests_per_minute.unwrap_or(file.limits.requests_per_minute);
        let concurrency = consumer.concurrency.unwrap_or(file.limits.concurrency);
        let used = former.and_then(|former| former.quota(consumer.name.as_str()));
        used.map_or_else(
            || Arc::new(Quota::new(Some(per_minute), Some(concurrency))),
            |used| used.with_limits(per_minute, concurrency),
        )
    };
    consumers.iter().map(quota).collect()
}

/// Warns of files in which no certificate authority is valid at present. Calls fail then, but the start does not, since
/// other upstreams may work.
fn warn_of_old_certificates(scope: &mut Scope<'_>) {
    let file = scope.file;
    let of_upstreams = file.upstreams.iter().filter_map(|(_, upstream)| upstream.ca_file.as_ref());
    let of_sinks = file.audit.sinks.iter().filter_map(|(_, sink)| sink.ca_file.as_ref());
    for ca_file in of_upstreams.chain(of_sinks) {
        if let Some(why) = tls::validity_problem(&ca_file.value, scope.inputs.now) {
            let help = "put the certificate that is in use now in its place";
            scope.problems.push(Problem::warning(ca_file.span, why).help(help));
        }
    }
}

fn limits(limits: &file::Limits) -> Limits {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        max_body: limits.max_body,
        max_judged_body: size(limits.max_judged_body),
        head: HeadLimits {
            target: size(limits.max_target_bytes),
            headers: size(limits.max_header_bytes),
            lines: limits.max_headers,
        },
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        body_total_timeout: limits.body_total_timeout,
        idle_timeout: limits.idle_timeout,
        connections: count(limits.connections),
        connections_per_address: count(limits.connections_per_address),
        trusted_proxies: limits.trusted_proxies.as_slice().into(),
        auth_failures_per_minute: limits.auth_failures_per_minute,
        refusals_per_minute: limits.refusals_per_minute,
    }
}
