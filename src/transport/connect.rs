//! Establishes connections to upstreams.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address_filter::is_allowed;
use super::endpoint_state::EndpointState;
use super::paced_body::root;
use super::request_body::RequestBody;
use super::response_guard::{ConnState, Guard};
use crate::code::{Code, Failure};
use crate::io::timer::LazyTimer;
use crate::origin::Origin;
use crate::tls;

/// The longest wait for a connection to become ready again after a response.
const SETTLING: Duration = Duration::from_millis(20);
/// The longest connection attempt while another endpoint remains to be tried.
const NEXT_AFTER: Duration = Duration::from_secs(5);

/// The endpoint of an upstream, with its connection settings. A clone shares the connections of the original.
#[derive(Clone)]
pub struct Endpoint {
    /// Identifies the endpoint's connections in the pool; unique across reloads.
    pub(super) id: u64,
    /// The scheme, host and port.
    pub origin: Origin,
    /// The TLS connector and server name, if the scheme is `https`.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The time-out for the response head, and between two pieces of the response body.
    pub(super) timeout: Duration,
    /// The maximum idle time of a pooled connection.
    pub(super) pool_idle: Duration,
    /// The shared state of the endpoint: availability and load.
    pub state: Arc<EndpointState>,
    /// Whether the upstream has several endpoints.
    pub(super) is_one_of_several: bool,
    /// Whether health checks run for this endpoint, so that no call has to probe whether it is up again.
    pub is_checked: bool,
    /// The addresses that the operator allows beyond the default.
    allowed: Arc<[IpNet]>,
}

impl Endpoint {
    /// Creates an endpoint. `tls` is used only if the origin's scheme is `https`.
    ///
    /// # Errors
    /// An I/O error if the host is not a valid server name for a certificate.
    pub fn new(
        origin: Origin,
        tls: Arc<ClientConfig>,
        timeout: Duration,
        pool_idle: Duration,
    ) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tls = if origin.tls {
            let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other)?;
            Some((TlsConnector::from(tls), name))
        } else {
            None
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Arc::new(EndpointState::new("-", &origin)),
            origin,
            tls,
            timeout,
            pool_idle,
            is_one_of_several: false,
            is_checked: false,
            allowed: Arc::default(),
        })
    }

    /// Sets the shared state, whether the upstream has several endpoints, and whether health checks run.
    #[must_use]
    pub fn with_state(self, state: Arc<EndpointState>, is_one_of_several: bool, is_checked: bool) -> Self {
        Self { state, is_one_of_several, is_checked, ..self }
    }

    /// Sets the addresses that are allowed beyond the default.
    #[must_use]
    pub fn with_allowed(self, allowed: Arc<[IpNet]>) -> Self {
        Self { allowed, ..self }
    }

    /// Opens a connection. `left` is what remains of the endpoint's time-out.
    pub(super) async fn connect(&self, left: Duration) -> Result<Box<Connection>, Failure> {
        let patience = if self.is_one_of_several { attempt_limit(self.timeout, left) } else { left };
        // Boxed: this future is rare and large, and every call's future would reserve room for it.
        let connecting = Box::pin(tokio::time::timeout(patience, self.connect_patiently()));
        connecting.await.unwrap_or_else(|_| {
            let reason = format!("no connection to {} within {patience:?}", self.origin.authority());
            Err(Failure::new(Code::UpstreamTimeout, reason))
        })
    }

    async fn connect_patiently(&self) -> Result<Box<Connection>, Failure> {
        let tcp = TcpStream::connect(self.addresses().await?.as_slice()).await.map_err(|error| {
            let reason = format!("connecting to {}: {error}", self.origin.authority());
            Failure::new(Code::UpstreamUnreachable, reason)
        })?;
        // A failure here costs only latency.
        tcp.set_nodelay(true).unwrap_or_default();
        let Some((connector, name)) = &self.tls else { return Connection::new(tcp).await };
        let stream = connector.connect(name.clone(), tcp).await.map_err(|error| {
            let why = tls::reason(&error).unwrap_or_else(|| error.to_string());
            Failure::new(Code::UpstreamTls, format!("TLS with {}: {why}", self.origin.authority()))
        })?;
        Connection::new(stream).await
    }

    /// Resolves the host. The addresses are filtered for every connection, since the name may resolve
    /// differently each time.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let host = self.origin.host.as_str();
        let none = |why: &dyn std::fmt::Display| {
            Failure::new(Code::UpstreamDns, format!("no address for {host}{why}"))
        };
        let found = tokio::net::lookup_host((host, self.origin.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| none(&format!(": {error}")))?.collect();
        let Some(first) = found.first().map(SocketAddr::ip) else { return Err(none(&"")) };
        let local = self.origin.is_loopback();
        let good = found.into_iter().filter(|address| is_allowed(address.ip(), local, &self.allowed));
        let good: Vec<SocketAddr> = good.collect();
        if good.is_empty() {
            let reason = format!("address denied: {host} is at {first}");
            return Err(Failure::new(Code::UpstreamUnreachable, reason));
        }
        Ok(good)
    }
}

/// Returns the limit for one connection attempt, if another endpoint may be tried within the same `timeout`. `left` is
/// what remains of it.
fn attempt_limit(timeout: Duration, left: Duration) -> Duration {
    left.min(NEXT_AFTER).min(timeout / 2)
}

/// One HTTP/1.1 connection. Dropping it closes the socket, even during an exchange. Boxed, since each exchange moves
/// it several times.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) watch: Rc<ConnState>,
    /// The timer is kept with the connection: arming a new timer for every exchange costs more than checking an old one
    /// when it expires.
    pub(super) deadline: LazyTimer,
    task: JoinHandle<()>,
}

impl Connection {
    async fn new<S: AsyncRead + AsyncWrite + Unpin + 'static>(socket: S) -> Result<Box<Self>, Failure> {
        let watch = Rc::new(ConnState::default());
        let io = TokioIo::new(Guard::new(socket, Rc::clone(&watch)));
        let (sender, connection) = http1::Builder::new()
            .handshake(io)
            .await
            .map_err(|error| Failure::new(Code::UpstreamClosed, root(&error)))?;
        // Connection errors also reach the caller that awaits the response.
        let task = tokio::task::spawn_local(async move { connection.await.unwrap_or_default() });
        Ok(Box::new(Self { sender, watch, deadline: LazyTimer::default(), task }))
    }

    /// Returns whether the connection accepts another request, now or as soon as its task has seen the end of the last
    /// one. A connection with unsent body data that the upstream does not read is not reusable.
    pub(super) async fn is_reusable(&mut self) -> bool {
        // Boxed: this is rare, and every call's future would reserve room for a timer.
        self.sender.is_ready()
            || matches!(Box::pin(tokio::time::timeout(SETTLING, self.sender.ready())).await, Ok(Ok(())))
    }

    /// Maps an error of this connection to a failure.
    pub(super) fn failure(&self, error: &hyper::Error) -> Failure {
        if let Some(fault) = self.watch.fault.get() {
            return Failure::new(Code::UpstreamInvalid, fault.reason);
        }
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(found) = cause {
            if let Some(failure) = found.downcast_ref::<Failure>() {
                return failure.clone();
            }
            cause = found.source();
        }
        // An upstream that requires a client certificate reports this only after the handshake (RFC 8446 §4.4.2).
        if let Some(why) = tls::reason(error) {
            return Failure::new(Code::UpstreamTls, format!("TLS: {why}"));
        }
        let code = if error.is_parse() { Code::UpstreamInvalid } else { Code::UpstreamClosed };
        Failure::new(code, root(error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_endpoints_share_one_time_out() {
        for seconds in [1, 4, 9, 10, 60, 600] {
            let timeout = Duration::from_secs(seconds);
            let first = attempt_limit(timeout, timeout);
            let second = attempt_limit(timeout, timeout.saturating_sub(first));
            assert!(first + second <= timeout && second == first && !first.is_zero(), "{seconds}");
        }
        let left = Duration::from_millis(300);
        assert_eq!(attempt_limit(Duration::from_mins(1), left), left);
    }
}
