//! Bytes both ways between a client and a server after an upgrade, until both sides have closed or were silent too
//! long.
//!
//! An idle tunnel is its two sockets, one timer and no buffer: what is read goes through a scratch buffer of the
//! thread straight to the other socket, and only what that did not take is kept. What flows in bulk from TCP to TCP is
//! not copied at all ([`splice`]). Of a WebSocket the frames are followed on the way ([`crate::websocket`]); for
//! anything else bytes are bytes.
use crate::clock;
use crate::closing::Watch;
use crate::http::account::Request;
use crate::http::limits::Opened;
use crate::http::reason::Reason;
use crate::listener::Admission;
use crate::shared::now;
use crate::sockets::Seat;
use crate::splice::{self, Pipe, Spliced};
use crate::stream::{Reader, Stream, Writer};
use crate::tcp::first::Unanswered;
use crate::upstream::Slot;
use crate::websocket::close::Why;
use crate::websocket::flow::{Flow, Mode, Rules};
use crate::websocket::{Handshake, Next, Ways, WebSocket};
use lb_core::table::{Hold, StickKey, StickTable};
use lb_core::time::millis;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that others move nearer.
const FAR: Duration = Duration::from_secs(3600);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

/// A tunnel. There may be very many that are idle: every byte counts, and what few have is boxed.
pub(crate) struct Tunnel {
    client: Stream,
    server: Stream,
    up: Way,
    down: Way,
    /// Silence of both sides that ends it, in milliseconds.
    timeout: u64,
    /// As that, once the server has closed.
    after_server: u64,
    /// When something moved last that counts against that.
    last: Instant,
    /// What is to be remembered once the server answers; it is shown what that says.
    first: Option<Box<Unanswered>>,
    websocket: Option<Box<WebSocket>>,
    account: Request,
    holding: Holding,
    seat: Seat,
    /// Given back in this order at the end.
    _slot: Slot,
    _opened: Opened,
    _admission: Option<Admission>,
}

/// What a tunnel begins with.
pub(crate) struct Start {
    pub(crate) client: Stream,
    pub(crate) server: Stream,
    /// Came from the client behind its request.
    pub(crate) from_client: Vec<u8>,
    /// Came from the server behind its 101.
    pub(crate) from_server: Vec<u8>,
    /// Silence of both sides that ends it.
    pub(crate) timeout: Duration,
    /// As that, once the server has closed.
    pub(crate) after_server: Duration,
    /// Of a WebSocket.
    pub(crate) handshake: Option<Handshake>,
    /// The pins it keeps alive.
    pub(crate) holding: Holding,
    /// What is to be remembered once the server answers.
    pub(crate) first: Option<Box<Unanswered>>,
    /// What is counted and logged of it.
    pub(crate) account: Request,
    /// Its place on the server.
    pub(crate) slot: Slot,
    /// The keys whose connection it is, where tables count.
    pub(crate) opened: Opened,
    /// Its place among the client connections; a stream of HTTP/2 has none of its own.
    pub(crate) admission: Option<Admission>,
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Sender,
    Receiver,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Way {
    /// Read, but not taken by the other side yet.
    pub(crate) pending: Vec<u8>,
    /// The sender has closed.
    pub(crate) ended: bool,
    /// And the receiver was told.
    told: bool,
    /// The receiver is not to be told, because it gets more than what the sender sent.
    pub(crate) keep_end: bool,
    /// The receiver is lost: what is read goes nowhere.
    cut: bool,
    /// It closed before the other direction. Of a WebSocket that knows more.
    first: bool,
    bytes: u64,
    /// There is plenty: it is spliced, as long as it lasts.
    bulk: bool,
    /// What was spliced from the sender and not to the receiver yet.
    pipe: Option<Box<Pipe>>,
}

impl Way {
    fn new(pending: Vec<u8>) -> Self {
        let bytes = pending.len() as u64;
        Self {
            pending,
            ended: false,
            told: false,
            keep_end: false,
            cut: false,
            first: false,
            bytes,
            bulk: false,
            pipe: None,
        }
    }

    /// The receiver gets nothing more.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
        self.pending = Vec::new();
    }

    /// Whether both ends have closed.
    pub(crate) fn is_over(&self) -> bool {
        self.told
    }

    /// Moves what there is. Ready once the direction has closed, on both ends unless that is to be kept from the receiver.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Reader<'_>,
        to: &Writer<'_>,
        moved: &mut bool,
        first: &mut Option<Box<Unanswered>>,
        mut flow: Option<(&mut Flow, Rules)>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if !self.cut {
                ready!(self.write(cx, to, moved)).map_err(|_| Broken::Receiver)?;
            } else if !self.pending.is_empty() {
                self.pending = Vec::new();
            }
            if self.ended && !self.told && !self.keep_end {
                // The other side may be gone already; that shows when it is read.
                to.shutdown();
                self.told = true;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if flow.as_ref().is_some_and(|(flow, _)| flow.mode == Mode::Hold) {
                return Poll::Pending;
            }
            if self.bulk
                && let (Some(from), Some(to)) = (from.tcp(), to.tcp())
            {
                let stood = (self.bytes, self.pipe.as_deref().map(Pipe::held));
                let spliced = splice::poll(cx, from, to, &mut self.pipe, &mut self.bytes);
                *moved |= stood != (self.bytes, self.pipe.as_deref().map(Pipe::held));
                // Which side it was matters to WebSockets only, which are not spliced.
                match ready!(spliced).map_err(|_| Broken::Receiver)? {
                    Spliced::Ended => self.ended = true,
                    Spliced::Copy => self.bulk = false,
                }
                continue;
            }
            ready!(SCRATCH.with_borrow_mut(|scratch| self.pass(cx, from, to, scratch, first, flow.as_mut())))?;
            *moved = true;
        }
    }

    /// Brings what was kept to the receiver.
    fn write(&mut self, cx: &mut Context<'_>, to: &Writer<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let n = ready!(to.poll_write(cx, &[IoSlice::new(&self.pending)]))?;
            *moved = true;
            self.pending.drain(..n);
        }
        if self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        to.poll_flush(cx)
    }

    /// One read and, as far as the other side takes it, one write.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Reader<'_>,
        to: &Writer<'_>,
        scratch: &mut [u8],
        first: &mut Option<Box<Unanswered>>,
        flow: Option<&mut (&mut Flow, Rules)>,
    ) -> Poll<Result<(), Broken>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buf)).map_err(|_| Broken::Sender)?;
        let read = buf.filled();
        if read.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.bytes += read.len() as u64;
        let followed = flow.is_some();
        match flow {
            Some((flow, rules)) if !flow.is_plain(rules) => {
                flow.filter(rules, read, &mut self.pending);
                return Poll::Ready(Ok(()));
            }
            Some((flow, rules)) => flow.pass(rules, read),
            None => {}
        }
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        if let Some(first) = &mut *first {
            first.see(read);
        }
        let written = match to.poll_write(cx, &[IoSlice::new(read)]) {
            Poll::Ready(written) => written.map_err(|_| Broken::Receiver)?,
            Poll::Pending => 0,
        };
        self.bulk = read.len() >= splice::PLENTY && first.is_none() && !followed;
        self.pending.extend_from_slice(&read[written..]);
        Poll::Ready(Ok(()))
    }
}

impl Tunnel {
    /// A tunnel of these.
    pub(crate) fn new(start: Start) -> Box<Self> {
        let mut websocket = start.handshake.map(WebSocket::new);
        let (from_client, from_server) = match &mut websocket {
            Some(websocket) => websocket.begin(start.from_client, start.from_server),
            None => (start.from_client, start.from_server),
        };
        let (local, server) = start.account.place();
        let seat = Seat::new(local, server.cloned(), websocket.is_some());
        let mut tunnel = Box::new(Self {
            client: start.client,
            server: start.server,
            up: Way::new(from_client),
            down: Way::new(from_server),
            timeout: millis(start.timeout),
            after_server: millis(start.after_server),
            last: Instant::now(),
            first: start.first,
            websocket,
            account: start.account,
            holding: start.holding,
            seat,
            _slot: start.slot,
            _opened: start.opened,
            _admission: start.admission,
        });
        tunnel.down.keep_end = tunnel.websocket.is_some();
        tunnel
    }

    /// Moves what there is both ways; ready with the word for how it ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        loop {
            let ways = self.move_bytes(cx);
            let mut told = self.seat.told(cx);
            if self.holding.went_down(cx) {
                self.account.closed_on_down();
                told = Some(Why::ServerDown);
            }
            let next = match &mut self.websocket {
                Some(websocket) => websocket.advance(&mut self.up, &mut self.down, ways, told),
                None => self.plain(ways, told),
            };
            match next {
                Next::Wait => return Poll::Pending,
                Next::Again => {}
                Next::End(word) => {
                    if self.websocket.is_some() {
                        self.client.writer().shutdown();
                        self.server.writer().shutdown();
                    }
                    return Poll::Ready(word);
                }
                Next::Reset(word) => {
                    self.client.reset_on_drop();
                    self.server.reset_on_drop();
                    return Poll::Ready(word);
                }
            }
        }
    }

    fn move_bytes(&mut self, cx: &mut Context<'_>) -> Ways {
        let mut moved = false;
        let (mut from_client, to_client) = self.client.split();
        let (mut from_server, to_server) = self.server.split();
        let (up, down) = self.websocket.as_mut().map(|w| w.flows()).unzip();
        let ways = (
            self.up.poll(cx, &mut from_client, &to_server, &mut moved, &mut None, up),
            self.down.poll(cx, &mut from_server, &to_client, &mut moved, &mut self.first, down),
        );
        if self.first.is_some() {
            self.settle(false);
        }
        if moved {
            let now = clock::turn();
            let used = self.websocket.as_mut().is_none_or(|websocket| websocket.moved(now));
            if used {
                self.last = now;
            }
            self.account.flowed(self.up.bytes, self.down.bytes);
            if let Some(websocket) = &mut self.websocket {
                self.account.messages(websocket.messages());
            }
        }
        ways
    }

    /// What comes next where bytes are bytes.
    fn plain(&mut self, ways: Ways, told: Option<Why>) -> Next {
        if let Some(why) = told {
            return Next::End(why.end());
        }
        match ways {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Next::End("reset"),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                return Next::End(match (self.up.first, self.down.first) {
                    (true, _) => "client-closed",
                    (_, true) => "server-closed",
                    _ => "closed",
                });
            }
            (Poll::Ready(Ok(())), Poll::Pending) => self.up.first = true,
            (Poll::Pending, Poll::Ready(Ok(()))) => self.down.first = true,
            (Poll::Pending, Poll::Pending) => {}
        }
        Next::Wait
    }

    /// When it must be looked at again at the latest, even if nothing moves.
    fn due(&self) -> Instant {
        let idle = self.deadline();
        let own = self.websocket.as_ref().map_or(Some(idle), |w| w.due(idle)).unwrap_or(idle);
        self.account.due(self.up.bytes, self.down.bytes).map_or(own, |account| account.min(own))
    }

    /// Remembers what is to be remembered, if the server has answered by now; `held`: it has held the connection for
    /// long enough.
    fn settle(&mut self, held: bool) {
        let (ended, told) = (self.down.ended, self.up.told);
        // A server that closes in order after the client has taken what that sent.
        let answered = |first: &mut Box<Unanswered>| first.done || (ended && told) || (held && !ended);
        if let Some(first) = self.first.take_if(answered) {
            let mut holding = first.confirm();
            holding.watch = self.holding.watch.take();
            self.holding = holding;
        } else if ended {
            // It closed without a word: that is no answer, whatever comes from the client yet.
            self.first = None;
        }
    }

    /// When silence ends it.
    fn deadline(&self) -> Instant {
        let silence = if self.down.first { self.after_server } else { self.timeout };
        self.last + Duration::from_millis(silence)
    }

    /// When the timer must fire first.
    fn first_look(&self) -> Instant {
        self.first.as_ref().map_or(self.deadline(), |first| first.due.min(self.deadline()))
    }

    /// The timer fired: when it must fire again; `None`: both sides were silent too long.
    fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let idle = now >= self.deadline();
        if self.first.as_ref().is_some_and(|first| now >= first.due) {
            self.settle(true);
        }
        self.account.flowed(self.up.bytes, self.down.bytes);
        let Some(websocket) = &mut self.websocket else {
            return (!idle).then(|| self.deadline());
        };
        websocket.tick(&mut self.up, &mut self.down, now, idle);
        Some(self.deadline().max(now + FAR))
    }

    /// It has ended with this word: counted and logged.
    fn finish(&mut self, end: &'static str) {
        if (end == "reset" || end == Reason::SERVER_DOWN.code) && self.account.is_tcp() {
            // Whoever is left must not take what came so far for whole.
            self.client.reset_on_drop();
            self.server.reset_on_drop();
        }
        self.account.bytes_in += self.up.bytes;
        self.account.bytes_out += self.down.bytes;
        let closed = self.websocket.as_ref().map(|w| w.count(self.seat.local().id));
        self.account.finish_tunnel(end, closed);
    }
}

pin_project! {
    /// A tunnel on its way to its end, and its timer: a future by hand, which is no larger than these. Tasks are aligned to
    /// 128 bytes, and the allocator wastes that much unless their size is a power of two: so the tunnel is beside it.
    pub(crate) struct Running {
        tunnel: Box<Tunnel>,
        #[pin]
        timer: Sleep,
    }
}

/// Runs a tunnel to its end.
pub(crate) fn run(tunnel: Box<Tunnel>) -> Running {
    Running { timer: sleep_until(tunnel.first_look()), tunnel }
}

impl Future for Running {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (tunnel, mut timer) = (this.tunnel, this.timer);
        let end = loop {
            if let Poll::Ready(end) = tunnel.poll(cx) {
                break end;
            }
            let due = tunnel.due();
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            match tunnel.tick() {
                Some(next) => timer.as_mut().reset(next),
                None => break "tunnel-timeout",
            }
        };
        tunnel.finish(end);
        Poll::Ready(())
    }
}

/// What a tunnel has until it ends: the entries that led it to its server, for an open socket is use; and perhaps a place
/// among those that are closed when the server goes down.
#[derive(Default)]
pub(crate) struct Holding {
    pins: Box<[Hold]>,
    watch: Option<Box<Watch>>,
}

impl Holding {
    /// Holds these.
    pub(crate) fn new<'a>(
        pins: impl Iterator<Item = (&'a Arc<StickTable>, &'a StickKey)>,
        watch: Option<Watch>,
    ) -> Self {
        Self { pins: pins.map(|(table, key)| table.hold(key, now())).collect(), watch: watch.map(Box::new) }
    }

    /// Whether its server went down, and it is to be closed for that: said once.
    fn went_down(&mut self, cx: &mut Context<'_>) -> bool {
        self.watch.take_if(|watch| watch.poll(cx).is_ready()).is_some()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        std::mem::take(&mut self.pins).into_iter().for_each(|hold| hold.release(now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_tunnel_takes_a_few_hundred_bytes() {
        assert!(size_of::<Tunnel>() <= 408, "{}", size_of::<Tunnel>());
        // Its task has 104 bytes more.
        assert!(size_of::<Running>() + 104 <= 256, "{}", size_of::<Running>());
    }
}
