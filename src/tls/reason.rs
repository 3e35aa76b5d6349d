//! What went wrong with TLS, in words for the operator.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

/// The fault of TLS that an error comes from, in words; none where it comes from something else.
#[must_use]
pub fn reason(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(fault) = found.downcast_ref::<Error>() {
            return Some(words(fault));
        }
        // The source of such an error is that of what is in it.
        let inner = found.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => found.source(),
        };
    }
    None
}

fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "what answers does not speak TLS".into(),
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!("its certificate expired {}", day(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}", day(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("its certificate names no host (subjectAltName), so it is not for {}", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<&str> = presented.iter().take(NAMES).map(String::as_str).collect();
            format!("its certificate is not for {}, but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::UnknownIssuer => {
            "no trusted authority has signed its certificate; `ca_file` can name that authority, or the certificate itself"
                .into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers".into()
        }
        CertificateError::Other(other) if is_authority(other) => {
            "its certificate is an authority's (CA:TRUE); `ca_file` can name that certificate itself".into()
        }
        other => format!("its certificate is invalid: {other}"),
    }
}

/// The most names of a certificate that are repeated.
const NAMES: usize = 4;

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "it wants a client certificate".into(),
        // TLS 1.2 has no alert of its own for that.
        AlertDescription::HandshakeFailure | AlertDescription::BadCertificate => {
            format!("it refused the handshake ({alert:?}); perhaps it wants a client certificate")
        }
        other => format!("it ended TLS with the alert {other:?}"),
    }
}

fn day(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "at another time".into(), |time| time.to_string())
}

/// Whether a certificate was refused as a server's since it claims to be an authority's.
pub(super) fn is_authority(error: &OtherError) -> bool {
    error.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
