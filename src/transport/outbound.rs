//! The request as it will be sent: what the consumer may say of it, what we say, and nothing else.
//! Hygiene comes first and the credential last, so that nothing can take it off again.

use std::marker::PhantomData;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderName, HeaderValue,
};
use http::{HeaderMap, Method, Request, Uri};
use zeroize::Zeroizing;

use super::request_body::RequestBody;
use crate::audit::{Entry, Meter};
use crate::custody::Unsealed;
use crate::target::Target;

/// What a product wants of a request, beside its credential.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// The upstream's `Host`.
    pub host: HeaderValue,
    /// The endpoint's base path, without a slash at its end; empty for none.
    pub base: String,
    /// Whether the base path is part of the signed path.
    pub sign_base_path: bool,
    /// The header that carries the organisation.
    pub org_header: Option<HeaderName>,
    /// `Accept` where the consumer sends none.
    pub accept: HeaderValue,
    /// Whether the consumer's address is told in `X-Forwarded-For`.
    pub forwarded_for: bool,
    /// `X-Forwarded-Proto`: the endpoint's own scheme.
    pub scheme: HeaderValue,
}

impl OutboundSettings {
    /// How many bytes at the front of the sent target are not signed.
    fn unsigned_base(&self) -> usize {
        if self.sign_base_path { 0 } else { self.base.len() }
    }

    /// The target of a signature over `target`.
    #[must_use]
    pub fn signed_target(&self, target: &Target) -> String {
        let sent = target.with_base(&self.base);
        sent.as_str().get(self.unsigned_base()..).unwrap_or_default().to_owned()
    }
}

/// A request that passed hygiene and lacks only its credential. It cannot outlive its entry.
///
/// Boxed: it is large, and handed on several times.
pub struct Outbound<'e> {
    request: Box<Request<RequestBody>>,
    signed_from: usize,
    brand: PhantomData<&'e Entry>,
}

/// A request with its credential on. It has no setters, cannot be printed or copied, and can be
/// sent once.
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
    /// What was put on, to be kept from the answer.
    credential: Option<HeaderValue>,
    brand: PhantomData<&'e Entry>,
}

/// The outgoing request cannot be put together: a defect of ours or of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the outgoing request has no valid form: {0}")]
pub struct BuildError(#[from] http::Error);

impl<'e> Outbound<'e> {
    /// Puts the request together: method, target and organisation from the entry's permit, of the
    /// consumer's header lines those that [`passed`](super::RequestHeaders::passed).
    ///
    /// # Errors
    /// [`BuildError`] where a header or the target has no valid form.
    pub fn new(
        entry: &'e Entry,
        manners: &OutboundSettings,
        passed: HeaderMap,
        date: HeaderValue,
        body: RequestBody,
    ) -> Result<Self, BuildError> {
        let permit = entry.permit();
        let action = permit.action();
        let target = action.target.with_base(&manners.base);
        let mut headers = outgoing_headers(manners, passed, permit.org().map(|org| &**org), date)?;
        if action.body.is_read() {
            // As it was judged, so that nobody reads it as anything else.
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
        *request.uri_mut() = Uri::try_from(target.as_str()).map_err(http::Error::from)?;
        *request.headers_mut() = headers;
        let signed_from = manners.unsigned_base();
        Ok(Self { request, signed_from, brand: PhantomData })
    }

    /// Puts together a request of our own, made for the entry: to ask for what the credential is
    /// exchanged for. `target` is as the upstream knows it. Nothing of the consumer's is in it.
    ///
    /// A permit alone asks for nothing:
    /// ```compile_fail,E0308
    /// use claviger::transport::{OutboundSettings, Outbound};
    /// fn early(permit: &claviger::policy::Permit, manners: &OutboundSettings, date: http::HeaderValue) {
    ///     let _outbound = Outbound::for_login(permit, manners, (http::Method::POST, "/login"), date);
    /// }
    /// ```
    /// ```
    /// use claviger::transport::{OutboundSettings, Outbound};
    /// fn due(entry: &claviger::audit::Entry, manners: &OutboundSettings, date: http::HeaderValue) {
    ///     let _outbound = Outbound::for_login(entry, manners, (http::Method::POST, "/login"), date);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] where a header or the target has no valid form.
    pub fn for_login(
        _made_for: &'e Entry,
        manners: &OutboundSettings,
        (method, target): (Method, &str),
        date: HeaderValue,
    ) -> Result<Self, BuildError> {
        let mut headers = outgoing_headers(manners, HeaderMap::new(), None, date)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = Box::new(Request::new(RequestBody::empty(Meter::default())));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(target).map_err(http::Error::from)?;
        *request.headers_mut() = headers;
        Ok(Self { request, signed_from: manners.unsigned_base(), brand: PhantomData })
    }

    /// Gives a request of our own its body.
    pub fn set_body(&mut self, kind: &'static str, body: Zeroizing<Vec<u8>>) {
        let body = RequestBody::from_bytes(Bytes::from_owner(body));
        let headers = self.request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
        *self.request.body_mut() = body;
    }

    /// Tells the consumer's address.
    pub fn set_forwarded_for(&mut self, address: std::net::IpAddr) {
        if let Ok(value) = HeaderValue::from_str(&address.to_string()) {
            self.request.headers_mut().insert(HeaderName::from_static("x-forwarded-for"), value);
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// The headers as they stand.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The target as a signature names it.
    #[must_use]
    pub fn signed_target(&self) -> &str {
        let target = self.request.uri().path_and_query().map_or("/", |target| target.as_str());
        target.get(self.signed_from..).unwrap_or(target)
    }

    /// Puts the credential on, the last thing done to a request.
    #[must_use]
    pub fn sign(mut self, _by: &Unsealed<'e>, name: HeaderName, value: HeaderValue) -> Signed<'e> {
        let credential = Some(value.clone());
        self.request.headers_mut().insert(name, value);
        Signed { request: self.request, credential, brand: PhantomData }
    }

    /// Puts the credential into the body of a request of our own, the last thing done to it.
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
    /// The value of the header that carries the credential, for [`scrub`](super::scrub) alone.
    pub(crate) fn credential(&mut self) -> Option<HeaderValue> {
        self.credential.take()
    }

    /// The request, for the transport alone.
    pub(super) fn into_request(self) -> Request<RequestBody> {
        *self.request
    }

    /// The same beyond its entry, for the transport alone: it is on its way, whoever waits for it.
    pub(super) fn detach(self) -> Signed<'static> {
        Signed { request: self.request, credential: self.credential, brand: PhantomData }
    }
}

/// The headers of a request before its credential: those of the consumer that passed, and what the gateway says
/// itself. No coding of the answer's content is asked for: a credential would not be found in it.
///
/// # Errors
/// [`BuildError`] where a value has no valid form.
pub fn outgoing_headers(
    manners: &OutboundSettings,
    passed: HeaderMap,
    org: Option<&str>,
    date: HeaderValue,
) -> Result<HeaderMap, BuildError> {
    let mut headers = passed;
    headers.insert(HOST, manners.host.clone());
    headers.insert(DATE, date);
    if let Some(accept) = accept(&headers, &manners.accept).map_err(http::Error::from)? {
        headers.insert(ACCEPT, accept);
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), manners.scheme.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let (Some(name), Some(org)) = (&manners.org_header, org) {
        headers.insert(name, HeaderValue::from_str(org).map_err(http::Error::from)?);
    }
    Ok(headers)
}

/// One `Accept` line, of however many came: signers and verifiers join several in different ways. None where it is so
/// already.
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
