//! Looking at an endpoint's health: a request of nobody's, that carries no credential.

use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Request, StatusCode, Uri};

use super::request_body::RequestBody;
use super::{Endpoint, Failure};
use crate::audit::Meter;
use crate::code::Code;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the health of an upstream's endpoints is looked at.
#[derive(Debug, Clone)]
pub struct Health {
    /// What is asked for, with the base path.
    pub target: Uri,
    /// How often.
    pub interval: Duration,
}

/// Asks `endpoint` for `target`, on a connection of its own. Any status below 500 is good: that it wants to
/// know who asks is a sign of health.
///
/// # Errors
/// [`Failure`] where it does not answer in time, or with a failure of its own.
pub async fn check(endpoint: &Endpoint, host: HeaderValue, target: Uri) -> Result<(), Failure> {
    let patience = PATIENCE.min(endpoint.timeout);
    let asked = tokio::time::timeout(patience, ask(endpoint, host, target)).await;
    let status = asked.unwrap_or_else(|_| {
        let reason = format!("its health check had no answer within {patience:?}");
        Err(Failure { code: Code::UpstreamTimeout, reason })
    })?;
    if status.is_server_error() {
        let reason = format!("its health check was answered {}", status.as_u16());
        return Err(Failure { code: Code::UpstreamInvalid, reason });
    }
    Ok(())
}

async fn ask(endpoint: &Endpoint, host: HeaderValue, target: Uri) -> Result<StatusCode, Failure> {
    let mut request = Request::new(RequestBody::empty(Meter::default()));
    *request.uri_mut() = target;
    request.headers_mut().insert(HOST, host);
    let mut connection = endpoint.connect(endpoint.timeout).await?;
    connection.watch.begin_request(false);
    let answered = connection.sender.send_request(request).await;
    answered.map(|response| response.status()).map_err(|error| connection.failure(&error))
}
