//! Connections to servers that speak HTTP/2: a few for each server and worker, shared by the requests.
//!
//! How many requests one carries is the server's to say. While one is being opened, those who would open another wait for
//! it.
use super::Exchange;
use super::asked::Asked;
use super::guard::Guard;
use super::wire::{Io, Wire};
use crate::stream::Stream;
use crate::worker::Local;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use lb_core::snapshot::{Backend, Server as Target};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// Requests on one connection at most, whatever the server says.
const STREAMS: usize = 1000;
/// A stream's window, and a connection's: what a slow client may leave here of an answer, and of all of them.
const WINDOW: (u32, u32) = (64 * 1024, 16 * 1024 * 1024);
/// A connection on which nothing was heard for so long is asked whether it lives, and given as long again.
const PING: Duration = Duration::from_secs(10);
/// Connections without requests are closed after this long.
const IDLE: Duration = Duration::from_secs(60);
/// Largest head of an answer.
const MAX_HEAD: u32 = 64 * 1024;
/// What the library keeps for one stream whose frames the socket does not take.
const KEPT: usize = 32 * 1024;
/// With so much collected, the connection's task writes before it lets others run.
const ENOUGH: usize = 16 * 1024;

/// A worker's connections, by server.
#[derive(Default)]
pub(crate) struct Servers(RefCell<HashMap<u32, Rc<Server>>>);

#[derive(Default)]
struct Server {
    open: RefCell<Vec<Rc<Shared>>>,
    connecting: Cell<bool>,
    connected: Notify,
}

/// A connection, as its requests see it.
struct Shared {
    send: SendRequest<Bytes>,
    requests: Cell<usize>,
    idle: Cell<Instant>,
    over: Cell<bool>,
    /// Its server has said how many requests it takes, or it is over.
    settled: Cell<bool>,
    settle: Notify,
}

impl Shared {
    /// Waits for the server's first word, without which nobody knows how many requests it takes.
    async fn settled(&self) -> io::Result<()> {
        while !self.settled.get() {
            self.settle.notified().await;
        }
        if self.over.get() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn settle(&self) {
        self.settled.set(true);
        self.settle.notify_waiters();
    }

    /// Whether it takes another request now.
    fn has_room(&self) -> bool {
        let most = self.send.current_max_send_streams().min(STREAMS);
        !self.over.get() && self.requests.get() < most && self.is_alive()
    }

    /// Whether it takes new requests at all: its server has not said that it goes.
    fn is_alive(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.send.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

/// A request's place on a connection.
struct Place(Rc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.idle.set(Instant::now());
    }
}

/// Whoever opens a connection; the next may, when it is dropped.
struct Opening<'a>(&'a Server);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

impl Server {
    fn pick(&self) -> Option<Rc<Shared>> {
        let mut open = self.open.borrow_mut();
        open.retain(|c| !c.over.get() && c.is_alive());
        // The fullest that takes one more: so the others become idle, and are closed.
        open.iter().filter(|c| c.has_room()).max_by_key(|c| c.requests.get()).cloned()
    }
}

impl Servers {
    /// A stream to a server, on a connection that is there or on one that `connect` makes.
    pub(crate) async fn stream(
        &self,
        local: &Rc<Local>,
        target: &Target,
        connect: impl Future<Output = io::Result<Stream>>,
    ) -> io::Result<Stream> {
        let server = self.0.borrow_mut().entry(target.state.uid).or_default().clone();
        let wrap = |shared: Rc<Shared>| {
            shared.requests.set(shared.requests.get() + 1);
            let name = target.config.addr.authority();
            let scheme = if target.config.tls.is_some() { "https" } else { "http" };
            Stream::H2(Rc::new(Exchange::Asked(Asked::new(shared.send.clone(), scheme, name, Place(shared)))))
        };
        loop {
            if let Some(shared) = server.pick() {
                return Ok(wrap(shared));
            }
            if !server.connecting.get() {
                break;
            }
            server.connected.notified().await;
        }
        server.connecting.set(true);
        let opening = Opening(&server);
        let shared = open(local, connect.await?).await?;
        shared.settled().await?;
        target.state.connected();
        target.state.counters[local.id].connects.bump();
        server.open.borrow_mut().push(shared.clone());
        drop(opening);
        Ok(wrap(shared))
    }

    /// Closes what was idle for too long, or belongs to a server that is gone.
    pub(crate) fn sweep(&self, backends: &[Backend]) {
        if self.0.borrow().is_empty() {
            return;
        }
        let known: HashSet<u32> = backends.iter().flat_map(|b| &b.servers).map(|s| s.state.uid).collect();
        let mut all = self.0.borrow_mut();
        all.retain(|uid, server| {
            let wanted = |c: &Rc<Shared>| !c.over.get() && (c.requests.get() > 0 || c.idle.get().elapsed() < IDLE);
            server.open.borrow_mut().retain(|c| wanted(c));
            let busy = server.connecting.get() || !server.open.borrow().is_empty();
            busy && known.contains(uid)
        });
    }

    /// Closes all, when their requests have ended.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

async fn open(local: &Rc<Local>, stream: Stream) -> io::Result<Rc<Shared>> {
    let wire = Wire::new(local, stream, Guard::of_server());
    let (send, mut connection): (SendRequest<Bytes>, Connection<Io, Bytes>) = Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_header_list_size(MAX_HEAD)
        .max_send_buffer_size(KEPT)
        .handshake(Io(wire.clone()))
        .await
        .map_err(io::Error::other)?;
    let shared = Rc::new(Shared {
        send,
        requests: Cell::new(0),
        idle: Cell::new(Instant::now()),
        over: Cell::new(false),
        settled: Cell::new(false),
        settle: Notify::new(),
    });
    let pings = connection.ping_pong();
    let sleep = Box::pin(sleep_until(Instant::now() + PING));
    let shown = Shown(Rc::downgrade(&shared));
    let mut driver = Driver { wire, connection, pings, pinged: false, sleep, yielded: false, shown, settled: false };
    tokio::task::spawn_local(async move { poll_fn(|cx| driver.poll(cx)).await });
    Ok(shared)
}

/// What a connection's task shows of it to the requests. It does not keep it alive; dropped, it shows the end.
struct Shown(Weak<Shared>);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.over.set(true);
            shared.settle();
        }
    }
}

/// A connection's task. It ends when the connection does, or when nobody holds it any more.
struct Driver {
    wire: Rc<Wire>,
    connection: Connection<Io, Bytes>,
    pings: Option<PingPong>,
    pinged: bool,
    sleep: Pin<Box<Sleep>>,
    yielded: bool,
    shown: Shown,
    settled: bool,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(reason) = self.wire.guard(Guard::tripped) {
            tracing::debug!(%reason, "a server breaks HTTP/2");
            return Poll::Ready(());
        }
        let over = Pin::new(&mut self.connection).poll(cx).map(|end| {
            if let Err(error) = end {
                tracing::debug!(%error, "HTTP/2 connection to a server failed");
            }
        });
        if !self.settled && self.wire.guard(|guard| guard.spoken()) {
            self.settled = true;
            if let Some(shared) = self.shown.0.upgrade() {
                shared.settle();
            }
        }
        if over.is_pending() && !self.yielded && (1..ENOUGH).contains(&self.wire.waiting()) {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        match self.wire.poll_drain(cx) {
            Poll::Ready(Ok(())) if over.is_ready() => return Poll::Ready(()),
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if over.is_ready() {
            // What is left of its last words is not worth a wait.
            return Poll::Ready(());
        }
        self.ask(cx)
    }

    /// Asks a silent server whether it lives; ready: it does not.
    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.pinged && pings.poll_pong(cx).is_ready() {
            self.pinged = false;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.pinged {
                tracing::debug!("a server does not answer a ping of HTTP/2");
                return Poll::Ready(());
            }
            if !self.wire.heard() && pings.send_ping(Ping::opaque()).is_ok() {
                self.pinged = true;
                // The ping is to be written, its answer to be waited for.
                cx.waker().wake_by_ref();
            }
            self.sleep.as_mut().reset(Instant::now() + PING);
        }
        Poll::Pending
    }
}
