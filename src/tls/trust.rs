//! What a `ca_file` trusts in an upstream or a sink: a certificate that one of its authorities has signed, and each of
//! its own certificates.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

/// The certificates of a `ca_file`.
///
/// What `openssl req -x509` makes is a server's certificate and claims to be an authority's too (`CA:TRUE`), which
/// is no server's certificate by the usual rules. Each certificate of the file is therefore also trusted as it is,
/// byte for byte: that is less than trusting whatever it signs.
#[derive(Debug)]
pub(super) struct Trust {
    /// Those that may sign others.
    authorities: RootCertStore,
    /// All of them.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trusts the certificates of a PEM file.
    pub(super) fn in_file(path: &Path, algorithms: WebPkiSupportedAlgorithms) -> io::Result<Self> {
        let (pinned, mut authorities) = (super::certificates(path)?, RootCertStore::empty());
        for (at, certificate) in pinned.iter().enumerate() {
            let unreadable = |error: &dyn std::fmt::Display| {
                let title = format!("certificate {} of the file cannot be read: {error}", at + 1);
                io::Error::new(io::ErrorKind::InvalidData, title)
            };
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| unreadable(&error))?;
            if may_sign(&parsed) {
                authorities.add(certificate.clone()).map_err(|error| unreadable(&error))?;
            }
        }
        Ok(Self { authorities, pinned, algorithms })
    }

    /// Whether `certificate` is in the file, and in its time.
    fn is_pinned(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let in_its_time = || {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let now = i64::try_from(now.as_secs()).ok()?;
            let validity = parsed.validity();
            Some(validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp())
        };
        self.pinned.iter().any(|pinned| pinned == certificate) && in_its_time() == Some(true)
    }
}

/// What is to be said of a `ca_file` none of whose certificates is in its time; of one that cannot be read nothing is.
#[must_use]
pub fn validity_problem(path: &Path, now: SystemTime) -> Option<&'static str> {
    let now = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let (mut expired, mut any) = (false, false);
    for certificate in super::certificates(path).ok()? {
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        expired |= not_after.timestamp() < now;
        any |= not_before.timestamp() <= now && now <= not_after.timestamp();
    }
    match (any, expired) {
        (true, _) => None,
        (false, true) => Some("every certificate of this file has expired"),
        (false, false) => Some("no certificate of this file is valid yet"),
    }
}

/// Whether others may be trusted because this one has signed them (RFC 5280 §4.2.1.9). Before version 3 a
/// certificate could not say so.
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() != X509Version::V3 || certificate.is_ca()
}

/// Whether a chain was refused for nothing but who has signed, or that it is an authority's certificate. Another
/// authority of the same name may have signed it, as far as a reader can tell before it verifies that.
fn is_of_the_signer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    matches!(
        error,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    ) || matches!(error, CertificateError::Other(other) if super::reason::is_authority(other))
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let (authorities, algorithms) = (&self.authorities, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(&parsed, authorities, intermediates, now, algorithms)
            .or_else(|error| {
                let pinned = is_of_the_signer(&error) && self.is_pinned(end_entity, now);
                if pinned { Ok(()) } else { Err(error) }
            })?;
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
