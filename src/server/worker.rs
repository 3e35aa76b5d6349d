//! One worker: a thread with its own runtime, its own sockets and its own upstream connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{Accept, TlsAcceptor};

use super::drain::Drain;
use super::{http1, http2};
use crate::audit::Arrival;
use crate::gateway::Gateway;
use crate::gateway::limits::{network, simplest};
use crate::metrics::{Metrics, Recent};
use crate::tls::HTTP2;

/// How long accepting pauses when the system gives no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(50);
/// How often idle connections are looked through.
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
                _ = ticks.tick() => {
                    gateway.transport.sweep();
                    drain.sweep();
                }
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
                    let peer = simplest(peer);
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
        return http1::serve(gateway, (socket, reset), arrival, drain).await;
    };
    // Boxed: it is large, and those that do without would have room for it.
    Box::pin(encrypted(gateway, acceptor.accept(socket), arrival, drain)).await;
}

async fn encrypted(
    gateway: Rc<Gateway>,
    handshake: Accept<TcpStream>,
    arrival: Rc<Arrival>,
    drain: Rc<Drain>,
) {
    let patience = gateway.snapshot.load().limits.header_timeout;
    match tokio::time::timeout(patience, handshake).await {
        // Without a `close_notify` TLS itself tells that the end is none.
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => {
            http2::serve(gateway, stream, arrival, drain).await;
        }
        Ok(Ok(stream)) => http1::serve(gateway, (stream, |_| {}), arrival, drain).await,
        Ok(Err(error)) => tracing::debug!(%error, peer = arrival.peer_text, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = arrival.peer_text, "TLS handshake too slow"),
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_one_address_of_a_network_has_one_share() {
        let (crowd, metrics) = (Arc::new(Crowd::default()), Arc::new(Metrics::default()));
        let enter = |peer: &str| crowd.enter(peer.parse().unwrap(), (10, 2), &metrics);
        let guests = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(guests.iter().all(Option::is_some) && enter("2001:db8::3:4").is_none());
        let others = [enter("2001:db8:0:1::1"), enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(others.iter().all(Option::is_some) && enter("192.0.2.1").is_none());
        drop(guests);
        assert!(enter("2001:db8::3:4").is_some());
    }
}
