//! A connection to a server: an idle one of this worker, or a new one; and a place in the server's queue.
use crate::io::{Elapsed, Timer};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::worker::Local;
use lb_core::config::Proto;
use lb_core::server::{InFlight, ServerState};
use lb_core::snapshot::{Backend, Server};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Idle connections that a server did not close by itself are closed after this long.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// A worker's idle connections, by server.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<u32, VecDeque<Idle>>>,
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
        idle.push_back(Idle { stream, since: Instant::now() });
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
    limit: Duration,
    timer: &mut Timer,
) -> io::Result<Stream> {
    let opened = match backend.config.proto {
        Proto::H1 => timer.within(limit, dial(server)).await,
        Proto::H2 => timer.within(limit, local.h2.stream(local, server, dial(server))).await,
    };
    opened.unwrap_or_else(|Elapsed| Err(io::ErrorKind::TimedOut.into()))
}

/// A new connection.
async fn dial(server: &Server) -> io::Result<Stream> {
    let stream = TcpStream::connect(server.config.addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

/// A request's or tunnel's place on a server; given to the next in the queue when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    in_flight: Option<InFlight>,
    queue: Option<Arc<Queue>>,
}

impl Slot {
    fn free(in_flight: InFlight) -> Self {
        Self { in_flight: Some(in_flight), queue: None }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (Some(queue), Some(mut held)) = (self.queue.take(), self.in_flight.take()) else { return };
        loop {
            let mut waiting = queue.waiting.lock();
            let next = if held.server().is_over() { None } else { waiting.pop_front() };
            let Some(next) = next else {
                // Under the lock, so that whoever finds the server full and queues is seen by the next to leave.
                drop(held);
                return;
            };
            drop(waiting);
            let Err(mut back) = next.send(Self { in_flight: Some(held), queue: Some(queue.clone()) }) else { return };
            // That one has gone meanwhile. The slot is taken apart, so that its own drop does nothing.
            back.queue = None;
            match back.in_flight.take() {
                Some(in_flight) => held = in_flight,
                None => return,
            }
        }
    }
}

/// Those who wait for one server with `maxconn`.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Line>,
}

/// Who waits, in order.
#[derive(Debug, Default)]
struct Line {
    first: VecDeque<oneshot::Sender<Slot>>,
    others: VecDeque<oneshot::Sender<Slot>>,
}

impl Line {
    fn pop_front(&mut self) -> Option<oneshot::Sender<Slot>> {
        self.first.pop_front().or_else(|| self.others.pop_front())
    }

    fn push_back(&mut self, one: oneshot::Sender<Slot>, first: bool) {
        if first { &mut self.first } else { &mut self.others }.push_back(one);
    }

    fn len(&self) -> usize {
        self.first.len() + self.others.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn retain(&mut self, mut keep: impl FnMut(&oneshot::Sender<Slot>) -> bool) {
        self.first.retain(&mut keep);
        self.others.retain(keep);
    }
}

/// The queues of all servers with `maxconn`, shared by the workers.
#[derive(Debug, Default)]
pub struct Queues {
    by_server: Mutex<HashMap<u32, Arc<Queue>>>,
}

impl Queues {
    /// Forgets the queues of servers that are gone, once nobody is on them.
    pub(crate) fn sweep(&self, backends: &[Backend]) {
        let known: HashSet<u32> = backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        self.by_server.lock().retain(|uid, queue| known.contains(uid) || Arc::strong_count(queue) > 1);
    }

    fn of(&self, server: &ServerState) -> Arc<Queue> {
        self.by_server.lock().entry(server.uid).or_default().clone()
    }

    /// Lets in who waits for servers that take more than a moment ago.
    pub(crate) fn admit(&self, backends: &[Backend]) {
        for server in backends.iter().flat_map(|b| &b.servers).filter(|s| s.state.queued() > 0) {
            let queue = self.of(&server.state);
            loop {
                let mut waiting = queue.waiting.lock();
                if waiting.is_empty() {
                    break;
                }
                let Some(in_flight) = server.state.try_enter() else { break };
                let next = waiting.pop_front();
                drop(waiting);
                // One that has gone meanwhile gives its place to the next by dropping it.
                next.map(|next| next.send(Slot { in_flight: Some(in_flight), queue: Some(queue.clone()) }));
            }
        }
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// As many wait as may wait.
    Full,
    /// Waited too long.
    Timeout,
}

/// A place on a server, at once or after a wait in its queue, there perhaps before others. `queued` is called when it must
/// wait.
pub(crate) async fn slot(
    shared: &Shared,
    backend: &Backend,
    server: &Server,
    first: bool,
    timer: &mut Timer,
    queued: impl FnOnce(),
) -> Result<Slot, NoSlot> {
    if !server.state.is_bounded() {
        return Ok(Slot::free(server.state.enter()));
    }
    let queue = shared.queues.of(&server.state);
    let (waiter, _counted) = {
        let mut waiting = queue.waiting.lock();
        if waiting.is_empty()
            && let Some(in_flight) = server.state.try_enter()
        {
            drop(waiting);
            return Ok(Slot { in_flight: Some(in_flight), queue: Some(queue) });
        }
        if waiting.len() >= backend.config.max_queue {
            waiting.retain(|w| !w.is_closed());
        }
        if waiting.len() >= backend.config.max_queue {
            return Err(NoSlot::Full);
        }
        let (give, waiter) = oneshot::channel();
        waiting.push_back(give, first);
        (waiter, server.state.wait())
    };
    queued();
    match timer.within(backend.config.timeout.queue, waiter).await {
        Ok(Ok(slot)) => Ok(slot),
        _ => Err(NoSlot::Timeout),
    }
}
