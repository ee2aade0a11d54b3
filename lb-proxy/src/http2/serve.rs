//! A client's connection: its streams become tasks, each of which is one request.
//!
//! The connection's task moves frames and nothing else. When it has nothing to do, it lets the other tasks that are ready
//! run once, so that their answers leave in the same write.
use super::request::Finished;
use super::session::{Bounds, MOST, New, Over, Session};
use super::stream::Requested;
use super::{Exchange, PREFACE, frame, websocket};
use crate::arrival::Arrival;
use crate::http::forward::{self, After};
use crate::http::h1::Conn;
use crate::http::head::{self, Request};
use crate::http::limits::Opened;
use crate::http::reason::Reason;
use crate::io::{self, Elapsed, Timer};
use crate::listener::{Admission, Listening};
use crate::stream::Stream;
use crate::tunnel;
use crate::worker::{Client, Local};
use lb_core::config::{Frontend, Timeouts};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client has to take our last frames, and for how many bytes it is still read.
const FAREWELL: (Duration, usize) = (Duration::from_secs(2), 256 * 1024);
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
    session: Rc<Session>,
    timers: RefCell<Vec<Timer>>,
    /// How long a head may take, to its end.
    head_timeout: Duration,
    /// Streams that are open.
    open: Cell<usize>,
    /// With so many, nothing more is read.
    most: usize,
    /// Since when none is.
    idle: Cell<Instant>,
}

/// A stream's place on its connection.
pub(super) struct Place(Rc<Shared>);

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
        }
        if open == 0 || open + 1 == self.0.most {
            self.0.session.wake();
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
    let bounds = Bounds {
        streams: frontend.http2.max_streams,
        window: frontend.http2.window,
        head: frontend.max_head + 32 * frontend.max_headers,
    };
    let session = Session::new(&local.buffers, bounds);
    let client = local.remember();
    let shared = Rc::new(Shared {
        local: local.clone(),
        arrival,
        client,
        listening,
        opened: Opened::shared(),
        session,
        timers: RefCell::default(),
        head_timeout: frontend.timeout.http_request,
        open: Cell::new(0),
        most: 2 * frontend.http2.max_streams as usize,
        idle: Cell::new(Instant::now()),
    });
    let state = shared.listening.state.clone();
    let counters = &state.counters[local.id];
    counters.h2_open.bump();
    let mut driver = Driver::new(&shared, stream, ahead, &frontend.timeout);
    poll_fn(|cx| driver.poll(cx)).await;
    let Driver { socket, .. } = driver;
    shared.session.lost();
    if shared.session.spoken() {
        farewell(&local, socket).await;
    }
    let (theirs, ours) = shared.session.inner.borrow().guard.resets;
    counters.h2_resets_in.add(theirs);
    counters.h2_resets_out.add(ours);
    counters.h2_open.drop_one();
    local.forget(&shared.client);
    drop(admission);
}

/// The connection's task, but for its beginning and end.
struct Driver<'a> {
    shared: &'a Rc<Shared>,
    socket: Stream,
    /// Came, and is not a whole frame yet. No memory while there is nothing.
    input: Vec<u8>,
    new: Vec<New>,
    keep_alive: Duration,
    /// When the client must have said its settings.
    hello: Instant,
    sleep: Pin<Box<Sleep>>,
    /// When it is dropped at the latest, once it was told to end; its requests are awaited, unless it broke the rules.
    last: Option<Instant>,
    /// The others had their turn.
    yielded: bool,
    over: Option<Over>,
}

impl<'a> Driver<'a> {
    fn new(shared: &'a Rc<Shared>, socket: Stream, ahead: Vec<u8>, timeout: &Timeouts) -> Self {
        let hello = Instant::now() + timeout.http_request;
        Self {
            shared,
            socket,
            input: ahead,
            new: Vec::new(),
            keep_alive: timeout.http_keep_alive,
            hello,
            sleep: Box::pin(sleep_until(hello)),
            last: None,
            yielded: false,
            over: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { local, client, session, .. } = &**self.shared;
        client.wake_on_drain(cx.waker());
        session.runs(cx.waker());
        if local.draining() && self.last.is_none() && self.over.is_none() {
            session.go();
            self.last = Some(Instant::now() + FAREWELL.0);
        }
        self.frames(cx);
        let waiting = session.inner.borrow().out.waiting();
        if self.over.is_none() && !self.yielded && (1..ENOUGH).contains(&waiting) {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        let drained = {
            let mut inner = session.inner.borrow_mut();
            inner.out.poll_drain(&self.socket.writer(), cx)
        };
        match drained {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) if self.over.is_some() => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {
                session.drained();
                if waiting >= MOST {
                    // Nothing was taken in meanwhile.
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Pending => {}
        }
        self.time(cx)
    }

    /// Takes in what came; new streams become tasks.
    fn frames(&mut self, cx: &mut Context<'_>) {
        let Shared { local, session, .. } = &**self.shared;
        while self.over.is_none() {
            if !self.input.is_empty() {
                let taken = session.feed(&self.input, &mut self.new);
                if taken == self.input.len() {
                    local.buffers.give(std::mem::take(&mut self.input));
                } else {
                    self.input.drain(..taken);
                }
                self.new.drain(..).for_each(|new| open(self.shared, new));
            }
            if let Some(over) = session.over() {
                self.end(over);
                return;
            }
            // Those that were taken back live on until their tasks have run.
            if session.inner.borrow().out.waiting() >= MOST || self.shared.open.get() >= self.shared.most {
                return;
            }
            // A frame that is not whole may be a little larger than the buffer.
            if self.input.len() == self.input.capacity() && !self.input.is_empty() {
                self.input.reserve_exact(frame::HEAD + frame::MOST - self.input.len());
            }
            match io::poll_fill(&mut self.socket, &local.buffers, &mut self.input, cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => {
                    session.lost();
                    self.end(Over::Quietly);
                }
            }
        }
    }

    fn end(&mut self, over: Over) {
        self.over = Some(over);
        self.last = Some(Instant::now() + FAREWELL.0);
        let Over::Because(reason) = over else { return };
        let counters = &self.shared.listening.state.counters[self.shared.local.id];
        if reason == h2::Reason::ENHANCE_YOUR_CALM {
            counters.h2_floods.bump()
        } else {
            counters.h2_errors.bump()
        }
        tracing::debug!(client = %self.shared.arrival.client, %reason, "HTTP/2 connection failed");
    }

    /// Ends it when it was idle too long, or does not end by itself.
    fn time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let session = &self.shared.session;
            let at = match self.last {
                Some(last) if self.over.is_some() => last,
                None if !session.spoken() => self.hello,
                _ if self.shared.open.get() > 0 || session.has_streams() => return Poll::Pending,
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
            } else if self.last.is_some() || !session.spoken() {
                return Poll::Ready(());
            } else {
                session.go();
                self.last = Some(Instant::now() + FAREWELL.0);
                // Its GOAWAY is to be written.
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// Reads on for a bounded while, so that the client can read our last words before a reset reaches it.
async fn farewell(local: &Local, mut socket: Stream) {
    socket.writer().shutdown();
    let mut left = FAREWELL.1;
    let read = async {
        while left > 0 {
            let mut buf = Vec::new();
            let read = io::fill(&mut socket, &local.buffers, &mut buf).await;
            local.buffers.give(buf);
            let Ok(n @ 1..) = read else { return };
            left = left.saturating_sub(n);
        }
    };
    // Elapsed or not, this is the end.
    let _ = tokio::time::timeout(FAREWELL.0, read).await;
}

/// A new stream becomes a task.
fn open(shared: &Rc<Shared>, new: New) {
    let local = &shared.local;
    let snap = local.snapshot();
    let New { stream, text: input, head } = new;
    if stream.is_gone() {
        return shared.session.refuse(&stream);
    }
    let empty = matches!(head, Finished::Head { length: Some(0), .. });
    let (key, request) = match head {
        Finished::Head { key, .. } => {
            let Some(frontend) = shared.listening.frontend(&snap) else { return shared.session.refuse(&stream) };
            (key, read_head(&input, &frontend.config, local))
        }
        Finished::Refused(reason) => (None, Err(reason)),
        Finished::Malformed => (None, Err(Reason::BAD_REQUEST)),
    };
    drop(snap);
    let expected = key.map(|key| websocket::accept(key.as_bytes()));
    let requested = Requested::new(shared.session.clone(), stream, expected, Place::enter(shared));
    let conn = Conn {
        local: local.clone(),
        stream: Stream::H2(Rc::new(Exchange::Requested(requested))),
        arrival: shared.arrival.clone(),
        client: shared.client.clone(),
        listening: shared.listening.clone(),
        timer: shared.timers.borrow_mut().pop().unwrap_or_else(Timer::new),
        input,
        opened: shared.opened.clone(),
    };
    local.runners.run(local, Job { shared: shared.clone(), conn, request, empty });
}

/// The request in the form that the one strict parser has read.
fn read_head(input: &[u8], frontend: &Frontend, local: &Local) -> Result<Request, Reason> {
    if input.len() > frontend.max_head {
        return Err(Reason::HEAD_TOO_LARGE);
    }
    // Nothing can be missing from a head that we have written.
    head::request(input, frontend.max_headers, local.fields.take())?.ok_or(Reason::BAD_REQUEST)
}

/// A request that is to be served.
struct Job {
    shared: Rc<Shared>,
    conn: Conn,
    request: Result<Request, Reason>,
    /// It says that nothing follows, and has not ended.
    empty: bool,
}

/// A worker's tasks for requests of HTTP/2. A request's memory is large: a task that has ended one waits for the next, and
/// the last to end is the first to go on.
#[derive(Default)]
pub(crate) struct Runners(RefCell<Vec<Rc<Runner>>>);

#[derive(Default)]
struct Runner {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
}

impl Runners {
    /// How many wait at most.
    const KEPT: usize = 64;

    fn run(&self, local: &Rc<Local>, job: Job) {
        let idle = self.0.borrow_mut().pop();
        let runner = idle.clone().unwrap_or_default();
        *runner.job.borrow_mut() = Some(job);
        match idle {
            Some(_) => runner.waker.borrow_mut().take().into_iter().for_each(Waker::wake),
            None => drop(tokio::task::spawn_local(run(local.clone(), runner))),
        }
    }

    /// Whether the runner is to wait for another request.
    fn keep(&self, runner: &Rc<Runner>) -> bool {
        let mut idle = self.0.borrow_mut();
        let keep = idle.len() < Self::KEPT;
        if keep {
            idle.push(runner.clone());
        }
        keep
    }
}

async fn run(local: Rc<Local>, runner: Rc<Runner>) {
    loop {
        let job = poll_fn(|cx| match runner.job.borrow_mut().take() {
            Some(job) => Poll::Ready(job),
            None => {
                *runner.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        serve_request(job.await).await;
        if local.draining() || !local.runners.keep(&runner) {
            return;
        }
    }
}

async fn serve_request(Job { shared, mut conn, mut request, empty }: Job) {
    // What it said is believed once it has ended: otherwise it might mean something else.
    if empty && let Some(stream) = conn.stream.h2() {
        let ended = poll_fn(|cx| stream.poll_read(cx, &mut ReadBuf::new(&mut [])));
        match conn.timer.within(shared.head_timeout, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(Elapsed) => request = Err(Reason::BODY_TIMEOUT),
        }
    }
    let after = match request {
        Ok(request) => forward::exchange(&mut conn, request).await,
        Err(reason) => conn.refuse(reason).await,
    };
    if let After::Switch(switch) = after {
        // A task of its own, because this one's memory is that of a whole request. The connection's place is its own.
        tokio::task::spawn_local(tunnel::run(switch.into_tunnel(conn.stream, conn.opened, None)));
        return;
    }
    shared.session.inner.borrow_mut().guard.answered();
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
        fn future<A, B, F>(_: fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future(run) <= 20 * 1024, "{}", future(run));
    }
}
