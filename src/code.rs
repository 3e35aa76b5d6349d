//! The closed list of errors that the gateway itself can answer, and how each is reported.

use http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $status:ident, $detail:literal;)+) => {
        /// The reason why the gateway answered by itself. Its text is a stable interface: it stands in the `code`
        /// member of an error's body, in the header `Claviger-Error`, on the trail and in the metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code, in the order of the table in docs/en/errors.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as callers, trails and metrics see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The status of the answer.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// One sentence for the caller. It never reveals more than the code: details of the call are for the trail
            /// and the log.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail,)+ }
            }
        }
    };
}

codes! {
    /// The bytes received are not one well-formed HTTP/1 request, in its head or in its chunked body.
    Malformed = "malformed", BAD_REQUEST, "The request is not well-formed HTTP.";
    /// The target has no canonical form.
    NonCanonical = "non_canonical", BAD_REQUEST, "The request target has no canonical form.";
    /// More than one credential was sent.
    DuplicateCredential = "duplicate_credential", BAD_REQUEST, "Send exactly one credential.";
    /// The body ended before its announced end.
    BodyIncomplete = "body_incomplete", BAD_REQUEST, "The request body ended early.";
    /// The upstream redirects this to the same path with a trailing slash, and would lose the request body.
    MissingSlash = "missing_slash", BAD_REQUEST, "The upstream wants this path with a slash at its end; nothing was done.";
    /// No credential was sent, or none that is valid.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "A valid token is required.";
    /// A signature that may be used only once was used before, or its `Date` is too far from the present time.
    Replayed = "replayed", UNAUTHORIZED, "This signature was used before, or its Date is too far from now.";
    /// No grant or no rule allows this consumer the request.
    Denied = "denied", FORBIDDEN, "This consumer may not do this.";
    /// A deny rule forbids the request.
    DeniedByRule = "denied_by_rule", FORBIDDEN, "A rule forbids this.";
    /// Every grant that would apply has expired.
    GrantExpired = "grant_expired", FORBIDDEN, "The grant for this has expired.";
    /// The caller tried to choose an organisation that is not granted.
    OrgOverride = "org_override", FORBIDDEN, "Name one of the organisations granted to this consumer, by its id in X-JMS-ORG (JumpCloud: x-org-id), or leave it out for the default one.";
    /// This consumer is frozen.
    ConsumerFrozen = "consumer_frozen", FORBIDDEN, "This consumer is frozen for now.";
    /// No route matches this host and path.
    NoRoute = "no_route", NOT_FOUND, "No route matches this host and path.";
    /// `CONNECT` and `TRACE` are not forwarded.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This method is never forwarded.";
    /// The request head was not complete in time.
    HeaderTimeout = "header_timeout", REQUEST_TIMEOUT, "The request head took too long.";
    /// The request body came too slowly.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "The request body came too slowly.";
    /// The body is longer than `max_body`.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The request body is too large.";
    /// The target is longer than `max_target_bytes`.
    TargetTooLong = "target_too_long", URI_TOO_LONG, "The request target is too long.";
    /// The request has an `Expect` other than `100-continue`.
    ExpectationFailed = "expectation_failed", EXPECTATION_FAILED, "Only Expect: 100-continue is understood.";
    /// The head has more bytes than `max_header_bytes`, or more lines than `max_headers`.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too large.";
    /// This address failed to authenticate too often.
    TooManyFailures = "too_many_failures", TOO_MANY_REQUESTS, "Too many failed attempts from this address.";
    /// This consumer made more requests than its limit allows.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "This consumer makes too many requests.";
    /// This consumer has as many requests in flight as its limit allows.
    ConcurrencyLimited = "concurrency_limited", TOO_MANY_REQUESTS, "This consumer has too many requests in flight.";
    /// The gateway itself has a defect.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The gateway failed.";
    /// The request has a transfer coding other than `chunked`.
    UnknownCoding = "unknown_coding", NOT_IMPLEMENTED, "Only the chunked transfer coding is understood.";
    /// The request is a websocket handshake (RFC 6455).
    UpgradeUnsupported = "upgrade_unsupported", NOT_IMPLEMENTED, "Websockets are not forwarded.";
    /// No connection to the upstream could be made.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, "The upstream cannot be reached.";
    /// The upstream's host name does not resolve to an address.
    UpstreamDns = "upstream_dns", BAD_GATEWAY, "The upstream's name cannot be resolved.";
    /// The upstream's TLS certificate or handshake was refused.
    UpstreamTls = "upstream_tls", BAD_GATEWAY, "The upstream's TLS cannot be trusted.";
    /// The upstream closed the connection before its answer.
    UpstreamClosed = "upstream_closed", BAD_GATEWAY, "The upstream closed the connection.";
    /// The upstream's answer is not well-formed HTTP, or is one that must not be passed on.
    UpstreamInvalid = "upstream_invalid", BAD_GATEWAY, "The upstream's answer is not valid.";
    /// The upstream refused the gateway's own credential.
    UpstreamAuth = "upstream_auth", BAD_GATEWAY, "The upstream refused the gateway's credential.";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, "The upstream did not answer in time.";
    /// The call could not be recorded, so it was not made.
    Unrecorded = "unrecorded", SERVICE_UNAVAILABLE, "The call could not be recorded, so it was not made.";
    /// The gateway, the upstream or the credential is frozen.
    Frozen = "frozen", SERVICE_UNAVAILABLE, "This is frozen for now.";
    /// The credential is disabled, has no active version, or cannot be unsealed.
    CredentialUnavailable = "credential_unavailable", SERVICE_UNAVAILABLE, "The credential for this is not available.";
    /// The call depends on the store, which could not be read for longer than `store_max_staleness`.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, "The store that this rests on is not available.";
    /// The request body could not be stored while it was read.
    SpoolFailed = "spool_failed", SERVICE_UNAVAILABLE, "The request body could not be kept.";
}

/// Why a call is refused or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure<R: std::fmt::Display = String> {
    /// The code that the caller receives.
    pub code: Code,
    /// The reason that the trail records.
    pub reason: R,
}

/// A failure whose reason is one of a few fixed texts.
pub type Fault = Failure<&'static str>;

impl Failure {
    /// Creates a failure with this code and reason.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Creates the failure of an error that only a defect of claviger or of its configuration causes.
    #[must_use]
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self { code: Code::Internal, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    /// A refusal by the gateway must never look like one by the upstream, nor the reverse.
    #[test]
    fn only_the_callers_own_failings_are_4xx() {
        for code in Code::ALL {
            let ours = code.as_str().starts_with("upstream")
                || matches!(
                    code,
                    Code::Internal
                        | Code::Unrecorded
                        | Code::SpoolFailed
                        | Code::UnknownCoding
                        | Code::UpgradeUnsupported
                        | Code::Frozen
                        | Code::CredentialUnavailable
                        | Code::StoreUnavailable
                );
            assert_eq!(code.status().is_server_error(), ours, "{}", code.as_str());
        }
    }
}
