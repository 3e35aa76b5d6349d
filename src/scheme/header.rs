//! A header that carries only the secret, as in `x-api-key: …`.

use http::HeaderName;

/// Headers that cannot carry a credential, since they describe the message, the hop or the organisation.
const RESERVED: [&str; 26] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-accel-redirect",
    "x-jms-org",
    "x-org-id",
    "x-real-ip",
];

/// Parses the name of a header that carries only a credential.
///
/// # Errors
/// What is wrong with the name, as a sentence.
pub fn credential_header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| format!("`{text}` is not a header name"))?;
    let lower = name.as_str();
    if lower.contains('_') {
        return Err(format!("`{text}` would not arrive: many servers drop names with an underscore"));
    }
    if lower.starts_with("x-forwarded") || lower.starts_with("proxy-") || RESERVED.contains(&lower) {
        return Err(format!(
            "`{text}` cannot carry a credential: claviger sets this header itself, or it has another meaning"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::credential_header;

    #[test]
    fn takes_a_name_that_means_nothing_else() {
        for name in ["x-api-key", "X-API-Key", "authorization", "x-auth-token"] {
            assert!(credential_header(name).is_ok(), "{name}");
        }
        for name in ["", "x api", "x:y", "clé", "x_api_key", "Host", "cookie", "X-Forwarded-For", "x-org-id"]
        {
            assert!(credential_header(name).is_err(), "{name}");
        }
    }
}
