//! Reads certificates from PEM files.

use std::io;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// Returns the leaf certificate of a chain; a parsed chain is never empty.
pub(super) fn first(chain: &[CertificateDer<'static>]) -> CertificateDer<'static> {
    chain.first().cloned().unwrap_or_else(|| Vec::new().into())
}

/// Reads the certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
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

/// Converts an error from reading a PEM file; an I/O error stays as it is.
pub(super) fn unreadable(error: pem::Error) -> io::Error {
    if let pem::Error::Io(error) = error {
        error
    } else if matches!(error, pem::Error::NoItemsFound) {
        io::Error::new(io::ErrorKind::InvalidData, "it holds no key in PEM")
    } else {
        invalid(error)
    }
}

/// Converts an error about the content of a file.
pub(super) fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
