//! `[[listeners]]` and `[admin]`: the addresses that the gateway listens on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::Spanned;
use crate::config::decode::{address, boolean, host, optional, or, or_default, path, required, section};

section! {
    /// A listener for consumers.
    pub struct Listener {
        /// The IP address and port where consumers call.
        address: Spanned<SocketAddr> = required(address()),
        /// The certificate for TLS: `{ cert, key, client_ca }`; without it plain HTTP.
        tls: Option<Tls> = optional(Tls::reader()),
        /// Whether the listener may speak plain HTTP that other machines can reach: tokens are then readable on the way.
        insecure_plaintext: bool = or(false, boolean()),
    }
}

/// The listener of a file without any.
pub(super) fn usual() -> Listener {
    Listener { address: loopback(7070), tls: None, insecure_plaintext: false }
}

section! {
    /// The TLS settings of a listener.
    pub struct Tls {
        /// The file of the certificate chain, in PEM, the listener's own first.
        cert: Spanned<PathBuf> = required(path()),
        /// The file of the certificate's private key, in PEM.
        key: Spanned<PathBuf> = required(path()),
        /// The file of the authorities of the callers' certificates, in PEM; only for mTLS.
        client_ca: Option<Spanned<PathBuf>> = optional(path()),
    }
}

section! {
    /// The listener for operators.
    pub struct Admin {
        /// The IP address and port; one that other machines can reach needs `tls` or `insecure_plaintext`.
        address: Spanned<SocketAddr> = or_default(loopback(7071), address()),
        /// The certificate for TLS, as of a listener; without it plain HTTP.
        tls: Option<Tls> = optional(Tls::reader()),
        /// Whether it may speak plain HTTP beyond this machine, for probes and scrapes of a pod.
        insecure_plaintext: bool = or_default(false, boolean()),
        /// The names by which it is called; addresses and `localhost` need no entry. Any other `Host` is 421
        /// `unknown_host`, so that no web page can read it by DNS rebinding.
        hosts: Vec<String> = or_default(Vec::new(), host().list()),
    }
}

/// A port of this host only.
fn loopback(port: u16) -> Spanned<SocketAddr> {
    Spanned::synthetic(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}
