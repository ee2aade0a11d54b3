//! Accepting: one task for each listening socket of a worker. An accept that fails never spins and never ends it.
use crate::http::h1;
use crate::http::refuse_connection;
use crate::http2;
use crate::stream::Stream;
use crate::tcp;
use crate::worker::Local;
use lb_core::snapshot::{Frontend, FrontendState, Snapshot};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// What the connections of one listener share.
pub(crate) struct Listening {
    /// The frontend's live counts: its identity over reloads.
    pub(crate) state: Arc<FrontendState>,
    /// Where the frontend was in the last snapshot.
    hint: Cell<usize>,
    /// The address as configured.
    addr: SocketAddr,
}

impl Listening {
    /// For the frontend of that name at this address; `None` when the configuration does not know it.
    pub(crate) fn new(snap: &Snapshot, frontend: &str, addr: SocketAddr) -> Option<Self> {
        let hint = snap.frontends.iter().position(|f| f.config.name == frontend)?;
        Some(Self { state: snap.frontends[hint].state.clone(), hint: Cell::new(hint), addr })
    }

    /// Whether clients may begin with HTTP/2 without TLS.
    fn h2c(&self, snap: &Snapshot) -> bool {
        self.frontend(snap).is_some_and(|f| f.config.listen.iter().any(|l| l.h2c && l.addr == self.addr))
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
}

impl Admission {
    /// `None`: a bound is reached.
    fn enter(local: &Rc<Local>, listening: &Listening) -> Option<Self> {
        let snap = local.snapshot();
        let counters = &listening.state.counters[local.id];
        let bound = listening.frontend(&snap).map_or(0, |f| f.config.maxconn);
        let within = listening.state.sum(|c| &c.open) < bound as u64;
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
        Some(Self { local: local.clone(), frontend: listening.state.clone() })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.frontend.counters[self.local.id].open.drop_one();
        self.local.shared.connections.fetch_sub(1, Relaxed);
        self.local.closed();
    }
}

/// Accepts until the task is ended.
pub(crate) async fn run(local: Rc<Local>, listening: Rc<Listening>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => accept(&local, &listening, stream, addr),
            Err(error) => {
                // Out of descriptors or memory: those who are in stay, newcomers wait in the backlog.
                tracing::warn!(frontend = listening.state.name, %error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn accept(local: &Rc<Local>, listening: &Rc<Listening>, stream: TcpStream, addr: SocketAddr) {
    let snap = local.snapshot();
    let tcp = listening.frontend(&snap).is_some_and(|f| f.config.tcp.is_some());
    let Some(admission) = Admission::enter(local, listening) else {
        if !tcp {
            refuse_connection(&stream);
        }
        return;
    };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (local, listening) = (local.clone(), listening.clone());
    if tcp {
        tokio::task::spawn_local(tcp::serve(local, stream.into(), addr, listening, admission));
    } else if listening.h2c(&local.snapshot()) {
        tokio::task::spawn_local(detect(local, stream.into(), addr, listening, admission));
    } else {
        tokio::task::spawn_local(h1::serve(local, stream.into(), addr, listening, admission, Vec::new()));
    }
}

/// A plain connection that may speak HTTP/2 or HTTP/1.1: its first bytes tell.
async fn detect(
    local: Rc<Local>,
    mut stream: Stream,
    addr: SocketAddr,
    listening: Rc<Listening>,
    admission: Admission,
) {
    let limit = listening.frontend(&local.snapshot()).map(|f| f.config.timeout.http_request);
    let mut input = Vec::new();
    let Some(limit) = limit else { return };
    match http2::serve::prior_knowledge(&local, &mut stream, &mut input, limit).await {
        // Tasks of their own: this one's memory is that of the larger.
        Some(true) => {
            tokio::task::spawn_local(http2::serve::serve(local, stream, addr, listening, admission, input));
        }
        Some(false) => {
            tokio::task::spawn_local(h1::serve(local, stream, addr, listening, admission, input));
        }
        None => {}
    }
}
