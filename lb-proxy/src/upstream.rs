//! A connection to a server: an idle one of this worker, or a new one; and in `queue` a place on the server.
use crate::arrival::Arrival;
use crate::clock;
use crate::io::{Elapsed, Timer};
use crate::proxy_protocol;
use crate::stream::{Plain, Stream};
use crate::tls::connect::Purpose;
use crate::worker::Local;
use lb_core::config::Proto;
use lb_core::snapshot::{Backend, Server};
use lb_core::tcp::Mode;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

mod queue;

pub use queue::Queues;
pub(crate) use queue::{NoSlot, Slot, Wish, slot};

/// Idle connections that a server did not close by itself are closed after this long.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// A worker's idle connections, by server.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<u32, VecDeque<Idle>, foldhash::fast::RandomState>>,
}

struct Idle {
    stream: Stream,
    since: Instant,
}

impl Pool {
    /// An idle connection that was still open at the last look of the event loop.
    ///
    /// Race window: the server may have closed since. The caller sees it as an end before the first byte of an answer.
    pub(crate) fn take(&self, server: u32) -> Option<Stream> {
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(&server)?;
        while let Some(Idle { stream, .. }) = idle.pop_back() {
            if stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection for the next request; the one idle for longest makes room.
    pub(crate) fn give(&self, server: u32, stream: Stream, max: usize) {
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(server).or_default();
        if max == 0 {
            return;
        }
        if idle.len() >= max {
            idle.pop_front();
        }
        idle.push_back(Idle { stream, since: clock::turn() });
    }

    /// Closes what was idle for too long, was closed by its server, or belongs to a server that is gone.
    pub(crate) fn sweep(&self, backends: &[Backend]) {
        let known: HashSet<u32> = backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        let mut all = self.idle.borrow_mut();
        all.retain(|uid, idle| {
            idle.retain(|i| i.since.elapsed() < MAX_IDLE_TIME && i.stream.is_quiet());
            known.contains(uid) && !idle.is_empty()
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// Opens a connection; with HTTP/2 a stream, on a connection that may be there already.
pub(crate) async fn connect(
    local: &Rc<Local>,
    backend: &Backend,
    server: &Server,
    arrival: &Arrival,
    limit: Duration,
    timer: &mut Timer,
) -> io::Result<Stream> {
    let dial = dial(local, backend, server, arrival);
    let opened = match backend.config.proto {
        Proto::H1 => timer.within(limit, dial).await,
        Proto::H2 => timer.within(limit, local.h2.stream(local, server, dial)).await,
    };
    opened.unwrap_or_else(|Elapsed| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether a connection to this server may serve another client next: it did not begin with the name of one.
pub(crate) fn is_for_anybody(server: &Server) -> bool {
    server.config.send_proxy.is_none()
}

/// A new connection: TCP or a Unix socket, then whom it is for, then TLS.
async fn dial(local: &Local, backend: &Backend, server: &Server, arrival: &Arrival) -> io::Result<Stream> {
    let config = &server.config;
    let plain = Plain::connect(&config.addr).await?;
    if config.send_proxy.is_none() && config.tls.is_none() {
        return Ok(plain.into());
    }
    // Apart: a handshake's memory is not every request's.
    Box::pin(begin(local, backend, server, arrival, plain)).await
}

/// What a connection begins with that is more than bytes.
async fn begin(
    local: &Local,
    backend: &Backend,
    server: &Server,
    arrival: &Arrival,
    mut plain: Plain,
) -> io::Result<Stream> {
    let config = &server.config;
    if let Some(version) = config.send_proxy {
        plain.write_all(&proxy_protocol::header(version, arrival)?).await?;
    }
    let Some(terms) = &config.tls else { return Ok(plain.into()) };
    let spoken = (backend.config.mode == Mode::Http).then_some(backend.config.proto);
    let tls = local.shared.edges.load().to_server(&backend.config.name, terms, Purpose::Traffic(spoken)).cloned();
    let tls = tls.ok_or_else(|| io::Error::other("its TLS is being changed by a reload"))?;
    match tls.connect(&config.addr, config.host.as_deref(), plain).await {
        Ok(stream) => Ok(tokio_rustls::TlsStream::Client(stream).into()),
        Err(error) => {
            local.complain(server, &error);
            Err(error)
        }
    }
}
