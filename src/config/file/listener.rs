//! `[[listeners]]` and `[admin]`: the addresses that the gateway listens on.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::loopback;
use crate::config::Spanned;
use crate::config::decode::choice::located;
use crate::config::decode::scalar::boolean;
use crate::config::decode::text::{address, host, path};
use crate::config::decode::{Node, Read, Table};

/// A listener for consumers.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address and port to listen on.
    pub address: Spanned<SocketAddr>,
    /// The TLS settings; absent for plain HTTP.
    pub tls: Option<Tls>,
    /// Whether tokens may cross the network in plaintext.
    pub insecure_plaintext: bool,
}

impl Listener {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let address = table.required("address", address);
        let tls = table.optional("tls", Tls::read);
        let insecure_plaintext = table.optional("insecure_plaintext", boolean);
        table.finish();
        let insecure_plaintext = insecure_plaintext?.unwrap_or(false);
        Ok(Self { address: address?, tls: tls?, insecure_plaintext })
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self { address: Spanned::synthetic(loopback(7070)), tls: None, insecure_plaintext: false }
    }
}

/// The TLS settings of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The path of the certificate chain, in PEM.
    pub cert: Spanned<PathBuf>,
    /// The path of its private key, in PEM.
    pub key: Spanned<PathBuf>,
    /// The path of the authorities that sign consumers' certificates, in PEM; absent if consumers need no certificate.
    pub client_ca: Option<Spanned<PathBuf>>,
}

impl Tls {
    fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let cert = table.required("cert", path);
        let key = table.required("key", path);
        let client_ca = table.optional("client_ca", path);
        table.finish();
        Ok(Self { cert: cert?, key: key?, client_ca: client_ca? })
    }
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address and port to listen on.
    pub address: Spanned<SocketAddr>,
    /// The TLS settings; absent for plain HTTP.
    pub tls: Option<Tls>,
    /// Whether it may speak plain HTTP beyond this host.
    pub insecure_plaintext: Spanned<bool>,
    /// The accepted host names besides `localhost`: in lower case, without a dot at the end.
    pub hosts: Vec<String>,
}

impl Admin {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let default = Self::default();
        let address = table.or_default("address", default.address, address);
        let tls = table.optional("tls", Tls::read);
        let insecure_plaintext =
            table.or_default("insecure_plaintext", default.insecure_plaintext, located(boolean));
        let hosts = table.or_default("hosts", default.hosts, |node| node.list(host));
        table.finish();
        Ok(Self { address, tls: tls?, insecure_plaintext, hosts })
    }
}

impl Default for Admin {
    fn default() -> Self {
        let address = Spanned::synthetic(loopback(7071));
        Self { address, tls: None, insecure_plaintext: Spanned::synthetic(false), hosts: Vec::new() }
    }
}
