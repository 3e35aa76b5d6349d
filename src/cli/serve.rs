//! `claviger serve`: start, reload on SIGHUP, drain on SIGTERM.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use super::{environment, tell};
use crate::admin::Admin;
use crate::audit::Folder;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Compiled, File, Problems, Surroundings};
use crate::gateway::Snapshot;
use crate::gateway::limits::Failures;
use crate::metrics::Metrics;
use crate::server::{Server, Setup, StateDir};
use crate::signature::HmacKey;

/// How long calls in flight may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves until told to end; whether it could start.
pub(super) fn run(path: &Path) -> anyhow::Result<bool> {
    log_to_stderr();
    keep_secrets_in_memory();
    take_all_sockets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(path))
}

/// Secrets in memory reach neither a core dump nor another process of the same user.
fn keep_secrets_in_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err()
        || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        tracing::warn!("core dumps could not be turned off");
    }
}

/// Many systems begin with 1024 open files for a process, and let it ask for more: each call in flight has
/// two, and whoever holds the last of them keeps everybody out.
fn take_all_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn log_to_stderr() {
    let filter = environment("CLAVIGER_LOG").unwrap_or_else(|| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    if environment("CLAVIGER_LOG_FORMAT").as_deref() == Some("json") {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

/// What outlives a reload.
struct Kept<'a> {
    path: &'a Path,
    clock: Arc<dyn Clock>,
    failures: Arc<Failures>,
    fingerprints: HmacKey,
    metrics: Arc<Metrics>,
}

impl Kept<'_> {
    fn load(&self, former: Option<Arc<Snapshot>>) -> Result<(File, Compiled, Problems), Problems> {
        let around = Surroundings {
            environment: &environment,
            now: self.clock.now(),
            failures: Arc::clone(&self.failures),
            former,
            fingerprints: self.fingerprints.clone(),
        };
        let loaded = config::load(self.path, around)?;
        let seconds = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.metrics.last_reload.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        Ok(loaded)
    }
}

async fn serve(path: &Path) -> anyhow::Result<bool> {
    // Signals first: from here on none of them ends the process by itself.
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut state = match super::load(path) {
        Ok((file, ..)) => StateDir::open(&file.state_dir.value)?,
        Err(problems) => {
            tell(&problems.render(true));
            return Ok(false);
        }
    };
    let kept = Kept {
        path,
        clock: Arc::clone(&clock),
        failures: Arc::default(),
        fingerprints: state.fingerprint_key()?,
        metrics: Arc::default(),
    };
    let (file, compiled, problems) = match kept.load(None) {
        Ok(loaded) => loaded,
        Err(problems) => {
            tell(&problems.render(true));
            return Ok(false);
        }
    };
    tell(&problems.render(true));
    for upstream in &compiled.in_clear {
        tracing::warn!(upstream, "the credential crosses the network in clear: insecure_plaintext");
    }
    state.guard(&file.audit.dir.value)?;
    let admin_listener = TcpListener::bind(file.admin.address.value)
        .await
        .with_context(|| format!("admin listener {}", file.admin.address.value))?;
    let disk = Box::new(Folder::new(file.audit.dir.value.clone()));
    let metrics = Arc::clone(&kept.metrics);
    let setup = Setup { compiled, workers: file.workers, spool: state.spool(), disk, clock, metrics };
    let server = Server::start(setup).context("listening")?;
    let admin = Rc::new(Admin {
        journal: server.journal().clone(),
        metrics: Arc::clone(&kept.metrics),
        draining: AtomicBool::new(false),
    });
    for address in server.addresses() {
        tracing::info!(%address, "listening");
    }
    let own = tokio::task::spawn_local(Rc::clone(&admin).serve(admin_listener));
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&kept, &server, &file),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!(drain = ?DRAIN, "draining");
    admin.draining.store(true, Ordering::Release);
    tokio::task::spawn_blocking(move || server.stop(DRAIN)).await?;
    own.abort();
    tracing::info!("ended");
    Ok(true)
}

/// Takes the configuration again. A bad file changes nothing.
fn reload(kept: &Kept<'_>, server: &Server, first: &File) {
    match kept.load(Some(server.snapshot())) {
        Ok((file, compiled, problems)) => {
            tell(&problems.render(true));
            for what in needs_restart(first, &file) {
                tracing::warn!(what, "changed in the file, and takes effect at the next start only");
            }
            server.replace(compiled);
            tracing::info!("configuration reloaded");
        }
        Err(problems) => {
            tell(&problems.render(true));
            tracing::error!(
                "the configuration was not reloaded: {}; the former one stays",
                problems.summary()
            );
        }
    }
}

/// What of the file a running server cannot change.
fn needs_restart(first: &File, now: &File) -> Vec<&'static str> {
    let addresses = |file: &File| {
        file.listeners
            .iter()
            .map(|listener| (listener.address.value, listener.tls.is_some()))
            .collect::<Vec<_>>()
    };
    let mut changed = Vec::new();
    let mut compare = |what, same: bool| {
        if !same {
            changed.push(what);
        }
    };
    compare("state_dir", first.state_dir.value == now.state_dir.value);
    compare("workers", first.workers == now.workers);
    compare("listeners", addresses(first) == addresses(now));
    compare("admin", first.admin.address.value == now.admin.address.value);
    let audit = |file: &File| (file.audit.dir.value.clone(), file.audit.durability, file.audit.rotate);
    compare("audit", audit(first) == audit(now));
    changed
}
