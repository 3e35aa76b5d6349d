//! TLS settings for consumers and upstreams, built from PEM files. No setting turns verification off.

mod own;
mod reason;
mod trust;

pub use own::own_client;
pub use reason::reason;
pub use trust::validity_problem;

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::secret::Secret;
use trust::Trust;

/// The ALPN protocol id of HTTP/2 (RFC 7301, RFC 9113 §3.2).
pub const HTTP2: &[u8] = b"h2";

/// The unusable file of a listener, with the reason.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The certificate, or a key that does not match it.
    #[error("the certificate cannot be used: {0}")]
    Certificate(io::Error),
    /// The private key.
    #[error("the key cannot be used: {0}")]
    Key(io::Error),
    /// The CA file for client certificates.
    #[error("the authority of consumers cannot be used: {0}")]
    ClientCa(io::Error),
}

/// Builds the TLS settings for an upstream. With `ca_file` (PEM), only certificates signed by its authorities and its
/// own certificates are trusted. Without it, the public authorities are trusted.
///
/// # Errors
/// An I/O error if the file cannot be read or holds no usable certificate.
pub fn client_config(ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(invalid)?;
    let builder = match ca_file {
        // rustls calls every custom verifier "dangerous". This one verifies as much as the built-in one, for a file
        // that may also hold server certificates.
        Some(path) => {
            let trust = Trust::in_file(path, algorithms)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(trust))
        }
        None => {
            builder.with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Builds the TLS settings of a listener: TLS 1.2 and 1.3, with HTTP/2 or HTTP/1.1 by ALPN. With `client_ca`, a
/// consumer must present a certificate signed by that CA. `key` is PEM.
///
/// # Errors
/// [`Unusable`] if a file cannot be read, holds nothing usable, or the key does not match the certificate.
pub fn server_config(
    cert: &Path,
    key: &Secret,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, Unusable> {
    let mut config = build_server_config(cert, key, (client_ca, |_, others| others))?;
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Builds the TLS settings of the admin listener: HTTP/1.1 only. With `client_ca`, the listener also accepts its own
/// certificate from a client that holds its key, as `claviger ready` does.
///
/// # Errors
/// [`Unusable`] under the same conditions as [`server_config`].
pub fn admin_config(
    cert: &Path,
    key: &Secret,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, Unusable> {
    let mut config = build_server_config(cert, key, (client_ca, own::or_pinned))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Extends a client verifier so that it also accepts the listener's own certificate.
type Widened = fn(CertificateDer<'static>, Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier>;

fn build_server_config(
    cert: &Path,
    key: &Secret,
    (client_ca, widened): (Option<&Path>, Widened),
) -> Result<ServerConfig, Unusable> {
    let chain = certificates(cert).map_err(Unusable::Certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| Unusable::Key(unreadable(error)))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Unusable::Certificate(invalid(error)))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = authorities(path).map_err(Unusable::ClientCa)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|error| Unusable::ClientCa(invalid(error)))?;
            builder.with_client_cert_verifier(widened(first(&chain), verifier))
        }
    };
    let config = builder.with_single_cert(chain, key);
    config.map_err(|error| Unusable::Certificate(key_mismatch(error)))
}

/// Returns the leaf certificate of a chain; a parsed chain is never empty.
fn first(chain: &[CertificateDer<'static>]) -> CertificateDer<'static> {
    chain.first().cloned().unwrap_or_else(|| Vec::new().into())
}

/// Reads the certificates of a PEM file, at least one.
fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if read.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, without_certificates(&std::fs::read(path)?)));
    }
    Ok(read)
}

/// Describes the contents of a file without a PEM certificate.
fn without_certificates(bytes: &[u8]) -> &'static str {
    if memchr::memmem::find(bytes, b"PRIVATE KEY-----").is_some() {
        "it holds a key, and no certificate"
    } else if bytes.first() == Some(&0x30) {
        "it seems to be in DER: make PEM of it with `openssl x509 -inform der -in FILE`"
    } else {
        "it holds no certificate"
    }
}

fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(invalid)?;
    }
    Ok(roots)
}

/// Converts an error from reading a PEM file; an I/O error stays as it is.
fn unreadable(error: pem::Error) -> io::Error {
    if let pem::Error::Io(error) = error {
        error
    } else if matches!(error, pem::Error::NoItemsFound) {
        io::Error::new(io::ErrorKind::InvalidData, "it holds no key in PEM")
    } else {
        invalid(error)
    }
}

fn key_mismatch(error: rustls::Error) -> io::Error {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        io::Error::new(io::ErrorKind::InvalidData, "the key belongs to another certificate")
    } else {
        invalid(error)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
