//! Accepting: one task for each listening socket of a worker. An accept that fails never spins and never ends it.
use crate::arrival::{Arrival, TlsFacts};
use crate::bind::Listener;
use crate::edge::Edge;
use crate::http::h1;
use crate::http::refuse_connection;
use crate::http2;
use crate::proxy_protocol;
use crate::stream::{Plain, Stream};
use crate::tcp;
use crate::tls::handshake;
use crate::worker::Local;
use lb_core::addresses::Entered;
use lb_core::config::ListenAddr;
use lb_core::snapshot::{Frontend, FrontendState, Snapshot};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};

/// How often the log is told that nobody can be accepted.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What the connections of one listener share.
pub(crate) struct Listening {
    /// The frontend's live counts: its identity over reloads.
    pub(crate) state: Arc<FrontendState>,
    /// The address as configured.
    addr: ListenAddr,
    /// Where the frontend was in the last snapshot.
    hint: Cell<usize>,
}

impl Listening {
    /// For the frontend of that name at this address; `None` when the configuration does not know it.
    pub(crate) fn new(snap: &Snapshot, frontend: &str, addr: &ListenAddr) -> Option<Self> {
        let hint = snap.frontends.iter().position(|f| f.config.name == frontend)?;
        Some(Self { state: snap.frontends[hint].state.clone(), addr: addr.clone(), hint: Cell::new(hint) })
    }

    /// Whether clients may begin with HTTP/2 without TLS.
    fn h2c(&self, frontend: &Frontend) -> bool {
        frontend.config.listen.iter().any(|l| l.h2c && l.addr == self.addr)
    }

    /// The frontend in this snapshot; `None` when a reload took it away.
    pub(crate) fn frontend<'a>(&self, snap: &'a Snapshot) -> Option<&'a Frontend> {
        let here = |f: &&Frontend| Arc::ptr_eq(&f.state, &self.state);
        if let Some(found) = snap.frontends.get(self.hint.get()).filter(here) {
            return Some(found);
        }
        let hint = snap.frontends.iter().position(|f| here(&f))?;
        self.hint.set(hint);
        snap.frontends.get(hint)
    }
}

/// A client connection's place under the bounds; given back when dropped.
pub(crate) struct Admission {
    local: Rc<Local>,
    frontend: Arc<FrontendState>,
    /// Its place under the bound of its client's address, where there is one. Boxed: every tunnel holds an admission.
    _address: Option<Box<Entered>>,
}

/// The client's address has as many connections as it may.
struct Crowded;

/// A place under the bound of a client's address; `None`: it has no bound.
fn place(local: &Local, frontend: &Frontend, client: IpAddr) -> Result<Option<Box<Entered>>, Crowded> {
    let most = frontend.config.maxconn_per_address;
    if most == 0 || frontend.config.trusted_proxies.iter().any(|net| net.contains(&client)) {
        return Ok(None);
    }
    let place = frontend.state.addresses.enter(client, most);
    if place.is_none() {
        frontend.state.counters[local.id].refused_address.bump();
    }
    place.map(|place| Some(Box::new(place))).ok_or(Crowded)
}

impl Admission {
    /// `None`: a bound is reached. `client`: its address, where that is known already.
    fn enter(local: &Rc<Local>, snap: &Snapshot, frontend: &Frontend, client: Option<IpAddr>) -> Option<Self> {
        let address = match client {
            Some(client) => place(local, frontend, client).ok()?,
            None => None,
        };
        let counters = &frontend.state.counters[local.id];
        let within = frontend.state.sum(|c| &c.open) < frontend.config.maxconn as u64;
        if !within || local.shared.connections.fetch_add(1, Relaxed) >= snap.config.instance.maxconn {
            if within {
                local.shared.connections.fetch_sub(1, Relaxed);
            }
            counters.refused.bump();
            return None;
        }
        counters.accepted.bump();
        counters.open.bump();
        local.opened();
        Some(Self { local: local.clone(), frontend: frontend.state.clone(), _address: address })
    }

    /// Now it is known who the client is.
    fn is_from(&mut self, frontend: &Frontend, client: IpAddr) -> Result<(), Crowded> {
        self._address = place(&self.local, frontend, client)?;
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.frontend.counters[self.local.id].open.drop_one();
        self.local.shared.connections.fetch_sub(1, Relaxed);
        self.local.closed();
    }
}

/// A socket that accepts.
pub(crate) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// On the worker's runtime.
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// The next connection. A client on a Unix socket is on this machine, and has no address that means more.
    async fn accept(&self) -> io::Result<(Plain, SocketAddr)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                (Plain::Tcp(stream), addr)
            }
            Self::Unix(listener) => (Plain::Unix(listener.accept().await?.0), (Ipv4Addr::LOCALHOST, 0).into()),
        })
    }
}

/// Accepts until the task is ended.
pub(crate) async fn run(local: Rc<Local>, listening: Rc<Listening>, listener: Accepting) {
    let mut told: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => accept(&local, &listening, stream, addr),
            Err(error) => {
                // Out of descriptors or memory: those who are in stay, newcomers wait in the backlog.
                listening.state.counters[local.id].accept_errors.bump();
                if told.is_none_or(|at| at.elapsed() > COMPLAIN) {
                    told = Some(Instant::now());
                    tracing::warn!(frontend = listening.state.name, %error, "accept failed; trying again and again");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn accept(local: &Rc<Local>, listening: &Rc<Listening>, plain: Plain, addr: SocketAddr) {
    let snap = local.snapshot();
    let Some(frontend) = listening.frontend(&snap) else { return };
    let edge = local.shared.edges.load().of(&listening.state.name, &listening.addr).cloned();
    let protocol = match &frontend.config.tcp {
        Some(_) => Protocol::Tcp,
        None if listening.h2c(frontend) => Protocol::Either,
        None => Protocol::Http1,
    };
    // Who the client is, a PROXY header may have to say first; and on a Unix socket nobody has an address.
    let proxied = edge.as_ref().is_some_and(|edge| edge.expects_proxy(addr.ip()));
    let client = (matches!(plain, Plain::Tcp(_)) && !proxied).then(|| addr.ip());
    let Some(admission) = Admission::enter(local, &snap, frontend, client) else {
        // Nobody would understand it in the middle of a handshake.
        if edge.is_none() && protocol != Protocol::Tcp {
            refuse_connection(&plain);
        }
        return;
    };
    if let Plain::Tcp(stream) = &plain
        && stream.set_nodelay(true).is_err()
    {
        return;
    }
    // A system call that is made only for those who are told.
    let local_addr = if snap.sends_proxy { plain.local_addr() } else { None };
    let arrival = Arrival { client: addr, local: local_addr.map(Box::new), tls: None };
    let (local, listening) = (local.clone(), listening.clone());
    let begun = Begun { local, listening, admission };
    match edge {
        None => begun.spawn(plain.into(), arrival, protocol),
        Some(edge) => {
            let within = (frontend.config.timeout.http_request, frontend.config.timeout.tls_handshake);
            tokio::task::spawn_local(begun.greet(plain, arrival, edge, protocol, within));
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Http1,
    Http2,
    /// HTTP/1 or HTTP/2: its first bytes tell.
    Either,
}

impl Protocol {
    /// After a handshake, here or at a proxy before us, which may have agreed on HTTP/2.
    fn agreed(self, tls: Option<&TlsFacts>) -> Self {
        match (self, tls.and_then(|tls| tls.alpn.as_deref())) {
            (Self::Http1, Some(b"h2")) => Self::Http2,
            (protocol, _) => protocol,
        }
    }
}

/// A connection that was let in.
struct Begun {
    local: Rc<Local>,
    listening: Rc<Listening>,
    admission: Admission,
}

impl Begun {
    /// Gives it to its server, as a task of its own: none holds the memory of another.
    fn spawn(self, stream: Stream, arrival: Arrival, protocol: Protocol) {
        let Self { local, listening, admission } = self;
        let arrival = Rc::new(arrival);
        match protocol {
            Protocol::Tcp => tokio::task::spawn_local(tcp::serve(local, stream, arrival, listening, admission)),
            Protocol::Http1 => {
                tokio::task::spawn_local(h1::serve(local, stream, arrival, listening, admission, Vec::new()))
            }
            Protocol::Http2 => {
                let ahead = Vec::new();
                tokio::task::spawn_local(http2::serve::serve(local, stream, arrival, listening, admission, ahead))
            }
            Protocol::Either => tokio::task::spawn_local(detect(local, stream, arrival, listening, admission)),
        };
    }

    /// What comes before the first byte of a request: who the client is, and TLS; each within its time.
    async fn greet(
        mut self,
        mut plain: Plain,
        mut arrival: Arrival,
        edge: Arc<Edge>,
        protocol: Protocol,
        within: (Duration, Duration),
    ) {
        let Self { local, listening, admission } = &mut self;
        let counters = &listening.state.counters[local.id];
        if edge.expects_proxy(arrival.client.ip()) {
            let read = tokio::time::timeout(within.0, proxy_protocol::read(&mut plain)).await;
            match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(None) => {}
                Ok(Some(told)) => {
                    let client = told.client;
                    arrival = Arrival { client, local: Some(Box::new(told.to)), tls: told.tls };
                    let snap = local.snapshot();
                    let frontend = listening.frontend(&snap);
                    if frontend.is_none_or(|frontend| admission.is_from(frontend, client.ip()).is_err()) {
                        if edge.tls.is_none() && protocol != Protocol::Tcp {
                            refuse_connection(&plain);
                        }
                        return;
                    }
                }
                Err(error) => {
                    counters.proxy_errors.bump();
                    let (frontend, from) = (&listening.state.name, arrival.client);
                    tracing::debug!(frontend, %from, %error, "no PROXY header that can be read");
                    return;
                }
            }
        }
        let Some(tls) = &edge.tls else {
            let protocol = protocol.agreed(arrival.tls.as_deref());
            return self.spawn(plain.into(), arrival, protocol);
        };
        let serving = tls.serving();
        let shaken =
            handshake::shake(local, &listening.state.name, &counters.handshakes, &serving, plain, within.1).await;
        let Some((stream, mut facts)) = shaken else { return };
        facts.hosts = tls.tls.check_host.then(|| serving.certificates.clone());
        let protocol = protocol.agreed(Some(&facts));
        arrival.tls = Some(facts);
        self.spawn(stream, arrival, protocol);
    }
}

/// A plain connection that may speak HTTP/2 or HTTP/1.1: its first bytes tell.
async fn detect(
    local: Rc<Local>,
    mut stream: Stream,
    arrival: Rc<Arrival>,
    listening: Rc<Listening>,
    admission: Admission,
) {
    let limit = listening.frontend(&local.snapshot()).map(|f| f.config.timeout.http_request);
    let mut input = Vec::new();
    let Some(limit) = limit else { return };
    match http2::serve::prior_knowledge(&local, &mut stream, &mut input, limit).await {
        // Tasks of their own: this one's memory is that of the larger.
        Some(true) => {
            tokio::task::spawn_local(http2::serve::serve(local, stream, arrival, listening, admission, input));
        }
        Some(false) => {
            tokio::task::spawn_local(h1::serve(local, stream, arrival, listening, admission, input));
        }
        None => {}
    }
}
