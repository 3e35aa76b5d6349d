//! The outbound request: filtered consumer headers, the gateway's own headers, and nothing else. Headers are filtered
//! first and the credential is added last, so that no later step can remove it.

use std::marker::PhantomData;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderName, HeaderValue,
};
use http::{HeaderMap, Method, Request, Uri};
use zeroize::Zeroizing;

use super::connect::Endpoint;
use super::request_body::RequestBody;
use crate::audit::Entry;
use crate::audit::Meter;
use crate::code::Failure;
use crate::custody::Unsealed;
use crate::target::Target;

/// The settings for requests to one product, apart from the credential.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// The upstream's `Host` value.
    pub host: HeaderValue,
    /// The endpoint's base path, without a trailing slash; may be empty.
    pub base: String,
    /// Whether the base path is part of the signed path.
    pub sign_base_path: bool,
    /// The header that carries the organisation.
    pub org_header: Option<HeaderName>,
    /// The `Accept` value if the consumer sends none.
    pub accept: HeaderValue,
    /// Whether the gateway sends the consumer's address in `X-Forwarded-For`.
    pub forwarded_for: bool,
    /// The `X-Forwarded-Proto` value: the endpoint's own scheme.
    pub scheme: HeaderValue,
}

/// One destination of an upstream: an endpoint, and the settings for requests to it.
#[derive(Clone)]
pub struct Destination {
    /// The endpoint to connect to.
    pub endpoint: Endpoint,
    /// The outbound settings for this endpoint; the host differs from those of others.
    pub settings: OutboundSettings,
}

impl OutboundSettings {
    /// Returns the number of bytes at the front of the sent target that the signature does not cover.
    fn unsigned_base(&self) -> usize {
        if self.sign_base_path { 0 } else { self.base.len() }
    }

    /// Returns `target` in the form that a signature covers.
    #[must_use]
    pub fn signed_target(&self, target: &Target) -> String {
        let sent = target.with_base(&self.base);
        sent.as_str().get(self.unsigned_base()..).unwrap_or_default().to_owned()
    }
}

/// A filtered request that lacks only its credential. It cannot outlive its entry.
///
/// Boxed, since it is large and moved several times.
pub struct Outbound<'e> {
    request: Box<Request<RequestBody>>,
    signed_from: usize,
    brand: PhantomData<&'e Entry>,
}

/// A request with its credential. It has no setters, cannot be printed or copied, and can be sent once.
///
/// ```compile_fail,E0451
/// fn forge(request: http::Request<claviger::transport::RequestBody>) -> claviger::transport::Signed<'static> {
///     claviger::transport::Signed { request, credential: None, brand: std::marker::PhantomData }
/// }
/// ```
/// ```compile_fail,E0599
/// fn peek(signed: claviger::transport::Signed<'_>) -> claviger::transport::Signed<'_> {
///     signed.clone()
/// }
/// ```
/// ```compile_fail,E0277
/// fn print(signed: &claviger::transport::Signed<'_>) -> String {
///     format!("{signed:?}")
/// }
/// ```
/// ```compile_fail,E0382
/// fn twice<'e>(signed: claviger::transport::Signed<'e>) -> [claviger::transport::Signed<'e>; 2] {
///     [signed, signed]
/// }
/// ```
/// ```
/// fn once<'e>(signed: claviger::transport::Signed<'e>) -> [claviger::transport::Signed<'e>; 1] {
///     [signed]
/// }
/// ```
pub struct Signed<'e> {
    request: Box<Request<RequestBody>>,
    /// The credential that was added, so that it can be removed from the response.
    credential: Option<HeaderValue>,
    brand: PhantomData<&'e Entry>,
}

impl<'e> Outbound<'e> {
    /// Builds a request. Method, target and organisation come from the entry's permit; the consumer's header fields are
    /// those that [`passed`](super::RequestHeaders::forwarded).
    ///
    /// # Errors
    /// A [`Failure`] if a header or the target has no valid form.
    pub fn new(
        entry: &'e Entry,
        settings: &OutboundSettings,
        passed: HeaderMap,
        date: HeaderValue,
        body: RequestBody,
    ) -> Result<Self, Failure> {
        let permit = entry.permit();
        let action = permit.action();
        let target = action.target.with_base(&settings.base);
        let mut headers = outgoing_headers(settings, passed, permit.ruling().org.as_deref(), date)?;
        if action.body.is_read() {
            // Sent in canonical form, so that no parser reads it differently.
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        match body.length() {
            0 if !matches!(action.method, Method::POST | Method::PUT | Method::PATCH) => {}
            length => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = action.method.clone();
        *request.uri_mut() = Uri::try_from(target.as_str()).map_err(invalid_request)?;
        *request.headers_mut() = headers;
        let signed_from = settings.unsigned_base();
        Ok(Self { request, signed_from, brand: PhantomData })
    }

    /// Builds a request of the gateway's own, made for the entry: it fetches the token for which the credential is
    /// exchanged. `target` is the upstream's form. The request contains nothing of the consumer's.
    ///
    /// A permit alone is not enough to build one:
    /// ```compile_fail,E0308
    /// use claviger::transport::{OutboundSettings, Outbound};
    /// fn early(permit: &claviger::policy::Permit, settings: &OutboundSettings, date: http::HeaderValue) {
    ///     let _outbound = Outbound::for_login(permit, settings, (http::Method::POST, "/login"), date);
    /// }
    /// ```
    /// ```
    /// use claviger::transport::{OutboundSettings, Outbound};
    /// fn due(entry: &claviger::audit::Entry, settings: &OutboundSettings, date: http::HeaderValue) {
    ///     let _outbound = Outbound::for_login(entry, settings, (http::Method::POST, "/login"), date);
    /// }
    /// ```
    ///
    /// # Errors
    /// A [`Failure`] if a header or the target has no valid form.
    pub fn for_login(
        _made_for: &'e Entry,
        settings: &OutboundSettings,
        (method, target): (Method, &str),
        date: HeaderValue,
    ) -> Result<Self, Failure> {
        let mut headers = outgoing_headers(settings, HeaderMap::new(), None, date)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = Box::new(Request::new(RequestBody::empty(Meter::default())));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(target).map_err(invalid_request)?;
        *request.headers_mut() = headers;
        Ok(Self { request, signed_from: settings.unsigned_base(), brand: PhantomData })
    }

    /// Sets the body of a request of the gateway's own.
    pub fn set_body(&mut self, kind: &'static str, body: Zeroizing<Vec<u8>>) {
        let body = RequestBody::from_bytes(Bytes::from_owner(body));
        let headers = self.request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
        *self.request.body_mut() = body;
    }

    /// Sets `X-Forwarded-For` to the consumer's address.
    pub fn set_forwarded_for(&mut self, address: std::net::IpAddr) {
        if let Ok(value) = HeaderValue::from_str(&address.to_string()) {
            self.request.headers_mut().insert(HeaderName::from_static("x-forwarded-for"), value);
        }
    }

    /// Returns the request method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// Returns the current request headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Returns the target in the form that a signature covers.
    #[must_use]
    pub fn signed_target(&self) -> &str {
        let target = self.request.uri().path_and_query().map_or("/", |target| target.as_str());
        target.get(self.signed_from..).unwrap_or(target)
    }

    /// Adds the credential, as the last step.
    #[must_use]
    pub fn sign(mut self, _by: &Unsealed<'e>, name: HeaderName, value: HeaderValue) -> Signed<'e> {
        let credential = Some(value.clone());
        self.request.headers_mut().insert(name, value);
        Signed { request: self.request, credential, brand: PhantomData }
    }

    /// Adds the credential to the body of a request of the gateway's own, as the last step.
    #[must_use]
    pub fn sign_body(
        mut self,
        _by: &Unsealed<'e>,
        kind: &'static str,
        body: Zeroizing<Vec<u8>>,
    ) -> Signed<'e> {
        self.set_body(kind, body);
        Signed { request: self.request, credential: None, brand: PhantomData }
    }
}

impl Signed<'_> {
    /// Takes the value of the header that carries the credential, for [`scrub`](super::scrub) only.
    pub(crate) fn credential(&mut self) -> Option<HeaderValue> {
        self.credential.take()
    }

    /// Returns the request, for the transport only.
    pub(super) fn into_request(self) -> Request<RequestBody> {
        *self.request
    }

    /// Detaches the request from its entry, for the transport only. The request then continues even if its
    /// caller stops waiting.
    pub(super) fn detach(self) -> Signed<'static> {
        Signed { request: self.request, credential: self.credential, brand: PhantomData }
    }
}

/// Builds the headers of a request without its credential: the consumer's filtered headers and the gateway's own. It
/// requests no content coding, since the credential could not be found in an encoded response.
///
/// # Errors
/// A [`Failure`] if a value has no valid form.
pub fn outgoing_headers(
    settings: &OutboundSettings,
    passed: HeaderMap,
    org: Option<&str>,
    date: HeaderValue,
) -> Result<HeaderMap, Failure> {
    let mut headers = passed;
    headers.insert(HOST, settings.host.clone());
    headers.insert(DATE, date);
    if let Some(accept) = accept(&headers, &settings.accept).map_err(invalid_request)? {
        headers.insert(ACCEPT, accept);
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), settings.scheme.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let (Some(name), Some(org)) = (&settings.org_header, org) {
        headers.insert(name, HeaderValue::from_str(org).map_err(invalid_request)?);
    }
    Ok(headers)
}

/// Builds the failure of a request that cannot be built: a defect of claviger or of its configuration.
fn invalid_request(error: impl std::fmt::Display) -> Failure {
    Failure::internal(format_args!("the outgoing request has no valid form: {error}"))
}

/// Joins several `Accept` fields into one, since signers and verifiers join them differently. Returns `None` if no
/// change is needed.
fn accept(
    headers: &HeaderMap,
    default: &HeaderValue,
) -> Result<Option<HeaderValue>, http::header::InvalidHeaderValue> {
    let mut all = headers.get_all(ACCEPT).iter();
    if let (Some(first), None) = (all.next(), all.next())
        && !first.is_empty()
    {
        return Ok(None);
    }
    let mut lines = headers.get_all(ACCEPT).iter().filter(|line| !line.is_empty());
    let Some(first) = lines.next() else { return Ok(Some(default.clone())) };
    let mut joined = first.as_bytes().to_vec();
    for line in lines {
        joined.push(b',');
        joined.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&joined).map(Some)
}
