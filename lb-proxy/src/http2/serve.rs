//! A client's connection: its streams become tasks, each of which is one request.
//!
//! The connection's task moves frames and nothing else. When it has nothing to do, it lets the other tasks that are ready
//! run once, so that their answers leave in the same write.
use super::guard::Guard;
use super::message;
use super::wire::{Io, Wire};
use super::{Exchange, PREFACE};
use crate::arrival::Arrival;
use crate::http::forward::{self, After};
use crate::http::h1::Conn;
use crate::http::head::{self, Request};
use crate::http::limits::Opened;
use crate::http::reason::Reason;
use crate::io::{self, Timer};
use crate::listener::{Admission, Listening};
use crate::stream::Stream;
use crate::tunnel;
use crate::worker::{Client, Local};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use lb_core::config::Frontend;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client has to take our last frames, and for how many bytes it is still read.
const FAREWELL: (Duration, usize) = (Duration::from_secs(2), 256 * 1024);
/// What the library keeps for one stream whose frames the socket does not take.
const KEPT: usize = 32 * 1024;
/// With so much collected, the connection's task writes before it lets others run.
const ENOUGH: usize = 16 * 1024;
/// Timers kept for the next requests.
const TIMERS: usize = 16;

/// What the streams of a connection share.
struct Shared {
    local: Rc<Local>,
    arrival: Rc<Arrival>,
    client: Rc<Client>,
    listening: Rc<Listening>,
    opened: Opened,
    wire: Rc<Wire>,
    timers: RefCell<Vec<Timer>>,
    /// Streams that are open.
    open: Cell<usize>,
    /// Since when none is.
    idle: Cell<Instant>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

/// A stream's place on its connection.
struct Place(Rc<Shared>);

impl Place {
    fn enter(shared: &Rc<Shared>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.0.open.get() - 1;
        self.0.open.set(open);
        if open == 0 {
            self.0.idle.set(Instant::now());
            if let Some(waker) = self.0.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

/// Whether a connection begins with the preface of HTTP/2; reads as much as tells. `None`: it ended, or was silent.
pub(crate) async fn prior_knowledge(
    local: &Local,
    stream: &mut Stream,
    input: &mut Vec<u8>,
    limit: Duration,
) -> Option<bool> {
    let until = Instant::now() + limit;
    let mut timer = Timer::new();
    loop {
        let n = input.len().min(PREFACE.len());
        if input[..n] != PREFACE[..n] {
            return Some(false);
        }
        if n == PREFACE.len() {
            return Some(true);
        }
        match timer.until(until, io::fill(stream, &local.buffers, input)).await {
            Ok(Ok(1..)) => {}
            // An end in the middle is HTTP/1's to answer.
            Ok(Ok(0)) if !input.is_empty() => return Some(false),
            _ => return None,
        }
    }
}

/// Serves a connection to its end. `ahead` was read from it before. Whoever negotiates HTTP/2 calls this: a plain listener
/// that saw the preface, or TLS by ALPN.
pub(crate) async fn serve(
    local: Rc<Local>,
    stream: Stream,
    arrival: Rc<Arrival>,
    listening: Rc<Listening>,
    admission: Admission,
    ahead: Vec<u8>,
) {
    let snap = local.snapshot();
    let Some(frontend) = listening.frontend(&snap).map(|f| f.config.clone()) else { return };
    drop(snap);
    let wire = Wire::new(&local, stream, ahead, Guard::of_client());
    let client = local.remember();
    let shared = Rc::new(Shared {
        local: local.clone(),
        arrival,
        client,
        listening,
        opened: Opened::shared(),
        wire,
        timers: RefCell::default(),
        open: Cell::new(0),
        idle: Cell::new(Instant::now()),
        waker: RefCell::new(None),
    });
    let state = shared.listening.state.clone();
    let counters = &state.counters[local.id];
    counters.h2_open.bump();
    if let Ok(connection) = handshake(&shared, &frontend).await {
        drive(&shared, connection, &frontend).await;
        farewell(&shared.wire).await;
    }
    let (theirs, ours) = shared.wire.guard(|guard| guard.resets);
    counters.h2_resets_in.add(theirs);
    counters.h2_resets_out.add(ours);
    counters.h2_open.drop_one();
    local.forget(&shared.client);
    drop(admission);
}

async fn handshake(shared: &Shared, frontend: &Frontend) -> Result<Connection<Io, Bytes>, ()> {
    let limits = &frontend.http2;
    let all = limits.window.saturating_mul(limits.max_streams).clamp(65_535, 16 << 20);
    let handshake = Builder::new()
        .max_concurrent_streams(limits.max_streams)
        .initial_window_size(limits.window)
        .initial_connection_window_size(all.max(limits.window))
        .max_header_list_size(u32::try_from(frontend.max_head + 32 * frontend.max_headers).unwrap_or(u32::MAX))
        .max_send_buffer_size(KEPT)
        .enable_connect_protocol()
        .handshake(Io(shared.wire.clone()));
    let mut handshake = pin!(handshake);
    let greet = poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        match shared.wire.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Err(())),
            _ => polled.map_err(drop),
        }
    });
    let within = tokio::time::timeout(frontend.timeout.http_request, greet).await;
    within.unwrap_or(Err(()))
}

/// The connection's task, but for its beginning and end.
struct Driver<'a> {
    shared: &'a Rc<Shared>,
    connection: Connection<Io, Bytes>,
    keep_alive: Duration,
    sleep: Pin<Box<Sleep>>,
    /// When it is dropped at the latest, once it was told to end; its requests are awaited, unless it broke the rules.
    last: Option<Instant>,
    /// The others had their turn.
    yielded: bool,
    /// The guard has ended it.
    tripped: bool,
    /// The library has ended it; what it said must be written.
    over: bool,
}

async fn drive(shared: &Rc<Shared>, connection: Connection<Io, Bytes>, frontend: &Arc<Frontend>) {
    let keep_alive = frontend.timeout.http_keep_alive;
    let sleep = Box::pin(sleep_until(Instant::now() + keep_alive));
    let mut driver =
        Driver { shared, connection, keep_alive, sleep, last: None, yielded: false, tripped: false, over: false };
    poll_fn(|cx| driver.poll(cx)).await;
}

impl Driver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { local, client, wire, waker, .. } = &**self.shared;
        client.wake_on_drain(cx.waker());
        if !waker.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker.borrow_mut() = Some(cx.waker().clone());
        }
        if local.draining() && self.last.is_none() && !self.over {
            self.connection.graceful_shutdown();
            self.last = Some(Instant::now() + FAREWELL.0);
        }
        self.frames(cx);
        if !self.over && !self.yielded && (1..ENOUGH).contains(&wire.waiting()) {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        match wire.poll_drain(cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) if self.over => return Poll::Ready(()),
            _ => {}
        }
        self.time(cx)
    }

    /// Takes in what came; new streams become tasks.
    fn frames(&mut self, cx: &mut Context<'_>) {
        while !self.over {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => open(self.shared, request, respond),
                Poll::Ready(Some(Err(error))) => {
                    let flood = error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
                    self.count(flood);
                    tracing::debug!(client = %self.shared.arrival.client, %error, "HTTP/2 connection failed");
                    self.over = true;
                }
                Poll::Ready(None) => self.over = true,
                Poll::Pending => match self.shared.wire.guard(Guard::tripped).filter(|_| !self.tripped) {
                    Some(reason) => {
                        self.tripped = true;
                        self.count(reason == h2::Reason::ENHANCE_YOUR_CALM);
                        self.connection.abrupt_shutdown(reason);
                        self.last = Some(Instant::now() + FAREWELL.0);
                    }
                    None => return,
                },
            }
        }
    }

    fn count(&self, flood: bool) {
        let counters = &self.shared.listening.state.counters[self.shared.local.id];
        if flood { counters.h2_floods.bump() } else { counters.h2_errors.bump() }
    }

    /// Ends it when it was idle too long, or does not end by itself.
    fn time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let at = match self.last {
                Some(last) if self.tripped => last,
                _ if self.shared.open.get() > 0 || self.connection.has_streams() => return Poll::Pending,
                // As long again behind the last request, for its last frames.
                Some(last) => last.max(self.shared.idle.get() + FAREWELL.0),
                None => self.shared.idle.get() + self.keep_alive,
            };
            if self.sleep.deadline() > at {
                self.sleep.as_mut().reset(at);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() < at {
                self.sleep.as_mut().reset(at);
            } else if self.last.is_some() {
                return Poll::Ready(());
            } else {
                self.connection.graceful_shutdown();
                self.last = Some(Instant::now() + FAREWELL.0);
                // Its GOAWAY is to be written.
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// Reads on for a bounded while, so that the client can read our last words before a reset reaches it.
async fn farewell(wire: &Wire) {
    wire.shutdown();
    let mut left = FAREWELL.1;
    let read = poll_fn(|cx| {
        let mut scratch = [0; 4096];
        while left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            match wire.poll_discard(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => left = left.saturating_sub(buf.filled().len()),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    });
    // Elapsed or not, this is the end.
    let _ = tokio::time::timeout(FAREWELL.0, read).await;
}

/// A new stream becomes a task.
fn open(shared: &Rc<Shared>, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let local = &shared.local;
    let snap = local.snapshot();
    let Some(frontend) = shared.listening.frontend(&snap) else {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return;
    };
    let (parts, body) = request.into_parts();
    let mut input = local.buffers.take();
    let read = read_head(&parts, body.is_end_stream(), &mut input, &frontend.config, local);
    drop(snap);
    // Streams that a flood opens lie here by the hundred before the first of them runs.
    let fitting = input.as_slice().to_vec();
    local.buffers.give(std::mem::replace(&mut input, fitting));
    let (request, key) = match read {
        Ok((request, key)) => (Ok(request), key),
        Err(reason) => (Err(reason), None),
    };
    let exchange = Rc::new(Exchange::with_client(body, respond, key.as_deref(), Place::enter(shared)));
    let conn = Conn {
        local: local.clone(),
        stream: Stream::H2(exchange),
        arrival: shared.arrival.clone(),
        client: shared.client.clone(),
        listening: shared.listening.clone(),
        timer: shared.timers.borrow_mut().pop().unwrap_or_else(Timer::new),
        input,
        opened: shared.opened.clone(),
    };
    tokio::task::spawn_local(serve_request(shared.clone(), conn, request));
}

/// The request in the form that the one strict parser has read.
fn read_head(
    parts: &http::request::Parts,
    ended: bool,
    input: &mut Vec<u8>,
    frontend: &Frontend,
    local: &Local,
) -> Result<(Request, Option<String>), Reason> {
    let key = message::request_in(parts, ended, input)?;
    if input.len() > frontend.max_head {
        return Err(Reason::HEAD_TOO_LARGE);
    }
    // Nothing can be missing from a head that we have written.
    let request = head::request(input, frontend.max_headers, local.fields.take())?.ok_or(Reason::BAD_REQUEST)?;
    Ok((request, key))
}

async fn serve_request(shared: Rc<Shared>, mut conn: Conn, request: Result<Request, Reason>) {
    let after = match request {
        Ok(request) => forward::exchange(&mut conn, request).await,
        Err(reason) => conn.refuse(reason).await,
    };
    if let After::Switch(switch) = after {
        // A task of its own, because this one's memory is that of a whole request. The connection's place is its own.
        tokio::task::spawn_local(tunnel::run(switch.into_tunnel(conn.stream, conn.opened, None)));
        return;
    }
    shared.wire.guard(|guard| guard.answered());
    let mut timers = shared.timers.borrow_mut();
    if timers.len() < TIMERS {
        timers.push(conn.timer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_held_in_memory_once() {
        fn future<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future(serve_request) <= 20 * 1024, "{}", future(serve_request));
    }
}
