//! A worker: one thread with its own runtime, listening sockets and upstream connections.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::connection_limit::{ConnectionGuard, ConnectionLimiter, Full};
use super::drain::Drain;
use super::idle::IdleState;
use super::{http1, http2};
use crate::audit::Peer;
use crate::gateway::Gateway;
use crate::gateway::limits::simplest;
use crate::metrics::{CachedSeries, Metrics, Reason};
use crate::tls::HTTP2;

/// The pause of the accept loop after the system returned an error.
const NO_SOCKETS: Duration = Duration::from_millis(50);
/// The interval at which idle connections are checked.
const SWEEP: Duration = Duration::from_millis(500);

/// A listening socket of one worker.
pub(super) struct BoundListener {
    pub(super) socket: std::net::TcpListener,
    pub(super) address: Arc<str>,
    pub(super) tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

/// The number of attempts to make room for a connection before it is refused.
const TURNS: usize = 3;

/// The parts of a worker, which all its listeners share.
pub(super) struct Worker {
    pub(super) gateway: Rc<Gateway>,
    pub(super) drain: Rc<Drain>,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) metrics: Arc<Metrics>,
    /// Set when the worker should end. The value is the maximum time for calls in flight.
    pub(super) stop: watch::Receiver<Option<Duration>>,
}

impl Worker {
    /// Serves until `stop` is set, then until the calls in flight are done.
    pub(super) async fn run(self, listeners: Vec<BoundListener>) {
        let worker = Rc::new(self);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn_local(Rc::clone(&worker).accept_loop(listener));
        }
        let transport = &worker.gateway.forwarder.transport;
        let (mut stop, mut ticks) = (worker.stop.clone(), tokio::time::interval(SWEEP));
        let patience = loop {
            tokio::select! {
                requested = stop.wait_for(Option::is_some) => break requested.ok().and_then(|drain| *drain).unwrap_or_default(),
                _ = ticks.tick() => {
                    transport.sweep();
                    worker.drain.sweep();
                }
            }
        };
        worker.drain.begin();
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(?patience, "calls in flight are aborted");
        }
        tasks.shutdown().await;
        transport.clear();
    }

    /// Accepts connections on one listening socket.
    async fn accept_loop(self: Rc<Self>, BoundListener { socket, address, tls }: BoundListener) {
        let mut stop = self.stop.clone();
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, listener = %address, "cannot listen");
                return;
            }
        };
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let peer = simplest(peer);
                    let Some(guard) = self.admit(peer.ip()).await else { continue };
                    // A failure here costs only latency.
                    socket.set_nodelay(true).unwrap_or_default();
                    let arrival = arrival(peer, &address, tls.is_some());
                    let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full()));
                    let (gateway, drain) = (Rc::clone(&self.gateway), Rc::clone(&self.drain));
                    connections.spawn_local(async move {
                        serve_connection(gateway, socket, tls, arrival, drain).await;
                        drop(guard);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(NO_SOCKETS).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Accepts a connection. If there is no room, this worker closes connections without an authenticated request.
    async fn admit(&self, peer: IpAddr) -> Option<ConnectionGuard> {
        let snapshot = self.gateway.forwarder.snapshot.load_full();
        let enter = || self.limiter.enter(peer, &snapshot.limits, &self.metrics);
        let count_refused = |full: Full, number: usize| {
            let counter = self.metrics.connections_refused.get_or_create(&Reason { reason: full.as_str() });
            counter.inc_by(u64::try_from(number).unwrap_or(u64::MAX));
        };
        let mut entered = enter();
        for _turn in 0..TURNS {
            if !matches!(entered, Err(Full::All)) {
                break;
            }
            count_refused(Full::All, self.drain.make_room());
            // The closed connections need a turn to end, and new ones a turn to register.
            tokio::task::yield_now().await;
            entered = enter();
        }
        entered.inspect_err(|full| count_refused(*full, 1)).ok()
    }
}

fn arrival(peer: SocketAddr, listener: &Arc<str>, tls: bool) -> Rc<Peer> {
    let (peer_text, listener) = (peer.to_string(), Arc::clone(listener));
    Rc::new(Peer {
        peer,
        peer_text,
        listener,
        tls,
        recent: CachedSeries::default(),
        authenticated: Cell::default(),
    })
}

/// Serves one connection from its first byte to its last.
async fn serve_connection(
    gateway: Rc<Gateway>,
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    arrival: Rc<Peer>,
    drain: Rc<Drain>,
) {
    let Some(acceptor) = tls else {
        // A failure here only makes a truncated response look complete to an HTTP/1.0 client.
        let reset = |socket: &TcpStream| socket.set_zero_linger().unwrap_or_default();
        return http1::serve(gateway, (socket, reset), arrival, drain).await;
    };
    // Boxed: this future is large, and connections without TLS would reserve room for it.
    Box::pin(serve_tls(gateway, acceptor.accept(socket), arrival, drain)).await;
}

async fn serve_tls(gateway: Rc<Gateway>, accepting: Accept<TcpStream>, arrival: Rc<Peer>, drain: Rc<Drain>) {
    let patience = gateway.forwarder.snapshot.load().limits.header_timeout;
    let agreed = tokio::time::timeout(patience, handshake(accepting, &arrival, &drain)).await;
    match agreed {
        // Without a `close_notify`, TLS itself shows that the stream was truncated.
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => {
            http2::serve(gateway, stream, arrival, drain).await;
        }
        Ok(Ok(stream)) => http1::serve(gateway, (stream, |_| {}), arrival, drain).await,
        Ok(Err(error)) => tracing::debug!(%error, peer = arrival.peer_text, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = arrival.peer_text, "TLS handshake too slow"),
    }
}

/// Performs the TLS handshake. Meanwhile the connection may have to make room for another one.
async fn handshake(
    mut handshake: Accept<TcpStream>,
    arrival: &Rc<Peer>,
    drain: &Drain,
) -> io::Result<TlsStream<TcpStream>> {
    let idle = Rc::new(IdleState::new(Rc::clone(arrival)));
    let registered = Rc::clone(&idle);
    let mut agreed = std::future::poll_fn(move |cx| {
        let polled = Pin::new(&mut handshake).poll(cx);
        let must_end = polled.is_pending() && idle.is_unwanted();
        if must_end { Poll::Ready(Err(io::Error::other("the connection must make room"))) } else { polled }
    });
    // The handshake continues when the worker ends, since a request may follow.
    drain.run(Pin::new(&mut agreed), registered, |_| {}).await
}

/// Fails if another process listens on `address`, even with a shared port. Two gateways on one address would split the
/// calls between two configurations and two trails.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

/// Binds another socket to `address`, shared with the other workers.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}
