//! The admin listener: `/healthz`, `/readyz` with reasons, `/metrics`. These paths are never served on
//! the data listeners.

mod host;
mod paced;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::audit::Journal;
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::gateway::Snapshot;
use crate::metrics::{Endpoint, Metrics, NameLabel, UpstreamCredential};
use crate::scheme::TokenSlot;
use crate::transport::Destination;
use crate::upstream::Upstream;
use host::Misdirected;
use paced::Paced;

/// The maximum number of connections: for an operator, a scraper, a health check, and some more. A new connection
/// beyond it closes the oldest one.
const MOST_CONNECTIONS: usize = 64;
/// The time-out for a handshake, for a request, and for writing a response, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum length of a request head, in bytes.
const LONGEST: usize = 16 * 1024;

/// The state that the admin listener reports.
pub struct Admin {
    /// The journal; the gateway makes calls only while it can record them.
    pub journal: Journal,
    /// The metrics that `/metrics` returns.
    pub metrics: Arc<Metrics>,
    /// The current configuration; its upstreams are reported.
    pub current: Arc<ArcSwap<Snapshot>>,
    /// The listener's settings; a change applies to new connections.
    pub settings: Arc<ArcSwap<config::Admin>>,
    /// Whether the server is draining.
    pub draining: AtomicBool,
    /// Why the store data in use may be wrong or outdated; it contains no secret.
    pub apart: RefCell<Option<String>>,
}

impl Admin {
    /// Creates the admin state for this journal and these metrics.
    #[must_use]
    pub fn new(
        (journal, metrics): (Journal, Arc<Metrics>),
        current: Arc<ArcSwap<Snapshot>>,
        settings: Arc<ArcSwap<config::Admin>>,
    ) -> Self {
        let (draining, apart) = (AtomicBool::new(false), RefCell::default());
        Self { journal, metrics, current, settings, draining, apart }
    }

    /// Returns the reasons why the gateway is not ready; empty if it is ready.
    #[must_use]
    pub fn unready_reasons(&self) -> Vec<Cow<'static, str>> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining: no new connections are accepted".into());
        }
        reasons.extend(self.apart.borrow().clone().map(Cow::from));
        if !self.journal.healthy() {
            reasons.push("audit: the journal cannot record, so every call is refused".into());
        }
        reasons
    }

    /// Returns the upstreams without a responding endpoint. They do not make the gateway unready, since it
    /// serves the others.
    fn unreachable(&self) -> Vec<String> {
        let snapshot = self.current.load();
        let is_away = |upstream: &&Upstream| {
            let alone = upstream.others.is_empty();
            upstream.destinations().all(|each| each.endpoint.state.answers(alone) == Some(false))
        };
        let name = |upstream: &Upstream| upstream.name.as_str().to_owned();
        snapshot.upstreams.iter().filter(is_away).map(name).collect()
    }

    /// Returns the logins that upstreams reject and that claviger does not retry until a person intervenes, each
    /// with its reason.
    fn logins(&self) -> Vec<String> {
        let (snapshot, now) = (self.current.load(), SystemClock.now());
        let refused = |slot: &Arc<TokenSlot>| {
            let (upstream, credential) = slot.names();
            Some(format!("{upstream}: credential {credential}: {}", slot.refusal(now)?))
        };
        let mut logins: Vec<_> = snapshot.token_slots.values().filter_map(refused).collect();
        logins.sort_unstable();
        logins
    }

    /// Updates the metrics of endpoints and logins.
    fn measure(&self) {
        let (suspended, now) = (&self.metrics.login_held, SystemClock.now());
        suspended.clear();
        for slot in self.current.load().token_slots.values() {
            let (upstream, credential) = slot.names();
            let labels = UpstreamCredential {
                upstream: NameLabel(Some(upstream)),
                credential: NameLabel(Some(credential)),
            };
            suspended.get_or_create(&labels).set(i64::from(slot.refusal(now).is_some()));
        }
        let (up, in_flight) = (&self.metrics.endpoint_up, &self.metrics.endpoint_in_flight);
        // Removes the series of a former configuration.
        up.clear();
        in_flight.clear();
        for upstream in &self.current.load().upstreams {
            for Destination { endpoint, .. } in upstream.destinations() {
                let standing = &endpoint.state;
                let name = NameLabel(Some(upstream.name));
                let labels = Endpoint { upstream: name, endpoint: endpoint.origin.to_string().into() };
                if let Some(answers) = standing.answers(upstream.others.is_empty()) {
                    up.get_or_create(&labels).set(i64::from(answers));
                }
                if !upstream.others.is_empty() {
                    in_flight.get_or_create(&labels).set(standing.in_flight());
                }
            }
        }
    }

    /// Serves on `listener` until the future is dropped.
    pub async fn serve(self: Rc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut oldest = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    oldest.retain(|connection: &AbortHandle| !connection.is_finished());
                    if oldest.len() >= MOST_CONNECTIONS
                        && let Some(connection) = oldest.pop_front()
                    {
                        connection.abort();
                        // The aborted connection must end before another is accepted, so that a burst does not use up
                        // the file descriptors.
                        tokio::task::yield_now().await;
                    }
                    oldest
                        .push_back(connections.spawn_local(Rc::clone(&self).serve_connection(socket, peer)));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve_connection(self: Rc<Self>, socket: TcpStream, peer: SocketAddr) {
        let settings = self.settings.load_full();
        let Some(tls) = &settings.tls else { return self.serve_http(socket, peer, settings).await };
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(socket);
        match tokio::time::timeout(PATIENCE, handshake).await {
            Ok(Ok(stream)) => self.serve_http(stream, peer, settings).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "admin: TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "admin: TLS handshake too slow"),
        }
    }

    async fn serve_http<S>(self: Rc<Self>, socket: S, peer: SocketAddr, settings: Arc<config::Admin>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = match host::check(&request, &settings.hosts) {
                Ok(()) => self.respond(request.method(), request.uri().path()),
                Err(why) => misdirected_response(why),
            };
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST);
        let socket = TokioIo::new(Paced::new(socket, PATIENCE));
        if let Err(error) = builder.serve_connection(socket, service).await {
            tracing::debug!(%error, %peer, "admin: connection ended");
        }
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => {
                let reasons = self.unready_reasons();
                let ready = reasons.is_empty();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let (unreachable, logins) = (self.unreachable(), self.logins());
                let body = serde_json::json!({ "ready": ready, "reasons": reasons, "unreachable": unreachable, "logins": logins });
                response(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => {
                self.measure();
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response(StatusCode::OK, kind, self.metrics.text())
            }
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
        }
    }
}

fn misdirected_response(Misdirected { status, code, detail }: Misdirected) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "detail": detail, "code": code, "by": "claviger" });
    let mut response = response(status, "application/json", format!("{body}\n"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
