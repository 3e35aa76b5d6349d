//! A worker: one thread with its own runtime, listening sockets and upstream connections.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::drain::Drain;
use super::idle::IdleState;
use super::{http1, http2};
use crate::audit::Peer;
use crate::gateway::Gateway;
use crate::gateway::limits::{Limits, simplest};
use crate::metrics::{CachedSeries, Metrics, Reason, StaticLabel};
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

/// Limits the consumer connections of all workers.
pub(super) struct ConnectionLimiter {
    /// The number of connections that the file descriptors allow.
    most: usize,
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
}

/// A counted connection; dropping it releases its slot.
struct ConnectionGuard {
    crowd: Arc<ConnectionLimiter>,
    address: Option<IpAddr>,
    metrics: Arc<Metrics>,
}

/// Why a connection is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// There are too many connections in total.
    All,
    /// There are too many connections from its address.
    Address,
}

impl Full {
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

impl ConnectionLimiter {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: AtomicUsize::default(), by_address: DashMap::default() }
    }

    /// Counts a connection, unless there are too many in total or from its address.
    fn enter(
        self: &Arc<Self>,
        (peer, limits): (IpAddr, &Limits),
        metrics: &Arc<Metrics>,
    ) -> Result<ConnectionGuard, Full> {
        let most = self.most.min(limits.connections);
        let claim = |used: usize| (used < most).then_some(used + 1);
        self.all.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).map_err(|_| Full::All)?;
        metrics.connections.inc();
        let mut guest =
            ConnectionGuard { crowd: Arc::clone(self), address: None, metrics: Arc::clone(metrics) };
        if let Some((peer, each)) = limits.share(peer, most) {
            let mut count = self.by_address.entry(peer).or_insert(0);
            if *count >= each {
                drop(count);
                return Err(Full::Address);
            }
            *count += 1;
            guest.address = Some(peer);
        }
        Ok(guest)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.crowd.all.fetch_sub(1, Ordering::AcqRel);
        self.metrics.connections.dec();
        if let Some(address) = self.address {
            self.crowd.by_address.alter(&address, |_, count| count.saturating_sub(1));
            self.crowd.by_address.remove_if(&address, |_, count| *count == 0);
        }
    }
}

/// The parts of a worker.
pub(super) struct Worker {
    pub(super) gateway: Gateway,
    pub(super) doors: Vec<BoundListener>,
    pub(super) crowd: Arc<ConnectionLimiter>,
    pub(super) metrics: Arc<Metrics>,
    /// Set when the worker should end. The value is the maximum time for calls in flight.
    pub(super) stop: watch::Receiver<Option<Duration>>,
}

impl Worker {
    /// Serves until `stop` is set, then until the calls in flight are done.
    pub(super) async fn run(self) {
        let Self { gateway, doors, crowd, metrics, mut stop } = self;
        let gateway = Rc::new(gateway);
        let drain = Rc::new(Drain::default());
        let mut tasks = JoinSet::new();
        for door in doors {
            let host = Acceptor {
                gateway: Rc::clone(&gateway),
                crowd: Arc::clone(&crowd),
                metrics: Arc::clone(&metrics),
                drain: Rc::clone(&drain),
                stop: stop.clone(),
            };
            tasks.spawn_local(host.accept_loop(door));
        }
        let mut ticks = tokio::time::interval(SWEEP);
        let patience = loop {
            tokio::select! {
                requested = stop.wait_for(Option::is_some) => break requested.ok().and_then(|drain| *drain).unwrap_or_default(),
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

/// Accepts connections on one listening socket.
struct Acceptor {
    gateway: Rc<Gateway>,
    crowd: Arc<ConnectionLimiter>,
    metrics: Arc<Metrics>,
    drain: Rc<Drain>,
    stop: watch::Receiver<Option<Duration>>,
}

impl Acceptor {
    async fn accept_loop(mut self, door: BoundListener) {
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
                    let Some(guest) = self.admit(peer.ip()).await else { continue };
                    // A failure here costs only latency.
                    socket.set_nodelay(true).unwrap_or_default();
                    let arrival = arrival(peer, &door.address, door.tls.is_some());
                    let (gateway, tls, drain) = (
                        Rc::clone(&self.gateway),
                        door.tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full())),
                        Rc::clone(&self.drain),
                    );
                    connections.spawn_local(async move {
                        serve_connection(gateway, socket, tls, arrival, drain).await;
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

    /// Accepts a connection. If there is no room, this worker closes connections without an authenticated request.
    async fn admit(&self, peer: IpAddr) -> Option<ConnectionGuard> {
        let snapshot = self.gateway.snapshot.load_full();
        let enter = || self.crowd.enter((peer, &snapshot.limits), &self.metrics);
        let refused = |full: Full, most: usize| {
            let counted = self
                .metrics
                .connections_refused
                .get_or_create(&Reason { reason: StaticLabel(full.as_str()) });
            counted.inc_by(u64::try_from(most).unwrap_or(u64::MAX));
        };
        let mut entered = enter();
        for _turn in 0..TURNS {
            if !matches!(entered, Err(Full::All)) {
                break;
            }
            refused(Full::All, self.drain.make_room());
            // The closed connections need a turn to end, and new ones a turn to register.
            tokio::task::yield_now().await;
            entered = enter();
        }
        entered.inspect_err(|full| refused(*full, 1)).ok()
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
    let patience = gateway.snapshot.load().limits.header_timeout;
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
    let quiet = Rc::new(IdleState::new(Rc::clone(arrival)));
    let waits = Rc::clone(&quiet);
    let mut agreed = std::future::poll_fn(move |cx| {
        let polled = Pin::new(&mut handshake).poll(cx);
        let over = polled.is_pending() && quiet.is_unwanted();
        if over { Poll::Ready(Err(io::Error::other("its place is wanted"))) } else { polled }
    });
    // The handshake continues when the worker ends, since a request may follow.
    drain.run(Pin::new(&mut agreed), waits, |_| {}).await
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::framing::HeadLimits;

    fn limits(each: usize) -> Limits {
        let second = Duration::from_secs(1);
        Limits {
            max_body: 0,
            max_judged_body: 0,
            head: HeadLimits { target: 0, headers: 0, lines: 0 },
            header_timeout: second,
            body_timeout: second,
            body_total_timeout: second,
            idle_timeout: second,
            connections: 10,
            connections_per_address: each,
            trusted_proxies: ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()].into(),
            auth_failures_per_minute: 0,
            refusals_per_minute: 0,
        }
    }

    #[test]
    fn whoever_has_one_address_of_a_network_has_one_share() {
        let (crowd, metrics) = (Arc::new(ConnectionLimiter::new(usize::MAX)), Arc::new(Metrics::default()));
        let enter = |peer: &str| crowd.enter((peer.parse().unwrap(), &limits(2)), &metrics);
        let guests = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(guests.iter().all(Result::is_ok));
        assert_eq!(enter("2001:db8::3:4").err(), Some(Full::Address));
        let others = [enter("2001:db8:0:1::1"), enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(others.iter().all(Result::is_ok) && enter("192.0.2.1").is_err());
        drop(guests);
        assert!(enter("2001:db8::3:4").is_ok());
    }

    #[test]
    fn one_address_has_no_more_than_half_by_default_and_else_what_is_written() {
        let metrics = Arc::new(Metrics::default());
        for (room, written, wanted) in [
            (usize::MAX, 1024, 5),
            (6, 1024, 3),
            (3, 1024, 1),
            (1, 1024, 1),
            (usize::MAX, 1023, 10),
            (6, 5, 5),
            (usize::MAX, 0, 10),
        ] {
            let crowd = Arc::new(ConnectionLimiter::new(room));
            let enter = |peer: &str| crowd.enter((peer.parse().unwrap(), &limits(written)), &metrics);
            let guests: Vec<_> = (0..20).map(|_| enter("192.0.2.1")).take_while(Result::is_ok).collect();
            assert_eq!(guests.len(), wanted, "{written} of {room}");
            let another = enter("192.0.2.2").is_ok();
            assert_eq!(another, wanted < room.min(10), "{written} of {room}: the rest is for others");
        }
        let many = Limits { connections: 20_000, ..limits(1024) };
        assert_eq!(many.share("192.0.2.1".parse().unwrap(), 20_000).map(|(_, most)| most), Some(1024));
    }

    #[test]
    fn this_machine_and_trusted_proxies_may_have_any_number_within_all() {
        let metrics = Arc::new(Metrics::default());
        for peer in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "fd00::1"]
        {
            let crowd = Arc::new(ConnectionLimiter::new(6));
            let enter = || crowd.enter((peer.parse().unwrap(), &limits(2)), &metrics);
            let guests: Vec<_> = (0..6).map(|_| enter()).collect();
            assert!(guests.iter().all(Result::is_ok), "{peer}");
            assert_eq!(enter().err(), Some(Full::All), "{peer}: no more than there are descriptors for");
            drop(guests);
            assert!(enter().is_ok(), "{peer}: room again");
        }
        let crowd = Arc::new(ConnectionLimiter::new(usize::MAX));
        let enter = |peer: &str| crowd.enter((peer.parse().unwrap(), &limits(0)), &metrics);
        let guests: Vec<_> = (0..10).map(|_| enter("192.0.2.1")).collect();
        assert!(
            guests.iter().all(Result::is_ok) && enter("192.0.2.1").is_err(),
            "0: no limit but that of all"
        );
    }
}
