//! A request of our own and its whole answer: how a login is made.

use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use super::{Endpoint, Failure, Signed, Transport};
use crate::audit::Meter;
use crate::code::Code;

/// The longest answer, in bytes.
const LONGEST: usize = 64 * 1024;

/// An answer to a request of our own, whole.
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, wiped when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// Sends a request of our own, and reads its answer within the endpoint's time-out. It goes on without
/// its entry, for all who wait for it: that the call was made is on the trail already.
///
/// # Errors
/// [`Failure`], of the upstream's.
pub fn fetch(
    endpoint: &Endpoint,
    signed: Signed<'_>,
) -> impl Future<Output = Result<Fetched, Failure>> + use<> {
    let (endpoint, signed) = (endpoint.clone(), signed.detach());
    async move {
        let exchanged = tokio::time::timeout(endpoint.timeout, exchange(&endpoint, signed)).await;
        exchanged.unwrap_or_else(|_| {
            let reason = format!("no answer within {:?}", endpoint.timeout);
            Err(Failure { code: Code::UpstreamTimeout, reason })
        })
    }
}

async fn exchange(endpoint: &Endpoint, signed: Signed<'_>) -> Result<Fetched, Failure> {
    // Connections of its own: one that had been closed unseen would cost a login that must not be
    // sent twice.
    let transport = Rc::new(Transport::default());
    let sent = transport.send(endpoint, signed, &Meter::default(), Instant::now()).await;
    let response = sent.map_err(|unanswered| unanswered.failure)?;
    let (head, mut body) = response.into_parts();
    let body = body.read(LONGEST).await?;
    if body.len() > LONGEST {
        let reason = format!("its answer has more than {LONGEST} bytes");
        return Err(Failure { code: Code::UpstreamInvalid, reason });
    }
    Ok(Fetched { status: head.status, headers: head.headers, body })
}
