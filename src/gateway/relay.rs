//! Turns an upstream's response into what the consumer receives.

use http::header::{
    ACCEPT_RANGES, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use http::{HeaderMap, Method, Response, StatusCode};

use super::error_response;
use super::exchange::{Exchange, is_safe};
use crate::audit::Entry;
use crate::code::{Code, Failure};
use crate::headers;
use crate::inbound::CallerCredential;
use crate::transport::link_rewrite::{PublicUrl, RedirectLoop};
use crate::transport::{UpstreamBody, excerpt, remove_descriptions, scrub};
use crate::upstream::Upstream;

/// Refuses a redirect that only adds a slash, if following it would lose the method and the body.
fn refuse_slash(upstream: &Upstream, entry: &Entry, location: &HeaderValue) -> Result<(), Failure> {
    let sent = entry.permit().action().target.with_base(&upstream.first.settings.base);
    if is_safe(entry) || !upstream.links.only_adds_slash(location, sent.as_str()) {
        return Ok(());
    }
    Err(Failure::new(Code::MissingSlash, "the upstream redirects to the same path with a slash"))
}

/// Refuses a redirect loop: after its rewrite to the gateway, the location is the same request again.
fn refuse_loop(
    Exchange { upstream, destination, .. }: &Exchange<'_>,
    entry: &Entry,
    status: StatusCode,
    location: &HeaderValue,
) -> Result<(), Failure> {
    let action = entry.permit().action();
    let sent = action.target.with_base(&upstream.first.settings.base);
    let (here, host) = (&destination.endpoint.origin, &destination.endpoint.origin.host);
    let reason = match upstream.links.redirect_loop(location, sent.as_str(), here) {
        Some(RedirectLoop::Https) => format!(
            "the upstream redirects to https at the same place: it is served there alone; write https://{host} \
             in this upstream's endpoint"
        ),
        Some(RedirectLoop::Http) => format!(
            "the upstream redirects from https to http at the same place; see why {host} takes what comes by \
             https for http"
        ),
        // A cookie may change the next response, and many forms redirect to their own page.
        Some(RedirectLoop::Itself)
            if upstream.request_headers.cookies || !repeats_request(&action.method, status) =>
        {
            return Ok(());
        }
        Some(RedirectLoop::Itself) => "the upstream redirects to the same target again".into(),
        None => return Ok(()),
    };
    Err(Failure::new(Code::UpstreamInvalid, reason))
}

/// Returns whether following a redirect with this status repeats the request unchanged (RFC 9110 §15.4).
fn repeats_request(method: &Method, status: StatusCode) -> bool {
    let keeps_method = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&status);
    keeps_method || matches!(*method, Method::GET | Method::HEAD)
}

/// Builds the failure for an upstream's 401, which rejects the gateway's credential. The upstream's explanation goes to
/// the operator only, never to the consumer.
async fn upstream_refusal(
    response: &mut Response<UpstreamBody>,
    sent: Option<&HeaderValue>,
    own_credential: Option<&CallerCredential<'_>>,
) -> Failure {
    // The upstream may reject every request on this connection.
    response.body().retire();
    let why = excerpt(response, sent, own_credential).await.map(|why| format!(": {why}")).unwrap_or_default();
    Failure::new(Code::UpstreamAuth, format!("the upstream answered 401{why}"))
}

/// Turns the upstream's response into what the consumer receives.
pub(super) async fn relay(
    call: &Exchange<'_>,
    entry: &mut Entry,
    mut response: Response<UpstreamBody>,
    sent: Option<HeaderValue>,
) -> Result<Response<UpstreamBody>, Failure> {
    let Exchange { snapshot, upstream, route, message, arrival, .. } = *call;
    if response.status() == StatusCode::UNAUTHORIZED {
        // The upstream may echo the consumer's credential, if that was forwarded or is known to it from elsewhere.
        let own_credential =
            CallerCredential::of(entry.permit().identity(), message.headers, &snapshot.directory);
        // Boxed, since it is rare and large.
        return Err(Box::pin(upstream_refusal(&mut response, sent.as_ref(), own_credential.as_ref())).await);
    }
    if response.status().is_redirection()
        && let Some(location) = response.headers().get(LOCATION)
    {
        refuse_slash(upstream, entry, location)?;
        refuse_loop(call, entry, response.status(), location)?;
    }
    // A request in HTTP/1.0 may lack `Host`; the listener's address replaces it.
    let host = headers::host(message.headers).unwrap_or(&arrival.listener);
    let url = PublicUrl { tls: arrival.tls, host, prefix: &route.prefix };
    strip_response_headers(response.headers_mut(), upstream.request_headers.cookies)?;
    upstream.request_headers.withhold_cookies(response.headers_mut());
    if !upstream.request_headers.allows_ranges(entry.permit().action().target.path()) {
        // The gateway drops `Range` on this path, so the response must not offer ranges.
        response.headers_mut().remove(ACCEPT_RANGES);
    }
    if let Some(sent) = sent {
        let found = scrub::scrub(&mut response, &sent, upstream.scheme.is_reusable())?;
        if found > 0 {
            entry.meter().scrubbed.update(|times| times.saturating_add(found));
        }
    }
    if let Some(why) = rewrite_links(upstream, &mut response, url).await? {
        entry.update(|progress| progress.link_kept = Some(why));
        upstream.first.endpoint.state.log("link_kept", why);
    }
    error_response::put_request_id(response.headers_mut(), entry.request_id());
    Ok(response)
}

/// Rewrites the links of the response to the gateway. Returns why a link that may bypass the gateway was kept.
async fn rewrite_links(
    upstream: &Upstream,
    response: &mut Response<UpstreamBody>,
    url: PublicUrl<'_>,
) -> Result<Option<&'static str>, Failure> {
    let reason = upstream.links.rewrite_headers(response.headers_mut(), url);
    if !upstream.links.applies_to(response.headers()) || response.body().is_exhausted() {
        return Ok(reason);
    }
    let page = Box::pin(upstream.links.rewrite_body(response, url)).await?;
    if page.changed {
        remove_descriptions(response.headers_mut());
        let delta = response.body().length_delta();
        if let Some(length) = headers::content_length(response.headers()) {
            let length = HeaderValue::from(length.saturating_add_signed(delta));
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
    }
    Ok(reason.or(page.bypass))
}

/// Usual options of `Connection` that name no header field.
const KNOWN_OPTIONS: [&[u8]; 2] = [b"keep-alive", b"close"];

/// Removes hop-by-hop headers, and headers that only the gateway may set.
fn strip_response_headers(fields: &mut HeaderMap, cookies: bool) -> Result<(), Failure> {
    let mut doomed: Vec<HeaderName> = Vec::new();
    for (name, value) in &*fields {
        if name == CONNECTION {
            let names = headers::items(value).filter(|name| !KNOWN_OPTIONS.contains(name));
            let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
            doomed.extend(names.filter(|name| *name != CONTENT_LENGTH));
        } else if is_stripped(name.as_str()) || (!cookies && name == SET_COOKIE) {
            if name == "x-accel-redirect" {
                return Err(Failure::new(Code::UpstreamInvalid, "x-accel-redirect"));
            }
            doomed.push(name.clone());
        }
    }
    fields.remove(CONNECTION);
    for name in doomed {
        fields.remove(name);
    }
    Ok(())
}

/// Returns whether this response header is withheld from the consumer.
fn is_stripped(name: &str) -> bool {
    matches!(
        name,
        "transfer-encoding" | "keep-alive" | "te" | "trailer" | "upgrade" | "alt-svc" | "claviger-error"
    ) || name.starts_with("proxy-")
        || name.starts_with("x-accel-")
}
