//! Sends a request of the gateway's own and reads the whole response. Logins are made this way.

use std::time::Instant;

use http::Response;
use zeroize::Zeroizing;

use super::{Endpoint, Signed, Transport};
use crate::audit::Meter;
use crate::code::{Code, Failure};

/// The maximum length of a response, in bytes.
const LONGEST: usize = 64 * 1024;

/// The complete response to a request of the gateway's own. Its body is zeroised on drop.
pub type Fetched = Response<Zeroizing<Vec<u8>>>;

/// Sends a request of the gateway's own, and reads the response within the endpoint's time-out. The future does not
/// borrow the entry, so it survives its call for all callers that wait for it. The trail already records that the
/// call was made.
///
/// # Errors
/// [`Failure`] if the upstream cannot be reached or its response is invalid.
pub fn fetch(
    endpoint: &Endpoint,
    signed: Signed<'_>,
) -> impl Future<Output = Result<Fetched, Failure>> + use<> {
    let (endpoint, signed) = (endpoint.clone(), signed.detach());
    async move {
        let exchanged = tokio::time::timeout(endpoint.timeout, exchange(&endpoint, signed)).await;
        exchanged.unwrap_or_else(|_| {
            Err(Failure::new(Code::UpstreamTimeout, format!("no answer within {:?}", endpoint.timeout)))
        })
    }
}

async fn exchange(endpoint: &Endpoint, signed: Signed<'_>) -> Result<Fetched, Failure> {
    // A separate pool without reused connections: a connection closed unnoticed would cost a login, which must not be
    // sent twice.
    let transport = Transport::default();
    let sent = transport.send(endpoint, signed, &Meter::default(), Instant::now()).await;
    let response = sent.map_err(|unanswered| unanswered.failure)?;
    let (head, mut body) = response.into_parts();
    let body = body.read(LONGEST).await?;
    if body.len() > LONGEST {
        let reason = format!("its answer has more than {LONGEST} bytes");
        return Err(Failure::new(Code::UpstreamInvalid, reason));
    }
    Ok(Response::from_parts(head, body))
}
