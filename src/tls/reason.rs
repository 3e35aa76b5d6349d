//! Explains TLS errors to the operator.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

/// Explains the TLS error that caused `error`; `None` if the cause is not TLS.
#[must_use]
pub fn reason(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(fault) = found.downcast_ref::<Error>() {
            return Some(words(fault));
        }
        // `source` of an I/O error skips the inner error and returns the inner error's source.
        let inner = found.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => found.source(),
        };
    }
    None
}

fn words(error: &Error) -> String {
    if let Error::InvalidCertificate(error) = error {
        of_certificate(error)
    } else if let Error::AlertReceived(alert) = error {
        of_alert(*alert)
    } else if matches!(error, Error::InvalidMessage(InvalidMessage::InvalidContentType)) {
        "what answers does not speak TLS".into()
    } else {
        error.to_string()
    }
}

fn of_certificate(error: &CertificateError) -> String {
    if let CertificateError::ExpiredContext { not_after, .. } = error {
        return format!("its certificate expired {}", day(*not_after));
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        return format!("its certificate is not valid before {}", day(*not_before));
    }
    if let CertificateError::NotValidForNameContext { expected, presented } = error {
        let expected = expected.to_str();
        if presented.is_empty() {
            return format!("its certificate names no host (subjectAltName), so it is not for {expected}");
        }
        let presented: Vec<&str> = presented.iter().take(NAMES).map(String::as_str).collect();
        return format!("its certificate is not for {expected}, but for {}", presented.join(", "));
    }
    if matches!(error, CertificateError::UnknownIssuer) {
        return "no trusted authority has signed its certificate; `ca_file` can name that authority, or the certificate \
                itself"
            .into();
    }
    if matches!(error, CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }) {
        return "its certificate is not for servers".into();
    }
    if matches!(error, CertificateError::Other(other) if is_authority(other)) {
        return "its certificate is an authority's (CA:TRUE); `ca_file` can name that certificate itself"
            .into();
    }
    format!("its certificate is invalid: {error}")
}

/// The maximum number of certificate names in a message.
const NAMES: usize = 4;

fn of_alert(alert: AlertDescription) -> String {
    if alert == AlertDescription::CertificateRequired {
        "it wants a client certificate".into()
    } else if [AlertDescription::HandshakeFailure, AlertDescription::BadCertificate].contains(&alert) {
        // TLS 1.2 has no alert of its own for a missing client certificate.
        format!("it refused the handshake ({alert:?}); perhaps it wants a client certificate")
    } else {
        format!("it ended TLS with the alert {alert:?}")
    }
}

fn day(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "at another time".into(), |time| time.to_string())
}

/// Returns whether a server certificate was rejected because it claims to be a CA.
pub(super) fn is_authority(error: &OtherError) -> bool {
    error.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
