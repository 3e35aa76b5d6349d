//! TLS between the admin listener and `claviger ready`. Both hold the listener's certificate and key. Each identifies
//! the other by exactly that certificate, regardless of its issuer.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificates::{certificates, first, invalid, unreadable};
use super::trust::Trust;
use crate::secret::Secret;

/// Builds the TLS settings of a client that accepts only the listener with this certificate (PEM). With the listener's
/// key (PEM), the client presents the same certificate.
///
/// # Errors
/// An I/O error if the certificate or the key cannot be used.
pub fn own_client(cert: &Path, key: Option<&Secret>) -> io::Result<Arc<ClientConfig>> {
    let chain = certificates(cert)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Trust::only(first(&chain), provider.signature_verification_algorithms));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(invalid)?.dangerous().with_custom_certificate_verifier(verifier);
    let config = match key {
        None => builder.with_no_client_auth(),
        Some(key) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(unreadable)?;
            builder.with_client_auth_cert(chain, key).map_err(invalid)?
        }
    };
    Ok(Arc::new(config))
}

/// A client verifier that accepts one certificate and those that `others` accepts.
#[derive(Debug)]
pub(super) struct OrOwn {
    pub(super) own: CertificateDer<'static>,
    pub(super) others: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for OrOwn {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.others.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // The signature in the handshake proves that the client holds the key.
        if *certificate == self.own {
            return Ok(ClientCertVerified::assertion());
        }
        self.others.verify_client_cert(certificate, chain, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
}
