//! Health checks of endpoints: a request without a consumer and without a credential.

use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Request, StatusCode, Uri};

use super::Endpoint;
use super::request_body::RequestBody;
use crate::audit::Meter;
use crate::code::{Code, Failure};

/// The time-out of one health check.
const PATIENCE: Duration = Duration::from_secs(2);

/// The settings of an upstream's health checks.
#[derive(Debug, Clone)]
pub struct Health {
    /// The request target, including the base path.
    pub target: Uri,
    /// The interval between two checks.
    pub interval: Duration,
}

/// Requests `target` from `endpoint` on a new connection. Any status but a server error counts as healthy: a request
/// for authentication shows that the service works.
///
/// # Errors
/// [`Failure`] if the endpoint does not respond in time, or responds with a server error (5xx).
pub async fn check(endpoint: &Endpoint, host: HeaderValue, target: Uri) -> Result<(), Failure> {
    let patience = PATIENCE.min(endpoint.timeout);
    let response = tokio::time::timeout(patience, ask(endpoint, host, target)).await;
    let status = response.unwrap_or_else(|_| {
        let reason = format!("its health check had no answer within {patience:?}");
        Err(Failure::new(Code::UpstreamTimeout, reason))
    })?;
    if status.is_server_error() {
        let reason = format!("its health check was answered {}", status.as_u16());
        return Err(Failure::new(Code::UpstreamInvalid, reason));
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
