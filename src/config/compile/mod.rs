//! Compiles a file into a snapshot: resolves names, reads secrets, parses patterns. The result is always valid; all
//! problems are reported together.

mod endpoints;
mod grants;
mod role_packs;
mod schemes;
mod secrets;
mod sinks;
mod store_rows;
mod token_slots;
mod upstreams;

pub use role_packs::{Pack, allowing_rule, denying_rules};
pub use secrets::read_secret_file;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::file::{self, File};
use super::{Problem, Problems, Spanned};
use crate::audit::{CheckpointPolicy, Retention, Settings};
use crate::custody::{Custody, UnsealedStore};
use crate::framing::HeadLimits;
use crate::fs::trust::TrustedOwner;
use crate::gateway::Snapshot;
use crate::gateway::failure_limiter::FailureLimiter;
use crate::gateway::limits::Limits;
use crate::gateway::quota::Quota;
use crate::ids::UpstreamId;
use crate::inbound::Consumer;
use crate::name::Name;
use crate::route::{Route, Routes, without_port};
use crate::secret::Secret;
use crate::signature::HmacKey;
use crate::sinks::SinkConfig;
use crate::storage::Revision;
use crate::target::Target;
use crate::tls::{self, Unusable};

/// The help for a file of certificate authorities that cannot be used.
const AUTHORITY: &str = "it is the certificate of the authority in PEM, or several";

/// What compiling needs besides the file.
pub struct CompileInputs<'a> {
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The present time, by which expiry is judged.
    pub now: SystemTime,
    /// The counts of failed authentications, kept over reloads.
    pub failures: Arc<FailureLimiter>,
    /// The snapshot in force until now; the consumers' use of their limits is carried over from it.
    pub former: Option<Arc<Snapshot>>,
    /// The key of the fingerprints under which wrong credentials are recorded.
    pub fingerprints: HmacKey,
    /// The content of the store, if there is one.
    pub stored: Option<&'a UnsealedStore>,
    /// Whether only the store is read again. What `former` read from files and the environment then stays, so that a
    /// problem with them cannot keep a revocation from taking effect.
    pub following: bool,
}

impl CompileInputs<'_> {
    /// The snapshot in force whose data from files stays, if only the store is read again.
    fn kept(&self) -> Option<&Snapshot> {
        self.former.as_deref().filter(|_| self.following)
    }
}

/// One address to listen on.
#[derive(Clone)]
pub struct Listener {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The TLS settings, if the listener uses TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The compiled settings of the admin listener.
#[derive(Clone)]
pub struct Admin {
    /// The TLS settings, if the admin listener uses TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The accepted host names besides `localhost`: in lower case, without a dot at the end.
    pub hosts: Vec<String>,
}

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
pub fn compile(file: &File, problems: &mut Problems, around: CompileInputs<'_>) -> Option<Compiled> {
    let listeners = if around.kept().is_some() { Vec::new() } else { listeners(file, problems) };
    let admin = if around.kept().is_some() { None } else { admin(file, problems) };
    let limits = limits(&file.limits);
    let mut upstreams = upstreams::compile(file, problems, (around.kept(), around.former.as_deref()));
    let routes = routes(file, problems, &upstreams.places);
    let former = around.former.as_deref();
    let access = grants::compile(file, problems, &mut upstreams, (around.stored, former, around.now));
    let mut credentials = secrets::credentials(file, problems, &upstreams, &around);
    let mut freezes = store_rows::freezes(around.stored, &upstreams, &access.directory);
    store_rows::credentials((around.stored, former), file, &upstreams, (&mut credentials, &mut freezes));
    credentials.sort_by_key(|(place, _)| *place);
    let sinks = sinks::compile(file, problems, &around);
    if problems.has_errors() {
        return None;
    }
    let quotas = quotas(file, access.directory.consumers(), former);
    let nonces = around.former.as_ref().map(|former| Arc::clone(&former.nonces)).unwrap_or_default();
    let directory = match &around.former {
        Some(former) => access.directory.after(&former.directory),
        None => access.directory,
    };
    let store_lease =
        around.former.as_ref().map(|former| Arc::clone(&former.store_lease)).unwrap_or_default();
    let custody = Custody::new(credentials.into_iter().map(|(_, credential)| credential).collect());
    let refused_logins =
        around.former.as_ref().map(|former| Arc::clone(&former.refused_logins)).unwrap_or_default();
    let token_slots = token_slots::slots(&upstreams, &custody, around.former.as_deref(), &refused_logins);
    Some(Compiled {
        snapshot: Snapshot {
            quotas,
            freezes,
            store_lease,
            directory,
            routes: Routes::new(routes),
            policy: access.policy,
            custody,
            token_slots,
            refused_logins,
            upstreams: upstreams.compiled,
            limits,
            failures: around.failures,
            nonces,
            fingerprints: around.fingerprints,
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
        plaintext_upstreams: upstreams.plaintext,
        plaintext: file
            .listeners
            .iter()
            .filter(|one| is_plaintext(one))
            .map(|one| one.address.value)
            .collect(),
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
fn warn_of_old_certificates(file: &File, problems: &mut Problems, now: SystemTime) {
    let of_upstreams = file.upstreams.iter().filter_map(|(_, upstream)| upstream.ca_file.as_ref());
    let of_sinks = file.audit.sinks.iter().filter_map(|(_, sink)| sink.ca_file.as_ref());
    for ca_file in of_upstreams.chain(of_sinks) {
        if let Some(why) = tls::validity_problem(&ca_file.value, now) {
            let help = "put the certificate that is in use now in its place";
            problems.push(Problem::warning(ca_file.span, why).help(help));
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

fn listeners(file: &File, problems: &mut Problems) -> Vec<Listener> {
    let mut listeners = Vec::new();
    if file.listeners.is_empty() {
        let problem = Problem::error(super::Span::NOWHERE, "there is no listener: nobody could call");
        problems.push(problem.help("leave `listeners` out for 127.0.0.1:7070"));
    }
    for listener in &file.listeners {
        warn_of_plaintext(listener, problems);
        let Ok(tls) = tls_settings(file, problems, (listener.tls.as_ref(), tls::server_config)) else {
            continue;
        };
        listeners.push(Listener { address: listener.address.value, tls });
    }
    listeners
}

/// Whether other machines can reach the listener, and it has no TLS.
fn is_plaintext(listener: &file::Listener) -> bool {
    listener.tls.is_none() && !listener.address.value.ip().to_canonical().is_loopback()
}

/// Warns of a plaintext listener: anyone who reads its network traffic gets the consumers' tokens.
fn warn_of_plaintext(listener: &file::Listener, problems: &mut Problems) {
    if is_plaintext(listener) && !listener.insecure_plaintext {
        let title =
            "this listener has no TLS and other machines can reach it: tokens cross the network readable";
        let help = "add `tls`, listen on 127.0.0.1 behind a proxy that ends TLS, or set `insecure_plaintext = true` \
                    on this listener if the network itself is trusted";
        problems.push(Problem::warning(listener.address.span, title).help(help));
    }
}

/// Reads the TLS settings of a listener, if it has any.
///
/// # Errors
/// If they cannot be used; the reason is in `problems`.
fn tls_settings(
    file: &File,
    problems: &mut Problems,
    (tls, settings): (Option<&file::Tls>, TlsSettings),
) -> Result<Option<Arc<ServerConfig>>, ()> {
    let Some(tls) = tls else { return Ok(None) };
    let key = read_secret_file(&tls.key.value, TrustedOwner::of(&file.state_dir.value))
        .map_err(|ill| problems.push(secrets::problem(&ill, tls.key.span, "the key")))?;
    let client_ca = tls.client_ca.as_ref().map(|path| path.value.as_path());
    settings(&tls.cert.value, &key, client_ca).map(Some).map_err(|unusable| {
        let (span, help) = match &unusable {
            Unusable::Certificate(_) => (tls.cert.span, "it is the chain in PEM, the listener's own first"),
            Unusable::Key(_) => (tls.key.span, "it is the certificate's key in PEM"),
            Unusable::ClientCa(_) => (tls.client_ca.as_ref().unwrap_or(&tls.cert).span, AUTHORITY),
        };
        problems.push(Problem::error(span, unusable.to_string()).help(help));
    })
}

/// Builds TLS settings from a certificate file, its key, and the file of the client authority.
type TlsSettings = fn(&Path, &Secret, Option<&Path>) -> Result<Arc<ServerConfig>, Unusable>;

/// Compiles the admin listener, which shows what only operators should see.
fn admin(file: &File, problems: &mut Problems) -> Option<Admin> {
    let file::Admin { address, tls, insecure_plaintext, hosts } = &file.admin;
    if !address.value.ip().to_canonical().is_loopback() && tls.is_none() && !insecure_plaintext {
        let title = "the admin listener speaks plain HTTP, on an address that others can reach";
        let help = format!(
            "write \"127.0.0.1:{}\", or set `tls` in `[admin]`, or `insecure_plaintext = true` if the network \
             itself is trusted",
            address.value.port()
        );
        problems.push(Problem::error(address.span, title).help(help));
    }
    let tls = tls_settings(file, problems, (tls.as_ref(), tls::admin_config)).ok()?;
    Some(Admin { tls, hosts: hosts.clone() })
}

fn routes(file: &File, problems: &mut Problems, places: &HashMap<Name, UpstreamId>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut seen: HashMap<(Option<String>, String), &file::Route> = HashMap::new();
    for route in &file.routes {
        let upstream = places.get(&route.upstream.value).copied();
        if upstream.is_none() && !file.upstreams.declares(&route.upstream.value) {
            problems.push(unknown(
                "upstream",
                &route.upstream,
                file.upstreams.did_you_mean(&route.upstream.value),
            ));
        }
        let Some(prefix) = prefix(&route.prefix.value) else {
            let title = "no request path can begin with this prefix in canonical form";
            problems
                .push(Problem::error(route.prefix.span, title).help("write whole segments: \"/jumpserver\""));
            continue;
        };
        if let Some(host) = &route.host
            && let alone = without_port(&host.value)
            && alone != host.value
        {
            let title = "a route's host is a name or an address alone, without a port";
            problems.push(Problem::error(host.span, title).help(format!("write \"{alone}\"")));
        }
        let host = route.host.as_ref().map(|host| host.value.to_ascii_lowercase());
        if let Some(first) = seen.insert((host.clone(), prefix.clone()), route) {
            let problem = Problem::error(route.span, "two routes for the same host and prefix");
            problems.push(problem.related(first.span, "the first is here"));
        }
        if let Some(upstream) = upstream {
            routes.push(Route { host, label: route.prefix.value.as_str().into(), prefix, upstream });
        }
    }
    if file.routes.is_empty() {
        let problem =
            Problem::warning(super::Span::NOWHERE, "there is no route: every call will be 404 no_route");
        problems.push(problem.help("add `[[routes]]` with `prefix = \"/\"` and an `upstream`"));
    }
    routes
}

/// Brings a prefix into canonical form, without a slash at its end.
fn prefix(text: &str) -> Option<String> {
    let target = Target::canonical(text.as_bytes()).ok()?;
    (target.query().is_empty() && !text.contains('?')).then(|| target.path().trim_end_matches('/').to_owned())
}

/// The problem with a reference to something that the file does not declare.
fn unknown(what: &str, name: &Spanned<impl Display>, nearest: Option<&str>) -> Problem {
    let title = format!("there is no {what} `{}`", name.value);
    let help = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
    Problem::error(name.span, title).help_if(help)
}
