//! Trust in a `ca_file` for upstreams and sinks: a certificate is trusted if an authority of the file signed it, or if
//! it is in the file itself.

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

use super::certificates::certificates;
use super::reason::is_authority;

/// The trusted certificates of a `ca_file`.
///
/// `openssl req -x509` creates a server certificate that also claims to be a CA (`CA:TRUE`). The usual rules reject it
/// as a server certificate. Therefore each certificate of the file is also trusted itself, byte for byte. This grants
/// less than trusting everything that it signs.
#[derive(Debug)]
pub(super) struct Trust {
    /// The certificates that may sign others.
    authorities: RootCertStore,
    /// All certificates of the file.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether the pinned certificates are trusted alone, under any name and at any time.
    pinned_alone: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Loads the trusted certificates of a PEM file.
    pub(super) fn in_file(path: &Path, algorithms: WebPkiSupportedAlgorithms) -> io::Result<Self> {
        let (pinned, mut authorities) = (certificates(path)?, RootCertStore::empty());
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
        Ok(Self { authorities, pinned, pinned_alone: false, algorithms })
    }

    /// Trusts exactly one certificate, regardless of its issuer.
    pub(super) fn only(certificate: CertificateDer<'static>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let (authorities, pinned) = (RootCertStore::empty(), vec![certificate]);
        Self { authorities, pinned, pinned_alone: true, algorithms }
    }

    fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }

    /// Returns whether `certificate` is in the file and currently valid.
    fn is_pinned(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let in_its_time = || {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let now = i64::try_from(now.as_secs()).ok()?;
            let validity = parsed.validity();
            Some(validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp())
        };
        self.holds(certificate) && in_its_time() == Some(true)
    }
}

/// Returns a warning if no certificate of a `ca_file` is currently valid. Returns `None` for a file
/// that cannot be read.
#[must_use]
pub fn validity_problem(path: &Path, now: SystemTime) -> Option<&'static str> {
    let now = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let (mut expired, mut any) = (false, false);
    for certificate in certificates(path).ok()? {
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

/// Returns whether a certificate may sign others (RFC 5280 §4.2.1.9). Before version 3, a certificate
/// could not state this.
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() != X509Version::V3 || certificate.is_ca()
}

/// Returns whether a chain was rejected only because of its signer, or because its leaf is a CA certificate. Another
/// authority with the same name may have signed it; only signature verification shows the difference.
fn is_of_the_signer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    matches!(
        error,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    ) || matches!(error, CertificateError::Other(other) if is_authority(other))
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
        if self.pinned_alone {
            let other = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
            return self.holds(end_entity).then(ServerCertVerified::assertion).ok_or(other);
        }
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
