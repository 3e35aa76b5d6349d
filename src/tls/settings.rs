//! The TLS settings of listeners and of connections to upstreams.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificates::{certificates, first, invalid, unreadable};
use super::own::OrOwn;
use super::trust::Trust;
use crate::secret::Secret;

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
/// The admin listener speaks HTTP/1.1 only. With `client_ca`, it also accepts its own certificate from a client that
/// holds its key, as `claviger ready` does.
///
/// # Errors
/// [`Unusable`] if a file cannot be read, holds nothing usable, or the key does not match the certificate.
pub fn server_config(
    cert: &Path,
    key: &Secret,
    client_ca: Option<&Path>,
    is_admin: bool,
) -> Result<Arc<ServerConfig>, Unusable> {
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
            let others = verifier.map_err(|error| Unusable::ClientCa(invalid(error)))?;
            let own = first(&chain);
            builder.with_client_cert_verifier(if is_admin { Arc::new(OrOwn { own, others }) } else { others })
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| Unusable::Certificate(key_mismatch(error)))?;
    config.alpn_protocols.extend((!is_admin).then(|| HTTP2.to_vec()));
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(invalid)?;
    }
    Ok(roots)
}

fn key_mismatch(error: rustls::Error) -> io::Error {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        io::Error::new(io::ErrorKind::InvalidData, "the key belongs to another certificate")
    } else {
        invalid(error)
    }
}
