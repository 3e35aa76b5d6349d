//! One worker: a thread with its own runtime, its own sockets and its own upstream connections.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::drain::Drain;
use super::wire::{Pace, Shared, Wire};
use crate::audit::{Arrival, Audited, Broken};
use crate::code::Code;
use crate::framing::Fault;
use crate::gateway::limits::network;
use crate::gateway::{Gateway, Received};
use crate::metrics::{Metrics, Recent};
use crate::transport::Answer;

/// How long accepting pauses when the system gives no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(50);
/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_millis(500);

/// A listening socket of one worker.
pub(super) struct Door {
    pub(super) socket: std::net::TcpListener,
    pub(super) address: Arc<str>,
    pub(super) tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

/// Consumers' connections, over all workers.
#[derive(Default)]
pub(super) struct Crowd {
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
}

/// One connection of the crowd; dropping it makes room.
struct Guest {
    crowd: Arc<Crowd>,
    address: Option<IpAddr>,
    metrics: Arc<Metrics>,
}

impl Crowd {
    /// Lets a connection in, unless there are too many.
    fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        (all, each): (usize, usize),
        metrics: &Arc<Metrics>,
    ) -> Option<Guest> {
        let claim = |used: usize| (used < all).then_some(used + 1);
        self.all.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).ok()?;
        metrics.connections.inc();
        let mut guest = Guest { crowd: Arc::clone(self), address: None, metrics: Arc::clone(metrics) };
        if each > 0 {
            let peer = network(peer);
            let mut count = self.by_address.entry(peer).or_insert(0);
            if *count >= each {
                drop(count);
                return None;
            }
            *count += 1;
            guest.address = Some(peer);
        }
        Some(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.crowd.all.fetch_sub(1, Ordering::AcqRel);
        self.metrics.connections.dec();
        if let Some(address) = self.address {
            self.crowd.by_address.alter(&address, |_, count| count.saturating_sub(1));
            self.crowd.by_address.remove_if(&address, |_, count| *count == 0);
        }
    }
}

/// What a worker runs with.
pub(super) struct Worker {
    pub(super) gateway: Gateway,
    pub(super) doors: Vec<Door>,
    pub(super) crowd: Arc<Crowd>,
    pub(super) metrics: Arc<Metrics>,
    /// Set when the worker is to end; the value is how long calls in flight may take.
    pub(super) stop: watch::Receiver<Option<Duration>>,
}

impl Worker {
    /// Serves until told to stop, then until what is in flight is done.
    pub(super) async fn run(self) {
        let Self { gateway, doors, crowd, metrics, mut stop } = self;
        let gateway = Rc::new(gateway);
        let drain = Rc::new(Drain::default());
        let mut tasks = JoinSet::new();
        for door in doors {
            let host = Host {
                gateway: Rc::clone(&gateway),
                crowd: Arc::clone(&crowd),
                metrics: Arc::clone(&metrics),
                drain: Rc::clone(&drain),
                stop: stop.clone(),
            };
            tasks.spawn_local(host.receive(door));
        }
        let mut ticks = tokio::time::interval(SWEEP);
        let patience = loop {
            tokio::select! {
                told = stop.wait_for(Option::is_some) => break told.ok().and_then(|drain| *drain).unwrap_or_default(),
                _ = ticks.tick() => gateway.transport.sweep(),
            }
        };
        drain.begin();
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(?patience, "calls still in flight are cut off");
        }
        tasks.shutdown().await;
        gateway.transport.clear();
    }
}

/// Receives connections at one door.
struct Host {
    gateway: Rc<Gateway>,
    crowd: Arc<Crowd>,
    metrics: Arc<Metrics>,
    drain: Rc<Drain>,
    stop: watch::Receiver<Option<Duration>>,
}

impl Host {
    async fn receive(mut self, door: Door) {
        let listener = match TcpListener::from_std(door.socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, listener = %door.address, "cannot listen");
                return;
            }
        };
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stop.wait_for(Option::is_some) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let limits = self.gateway.snapshot.load().limits.clone();
                    let most = (limits.connections, limits.connections_per_address);
                    let Some(guest) = self.crowd.enter(peer.ip(), most, &self.metrics) else { continue };
                    // Only costs latency where it fails.
                    socket.set_nodelay(true).unwrap_or_default();
                    let arrival = arrival(peer, &door.address, door.tls.is_some());
                    let (gateway, tls, drain) = (
                        Rc::clone(&self.gateway),
                        door.tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full())),
                        Rc::clone(&self.drain),
                    );
                    connections.spawn_local(async move {
                        converse(gateway, socket, tls, arrival, drain).await;
                        drop(guest);
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
}

fn arrival(peer: SocketAddr, listener: &Arc<str>, tls: bool) -> Rc<Arrival> {
    let (peer_text, listener) = (peer.to_string(), Arc::clone(listener));
    Rc::new(Arrival { peer, peer_text, listener, tls, recent: Recent::default() })
}

/// One connection, from its first byte to its last.
async fn converse(
    gateway: Rc<Gateway>,
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    arrival: Rc<Arrival>,
    drain: Rc<Drain>,
) {
    let Some(acceptor) = tls else {
        // Only makes a cut answer look whole to HTTP/1.0 where it fails.
        let reset = |socket: &TcpStream| socket.set_zero_linger().unwrap_or_default();
        return serve(gateway, (socket, reset), arrival, drain).await;
    };
    let patience = gateway.snapshot.load().limits.header_timeout;
    match tokio::time::timeout(patience, acceptor.accept(socket)).await {
        // Without a `close_notify` TLS itself tells that the end is none.
        Ok(Ok(stream)) => serve(gateway, (stream, |_| {}), arrival, drain).await,
        Ok(Err(error)) => tracing::debug!(%error, peer = arrival.peer_text, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = arrival.peer_text, "TLS handshake too slow"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: (S, fn(&S)),
    arrival: Rc<Arrival>,
    drain: Rc<Drain>,
) {
    let limits = gateway.snapshot.load().limits.clone();
    let pace = Pace { head: limits.header_timeout, idle: limits.idle_timeout, write: limits.body_timeout };
    let shared = Rc::new(Shared::default());
    let wire = Wire::new(socket, Rc::clone(&shared), limits.head, pace);
    let service = service_fn(move |request: Request<Incoming>| {
        let (gateway, shared, arrival) = (Rc::clone(&gateway), Rc::clone(&shared), Rc::clone(&arrival));
        answer(gateway, request, shared, arrival)
    });
    let mut builder = http1::Builder::new();
    // hyper keeps room for 100 lines on its stack, and allocates for any other number.
    if limits.head.lines > 100 {
        builder.max_headers(limits.head.lines);
    }
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    let mut connection = pin!(connection);
    let ended = drain.run(connection.as_mut(), http1::Connection::graceful_shutdown).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    gateway: Rc<Gateway>,
    request: Request<Incoming>,
    shared: Rc<Shared>,
    arrival: Rc<Arrival>,
) -> Result<Response<Tracked>, Infallible> {
    let received = shared.take().unwrap_or_else(|| Received {
        method: None,
        target: Rc::default(),
        fault: Some(Fault { code: Code::Malformed, reason: "unframed" }),
    });
    let flight = Flight(shared);
    let old = request.version() < Version::HTTP_11;
    // Boxed, since hyper moves the service's future into its own place for every request; and made
    // where it stays, since it is large.
    let handling = Box::write(Box::new_uninit(), gateway.handle(request, received, arrival));
    let response = Box::into_pin(handling).await;
    Ok(response.map(|body| Tracked { body, flight, old }))
}

/// A request in flight, until its whole answer is handed over.
struct Flight(Rc<Shared>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.finished();
    }
}

/// An answer's body that tells the framer when it is done.
struct Tracked {
    body: Audited<Answer>,
    flight: Flight,
    /// Whether the consumer knows no chunked coding.
    old: bool,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if this.old && matches!(polled, Poll::Ready(Some(Err(_)))) {
            this.flight.0.cut();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Fails where another process listens on `address`, also one that would share it: two gateways on
/// one address would split the calls between two configurations and two trails.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

/// Binds one more socket to `address` beside those of the other workers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_an_address_of_ipv6_has_its_whole_network() {
        let (crowd, metrics) = (Arc::new(Crowd::default()), Arc::new(Metrics::default()));
        let enter = |network: u16, host: u16| {
            let peer = IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
            crowd.enter(peer, (10, 2), &metrics)
        };
        let held = [enter(1, 1), enter(1, 2)];
        assert!(held.iter().all(Option::is_some) && enter(1, 3).is_none());
        assert!(enter(2, 1).is_some(), "another network");
        drop(held);
        assert!(enter(1, 3).is_some());
        assert!(crowd.by_address.is_empty(), "what nobody holds is forgotten");
    }
}
