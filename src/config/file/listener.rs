//! `[[listeners]]` and `[admin]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::loopback;
use crate::config::Spanned;
use crate::config::decode::choice::located;
use crate::config::decode::scalar::boolean;
use crate::config::decode::text::{address, host, path};
use crate::config::decode::{Node, Read, Table};

/// A socket on which consumers are listened to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address it is bound to.
    pub address: Spanned<SocketAddr>,
    /// How it is encrypted; absent for plain HTTP.
    pub tls: Option<Tls>,
    /// Whether tokens may cross the network readable.
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

/// What a listener needs to encrypt.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain, in PEM.
    pub cert: Spanned<PathBuf>,
    /// Its private key, in PEM.
    pub key: Spanned<PathBuf>,
    /// Those who vouch for consumers, in PEM; absent if consumers need no certificate.
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

/// Where operators are listened to.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address it is bound to.
    pub address: Spanned<SocketAddr>,
    /// How it is encrypted; absent for plain HTTP.
    pub tls: Option<Tls>,
    /// Whether it may speak plain HTTP beyond this host.
    pub insecure_plaintext: Spanned<bool>,
    /// The names by which it is called, beside `localhost`: in lower case, without a dot at their end.
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
