//! `claviger serve`: starts the gateway, reloads on SIGHUP, drains on SIGTERM.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;
use tracing_subscriber::EnvFilter;

use super::{Printable, environment, tell_problems};
use crate::admin::Admin;
use crate::audit::recent_nonces;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Compiled, File};
use crate::control::health_checks::look_after;
use crate::control::{Context, Follower, POLL_INTERVAL};
use crate::gateway::Snapshot;
use crate::metrics::Metrics;
use crate::server::{Server, Setup};
use crate::sinks::{self, Delivery, SinkConfig};
use crate::state::{StateDir, Trail};

/// How long calls in flight may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// The log filter if `CLAVIGER_LOG` is not set. The HTTP and TLS libraries warn of each malformed frame that a stranger
/// sends, which must not fill the log.
const FILTER: &str = "info,h2=error,hyper=error,rustls=error";

/// Runs the gateway until a signal ends it; returns whether it could start.
pub(super) fn run(path: &Path) -> anyhow::Result<bool> {
    log_to_stderr();
    tracing::debug!(core = 0, dumpable = false, "secrets stay in memory");
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(path))
}

/// Raises the limit of open files to the maximum. Many systems begin with 1024 per process, while each call in flight
/// needs two. A client that uses up the last ones would lock out all others.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn log_to_stderr() {
    let filter = environment("CLAVIGER_LOG").unwrap_or_else(|| FILTER.into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(|| Printable(io::stderr()));
    if environment("CLAVIGER_LOG_FORMAT").as_deref() == Some("json") {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

/// Reads from the trail the nonces of recently used signatures that may be used only once.
fn remember_signatures(compiled: &Compiled, trail: &Path, now: SystemTime) {
    let Snapshot { directory, nonces, .. } = &compiled.snapshot;
    let Some(window) = directory.strictness() else { return };
    // A signature may be dated one window after its use, and is valid for one window after that date.
    let lifetime = window * 2 + Duration::from_secs(1);
    // A signature that was used before may be dated this far ahead.
    let blind = window + Duration::from_secs(1);
    let since = now.checked_sub(lifetime).unwrap_or(SystemTime::UNIX_EPOCH);
    let reason = match recent_nonces(trail, since, |nonce, used| nonces.remember(nonce, used + lifetime)) {
        Ok(true) => return,
        Ok(false) => "it does not hold all signatures that were used recently".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(reason, wait = ?blind, "the trail cannot be read back: strict access keys must wait");
    nonces.forget(now + blind);
}

fn warn_of_plaintext(file: &File, compiled: &Compiled) {
    let config::file::Admin { address, tls, .. } = &file.admin;
    if tls.is_none() && !address.value.ip().to_canonical().is_loopback() {
        tracing::warn!(address = %address.value, "the admin listener is reachable from other machines without TLS: insecure_plaintext");
    }
    for upstream in &compiled.plaintext_upstreams {
        tracing::warn!(upstream, "the credential crosses the network in plaintext: insecure_plaintext");
    }
    for listener in &compiled.plaintext {
        tracing::warn!(%listener, "this listener has no TLS: tokens of consumers cross the network readable");
    }
}

/// Starts the delivery of events to the sinks.
fn deliver(file: &File, sinks: &[SinkConfig], server: &Server) -> io::Result<Option<Delivery>> {
    let places = sinks::folder(&file.state_dir.value);
    let folders = (file.audit.dir.value.as_path(), places.as_path());
    Delivery::start(sinks, folders, server.journal(), &server.metrics)
}

fn end(server: Server, delivery: Option<Delivery>) {
    server.stop(DRAIN);
    // The sinks stop after the last event.
    delivery.into_iter().for_each(Delivery::stop);
}

async fn serve(path: &Path) -> anyhow::Result<bool> {
    // Signal handlers come first: from here on no signal ends the process by itself.
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::<Metrics>::default();
    let context = Context { path: path.to_owned(), clock: Arc::clone(&clock), metrics: Arc::clone(&metrics) };
    // Nothing is created or locked for a file that cannot be used.
    let config = config::load(path)?;
    let file = config.file.clone();
    let (mut live, mut compiled, problems) = Follower::start(context, config).await?;
    let state = StateDir::open(&file.state_dir.value)?;
    // Known only once this process holds the state folder.
    compiled.snapshot.fingerprints = state.fingerprint_key()?;
    state.recall_logins(&compiled.snapshot);
    tell_problems(&problems);
    warn_of_plaintext(&file, &compiled);
    let disk = Box::new(Trail::lock(&file.state_dir.value, &file.audit.dir.value, true)?);
    compiled.store = live.stamp;
    remember_signatures(&compiled, &file.audit.dir.value, clock.now());
    let admin_listener = TcpListener::bind(file.admin.address.value)
        .await
        .with_context(|| format!("admin listener {}", file.admin.address.value))?;
    let sinks = std::mem::take(&mut compiled.sinks);
    let setup = Setup {
        compiled,
        workers: file.workers,
        spool: state.spool(),
        disk,
        signer: state.signer(&file.audit.origin)?,
        clock,
        metrics: Arc::clone(&metrics),
    };
    let server = Server::start(setup).context("listening")?;
    let delivery = deliver(&file, &sinks, &server)?;
    let recorded = (server.journal().clone(), metrics);
    let admin = Rc::new(Admin::new(recorded, Arc::clone(&server.current), Arc::clone(&server.admin)));
    for address in &server.addresses {
        tracing::info!(%address, "listening");
    }
    let own = tokio::task::spawn_local(Rc::clone(&admin).serve(admin_listener));
    let health = tokio::task::spawn_local(look_after(Arc::clone(&server.current)));
    // A slow poll delays the next ones.
    let mut looks = tokio::time::interval(POLL_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => live.reload(&server).await,
            _ = looks.tick() => {
                live.poll_store(&server).await;
                admin.apart.replace(live.unready_reason());
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(drain = ?DRAIN, "draining");
    admin.draining.store(true, Ordering::Release);
    live.end(&server).await;
    tokio::task::spawn_blocking(move || end(server, delivery)).await?;
    own.abort();
    health.abort();
    tracing::info!("ended");
    Ok(true)
}
