//! Compiles `[[listeners]]` and `[admin]`: the addresses that the gateway listens on, with their TLS settings.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use super::inputs::{AUTHORITY, Scope};
use super::secrets::{problem, read_secret_file};
use crate::config::file::{Listener as Section, Tls};
use crate::config::{Problem, Problems, Span};
use crate::fs::trust::TrustedOwner;
use crate::tls::{self, Unusable};

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

/// Compiles the listeners; those that cannot be used are reported.
pub(super) fn listeners(scope: &mut Scope<'_>) -> Vec<Listener> {
    let file = scope.file;
    if file.listeners.is_empty() {
        let problem = Problem::error(Span::NOWHERE, "there is no listener: nobody could call");
        scope.problems.push(problem.help("leave `listeners` out for 127.0.0.1:7070"));
    }
    let compile = |listener: &Section| {
        warn_of_plaintext(listener, scope.problems);
        let tls = tls_settings(scope, listener.tls.as_ref(), false).ok()?;
        Some(Listener { address: listener.address.value, tls })
    };
    file.listeners.iter().filter_map(compile).collect()
}

/// The addresses without TLS that other machines can reach.
pub(super) fn plaintext(listeners: &[Section]) -> Vec<SocketAddr> {
    listeners.iter().filter(|one| is_plaintext(one)).map(|one| one.address.value).collect()
}

/// Whether other machines can reach the listener, and it has no TLS.
fn is_plaintext(listener: &Section) -> bool {
    listener.tls.is_none() && !listener.address.value.ip().to_canonical().is_loopback()
}

/// Warns of a plaintext listener: anyone who reads its network traffic gets the consumers' tokens.
fn warn_of_plaintext(listener: &Section, problems: &mut Problems) {
    if is_plaintext(listener) && !listener.insecure_plaintext {
        let title =
            "this listener has no TLS and other machines can reach it: tokens cross the network readable";
        let help = "add `tls`, listen on 127.0.0.1 behind a proxy that ends TLS, or set `insecure_plaintext = true` \
                    on this listener if the network itself is trusted";
        problems.push(Problem::warning(listener.address.span, title).help(help));
    }
}

/// Compiles the admin listener, which shows what only operators should see.
pub(super) fn admin(scope: &mut Scope<'_>) -> Option<Admin> {
    let admin = &scope.file.admin;
    let address = admin.address.value;
    if !address.ip().to_canonical().is_loopback() && admin.tls.is_none() && !admin.insecure_plaintext {
        let title = "the admin listener speaks plain HTTP, on an address that others can reach";
        let help = format!(
            "write \"127.0.0.1:{}\", or set `tls` in `[admin]`, or `insecure_plaintext = true` if the network \
             itself is trusted",
            address.port()
        );
        scope.problems.push(Problem::error(admin.address.span, title).help(help));
    }
    let tls = tls_settings(scope, admin.tls.as_ref(), true).ok()?;
    Some(Admin { tls, hosts: admin.hosts.clone() })
}

/// Reads the TLS settings of a listener, if it has any.
///
/// # Errors
/// If they cannot be used; the reason is among the problems.
fn tls_settings(
    scope: &mut Scope<'_>,
    tls: Option<&Tls>,
    is_admin: bool,
) -> Result<Option<Arc<ServerConfig>>, ()> {
    let Some(tls) = tls else { return Ok(None) };
    let key = read_secret_file(&tls.key.value, TrustedOwner::of(&scope.file.state_dir.value))
        .map_err(|fault| scope.problems.push(problem(&fault, tls.key.span, "the key")))?;
    let client_ca = tls.client_ca.as_ref().map(|path| path.value.as_path());
    tls::server_config(&tls.cert.value, &key, client_ca, is_admin).map(Some).map_err(|unusable| {
        let (span, help) = match &unusable {
            Unusable::Certificate(_) => (tls.cert.span, "it is the chain in PEM, the listener's own first"),
            Unusable::Key(_) => (tls.key.span, "it is the certificate's key in PEM"),
            Unusable::ClientCa(_) => (tls.client_ca.as_ref().unwrap_or(&tls.cert).span, AUTHORITY),
        };
        scope.problems.push(Problem::error(span, unusable.to_string()).help(help));
    })
}
